package walkthrough

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
)

// TestNativeIntegration deploys what cdk.json says: the native engine, the demo profile
// and both subscriptions. Device Defender's own integration then brings the audit's
// findings, and the forwarder sends none of them a second time.
func TestNativeIntegration(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	s := &story{Options: Options{Out: t.Output(), Repository: repository}, began: time.Now()}
	defer s.stop()
	if err := s.startCloud(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.hub.EnableSecurityHub(ctx, &securityhub.EnableSecurityHubInput{EnableDefaultStandards: aws.Bool(false)}); err != nil {
		t.Fatal(err)
	}
	if err := s.cloud.Bootstrap(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.deployWith(ctx, nil); err != nil {
		t.Fatal(err)
	}
	subscribed, err := s.hub.ListEnabledProductsForImport(ctx, &securityhub.ListEnabledProductsForImportInput{})
	if err != nil || len(subscribed.ProductSubscriptions) != 2 {
		t.Errorf("subscriptions %v, error %v; want audit and Detect", subscribed, err)
	}
	if n := len(s.cloud.Resources.Deployed("AWS::IoT::SecurityProfile")); n != 1 {
		t.Errorf("%d security profiles, want the demo profile", n)
	}
	if _, err := s.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String(policyName), PolicyDocument: aws.String(openPolicy)}); err != nil {
		t.Fatal(err)
	}
	if err := s.audit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.expect(ctx, types.SeverityLabelCritical, types.RecordStateActive, "IOT_POLICY_OVERLY_PERMISSIVE_CHECK", "ALLOWS_BROAD_ACCESS"); err != nil {
		t.Fatal(err)
	}
	if err := s.cloud.Drained(ctx); err != nil {
		t.Fatal(err)
	}
	all, err := s.findings(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if want := "arn:aws:securityhub:us-east-1::product/aws/iot-device-defender-audit"; *f.ProductArn != want {
			t.Errorf("finding %s comes from %s, want %s alone", *f.Id, *f.ProductArn, want)
		}
	}
}
