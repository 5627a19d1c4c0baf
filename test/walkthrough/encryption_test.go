package walkthrough

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssnssubscriptions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
)

// TestMessagesPassEncryptedTopicsAndQueues deploys a stack whose user provides every topic and
// queue, each encrypted with its own key. No other prop names the keys: only the constructs allow
// AWS services to use them.
func TestMessagesPassEncryptedTopicsAndQueues(t *testing.T) {
	usePinnedNode(t)
	ctx, s := begin(t)
	if _, err := s.cloud.Deploy(ctx, t.TempDir(), nil, "--app", encryptedStack(t)); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.outputs, err = stackOutputs(ctx, s.cloud, "Encrypted"); err != nil {
		t.Fatal(err)
	}

	// An audit's result goes through the topic and the forwarder's queue.
	if _, err := s.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String(policyName), PolicyDocument: aws.String(openPolicy)}); err != nil {
		t.Fatal(err)
	}
	if err := s.audit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.expect(ctx, types.SeverityLabelCritical, types.RecordStateActive, "IOT_POLICY_OVERLY_PERMISSIVE_CHECK", "ALLOWS_BROAD_ACCESS"); err != nil {
		t.Fatal(err)
	}

	// A device's event goes through the rule's queue.
	pump, err := s.newDevice(ctx, "pump-7")
	if err != nil {
		t.Fatal(err)
	}
	if err := pump.connect(); err != nil {
		t.Fatal(err)
	}
	if err := pump.publish("fleet/pump-7/security", `{"type":"tamper"}`); err != nil {
		t.Fatal(err)
	}
	if body := s.arrival(ctx, t, "Events"); !strings.Contains(body, "fleet/pump-7/security") {
		t.Errorf("the rule's queue has %s, want the event", body)
	}

	// An alarm goes through its topic.
	dead := s.outputs["DeadLetters"]
	if _, err := s.queues.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &dead, MessageBody: aws.String("{}")}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.cloud.Clock.Step(10 * time.Minute)
	}
	if body := s.arrival(ctx, t, "Calls"); !strings.Contains(body, "NewStateValue") {
		t.Errorf("the queue of the alarms' topic has %s, want an alarm", body)
	}
	if err := s.cloud.Denied(); err != nil {
		t.Error(err)
	}
}

// encryptedStack synthesizes the stack and returns the directory of its cloud assembly.
func encryptedStack(t *testing.T) string {
	t.Helper()
	defer jsii.Close()
	dir := t.TempDir()
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: &dir})
	stack := awscdk.NewStack(app, jsii.String("Encrypted"), nil)
	topic := func(id string) awssns.Topic {
		return awssns.NewTopic(stack, &id, &awssns.TopicProps{MasterKey: awskms.NewKey(stack, jsii.String(id+"Key"), nil), EnforceSSL: jsii.Bool(true)})
	}
	output := func(id string, value *string) {
		awscdk.NewCfnOutput(stack, &id, &awscdk.CfnOutputProps{Value: value})
	}
	queue := func(id string) awssqs.Queue {
		made := awssqs.NewQueue(stack, jsii.String(id+"Queue"), &awssqs.QueueProps{EncryptionMasterKey: awskms.NewKey(stack, jsii.String(id+"Key"), nil)})
		output(id, made.QueueUrl())
		return made
	}
	onCall := topic("OnCall")
	calls := awssqs.NewQueue(stack, jsii.String("CallsQueue"), nil)
	onCall.AddSubscription(awssnssubscriptions.NewSqsSubscription(calls, nil))
	output("Calls", calls.QueueUrl())

	architecture := map[string]defenderhub.Architecture{"arm64": defenderhub.ARM64, "amd64": defenderhub.AMD64}[runtime.GOARCH]
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Subscriptions: &defenderhub.ProductSubscriptionsProps{EnableSecurityHub: true, Audit: defenderhub.Off},
		Audit:         &defenderhub.AuditProps{Topic: topic("Audits")},
		Function:      &defenderhub.FunctionProps{Architecture: architecture}, AlarmTopic: onCall,
		EncryptionKey: awskms.NewKey(stack, jsii.String("HubKey"), nil),
	})
	output("DeadLetters", hub.DeadLetterQueue().QueueUrl())
	defenderhub.NewRules(stack, jsii.String("Rules"), &defenderhub.RulesProps{
		Sources: []defender.Source{defender.DeviceEvents}, EventTopic: "fleet/+/security", Queue: queue("Events"), ErrorQueue: queue("Errors"),
	})
	app.Synth(nil)
	return dir
}

// arrival waits for the first message in the queue of an output.
func (s *story) arrival(ctx context.Context, t *testing.T, output string) string {
	t.Helper()
	url := s.outputs[output]
	for end := time.Now().Add(patience); time.Now().Before(end); {
		got, err := s.queues.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &url, WaitTimeSeconds: 1})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Messages) > 0 {
			return *got.Messages[0].Body
		}
		if err := s.cloud.Denied(); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("nothing arrived in %s", output)
	return ""
}
