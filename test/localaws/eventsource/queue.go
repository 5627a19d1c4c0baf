package eventsource

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

const (
	longPoll = 20 * time.Second // SQS's maximum
	perCall  = 10               // messages, SQS's maximum
)

// Queue has the operations of SQS that a poller needs. *sqs.Client implements it.
type Queue interface {
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
}

// poller serves one mapping of a queue.
type poller struct {
	*Sources
	mapping Mapping
	carried []entry // received, but did not fit into the last batch
}

// run polls until ctx ends.
func (p *poller) run(ctx context.Context) {
	for ctx.Err() == nil {
		batch, err := p.gather(ctx, p.mapping, &p.carried, longPoll, p.receive)
		if len(batch) > 0 {
			p.handle(ctx, batch)
		}
		if err != nil && ctx.Err() == nil {
			p.Report(Batch{Mapping: p.mapping, Err: err})
			pause(ctx, backoff)
		}
	}
}

func (p *poller) receive(ctx context.Context, room int, wait time.Duration) ([]entry, error) {
	if err := p.May(ctx, p.mapping.Function, p.mapping.SourceARN); err != nil {
		return nil, err
	}
	out, err := p.Queue.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: &p.mapping.QueueURL, MaxNumberOfMessages: int32(min(perCall, room)),
		WaitTimeSeconds:             int32(max(0, wait+time.Second-1) / time.Second), // SQS waits for whole seconds
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		MessageAttributeNames:       []string{"All"},
	})
	if err != nil {
		return nil, fmt.Errorf("receive from %s: %w", p.mapping.SourceARN, err)
	}
	messages := make([]entry, 0, len(out.Messages))
	for _, m := range out.Messages {
		r, err := record(m, p.mapping.SourceARN, p.At)
		if err != nil {
			return nil, fmt.Errorf("message %s of %s: %w", aws.ToString(m.MessageId), p.mapping.SourceARN, err)
		}
		messages = append(messages, entry{id: aws.ToString(m.MessageId), handle: aws.ToString(m.ReceiptHandle), record: r})
	}
	return messages, nil
}

// handle invokes the function with the batch, and deletes the messages that succeeded.
func (p *poller) handle(ctx context.Context, batch []entry) {
	result := Batch{Mapping: p.mapping}
	answer, functionError, err := p.Invoke(ctx, p.mapping.Function, event(batch))
	err = errors.Join(err, functionError)
	if err == nil && p.mapping.PartialFailures {
		result.Failed, err = failures(answer, batch)
	}
	if result.Err = err; err != nil {
		for _, e := range batch {
			result.Failed = append(result.Failed, e.id)
		}
	} else {
		result.Err = p.delete(ctx, batch, result.Failed)
	}
	p.Report(result)
}

func (p *poller) delete(ctx context.Context, batch []entry, keep []string) error {
	var entries []types.DeleteMessageBatchRequestEntry
	for i, m := range batch {
		if !slices.Contains(keep, m.id) {
			entries = append(entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &m.handle})
		}
	}
	for chunk := range slices.Chunk(entries, perCall) {
		out, err := p.Queue.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &p.mapping.QueueURL, Entries: chunk})
		if err != nil {
			return fmt.Errorf("delete handled messages from %s: %w", p.mapping.SourceARN, err)
		}
		for _, f := range out.Failed {
			return fmt.Errorf("delete a handled message from %s: %s: %s", p.mapping.SourceARN, aws.ToString(f.Code), aws.ToString(f.Message))
		}
	}
	return nil
}
