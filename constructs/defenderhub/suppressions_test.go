package defenderhub_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

var suppressed = []defenderhub.AuditSuppression{
	{Check: defender.ConflictingClientIDs, Resource: "gateway-1", Until: time.Date(2027, 6, 1, 2, 0, 0, 0, time.FixedZone("", 7200)), Why: "Two gateways share it until June."},
	{Check: defender.LoggingDisabled, Why: "Logs go elsewhere."},
	{Check: defender.IoTPolicyOverlyPermissive, Resource: "fleet/2", Why: "For the pilot."},
	{Check: defender.RoleAliasOverlyPermissive, Resource: "camera", Why: "For the pilot."},
}

func TestEachSuppressionIsAResource(t *testing.T) {
	tp := auditTemplate(t, &defenderhub.AuditProps{Suppressions: suppressed, RunOnDeploy: true, Prebuilt: prebuilt})
	var got []string
	for _, id := range tp.ids(contract.SuppressionResourceType) {
		p := tp[id].Properties
		until, _ := p[contract.SuppressionUntil].(string)
		got = append(got, text(p[contract.SuppressionCheck])+text(p[contract.SuppressionResource])+until)
		if !slices.ContainsFunc(tp[id].DependsOn, func(d string) bool { return tp[d].Type == "AWS::IoT::AccountAuditConfiguration" }) {
			t.Errorf("%s depends on %v, want the audit configuration", id, tp[id].DependsOn)
		}
		if start := tp.one(t, contract.StartAuditResourceType); !slices.Contains(start.DependsOn, id) {
			t.Errorf("the audit does not wait for %s: %v", id, start.DependsOn)
		}
	}
	for _, want := range []string{
		`"CONFLICTING_CLIENT_IDS_CHECK"{"clientId":"gateway-1"}2027-06-01T00:00:00Z`,
		`"LOGGING_DISABLED_CHECK"{"account":{"Ref":"AWS::AccountId"}}`,
		`"IOT_POLICY_OVERLY_PERMISSIVE_CHECK"{"policyVersionIdentifier":{"policyName":"fleet","policyVersionId":"2"}}`,
		`"IOT_ROLE_ALIAS_OVERLY_PERMISSIVE_CHECK"{"roleAliasArn":{"Fn::Join":["",["arn:",{"Ref":"AWS::Partition"},":iot:",{"Ref":"AWS::Region"},":",{"Ref":"AWS::AccountId"},":rolealias/camera"]]}}`,
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, strings.Join(got, "\n"))
		}
	}
	if n := len(tp.ids("AWS::Lambda::Function")); n != 2 {
		t.Errorf("%d functions, want one for the start and one for all suppressions", n)
	}
}

func TestNoFunctionWithoutSuppressions(t *testing.T) {
	stack := newStack()
	audit := defenderhub.NewAudit(stack, jsii.String("Audit"), nil)
	if tp := synth(t, stack); len(tp.ids("AWS::Lambda::Function")) > 0 || audit.SuppressFunction() != nil {
		t.Errorf("functions %v, want none", tp.ids("AWS::Lambda::Function"))
	}
}

// The logical ID of a suppression depends on check and resource alone. CloudFormation does not
// replace an entry that moves in the list.
func TestOrderOfSuppressionsDoesNotMatter(t *testing.T) {
	ids := func(list []defenderhub.AuditSuppression) []string {
		return auditTemplate(t, &defenderhub.AuditProps{Suppressions: list, Prebuilt: prebuilt}).ids(contract.SuppressionResourceType)
	}
	reversed := slices.Clone(suppressed)
	slices.Reverse(reversed)
	if one, other := ids(suppressed), ids(reversed); !slices.Equal(one, other) {
		t.Errorf("logical IDs %v, in another order %v", one, other)
	}
}

func TestWrongAuditSuppressionsAreErrors(t *testing.T) {
	token := *awscdk.Fn_ImportValue(jsii.String("Client"))
	certificate := strings.Repeat("a1", 32)
	one := func(c defender.Check, resource string) []defenderhub.AuditSuppression {
		return []defenderhub.AuditSuppression{{Check: c, Resource: resource, Why: "because"}}
	}
	for name, c := range map[string]struct {
		props defenderhub.AuditProps
		want  []string
	}{
		"certificate":            {defenderhub.AuditProps{Suppressions: one(defender.DeviceCertificateShared, certificate)}, nil},
		"short certificate":      {defenderhub.AuditProps{Suppressions: one(defender.DeviceCertificateShared, certificate[1:])}, []string{"Suppressions[0].Resource"}},
		"CA certificate":         {defenderhub.AuditProps{Suppressions: one(defender.CACertificateExpiring, "ca")}, []string{"Suppressions[0].Resource"}},
		"policy, no version":     {defenderhub.AuditProps{Suppressions: one(defender.IoTPolicyOverlyPermissive, "fleet")}, []string{"Suppressions[0].Resource"}},
		"ARN of a role alias":    {defenderhub.AuditProps{Suppressions: one(defender.RoleAliasOverlyPermissive, "arn:aws:iot:x:1:rolealias/r")}, []string{"Suppressions[0].Resource"}},
		"identity pool":          {defenderhub.AuditProps{Suppressions: one(defender.AuthenticatedCognitoRoleOverlyPermissive, "eu-west-1:1f-2")}, nil},
		"name of a pool":         {defenderhub.AuditProps{Suppressions: one(defender.AuthenticatedCognitoRoleOverlyPermissive, "pool")}, []string{"Suppressions[0].Resource"}},
		"no client ID":           {defenderhub.AuditProps{Suppressions: one(defender.ConflictingClientIDs, "")}, []string{"Suppressions[0].Resource"}},
		"resource of account":    {defenderhub.AuditProps{Suppressions: one(defender.LoggingDisabled, "123456789012")}, []string{"Suppressions[0].Resource"}},
		"intermediate CA":        {defenderhub.AuditProps{Suppressions: one(defender.IntermediateCARevoked, "x")}, []string{"Suppressions[0].Check"}},
		"unknown check":          {defenderhub.AuditProps{Suppressions: one(0, "x")}, []string{"Suppressions[0].Check"}},
		"client ID of 129 bytes": {defenderhub.AuditProps{Suppressions: one(defender.ConflictingClientIDs, strings.Repeat("é", 64)+"x")}, []string{"Suppressions[0].Resource"}},
		"client ID of 128 bytes": {defenderhub.AuditProps{Suppressions: one(defender.ConflictingClientIDs, strings.Repeat("é", 64))}, nil},
		"token":                  {defenderhub.AuditProps{Suppressions: one(defender.ConflictingClientIDs, token)}, nil},
		"token as a policy":      {defenderhub.AuditProps{Suppressions: one(defender.IoTPolicyOverlyPermissive, token)}, []string{"Suppressions[0].Resource"}},
		"twice":                  {defenderhub.AuditProps{Suppressions: append(one(defender.ConflictingClientIDs, "a"), one(defender.ConflictingClientIDs, "a")...)}, []string{"Suppressions[1].Resource"}},
		"disabled check":         {defenderhub.AuditProps{Suppressions: one(defender.ConflictingClientIDs, "a"), Disabled: []defender.Check{defender.ConflictingClientIDs}}, []string{"Suppressions[0].Check"}},
		"no reason":              {defenderhub.AuditProps{Suppressions: []defenderhub.AuditSuppression{{Check: defender.LoggingDisabled}}}, []string{"Suppressions[0].Why"}},
		"blank reason":           {defenderhub.AuditProps{Suppressions: []defenderhub.AuditSuppression{{Check: defender.LoggingDisabled, Why: "  "}}}, []string{"Suppressions[0].Why"}},
		"long reason":            {defenderhub.AuditProps{Suppressions: []defenderhub.AuditSuppression{{Check: defender.LoggingDisabled, Why: strings.Repeat("x", 751)}}}, []string{"Suppressions[0].Why"}},
		"two lines":              {defenderhub.AuditProps{Suppressions: []defenderhub.AuditSuppression{{Check: defender.LoggingDisabled, Why: "a\nb"}}}, []string{"Suppressions[0].Why"}},
		"fraction of a second":   {defenderhub.AuditProps{Suppressions: []defenderhub.AuditSuppression{{Check: defender.LoggingDisabled, Why: "x", Until: time.Unix(1, 1)}}}, []string{"Suppressions[0].Until"}},
		"too many suppressions":  {defenderhub.AuditProps{Suppressions: make([]defenderhub.AuditSuppression, 201)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c.props.Prebuilt = prebuilt
			got, _ := faults(t, func() { defenderhub.NewAudit(newStack(), jsii.String("Audit"), &c.props) })
			if len(c.props.Suppressions) > 200 { // each of them is wrong too
				c.want, got = []string{"Suppressions"}, got[:1]
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
