package deadletters

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cfntypes "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
)

// fake has one dead-letter queue. A receive returns at most three messages, and none that is
// invisible.
type fake struct {
	letters  []types.Message
	hidden   map[string]bool
	sent     []*sqs.SendMessageInput
	sendErr  error
	receives int
}

func (f *fake) ReceiveMessage(_ context.Context, in *sqs.ReceiveMessageInput, _ ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error) {
	out := &sqs.ReceiveMessageOutput{}
	if f.receives++; f.receives == 1 {
		return out, nil // a receive may find nothing although there are messages
	}
	for _, m := range f.letters {
		if !f.hidden[*m.MessageId] && len(out.Messages) < 3 {
			f.hidden[*m.MessageId] = true
			out.Messages = append(out.Messages, m)
		}
	}
	return out, nil
}

func (f *fake) ChangeMessageVisibilityBatch(_ context.Context, in *sqs.ChangeMessageVisibilityBatchInput, _ ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error) {
	if len(in.Entries) > 10 {
		return nil, errors.New("more than 10 entries")
	}
	for _, e := range in.Entries {
		f.hidden[*e.ReceiptHandle] = false
	}
	return &sqs.ChangeMessageVisibilityBatchOutput{}, nil
}

func (f *fake) SendMessage(_ context.Context, in *sqs.SendMessageInput, _ ...func(*sqs.Options)) (*sqs.SendMessageOutput, error) {
	if f.sendErr != nil {
		return nil, f.sendErr
	}
	f.sent = append(f.sent, in)
	return &sqs.SendMessageOutput{}, nil
}

func (f *fake) DeleteMessage(_ context.Context, in *sqs.DeleteMessageInput, _ ...func(*sqs.Options)) (*sqs.DeleteMessageOutput, error) {
	for i, m := range f.letters {
		if *m.MessageId == *in.ReceiptHandle {
			f.letters = append(f.letters[:i:i], f.letters[i+1:]...)
			break
		}
	}
	return &sqs.DeleteMessageOutput{}, nil
}

func (f *fake) GetQueueUrl(_ context.Context, in *sqs.GetQueueUrlInput, _ ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error) {
	return &sqs.GetQueueUrlOutput{QueueUrl: aws.String("https://sqs/" + *in.QueueOwnerAWSAccountId + "/" + *in.QueueName)}, nil
}

func letter(id string, attributes map[string]string, from string) types.Message {
	m := types.Message{
		MessageId: &id, ReceiptHandle: &id, Body: aws.String("body of " + id), MessageAttributes: map[string]types.MessageAttributeValue{},
		Attributes: map[string]string{"SentTimestamp": "1796022000000"},
	}
	for k, v := range attributes {
		m.MessageAttributes[k] = types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &v}
	}
	if from != "" {
		m.Attributes["DeadLetterQueueSourceArn"] = from
	}
	return m
}

const eventQueue = "arn:aws:sqs:eu-west-1:123456789012:DefenderHub-Queue"

// full returns a fake with 13 refused events, a message that was received too often, and one of a
// schedule.
func full() *fake {
	f := &fake{hidden: map[string]bool{}}
	for i := range 13 {
		f.letters = append(f.letters, letter(fmt.Sprint("refused-", i), map[string]string{
			"Reason": "not JSON\x1b[2J", "Source": "device-event", "MessageId": "original", "Queue": eventQueue, "Kept": "x",
		}, ""))
	}
	f.letters = append(f.letters, letter("redriven", nil, eventQueue), letter("schedule", map[string]string{"ERROR_MESSAGE": "throttled"}, ""))
	return f
}

type command func(context.Context, *cli.Session, SQS, []queue, options) error

func run(t *testing.T, c command, api *fake, o options, yes bool) (out, progress string, err error) {
	t.Helper()
	var outs, errs bytes.Buffer
	s := &cli.Session{Out: &outs, Err: &errs, In: strings.NewReader(""), JSON: true, Yes: yes}
	err = c(t.Context(), s, api, []queue{{"DefenderHub-DeadLetters", "https://sqs/dead", "HubForwarderDeadLetters2"}}, o)
	for id, hidden := range api.hidden {
		for _, m := range api.letters {
			if hidden && *m.MessageId == id {
				t.Errorf("%s is still invisible", id)
			}
		}
	}
	return outs.String(), errs.String(), err
}

func TestListGroupsByReason(t *testing.T) {
	api := full()
	out, _, err := run(t, list, api, options{each: true}, false)
	if !errors.As(err, new(cli.Todo)) || len(api.letters) != 15 {
		t.Errorf("error %v, %d messages stay, want a cli.Todo and 15", err, len(api.letters))
	}
	var got struct {
		Reasons  []Group
		Messages []Letter
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, g := range got.Reasons {
		rows = append(rows, fmt.Sprintf("%d %s: %s", g.Messages, g.Source, g.Reason))
	}
	if want := "13 device-event: not JSON\x1b[2J|1 : " + exhausted + "|1 : throttled"; strings.Join(rows, "|") != want {
		t.Errorf("got %q, want %q", rows, want)
	}
	if len(got.Messages) != 15 || got.Messages[0].Body != "body of refused-0" || got.Messages[0].Sent.IsZero() {
		t.Errorf("messages %+v", got.Messages)
	}
}

func TestListOfAnEmptyQueueIsNoError(t *testing.T) {
	out, _, err := run(t, list, &fake{hidden: map[string]bool{}}, options{}, false)
	if err != nil || strings.TrimSpace(out) == "" || strings.Contains(out, "Queue") {
		t.Errorf("error %v, output %q, want an empty list", err, out)
	}
}

func TestRetrySendsTheOriginalMessage(t *testing.T) {
	api := full()
	_, progress, err := run(t, retry, api, options{}, true)
	if err != nil || len(api.sent) != 14 || len(api.letters) != 1 || *api.letters[0].MessageId != "schedule" {
		t.Errorf("error %v, %d sent, want 14, %d stay, want that of the schedule: %s", err, len(api.sent), len(api.letters), progress)
	}
	first := api.sent[0]
	if *first.QueueUrl != "https://sqs/123456789012/DefenderHub-Queue" || *first.MessageBody != "body of refused-0" || len(first.MessageAttributes) != 1 || *first.MessageAttributes["Kept"].StringValue != "x" {
		t.Errorf("sent %+v, want the body, the queue and the attribute Kept of refused-0", first)
	}
	if !strings.Contains(progress, "1 messages stay") || !strings.Contains(progress, "14 messages sent back") {
		t.Errorf("progress %q, want 1 messages stay and 14 messages sent back", progress)
	}
}

// EventBridge names the target of an event that it could not deliver: a queue, or a function of a schedule.
func TestRetrySendsWhatEventBridgeCouldNotDeliver(t *testing.T) {
	api := &fake{hidden: map[string]bool{}}
	for id, target := range map[string]string{"event": eventQueue, "schedule": "arn:aws:lambda:eu-west-1:123456789012:function:closer"} {
		api.letters = append(api.letters, letter(id, map[string]string{"TARGET_ARN": target, "RULE_ARN": "r", "ERROR_CODE": "NO_PERMISSIONS", "RETRY_ATTEMPTS": "0"}, ""))
	}
	_, progress, err := run(t, retry, api, options{}, true)
	if err != nil || len(api.sent) != 1 || len(api.sent[0].MessageAttributes) != 0 || len(api.letters) != 1 || *api.letters[0].MessageId != "schedule" {
		t.Errorf("error %v, sent %+v, %d stay, want the event sent without attributes: %s", err, api.sent, len(api.letters), progress)
	}
}

func TestRetryKeepsMessagesThatItCannotSend(t *testing.T) {
	api := full()
	api.sendErr = errors.New("throttled")
	_, _, err := run(t, retry, api, options{source: "device-event"}, true)
	if err == nil || errors.As(err, new(cli.Todo)) || !strings.Contains(err.Error(), "and 10 more messages stay") || len(api.letters) != 15 {
		t.Errorf("error %v, %d messages stay, want an error about the others, and 15", err, len(api.letters))
	}
}

func TestDropDeletesTheSelectedMessages(t *testing.T) {
	api := full()
	out, progress, err := run(t, dropAll, api, options{reason: "not JSON"}, true)
	if err != nil || len(api.letters) != 2 || !strings.Contains(progress, "delete from DefenderHub-DeadLetters, without a way back: 13 messages of reason: not JSON") || !strings.Contains(out, "device-event") {
		t.Errorf("error %v, %d messages stay, want 2: %s%s", err, len(api.letters), out, progress)
	}
}

func TestQueueSelectsQueuesByTheirLogicalID(t *testing.T) {
	for name, c := range map[string]command{"list": list, "retry": retry, "drop": dropAll} {
		api := full()
		// All physical names begin with the stack's name.
		_, _, err := run(t, c, api, options{queue: "Defender"}, true)
		if err == nil || !strings.Contains(err.Error(), "has Defender in its logical ID (--queue)") || api.receives != 0 || len(api.letters) != 15 {
			t.Errorf("%s: error %v, %d receives, %d messages stay, want an error, none and 15", name, err, api.receives, len(api.letters))
		}
	}
	api := full()
	if _, _, err := run(t, dropAll, api, options{queue: "ForwarderDeadLetters"}, true); err != nil || len(api.letters) != 0 {
		t.Errorf("error %v, %d messages stay, want none", err, len(api.letters))
	}
}

func TestNothingChangesWithoutConfirmation(t *testing.T) {
	for name, c := range map[string]command{"retry": retry, "drop": dropAll} {
		api := full()
		if _, _, err := run(t, c, api, options{}, false); err == nil || len(api.letters) != 15 || len(api.sent) != 0 {
			t.Errorf("%s: error %v, %d messages stay, want 15, %d sent, want none", name, err, len(api.letters), len(api.sent))
		}
	}
}

type stack []cfntypes.StackResourceSummary

func (s stack) ListStackResources(context.Context, *cloudformation.ListStackResourcesInput, ...func(*cloudformation.Options)) (*cloudformation.ListStackResourcesOutput, error) {
	return &cloudformation.ListStackResourcesOutput{StackResourceSummaries: s}, nil
}

func (s stack) GetTemplate(context.Context, *cloudformation.GetTemplateInput, ...func(*cloudformation.Options)) (*cloudformation.GetTemplateOutput, error) {
	return &cloudformation.GetTemplateOutput{TemplateBody: aws.String(`{"Resources":{
		"Forwarder":{"Type":"AWS::Lambda::Function","Properties":{"Environment":{"Variables":{"DEFENDERHUB_DEAD_LETTER_QUEUE_URL":{"Ref":"DefenderHubForwarderDeadLetters2"}}}}},
		"DefenderHubForwarderDeadLetters2":{"Type":"AWS::SQS::Queue"},"OrdersDeadLetters":{"Type":"AWS::SQS::Queue"}}}`)}, nil
}

func TestQueuesOfAStack(t *testing.T) {
	resource := func(kind, logical, physical string) cfntypes.StackResourceSummary {
		return cfntypes.StackResourceSummary{ResourceType: &kind, LogicalResourceId: &logical, PhysicalResourceId: &physical}
	}
	got, err := queues(t.Context(), stack{
		resource("AWS::SQS::Queue", "DefenderHubForwarderQueue1", "https://sqs/1/events"),
		resource("AWS::SQS::Queue", "DefenderHubForwarderDeadLetters2", "https://sqs/1/dead"),
		resource("AWS::SQS::Queue", "OrdersDeadLetters", "https://sqs/1/orders"),
		resource("AWS::SQS::QueuePolicy", "DefenderHubForwarderDeadLettersPolicy", "policy"),
	}, "DefenderHub")
	if err != nil || len(got) != 1 || got[0] != (queue{"dead", "https://sqs/1/dead", "DefenderHubForwarderDeadLetters2"}) {
		t.Errorf("queues %v, error %v, want the dead-letter queue alone", got, err)
	}
	if _, err := queues(t.Context(), stack{}, "Other"); err == nil || !strings.Contains(err.Error(), "--stack") {
		t.Errorf("a stack without queues: error %v, want one that names --stack", err)
	}
}

func TestTimeOfAMessage(t *testing.T) {
	want := time.Date(2026, 11, 30, 7, 0, 0, 0, time.UTC)
	if got := readMessage(queue{}, letter("a", nil, "")).sent; !got.Equal(want) {
		t.Errorf("sent at %v, want %v", got, want)
	}
}
