package walkthrough

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
)

// TestSuppressionsInsightsAndVerification deploys audits with suppressions as code, the insights, and
// the function that copies verification states. It checks that a suppression is effective, is
// deleted with its entry, and never replaces one that was created by hand.
func TestSuppressionsInsightsAndVerification(t *testing.T) {
	usePinnedNode(t)
	defer jsii.Close()
	ctx, s := begin(t)
	deploy := func(suppressions ...defenderhub.AuditSuppression) error {
		t.Helper()
		_, err := s.cloud.Deploy(ctx, t.TempDir(), nil, "--app", suppressingStack(t, suppressions))
		return err
	}
	policy := defenderhub.AuditSuppression{Check: defender.IoTPolicyOverlyPermissive, Resource: policyName + "/1", Why: "For the pilot."}
	gateway := defenderhub.AuditSuppression{Check: defender.ConflictingClientIDs, Resource: "gateway-1", Why: "Two gateways share it."}
	if err := deploy(policy); err != nil {
		t.Fatal(err)
	}
	if _, err := s.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String(policyName), PolicyDocument: aws.String(openPolicy)}); err != nil {
		t.Fatal(err)
	}
	if err := s.audit(ctx); err != nil {
		t.Fatal(err)
	}
	found, err := s.iot.ListAuditFindings(ctx, &iot.ListAuditFindingsInput{CheckName: aws.String(policy.Check.String()), StartTime: aws.Time(s.cloud.Clock.Now().AddDate(0, 0, -1)), EndTime: aws.Time(s.cloud.Clock.Now().AddDate(0, 0, 1)), ListSuppressedFindings: true})
	if err != nil || len(found.Findings) != 1 || !aws.ToBool(found.Findings[0].IsSuppressed) {
		t.Errorf("findings %+v, error %v; want one that is suppressed", found, err)
	}
	if insights, err := s.hub.GetInsights(ctx, &securityhub.GetInsightsInput{}); err != nil || len(insights.Insights) != 4 {
		t.Errorf("insights %+v, error %v; want four", insights, err)
	}
	verify(ctx, t, s)

	byHand := &iottypes.ResourceIdentifier{ClientId: aws.String(gateway.Resource)}
	if _, err := s.iot.CreateAuditSuppression(ctx, &iot.CreateAuditSuppressionInput{
		CheckName: aws.String(gateway.Check.String()), ResourceIdentifier: byHand, Description: aws.String("ask Ann"), SuppressIndefinitely: aws.Bool(true),
	}); err != nil {
		t.Fatal(err)
	}
	if err := deploy(policy, gateway); err == nil || !strings.Contains(err.Error(), "somebody else made this suppression") {
		t.Errorf("a suppression in conflict with one that was created by hand: %v, want an error", err)
	}
	kept, err := s.iot.DescribeAuditSuppression(ctx, &iot.DescribeAuditSuppressionInput{CheckName: aws.String(gateway.Check.String()), ResourceIdentifier: byHand})
	if err != nil || aws.ToString(kept.Description) != "ask Ann" {
		t.Errorf("after the conflict the suppression created by hand is %+v, error %v, want it unchanged", kept, err)
	}
	if err := deploy(); err != nil {
		t.Fatal(err)
	}
	left, err := s.iot.DescribeAuditSuppression(ctx, &iot.DescribeAuditSuppressionInput{CheckName: aws.String(gateway.Check.String()), ResourceIdentifier: byHand})
	if err != nil || aws.ToString(left.Description) != "ask Ann" {
		t.Errorf("after the last deployment the suppression created by hand is %+v, error %v, want it unchanged", left, err)
	}
	var missing *iottypes.ResourceNotFoundException
	ours, err := s.iot.DescribeAuditSuppression(ctx, &iot.DescribeAuditSuppressionInput{CheckName: aws.String(policy.Check.String()), ResourceIdentifier: &iottypes.ResourceIdentifier{
		PolicyVersionIdentifier: &iottypes.PolicyVersionIdentifier{PolicyName: aws.String(policyName), PolicyVersionId: aws.String("1")},
	}})
	if !errors.As(err, &missing) {
		t.Errorf("the stack's suppression is %+v, error %v; want it deleted", ours, err)
	}
	if err := s.cloud.Denied(); err != nil {
		t.Error(err)
	}
}

// suppressingStack synthesizes the stack and returns the directory of its cloud assembly.
func suppressingStack(t *testing.T, suppressions []defenderhub.AuditSuppression) string {
	t.Helper()
	dir := t.TempDir()
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: &dir})
	stack := awscdk.NewStack(app, jsii.String("Suppressing"), nil)
	architecture := map[string]defenderhub.Architecture{"arm64": defenderhub.ARM64, "amd64": defenderhub.AMD64}[runtime.GOARCH]
	hub := defenderhub.NewProductSubscriptions(stack, jsii.String("Subscriptions"), &defenderhub.ProductSubscriptionsProps{EnableSecurityHub: true, Detect: defenderhub.Off})
	defenderhub.NewAudit(stack, jsii.String("Audit"), &defenderhub.AuditProps{
		Suppressions: suppressions, Function: &defenderhub.FunctionProps{Architecture: architecture},
	})
	defenderhub.NewDashboard(stack, jsii.String("Dashboard"), nil).Node().AddDependency(hub)
	defenderhub.NewVerification(stack, jsii.String("Verification"), &defenderhub.VerificationProps{Function: &defenderhub.FunctionProps{Architecture: architecture}})
	app.Synth(nil)
	return dir
}
