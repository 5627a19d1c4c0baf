package defenderhub_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender/correlation"
	"github.com/defenderhub/defenderhub/internal/notification"
)

func TestFacadeGivesNotifyItsRulesKeyAndAlarmTopic(t *testing.T) {
	stack := newStack()
	key := awskms.NewKey(stack, jsii.String("Key"), nil)
	onCall := awssns.NewTopic(stack, jsii.String("OnCall"), nil)
	props := &defenderhub.DefenderHubProps{
		EncryptionKey: key, AlarmTopic: onCall, Function: &defenderhub.FunctionProps{Architecture: defenderhub.AMD64},
		Correlate: &defenderhub.CorrelateProps{Prebuilt: prebuilt, Rules: []correlation.Rule{correlation.TwoProducts()}},
		Notify:    &defenderhub.NotifyProps{Prebuilt: prebuilt},
	}
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(props))
	if hub.Notify() == nil || hub.Correlate() == nil || props.Notify.Correlate != nil || props.Correlate.Forwarder != nil {
		t.Error("a part is missing, or the caller's props were written to")
	}
	if file := string(readAssetFile(t, stack, notification.File)); !strings.Contains(file, `"two-products"`) || strings.Contains(file, `"campaign"`) {
		t.Errorf("the notifier's file is %s, want the rule two-products alone", file)
	}
	tp := synth(t, stack)
	if p := tp.named(t, "AWS::Lambda::Function", "HubNotifyFunction").Properties; text(p["Architectures"]) != `["x86_64"]` {
		t.Errorf("the function of Notify is for %v, want x86_64", p["Architectures"])
	}
	encrypted := tp.ids("AWS::KMS::Key")[0]
	for _, kind := range []string{"AWS::SQS::Queue", "AWS::SNS::Topic", "AWS::DynamoDB::Table"} {
		for _, id := range tp.ids(kind) {
			if strings.HasPrefix(id, "HubNotify") && !strings.Contains(text(tp[id].Properties), encrypted) {
				t.Errorf("%s is not encrypted with the key", id)
			}
		}
	}
	for _, id := range tp.ids("AWS::CloudWatch::Alarm") {
		if !strings.Contains(text(tp[id].Properties["AlarmActions"]), tp.idOf(t, "AWS::SNS::Topic", "OnCall")) {
			t.Errorf("%s notifies %s, want OnCall", id, text(tp[id].Properties["AlarmActions"]))
		}
	}
}

func TestNotifyNeedsNoForwarder(t *testing.T) {
	tp := hubTemplate(t, &defenderhub.DefenderHubProps{NoForwarder: true, Notify: &defenderhub.NotifyProps{Prebuilt: prebuilt}})
	tp.named(t, "AWS::Events::Rule", "HubNotifyRule")
}

func TestWithoutNotifyNothingChanges(t *testing.T) {
	before, after := hubTemplate(t, &defenderhub.DefenderHubProps{}), hubTemplate(t, &defenderhub.DefenderHubProps{Notify: &defenderhub.NotifyProps{Prebuilt: prebuilt}})
	for id := range before {
		if text(after[id]) != text(before[id]) {
			t.Errorf("%s changes with Notify:\n%s\n%s", id, text(before[id]), text(after[id]))
		}
	}
	for id, r := range after {
		if _, ok := before[id]; !ok && !strings.HasPrefix(id, "HubNotify") {
			t.Errorf("%s (%s) is not Notify's", id, r.Type)
		}
	}
}

func TestFacadeReportsTheFaultsOfNotify(t *testing.T) {
	for field, props := range map[string]defenderhub.DefenderHubProps{
		"Notify.PerMinute": {Notify: &defenderhub.NotifyProps{PerMinute: -1}},
		"Notify.Correlate": {Notify: &defenderhub.NotifyProps{Correlate: &defenderhub.CorrelateProps{}}},
	} {
		if fields, message := faults(t, func() { defenderhub.NewDefenderHub(newStack(), jsii.String("Hub"), withPrebuilt(&props)) }); !slices.Equal(fields, []string{field}) {
			t.Errorf("faults of %v, want %s: %s", fields, field, message)
		}
	}
}
