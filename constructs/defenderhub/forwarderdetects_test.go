package defenderhub_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
)

// withProfile returns the props of a Detect with one profile of n behaviors.
func withProfile(engine, name string, n int, severity defender.Severity) *defenderhub.DetectProps {
	profile := defender.SecurityProfile{Name: name}
	for i := range n {
		profile.Behaviors = append(profile.Behaviors, defender.Behavior{Name: fmt.Sprintf("b%d", i), Criteria: defender.MessageByteSize.LessThan(8), Severity: severity})
	}
	props := &defenderhub.DetectProps{Profiles: []defender.SecurityProfile{profile}}
	if engine == "native" {
		props.Native = &defenderhub.NativeProps{}
	} else {
		props.SelfManaged = &defenderhub.SelfManagedProps{Prebuilt: prebuilt}
	}
	return props
}

func TestForwarderOfADetectMustKnowItsBehaviors(t *testing.T) {
	for _, engine := range []string{"native", "self-managed"} {
		stack := newStack()
		props := connected(stack, withProfile(engine, "plant", 2, defender.Low))
		unknown := withProfile(engine, "office", 3, defender.Low)
		unknown.Forwarder = props.Forwarder
		defenderhub.NewDetect(stack, jsii.String("Detect"), props)
		for id, c := range map[string]struct {
			props *defenderhub.DetectProps
			want  string
		}{
			"Unknown": {unknown, "a Forwarder with these props in Detects"},
			"Second":  {props, "a Forwarder to which no other Detect sends alarms of the same behaviors: Fleet/Detect does"},
		} {
			got, message := faults(t, func() { defenderhub.NewDetect(stack, &id, c.props) })
			if !slices.Contains(got, "Forwarder") || !strings.Contains(message, c.want) {
				t.Errorf("%s, %s: got %v, want %q in %s", engine, id, got, c.want, message)
			}
		}
	}
}

func TestOnlyTheSelfManagedEngineRequiresAForwarder(t *testing.T) {
	alone := withProfile("native", "plant", 1, defender.Low)
	if got, message := faults(t, func() { defenderhub.NewDetect(newStack(), jsii.String("Detect"), alone) }); got != nil {
		t.Errorf("native: faults of %v, want none: %s", got, message)
	}
	alone = withProfile("self-managed", "plant", 1, defender.Low)
	if got, _ := faults(t, func() { defenderhub.NewDetect(newStack(), jsii.String("Detect"), alone) }); !slices.Equal(got, []string{"Forwarder"}) {
		t.Errorf("self-managed: got %v, want Forwarder", got)
	}
	stack := newStack()
	none := &defenderhub.DetectProps{Forwarder: defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: prebuilt})}
	if got, _ := faults(t, func() { defenderhub.NewDetect(stack, jsii.String("Detect"), none) }); !slices.Equal(got, []string{"Forwarder"}) {
		t.Errorf("no engine, with a forwarder: got %v, want Forwarder", got)
	}
}

func TestDetectsOfOneForwarderShareNoBehavior(t *testing.T) {
	twoProfiles := func() *defenderhub.DetectProps {
		props := withProfile("self-managed", "plant", 1, defender.Low)
		props.Behaviors = defender.DemoBehaviors()
		return props
	}
	for name, c := range map[string]struct {
		detects []*defenderhub.DetectProps
		want    []string
	}{
		"other profiles":                     {[]*defenderhub.DetectProps{withProfile("self-managed", "plant", 3, defender.Low), withProfile("self-managed", "office", 3, defender.Low)}, nil},
		"same behaviors":                     {[]*defenderhub.DetectProps{twoProfiles(), twoProfiles()}, []string{"Detects[1].Behaviors", "Detects[1].Profiles[0].Name"}},
		"too many":                           {[]*defenderhub.DetectProps{withProfile("self-managed", "plant", 99, defender.Low), withProfile("self-managed", "office", 202, defender.Low)}, []string{"Detects"}},
		"both engines":                       {[]*defenderhub.DetectProps{withProfile("self-managed", "plant", 3, defender.Low), withProfile("native", "plant", 3, defender.High)}, nil},
		"two severities of one name, native": {[]*defenderhub.DetectProps{withProfile("native", "plant", 1, defender.Low), withProfile("native", "office", 1, defender.High)}, []string{"Detects[1]"}},
		"no engine":                          {[]*defenderhub.DetectProps{{Behaviors: defender.DemoBehaviors()}}, []string{"Detects[0]"}},
		"nothing":                            {[]*defenderhub.DetectProps{nil}, []string{"Detects[0]"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, message := faults(t, func() {
				defenderhub.NewForwarder(newStack(), jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: prebuilt, Detects: c.detects})
			})
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v\n%s", got, c.want, message)
			}
		})
	}
}

func TestForwarderOfANativeDetectHasItsSeverities(t *testing.T) {
	stack := newStack()
	detect := defenderhub.NewDetect(stack, jsii.String("Detect"), connected(stack, withProfile("native", "plant", 1, defender.High)))
	tp := synth(t, stack)
	env := text(path(tp.named(t, "AWS::Lambda::Function", "ForwarderFunction").Properties, "Environment", "Variables"))
	if !strings.Contains(env, `b0=HIGH`) {
		t.Errorf("environment %s, want the severity b0=HIGH", env)
	}
	subscription := text(tp.one(t, "AWS::SNS::Subscription").Properties)
	if topic := tp.ids("AWS::SNS::Topic"); len(topic) != 1 || !strings.Contains(subscription, topic[0]) || detect.Native() == nil {
		t.Errorf("subscription %s, want one to the topic of Detect, of %v", subscription, topic)
	}
}
