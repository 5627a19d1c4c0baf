package deadletters

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/assembly"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
)

// SQS are the calls to Amazon SQS.
type SQS interface {
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	ChangeMessageVisibilityBatch(context.Context, *sqs.ChangeMessageVisibilityBatchInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error)
	SendMessage(context.Context, *sqs.SendMessageInput, ...func(*sqs.Options)) (*sqs.SendMessageOutput, error)
	DeleteMessage(context.Context, *sqs.DeleteMessageInput, ...func(*sqs.Options)) (*sqs.DeleteMessageOutput, error)
	GetQueueUrl(context.Context, *sqs.GetQueueUrlInput, ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error)
}

const (
	// perReceive is the largest batch of Amazon SQS.
	// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html
	perReceive = 10
	// hidden is how long messages are invisible to others if the command does not end properly.
	hidden = 15 * time.Minute
	// emptyReceives is the number of calls without new messages after which a queue counts as empty.
	// One call may ask only some of the servers.
	// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html
	emptyReceives = 3
)

// queue is a dead-letter queue of the stack. Its name begins with the stack's name, so only its
// logicalID says which part it belongs to.
type queue struct{ name, url, logicalID string }

// message is a message in a dead-letter queue.
type message struct {
	types.Message
	queue queue
	// source is the source of the finding or of the telemetry. reason says why the message is here.
	source, reason string
	// from is the ARN of the queue that the message came from, "" if it is unknown.
	from string
	sent time.Time
}

// added are the attributes of a message here that it did not have before: those of the functions that
// moved it, and those of EventBridge.
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
var added = []string{"Reason", "Source", "MessageId", "Queue", "RULE_ARN", "TARGET_ARN", "ERROR_CODE", "ERROR_MESSAGE", "EXHAUSTED_RETRY_CONDITION", "RETRY_ATTEMPTS"}

// exhausted is the reason of messages that Amazon SQS moved here.
const exhausted = "not processed after all retries"

func readMessage(q queue, m types.Message) message {
	text := func(name string) string { return aws.ToString(m.MessageAttributes[name].StringValue) }
	// EventBridge Scheduler, EventBridge rules and Amazon SNS write the reason into these attributes.
	reason := cmp.Or(text("Reason"), text("ERROR_MESSAGE"), text("ErrorMessage"), text("ERROR_CODE"), exhausted)
	target := text("TARGET_ARN") // of an EventBridge rule or schedule: a queue or a function
	if !strings.Contains(target, ":sqs:") {
		target = ""
	}
	ms, _ := strconv.ParseInt(m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64)
	return message{
		Message: m, queue: q, source: text("Source"), reason: reason,
		from: cmp.Or(text("Queue"), m.Attributes[string(types.MessageSystemAttributeNameDeadLetterQueueSourceArn)], target),
		sent: time.UnixMilli(ms).UTC(),
	}
}

// queues returns the dead-letter queues of a stack, without those of others.
func queues(ctx context.Context, api assembly.Stacks, stack string) ([]queue, error) {
	template, ids, err := assembly.WithIDs(ctx, api, stack)
	if err != nil {
		return nil, fmt.Errorf("the stack %s (--stack): %w", cli.Quoted(stack), err)
	}
	var all []queue
	for logical := range template.Queues() {
		if url := ids[logical]; url != "" && strings.Contains(logical, "DeadLetters") {
			all = append(all, queue{path.Base(url), url, logical})
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the stack %s has no dead-letter queue: --stack names the stack of defenderhub", cli.Quoted(stack))
	}
	slices.SortFunc(all, func(a, b queue) int { return cmp.Compare(a.name, b.name) })
	return all, nil
}

// receive returns the messages of the queues, and stops after about that many (most). They are
// invisible to others until show is called, at most for the time hidden.
func receive(ctx context.Context, api SQS, s *cli.Session, all []queue, most int) ([]message, error) {
	var got []message
	for _, q := range all {
		seen := map[string]bool{}
		last := time.Now()
		for empty := 0; empty < emptyReceives && len(got) < most; {
			out, err := api.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
				QueueUrl: &q.url, MaxNumberOfMessages: perReceive, WaitTimeSeconds: 1, VisibilityTimeout: int32(hidden / time.Second),
				MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
			})
			if err != nil {
				return got, err
			}
			fresh := false
			for _, m := range out.Messages {
				if id := aws.ToString(m.MessageId); !seen[id] {
					seen[id], fresh = true, true
					got = append(got, readMessage(q, m))
				}
			}
			if empty++; fresh {
				empty = 0
			}
			if time.Since(last) > 10*time.Second {
				last = time.Now()
				s.Say("%d messages read", len(got))
			}
		}
	}
	return got, nil
}

// show makes messages visible to others again.
func show(ctx context.Context, api SQS, all []message) error {
	byQueue := map[string][]types.ChangeMessageVisibilityBatchRequestEntry{}
	for i, m := range all {
		byQueue[m.queue.url] = append(byQueue[m.queue.url], types.ChangeMessageVisibilityBatchRequestEntry{
			Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: 0,
		})
	}
	var faults []error
	for _, url := range slices.Sorted(maps.Keys(byQueue)) {
		for part := range slices.Chunk(byQueue[url], perReceive) {
			out, err := api.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &url, Entries: part})
			if err == nil && len(out.Failed) > 0 {
				err = errors.New(aws.ToString(out.Failed[0].Message))
			}
			if err != nil {
				faults = append(faults, fmt.Errorf("messages stay invisible for up to %s: %w", hidden, err))
			}
		}
	}
	return errors.Join(faults...)
}

// drop deletes a message.
func drop(ctx context.Context, api SQS, m message) error {
	_, err := api.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &m.queue.url, ReceiptHandle: m.ReceiptHandle})
	return err
}

// sender sends messages back to their queues.
type sender struct {
	api  SQS
	urls map[string]string // by ARN
}

// retry sends a message to its queue and deletes it here. If the deletion fails, the message may be
// processed twice, which does no harm.
func (s sender) retry(ctx context.Context, m message) error {
	url, err := s.url(ctx, m.from)
	if err != nil {
		return err
	}
	attributes := maps.Clone(m.MessageAttributes)
	for _, name := range added {
		delete(attributes, name)
	}
	if _, err := s.api.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &url, MessageBody: m.Body, MessageAttributes: attributes}); err != nil {
		return err
	}
	return drop(ctx, s.api, m)
}

func (s sender) url(ctx context.Context, arn string) (string, error) {
	if url, ok := s.urls[arn]; ok {
		return url, nil
	}
	parts := strings.Split(arn, ":")
	if len(parts) != 6 || parts[2] != "sqs" {
		return "", fmt.Errorf("%q is not the ARN of a queue", arn)
	}
	out, err := s.api.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &parts[5], QueueOwnerAWSAccountId: &parts[4]})
	if err != nil {
		return "", err
	}
	s.urls[arn] = aws.ToString(out.QueueUrl)
	return s.urls[arn], nil
}
