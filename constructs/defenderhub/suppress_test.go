package defenderhub_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
)

// TestSuppressAddsToOurSuppressions adds suppressions to a policy that has one of this package.
func TestSuppressAddsToOurSuppressions(t *testing.T) {
	stack := newStack()
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{}))
	before := rulesOf(synth(t, stack).named(t, "AWS::IAM::Policy", "HubForwarderFunctionRoleDefaultPolicy"))
	stack = newStack()
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{}))
	own := defenderhub.Suppression{Rule: "Fleet-IAM1", Reason: "The boundary of the fleet narrows it.", Findings: []string{"Resource::*"}}
	defenderhub.Suppress(hub.Forwarder(), own)
	defenderhub.Suppress(hub.Forwarder(), defenderhub.Suppression{Rule: "Fleet-IAM2", Reason: "The same reason holds."})
	tp := synth(t, stack)
	got := rulesOf(tp.named(t, "AWS::IAM::Policy", "HubForwarderFunctionRoleDefaultPolicy"))
	want := append(slices.Clone(before), `{"applies_to":["Resource::*"],"id":"Fleet-IAM1","reason":"The boundary of the fleet narrows it."}`, `{"id":"Fleet-IAM2","reason":"The same reason holds."}`)
	if len(before) == 0 || !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if queue := rulesOf(tp.named(t, "AWS::SQS::Queue", "HubForwarderQueue")); !containsText(queue, "Fleet-IAM1") {
		t.Errorf("the queue, a child of the forwarder, has %v, want Fleet-IAM1", queue)
	}
}

// acknowledged returns the reasons of a resource's acknowledgments by rule, as cdk-nag 3 reads them.
func acknowledged(resource constructs.IConstruct) map[string]string {
	reasons := map[string]string{}
	for _, entry := range *resource.Node().Metadata() {
		if *entry.Type != "aws:cdk:acknowledged-rules" {
			continue
		}
		data, _ := entry.Data.(map[string]any)
		for id, reason := range data {
			_, rule, _ := strings.Cut(id, "::")
			reasons[rule] = fmt.Sprint(reason)
		}
	}
	return reasons
}

func TestSuppressAcknowledgesForNag3(t *testing.T) {
	stack := newStack()
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{}))
	policy := hub.Forwarder().Node().FindChild(jsii.String("FunctionRole")).Node().FindChild(jsii.String("DefaultPolicy")).Node().DefaultChild()
	before := acknowledged(policy)
	defenderhub.Suppress(hub.Forwarder(),
		defenderhub.Suppression{Rule: "Fleet-IAM1", Reason: "The boundary of the fleet narrows it.", Findings: []string{"Resource::*", "Action::sqs:*"}},
		defenderhub.Suppression{Rule: "Fleet-IAM2", Reason: "The same reason holds."})
	want := maps.Clone(before)
	want["Fleet-IAM1[Resource::*]"] = "The boundary of the fleet narrows it."
	want["Fleet-IAM1[Action::sqs:*]"] = "The boundary of the fleet narrows it."
	want["Fleet-IAM2"] = "The same reason holds."
	if got := acknowledged(policy); len(before) == 0 || !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// rulesOf returns the suppressions of a resource, as cdk-nag 2 reads them.
func rulesOf(r resource) (rules []string) {
	all, _ := path(r.Metadata, "cdk_nag", "rules_to_suppress").([]any)
	for _, rule := range all {
		rules = append(rules, text(rule))
	}
	return rules
}

// containsText reports whether the JSON of a value in the list contains part.
func containsText[T any](list []T, part string) bool {
	return slices.ContainsFunc(list, func(v T) bool { return strings.Contains(text(v), part) })
}

func TestWrongSuppressionsAreErrors(t *testing.T) {
	got, _ := faults(t, func() {
		defenderhub.Suppress(newStack(), defenderhub.Suppression{Rule: "A-1", Reason: "a good reason"}, defenderhub.Suppression{Reason: "short"})
	})
	if want := []string{"[1].Rule", "[1].Reason"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
