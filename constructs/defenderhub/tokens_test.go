package defenderhub_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
)

// TestReferencesInValuesOfBehaviors uses deploy-time references as values. The native engine accepts
// those that CloudFormation can resolve, the self-managed engine none.
func TestReferencesInValuesOfBehaviors(t *testing.T) {
	stack := newStack()
	parameter := func(id, kind string) awscdk.CfnParameter {
		return awscdk.NewCfnParameter(stack, jsii.String(id), &awscdk.CfnParameterProps{Type: jsii.String(kind)})
	}
	text, list := *parameter("Text", "String").ValueAsString(), *parameter("List", "CommaDelimitedList").ValueAsList()
	number := *parameter("Number", "Number").ValueAsNumber()
	if !*awscdk.Token_IsUnresolved(number) {
		t.Fatalf("%v is not a token", number)
	}
	names := defender.CustomStringList("names")
	numbers, custom := defender.CustomNumberList("numbers"), defender.CustomNumber("number")
	for name, c := range map[string]struct {
		criteria defender.Criteria
		native   bool
	}{
		"text":                 {names.In("a", text), true},
		"text inside text":     {names.NotIn("a-" + text + "-b"), true},
		"list":                 {names.In(*list[0]), true},
		"nested":               {names.In(*awscdk.Fn_Select(jsii.Number(0.0), &list)), true},
		"another case":         {names.In(strings.ToLower(text)), false},
		"number in text":       {names.In(fmt.Sprint("zone-", number)), false},
		"number":               {custom.LessThan(number, defender.Window5m), true},
		"number in a list":     {numbers.In(1, number), true},
		"number as an integer": {defender.MessageByteSize.LessThan(int64(number)), false},
		"number as a port":     {defender.ListeningTCPPorts.InPorts(443, uint16(int64(number))), false},
	} {
		t.Run(name, func(t *testing.T) {
			behaviors := []defender.Behavior{{Name: "plain", Criteria: names.In("a")}, {Name: "referring", Criteria: c.criteria}}
			for engine, allowed := range map[string]bool{"self-managed": false, "native": c.native} {
				props := &defenderhub.DetectProps{Behaviors: behaviors}
				profiles := &defenderhub.DetectProps{Profiles: []defender.SecurityProfile{{Name: "plant", Behaviors: behaviors}}}
				for field, props := range map[string]*defenderhub.DetectProps{"Behaviors[1].Criteria": props, "Profiles[0].Behaviors[1].Criteria": profiles} {
					want := []string{field}
					if allowed {
						want = nil
					}
					if engine == "native" {
						props.Native = &defenderhub.NativeProps{}
					} else {
						props.SelfManaged = &defenderhub.SelfManagedProps{Prebuilt: prebuilt}
						connected(newStack(), props)
					}
					got, message := faults(t, func() { defenderhub.NewDetect(newStack(), jsii.String("Detect"), props) })
					if !slices.Equal(got, want) || !allowed && !strings.Contains(message, field+`: "a deploy-time reference", want `) {
						t.Errorf("%s: got %v, want %v\n%s", engine, got, want, message)
					}
				}
			}
		})
	}
}

// A conversion to int loses the reference: only a very negative number remains.
func TestReferencesConvertedToIntegersAreErrors(t *testing.T) {
	number := int(*awscdk.NewCfnParameter(newStack(), jsii.String("Number"), &awscdk.CfnParameterProps{Type: jsii.String("Number")}).ValueAsNumber())
	props := withPrebuilt(&defenderhub.DefenderHubProps{
		Audit:     &defenderhub.AuditProps{CertificateAgeDays: number},
		Forwarder: &defenderhub.ForwarderProps{MemoryMiB: number, Alarms: &defenderhub.AlarmsProps{Errors: defenderhub.Alarm{Above: number}}},
	})
	got, message := faults(t, func() { defenderhub.NewDefenderHub(newStack(), jsii.String("Hub"), props) })
	if want := []string{"Audit.CertificateAgeDays", "Forwarder.MemoryMiB", "Forwarder.Alarms.Errors.Above"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if n := strings.Count(message, `"a deploy-time reference", want `); n != 3 {
		t.Errorf("%d faults name a reference, want all:\n%s", n, message)
	}
}

// A number that is known only at deployment cannot be part of an environment variable.
func TestReferencesInEnvironments(t *testing.T) {
	stack := newStack()
	number := awscdk.NewCfnParameter(stack, jsii.String("Number"), &awscdk.CfnParameterProps{Type: jsii.String("Number")}).ValueAsNumber()
	for topic, wrong := range map[string]bool{
		"fleet/" + *awscdk.Aws_REGION() + "/+":  false,
		fmt.Sprintf("fleet/%v/+", *number):      true,
		fmt.Sprintf("fleet/%d/+", int(*number)): true,
	} {
		got, message := faults(t, func() {
			defenderhub.NewForwarder(newStack(), jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: prebuilt, EventTopic: topic})
		})
		if (got != nil) != wrong {
			t.Errorf("%s: faults of %v, want one: %v %s", topic, got, wrong, message)
		}
	}
}
