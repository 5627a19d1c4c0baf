package walkthrough

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/defender"
)

// verify sets the verification state of an alarm in Security Hub, as an analyst does. The deployed
// rule, queue and function must copy it to Device Defender. The local AWS has no violations, so the
// test itself answers their call.
func verify(ctx context.Context, t *testing.T, s *story) {
	t.Helper()
	copied := make(chan string, 10)
	s.cloud.Edge.Wrap("iot", func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			violation, found := strings.CutPrefix(r.URL.Path, "/violations/verification-state/")
			if !found {
				next.ServeHTTP(w, r)
				return
			}
			var in struct {
				State string `json:"verificationState"`
			}
			if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
				t.Error(err)
			}
			copied <- fmt.Sprint(r.Method, " ", violation, " ", in.State)
			io.WriteString(w, "{}")
		})
	})
	product := fmt.Sprintf("arn:aws:securityhub:%s:%s:product/%s/default", s.cloud.Region, s.cloud.Account, s.cloud.Account)
	now := s.cloud.Clock.Now().Format("2006-01-02T15:04:05.000Z")
	alarm := types.AwsSecurityFinding{
		SchemaVersion: aws.String("2018-10-08"), Id: aws.String("defenderhub/" + defender.DetectNotifications.String() + "/us-east-1/p/b/pump-7"), ProductArn: &product,
		GeneratorId: aws.String("p"), AwsAccountId: &s.cloud.Account, CreatedAt: &now, UpdatedAt: &now, Title: aws.String("An alarm"), Description: aws.String("An alarm."),
		Types: []string{"Unusual Behaviors"}, Severity: &types.Severity{Label: types.SeverityLabelMedium}, ProductFields: map[string]string{"ViolationId": "d-1"},
		Resources: []types.Resource{{Type: aws.String("AwsIotRegisteredThing"), Id: aws.String("pump-7")}},
	}
	imported, err := s.hub.BatchImportFindings(ctx, &securityhub.BatchImportFindingsInput{Findings: []types.AwsSecurityFinding{alarm}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range imported.FailedFindings {
		t.Fatalf("the alarm was not imported: %s: %s", aws.ToString(f.ErrorCode), aws.ToString(f.ErrorMessage))
	}
	verified, err := s.hub.BatchUpdateFindings(ctx, &securityhub.BatchUpdateFindingsInput{
		FindingIdentifiers: []types.AwsSecurityFindingIdentifier{{Id: alarm.Id, ProductArn: &product}}, VerificationState: types.VerificationStateFalsePositive,
	})
	if err != nil || len(verified.UnprocessedFindings) > 0 {
		t.Fatalf("verified %+v, error %v", verified, err)
	}
	if err := s.cloud.Drained(ctx); err != nil {
		t.Fatal(err)
	}
	close(copied)
	var all []string
	for c := range copied {
		all = append(all, c)
	}
	if got := strings.Join(all, ", "); got != "POST d-1 FALSE_POSITIVE" {
		t.Errorf("copied %q, want POST d-1 FALSE_POSITIVE", got)
	}
}
