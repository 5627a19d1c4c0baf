package defenderhub_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
)

// stackIn returns a stack in a Region, or in an unknown one if region is empty.
func stackIn(region string) awscdk.Stack {
	if region == "" {
		return newStack()
	}
	return awscdk.NewStack(awscdk.NewApp(nil), jsii.String("Fleet"), &awscdk.StackProps{Env: &awscdk.Environment{Account: jsii.String("123456789012"), Region: &region}})
}

// TestDeadLettersStayInTheTopicsRegion subscribes queues to a topic in the same Region, in another
// one, and from a stack whose Region is known only at deployment.
func TestDeadLettersStayInTheTopicsRegion(t *testing.T) {
	const arn = `{"deadLetterTargetArn":{"Fn::GetAtt":["ForwarderDeadLetters`
	for name, c := range map[string]struct {
		region, redrive string // redrive is the beginning of the redrive policy
		topicRegion     any
		noted           bool
	}{
		"the same":      {"us-east-1", arn, nil, false},
		"another":       {"eu-central-1", "null", "us-east-1", true},
		"may be either": {"", `{"Fn::If":["ForwarderInuseast1`, "us-east-1", false},
	} {
		t.Run(name, func(t *testing.T) {
			stack := stackIn(c.region)
			topic := awssns.Topic_FromTopicArn(stack, jsii.String("Topic"), jsii.String(topicARN))
			defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: prebuilt, DetectTopic: topic})
			tpl := synth(t, stack)
			ids := tpl.ids("AWS::SNS::Subscription")
			if len(ids) != 1 {
				t.Errorf("%d subscriptions, want 1", len(ids))
			}
			for _, id := range ids {
				p := tpl[id].Properties
				redrive := text(p["RedrivePolicy"])
				if !strings.HasPrefix(redrive, c.redrive) || p["Region"] != c.topicRegion {
					t.Errorf("%s: redrive policy %s, Region %v, want %s..., %v", id, redrive, p["Region"], c.redrive, c.topicRegion)
				}
				if strings.HasPrefix(redrive, `{"Fn::If"`) && (!strings.Contains(redrive, arn) || !strings.HasSuffix(redrive, `,{"Ref":"AWS::NoValue"}]}`)) {
					t.Errorf("%s: redrive policy %s, want the dead-letter queue or nothing", id, redrive)
				}
			}
			got := notes(stack)
			if c.noted != slices.ContainsFunc(got, func(note string) bool {
				return strings.HasPrefix(note, "info /Fleet/Topic: This topic is in us-east-1. Messages that it cannot deliver to eu-central-1 are lost")
			}) {
				t.Errorf("notes %q, want one about lost messages: %v", got, c.noted)
			}
		})
	}
	stack := stackIn("")
	topic := awssns.NewTopic(stack, jsii.String("Topic"), nil)
	defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: prebuilt, AuditTopic: topic})
	if redrive := text(synth(t, stack).one(t, "AWS::SNS::Subscription").Properties["RedrivePolicy"]); !strings.HasPrefix(redrive, arn) {
		t.Errorf("a topic of the same stack: redrive policy %s, want the dead-letter queue", redrive)
	}
}

// CloudWatch rejects an alarm action in another Region, and Amazon SNS a message to a topic there. The
// forwarder cannot read the findings of an audit there.
func TestTopicsMustBeInTheStacksRegion(t *testing.T) {
	for region, wrong := range map[string]bool{"us-east-1": false, "eu-central-1": true, "": false} {
		for field, construct := range map[string]func(stack awscdk.Stack, topic awssns.ITopic){
			"AlarmTopic": func(stack awscdk.Stack, topic awssns.ITopic) {
				defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: prebuilt, AlarmTopic: topic})
			},
			"AuditTopic": func(stack awscdk.Stack, topic awssns.ITopic) {
				defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: prebuilt, AuditTopic: topic})
			},
			"Audit.Topic": func(stack awscdk.Stack, topic awssns.ITopic) {
				defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{
					Audit:         &defenderhub.AuditProps{Configuration: defenderhub.Existing, Topic: topic},
					Subscriptions: &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Off},
				}))
			},
			"Rules.AlarmTopic": func(stack awscdk.Stack, topic awssns.ITopic) {
				defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{Rules: &defenderhub.RulesProps{AlarmTopic: topic}}))
			},
			"Forwarder.AlarmTopic": func(stack awscdk.Stack, topic awssns.ITopic) {
				defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{Forwarder: &defenderhub.ForwarderProps{AlarmTopic: topic}}))
			},
			"Topic": func(stack awscdk.Stack, topic awssns.ITopic) {
				newNotify(stack, defenderhub.NotifyProps{Topic: topic})
			},
			"Notify.ChatTopic": func(stack awscdk.Stack, topic awssns.ITopic) {
				defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{Notify: &defenderhub.NotifyProps{ChatTopic: topic}}))
			},
			"Detect.SelfManaged.AlarmTopic": func(stack awscdk.Stack, topic awssns.ITopic) {
				defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{
					Detect: selfManaged(defenderhub.SelfManagedProps{AlarmTopic: topic})}))
			},
		} {
			stack := stackIn(region)
			topic := awssns.Topic_FromTopicArn(stack, jsii.String("Topic"), jsii.String(topicARN))
			got, message := faults(t, func() { construct(stack, topic) })
			if (got != nil) != wrong || wrong && !slices.Equal(got, []string{field}) {
				t.Errorf("%s in %q: faults of %v, want one: %v\n%s", field, region, got, wrong, message)
			}
		}
	}
}
