package audit_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
)

// issuer returns the finding of an intermediate CA. AWS IoT lists its certificates in another call.
func issuer(name string) types.AuditFinding {
	return types.AuditFinding{
		CheckName: aws.String(intermediate), FindingId: aws.String("finding-" + name), Severity: "CRITICAL",
		NonCompliantResource: &types.NonCompliantResource{ResourceType: types.ResourceTypeIssuerCertificate, ResourceIdentifier: &types.ResourceIdentifier{
			IssuerCertificateIdentifier: &types.IssuerCertificateIdentifier{IssuerId: &name}}},
	}
}

func deviceCertificates(n int) []types.RelatedResource {
	var all []types.RelatedResource
	for i := range n {
		all = append(all, types.RelatedResource{ResourceType: types.ResourceTypeDeviceCertificate, ResourceIdentifier: &types.ResourceIdentifier{DeviceCertificateId: aws.String(fmt.Sprintf("%064x", i))}})
	}
	return all
}

func TestCertificatesOfARevokedIntermediateCAAreListed(t *testing.T) {
	for n, want := range map[int]int{0: 0, 5: 5, 25: 25, 31: 31, 90: 31} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.iot.findings["t"] = []types.AuditFinding{issuer("ca"), policy("p")}
			r.iot.related = map[string][]types.RelatedResource{"finding-ca": deviceCertificates(n)}
			r.iot.failRelated = func(call int) error {
				if call == 1 {
					return throttled()
				}
				return nil
			}
			r.must(task("t", 0, bad(intermediate, policies)))
			for _, f := range r.hub.Findings() {
				if f.ProductFields["FindingId"] != "finding-ca" {
					continue
				}
				if got := len(f.Resources) - 1; got != want {
					t.Errorf("finding with %d of %d certificates, want %d", got, n, want)
				}
				if n > 0 && f.Resources[1].ID != fmt.Sprintf("%064x", 0) {
					t.Errorf("%d certificates: the first is %s, want 0", n, f.Resources[1].ID)
				}
			}
			if calls := 1 + max(1, (want+19)/20); r.iot.relatedCalls != calls {
				t.Errorf("%d certificates: %d calls, want %d: other checks need none", n, r.iot.relatedCalls, calls)
			}
		})
	}
}

func TestFindingIsImportedWithoutCertificatesThatAWSRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		verdict outcome.Verdict
	}{
		"deleted":     {&types.ResourceNotFoundException{}, outcome.Done},
		"refused":     {&types.InvalidRequestException{}, outcome.Done},
		"not allowed": {&smithy.GenericAPIError{Code: "UnauthorizedException"}, outcome.Retry},
		"throttled":   {throttled(), outcome.Retry},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.iot.findings["t"] = []types.AuditFinding{issuer("ca")}
			r.iot.failRelated = func(int) error { return c.err }
			if o := r.process(task("t", 0, bad(intermediate)), 30*time.Second); o.Verdict != c.verdict {
				t.Errorf("%s: %+v, want %v", name, o, c.verdict)
			}
			found := false
			for _, f := range r.hub.Findings() {
				found = found || f.ProductFields["FindingId"] == "finding-ca"
			}
			if found != (c.verdict == outcome.Done) {
				t.Errorf("%s: finding imported: %v, want %v", name, found, c.verdict == outcome.Done)
			}
		})
	}
}
