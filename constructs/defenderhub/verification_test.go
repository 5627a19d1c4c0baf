package defenderhub_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
)

// withVerification returns a native Detect that copies verification states.
func withVerification() *defenderhub.DetectProps {
	return &defenderhub.DetectProps{
		Behaviors: defender.DemoBehaviors(), Native: &defenderhub.NativeProps{Verification: &defenderhub.VerificationProps{Prebuilt: prebuilt}},
	}
}

func TestVerificationStatesAreCopiedToDetect(t *testing.T) {
	stack := newStack()
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{
		Function: &defenderhub.FunctionProps{Architecture: defenderhub.AMD64}, Detect: withVerification(),
	}))
	v := hub.Detect().Native().Verification()
	if v.Rule() == nil || v.Queue() == nil || v.DeadLetterQueue() == nil || v.Function() == nil || len(v.Alarms()) != 2 {
		t.Errorf("parts %+v, want all of them and two alarms", v)
	}
	tp := synth(t, stack)
	pattern := text(tp.named(t, "AWS::Events::Rule", "HubDetectVerificationRule").Properties["EventPattern"])
	for _, want := range []string{
		`"VerificationState":["TRUE_POSITIVE","FALSE_POSITIVE","BENIGN_POSITIVE"]`, `"AwsAccountId":[{"Ref":"AWS::AccountId"}]`, `"Region":[{"Ref":"AWS::Region"}]`,
		`"ProductFields":{"ViolationId":[{"exists":true}]}`, ":product/aws/iot-device-defender-detect", "/default",
	} {
		if !strings.Contains(pattern, want) {
			t.Errorf("the pattern lacks %s: %s", want, pattern)
		}
	}
	function := tp.named(t, "AWS::Lambda::Function", "HubDetectVerificationFunction").Properties
	if text(function["Architectures"]) != `["x86_64"]` {
		t.Errorf("architecture %s, want x86_64", text(function["Architectures"]))
	}
	want := append(awsCalls(t, "verification"), polling...)
	slices.Sort(want)
	if got := allowed(tp, "HubDetectVerificationFunction"); !slices.Equal(got, want) || len(want) != 5 {
		t.Errorf("the function is allowed %v\nand calls %v, want 5 actions", got, want)
	}
}

func TestVerificationIsOptIn(t *testing.T) {
	stack := newStack()
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{Detect: nativeDetect()}))
	if hub.Detect().Native().Verification() != nil || strings.Contains(text(synth(t, stack)), "PutVerificationState") {
		t.Error("states are copied without the prop")
	}
}

func TestWrongVerificationPropsAreErrors(t *testing.T) {
	props := withVerification()
	*props.Native.Verification = defenderhub.VerificationProps{Function: &defenderhub.FunctionProps{Architecture: 9}, Prebuilt: "none", DeadLetters: defenderhub.Alarm{Above: -1}, LostEvents: defenderhub.Alarm{Above: -1}}
	got, _ := faults(t, func() {
		defenderhub.NewDefenderHub(newStack(), jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{Detect: props}))
	})
	var want []string
	for _, field := range []string{"Function.Architecture", "Prebuilt", "DeadLetters.Above", "LostEvents.Above"} {
		want = append(want, "Detect.Native.Verification."+field)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	got, _ = faults(t, func() {
		defenderhub.NewVerification(newStack(), jsii.String("V"), &defenderhub.VerificationProps{Prebuilt: "none"})
	})
	if !slices.Equal(got, []string{"Prebuilt"}) {
		t.Errorf("without the facade: got %v, want Prebuilt", got)
	}
}
