package defenderhub_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
)

// TestNamesThatTwoConstructsCreate creates two constructs with one name: in one stack, in two stacks
// of one account and Region, and in two stacks whose account and Region are unknown.
func TestNamesThatTwoConstructsCreate(t *testing.T) {
	env := &awscdk.StackProps{Env: &awscdk.Environment{Account: jsii.String("123456789012"), Region: jsii.String("eu-central-1")}}
	name := *awscdk.Fn_ImportValue(jsii.String("Name"))
	audit := func(p defenderhub.AuditProps) func(scope constructs.Construct, id string) {
		return func(scope constructs.Construct, id string) {
			p.Configuration, p.Prebuilt = defenderhub.Existing, prebuilt
			defenderhub.NewAudit(scope, &id, &p)
		}
	}
	native := func(p defenderhub.DetectProps) func(scope constructs.Construct, id string) {
		return func(scope constructs.Construct, id string) {
			if p.Native == nil {
				p.Native = &defenderhub.NativeProps{}
			}
			defenderhub.NewDetect(scope, &id, &p)
		}
	}
	reports := func(p defenderhub.SelfManagedProps) func(scope constructs.Construct, id string) {
		return func(scope constructs.Construct, id string) {
			p.Prebuilt = prebuilt
			part := constructs.NewConstruct(scope, jsii.String(id+"Part"))
			defenderhub.NewDetect(scope, &id, connected(part, &defenderhub.DetectProps{Behaviors: defender.StarterBehaviors(), SelfManaged: &p}))
		}
	}
	warm := []defender.Behavior{{Name: "warm", Criteria: defender.CustomNumber("warmth").LessThan(30, defender.Window5m)}}
	for test, c := range map[string]struct {
		first, second func(scope constructs.Construct, id string)
		want          []string
	}{
		"schedule":          {audit(defenderhub.AuditProps{ScheduleName: "fleet"}), audit(defenderhub.AuditProps{ScheduleName: "fleet"}), []string{"ScheduleName"}},
		"other schedules":   {audit(defenderhub.AuditProps{ScheduleName: "fleet"}), audit(defenderhub.AuditProps{ScheduleName: "plant"}), nil},
		"no schedule":       {audit(defenderhub.AuditProps{ScheduleName: "fleet"}), audit(defenderhub.AuditProps{ScheduleName: "fleet", NoSchedule: true}), nil},
		"unknown schedule":  {audit(defenderhub.AuditProps{ScheduleName: name}), audit(defenderhub.AuditProps{ScheduleName: name}), nil},
		"generated":         {audit(defenderhub.AuditProps{}), audit(defenderhub.AuditProps{}), nil},
		"custom metric":     {native(defenderhub.DetectProps{Behaviors: warm}), native(defenderhub.DetectProps{Profiles: []defender.SecurityProfile{{Name: "plant", Behaviors: warm}}}), []string{"Native.ExistingCustomMetrics"}},
		"existing metric":   {native(defenderhub.DetectProps{Behaviors: warm}), native(defenderhub.DetectProps{Behaviors: warm, Native: &defenderhub.NativeProps{ExistingCustomMetrics: []string{"warmth"}}}), nil},
		"profile":           {native(defenderhub.DetectProps{Profiles: []defender.SecurityProfile{{Name: "plant", Behaviors: defender.DemoBehaviors()}}}), native(defenderhub.DetectProps{Behaviors: defender.DemoBehaviors(), Profiles: []defender.SecurityProfile{{Name: "plant", Behaviors: defender.DemoBehaviors()}}}), []string{"Profiles[0].Name"}},
		"rule":              {reports(defenderhub.SelfManagedProps{ReportsRuleName: "fleet"}), reports(defenderhub.SelfManagedProps{ReportsRuleName: "fleet"}), []string{"SelfManaged.ReportsRuleName"}},
		"generated rules":   {reports(defenderhub.SelfManagedProps{}), reports(defenderhub.SelfManagedProps{}), nil},
		"rule and schedule": {reports(defenderhub.SelfManagedProps{ReportsRuleName: "fleet"}), audit(defenderhub.AuditProps{ScheduleName: "fleet"}), nil},
	} {
		t.Run(test, func(t *testing.T) {
			app := awscdk.NewApp(nil)
			one, other := awscdk.NewStack(app, jsii.String("One"), env), awscdk.NewStack(app, jsii.String("Other"), env)
			unknown, more := awscdk.NewStack(app, jsii.String("Unknown"), nil), awscdk.NewStack(app, jsii.String("More"), nil)
			c.first(one, "First")
			c.first(unknown, "First")
			for _, scope := range []constructs.Construct{one, other} {
				got, message := faults(t, func() { c.second(scope, "Second") })
				if !slices.Equal(got, c.want) || c.want != nil && !strings.Contains(message, "it exists once per account and Region, and One/First creates it") {
					t.Errorf("%s: got %v, want %v\n%s", *scope.Node().Path(), got, c.want, message)
				}
				if got == nil {
					break // the second one created its own
				}
			}
			if got, message := faults(t, func() { c.second(more, "Second") }); got != nil {
				t.Errorf("unknown account and Region: faults of %v, want none\n%s", got, message)
			}
		})
	}
}

// The fields in the error begin with the part of the hub.
func TestTwoHubsOfOneStackNameTheirFields(t *testing.T) {
	stack := newStack()
	props := func() *defenderhub.DefenderHubProps {
		return withPrebuilt(&defenderhub.DefenderHubProps{
			Subscriptions: &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Existing, Detect: defenderhub.Existing},
			Audit:         &defenderhub.AuditProps{Configuration: defenderhub.Existing, ScheduleName: "fleet"},
			Detect:        &defenderhub.DetectProps{Native: &defenderhub.NativeProps{}, Behaviors: []defender.Behavior{{Name: "warm", Criteria: defender.CustomNumber("warmth").LessThan(30, defender.Window5m)}}},
		})
	}
	defenderhub.NewDefenderHub(stack, jsii.String("First"), props())
	got, message := faults(t, func() { defenderhub.NewDefenderHub(stack, jsii.String("Second"), props()) })
	if want := []string{"Audit.ScheduleName", "Detect.Native.ExistingCustomMetrics"}; !slices.Equal(got, want) || !strings.Contains(message, `want the custom metric "warmth" here: it exists once per account and Region, and Fleet/First/Detect creates it`) {
		t.Errorf("got %v, want %v\n%s", got, want, message)
	}
}
