package defenderhub_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
)

// singles returns props that create all resources that exist once per account and Region.
func singles() *defenderhub.DefenderHubProps {
	return withPrebuilt(&defenderhub.DefenderHubProps{
		Detect: nativeDetect(), Subscriptions: &defenderhub.ProductSubscriptionsProps{EnableSecurityHub: true},
	})
}

var singleFields = []string{"Subscriptions.Audit", "Subscriptions.Detect", "Subscriptions.EnableSecurityHub", "Audit.Configuration"}

func TestTheErrorForASecondHubOfAStackNamesTheFirst(t *testing.T) {
	stack := newStack()
	nested := awscdk.NewNestedStack(stack, jsii.String("Nested"), nil)
	defenderhub.NewDefenderHub(nested, jsii.String("One"), singles())
	fields, message := faults(t, func() { defenderhub.NewDefenderHub(stack, jsii.String("Two"), singles()) })
	if !slices.Equal(fields, singleFields) {
		t.Errorf("faults of %v, want %v", fields, singleFields)
	}
	for _, want := range []string{
		`Subscriptions.Audit: "create", want Existing for this one: it exists once per account and Region, and Fleet/Nested/One/Subscriptions creates it`,
		`Subscriptions.EnableSecurityHub: true, want false for this one: it exists once per account and Region, and Fleet/Nested/One/Subscriptions creates it`,
		`Audit.Configuration: "create", want Existing for this one: it exists once per account and Region, and Fleet/Nested/One/Audit creates it`,
	} {
		if !strings.Contains(message, want) {
			t.Errorf("the error %s lacks %s", message, want)
		}
	}
	if fields, _ := faults(t, func() { defenderhub.NewAudit(stack, jsii.String("Three"), nil) }); !slices.Equal(fields, []string{"Configuration"}) {
		t.Errorf("a second Audit: faults of %v, want Configuration", fields)
	}
	if fields, _ := faults(t, func() { defenderhub.NewProductSubscriptions(stack, jsii.String("Four"), nil) }); !slices.Equal(fields, []string{"Audit", "Detect"}) {
		t.Errorf("second ProductSubscriptions: faults of %v, want Audit and Detect", fields)
	}
}

func TestSecondStackInTheSameAccountAndRegionMustUseExisting(t *testing.T) {
	env := func(account, region string) *awscdk.Environment {
		e := &awscdk.Environment{}
		if account != "" {
			e.Account = &account
		}
		if region != "" {
			e.Region = &region
		}
		return e
	}
	here := env("123456789012", "eu-central-1")
	for name, c := range map[string]struct {
		one, two *awscdk.Environment
		wrong    bool
	}{
		"the same":              {here, here, true},
		"another Region":        {here, env("123456789012", "eu-west-1"), false},
		"another account":       {here, env("210987654321", "eu-central-1"), false},
		"both unknown":          {nil, nil, false},
		"one unknown":           {here, nil, false},
		"both Regions unknown":  {env("123456789012", ""), env("123456789012", ""), false},
		"both accounts unknown": {env("", "eu-central-1"), env("", "eu-central-1"), false},
	} {
		for place, scopes := range map[string]func(app awscdk.App) (one, two constructs.Construct){
			"one app": func(app awscdk.App) (one, two constructs.Construct) { return app, app },
			"two stages": func(app awscdk.App) (one, two constructs.Construct) {
				return awscdk.NewStage(app, jsii.String("Beta"), nil), awscdk.NewStage(app, jsii.String("Prod"), nil)
			},
		} {
			t.Run(name+", "+place, func(t *testing.T) {
				first, second := scopes(awscdk.NewApp(nil))
				one := awscdk.NewStack(first, jsii.String("One"), &awscdk.StackProps{Env: c.one})
				two := awscdk.NewStack(second, jsii.String("Two"), &awscdk.StackProps{Env: c.two})
				defenderhub.NewDefenderHub(one, jsii.String("Hub"), singles())
				fields, message := faults(t, func() { defenderhub.NewDefenderHub(two, jsii.String("Hub"), singles()) })
				if !c.wrong {
					if fields != nil {
						t.Errorf("faults of %v, want none: %s", fields, message)
					}
					return
				}
				if !slices.Equal(fields, singleFields) || !strings.Contains(message, "and "+*one.Node().Path()+"/Hub/Audit creates it") {
					t.Errorf("faults of %v, want %v and the path of the first hub: %s", fields, singleFields, message)
				}
				defenderhub.NewDefenderHub(two, jsii.String("Other"), withPrebuilt(&defenderhub.DefenderHubProps{
					Audit:         &defenderhub.AuditProps{Configuration: defenderhub.Existing},
					Subscriptions: &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Existing},
				}))
			})
		}
	}
}
