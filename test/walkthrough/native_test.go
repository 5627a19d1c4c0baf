package walkthrough

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
)

// begin starts a local AWS to which an app can be deployed.
func begin(t *testing.T) (context.Context, *story) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	t.Cleanup(cancel)
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	s := newStory(Options{Out: t.Output(), Repository: repository})
	t.Cleanup(s.stop)
	if err := s.startCloud(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.cloud.Bootstrap(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx, s
}

// usePinnedNode puts the Node.js of package.json first on PATH.
func usePinnedNode(t *testing.T) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "node_modules", "node", "bin"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", path+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// TestNativeIntegration deploys the native engine with the demo profile. Audit findings use
// Device Defender's own integration and Detect findings use the forwarder. It checks that each
// finding arrives once, by its own path.
func TestNativeIntegration(t *testing.T) {
	t.Parallel()
	ctx, s := begin(t)
	if _, err := s.hub.EnableSecurityHub(ctx, &securityhub.EnableSecurityHubInput{EnableDefaultStandards: aws.Bool(false)}); err != nil {
		t.Fatal(err)
	}
	if err := s.deployWith(ctx, map[string]string{"engine": "native", "profile": "demo", "detect-subscription": "off"}); err != nil {
		t.Fatal(err)
	}
	subscribed, err := s.hub.ListEnabledProductsForImport(ctx, &securityhub.ListEnabledProductsForImportInput{})
	if err != nil || len(subscribed.ProductSubscriptions) != 1 {
		t.Errorf("subscriptions %v, error %v; want that of the audit", subscribed, err)
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
	const violation = "Registered thing dev-IZWB is in alarm for STATIC behavior"
	recorded, err := os.ReadFile("../../lambda/internal/forwarder/mapping/testdata/samples/sns-detect.json")
	if err != nil {
		t.Fatal(err)
	}
	cleared := strings.NewReplacer("in-alarm", "alarm-cleared", "1573786800000", "1573787100000").Replace(string(recorded))
	for _, step := range []struct {
		alert string
		want  types.RecordState
	}{{string(recorded), types.RecordStateActive}, {cleared, types.RecordStateArchived}} {
		// Publish to the deployed topic, as Detect does.
		if _, err := sns.NewFromConfig(s.cloud.Config()).Publish(ctx, &sns.PublishInput{
			TopicArn: aws.String(s.outputs["AlertTopicArn"]), Message: aws.String(step.alert),
		}); err != nil {
			t.Fatal(err)
		}
		if err := s.expect(ctx, types.SeverityLabelMedium, step.want, violation); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.cloud.Drained(ctx); err != nil {
		t.Fatal(err)
	}
	all, err := s.findings(ctx)
	if err != nil {
		t.Fatal(err)
	}
	alerts := 0
	for _, f := range all {
		want := "arn:aws:securityhub:us-east-1::product/aws/iot-device-defender-audit"
		if strings.HasPrefix(*f.Title, violation) {
			want = "arn:aws:securityhub:us-east-1:123456789012:product/123456789012/default"
			alerts++
		}
		if *f.ProductArn != want {
			t.Errorf("finding %s is of the product %s, want %s", *f.Id, *f.ProductArn, want)
		}
	}
	if alerts != 1 {
		t.Errorf("%d findings of the alert, want 1", alerts)
	}
}
