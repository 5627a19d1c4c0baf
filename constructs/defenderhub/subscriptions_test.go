package defenderhub_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
)

func subscriptions(t *testing.T, props *defenderhub.ProductSubscriptionsProps) template {
	t.Helper()
	stack := newStack()
	defenderhub.NewProductSubscriptions(stack, jsii.String("Subscriptions"), props)
	return synth(t, stack)
}

func TestSubscriptionsNameTheProductInEveryPartition(t *testing.T) {
	tp := subscriptions(t, nil)
	for _, product := range []string{"audit", "detect"} {
		id := "Subscriptions" + strings.ToUpper(product[:1]) + product[1:]
		r := tp.named(t, "AWS::SecurityHub::ProductSubscription", id)
		want := `{"Fn::Join":["",["arn:",{"Ref":"AWS::Partition"},":securityhub:",{"Ref":"AWS::Region"},"::product/aws/iot-device-defender-` + product + `"]]}`
		if got := text(r.Properties["ProductArn"]); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if r.DeletionPolicy != "RetainExceptOnCreate" || r.UpdateReplacePolicy != "Retain" {
			t.Errorf("%s: deletion policy %s, replace policy %s, want RetainExceptOnCreate and Retain", id, r.DeletionPolicy, r.UpdateReplacePolicy)
		}
	}
	if hubs := tp.ids("AWS::SecurityHub::Hub"); hubs != nil {
		t.Errorf("Security Hub is turned on without EnableSecurityHub: %v", hubs)
	}
}

func TestExistingAndOffSubscriptionsAreNotCreated(t *testing.T) {
	s := defenderhub.NewProductSubscriptions(newStack(), jsii.String("Subscriptions"), &defenderhub.ProductSubscriptionsProps{
		Audit: defenderhub.Existing, Detect: defenderhub.Off,
	})
	if s.Audit() != nil || s.Detect() != nil || s.SecurityHub() != nil {
		t.Error("an accessor of a part that is not created is not nil")
	}
	if children := *s.Node().Children(); len(children) != 0 {
		t.Errorf("created %v, want nothing", children)
	}
}

func TestSecurityHubIsCreatedFirstWithoutStandards(t *testing.T) {
	tp := subscriptions(t, &defenderhub.ProductSubscriptionsProps{EnableSecurityHub: true, RemovalPolicy: awscdk.RemovalPolicy_DESTROY})
	hub := tp.one(t, "AWS::SecurityHub::Hub")
	if hub.Properties["EnableDefaultStandards"] != false || hub.DeletionPolicy != "Delete" {
		t.Errorf("got %v, want no default standards, and the deletion policy Delete", hub)
	}
	for _, id := range tp.ids("AWS::SecurityHub::ProductSubscription") {
		if !slices.Equal(tp[id].DependsOn, tp.ids("AWS::SecurityHub::Hub")) {
			t.Errorf("%s depends on %v, want Security Hub alone", id, tp[id].DependsOn)
		}
	}
}

func TestWrongSubscriptionPropsAreErrors(t *testing.T) {
	got, _ := faults(t, func() {
		defenderhub.NewProductSubscriptions(newStack(), jsii.String("Subscriptions"), &defenderhub.ProductSubscriptionsProps{
			Audit: -1, Detect: 3, RemovalPolicy: awscdk.RemovalPolicy_SNAPSHOT,
		})
	})
	if want := []string{"Audit", "Detect", "RemovalPolicy"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
