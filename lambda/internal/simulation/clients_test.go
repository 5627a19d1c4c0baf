package simulation

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// table is the DynamoDB client of an environment.
type table struct{ *environment }

// texts returns a text of an item, by which the scheduler orders calls.
func texts(it map[string]types.AttributeValue) string {
	sum := fnv.New64a()
	shown := ""
	for _, name := range slices.Sorted(maps.Keys(it)) {
		text := ""
		switch v := it[name].(type) {
		case *types.AttributeValueMemberS:
			text = v.Value
		case *types.AttributeValueMemberN:
			text = v.Value
		case *types.AttributeValueMemberB:
			text = string(v.Value)
		case *types.AttributeValueMemberBOOL:
			text = strconv.FormatBool(v.Value)
		}
		_, _ = io.WriteString(sum, name)
		_, _ = io.WriteString(sum, text) // a hash never fails
		if name == "pk" || name == "sk" || name == "revision" {
			shown += text + " "
		}
	}
	return fmt.Sprintf("%s%x", shown, sum.Sum64())
}

func (t table) GetItem(ctx context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	return ask(ctx, t.environment, "DynamoDB", "GetItem", *in.TableName+" "+texts(in.Key), func() (*dynamodb.GetItemOutput, error) {
		return t.world.dynamodb.GetItem(ctx, in)
	})
}

func (t table) PutItem(ctx context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	return ask(ctx, t.environment, "DynamoDB", "PutItem", *in.TableName+" "+texts(in.Item)+" "+texts(in.ExpressionAttributeValues), func() (*dynamodb.PutItemOutput, error) {
		return t.world.dynamodb.PutItem(ctx, in)
	})
}

func (t table) Query(ctx context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	about := *in.TableName + " " + aws.ToString(in.IndexName) + " " + texts(in.ExpressionAttributeValues) + " " + texts(in.ExclusiveStartKey)
	return ask(ctx, t.environment, "DynamoDB", "Query", about, func() (*dynamodb.QueryOutput, error) {
		return t.world.dynamodb.Query(ctx, in)
	})
}

func (t table) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	about := ""
	for _, name := range slices.Sorted(maps.Keys(in.RequestItems)) {
		about += name
		for _, key := range in.RequestItems[name].Keys {
			about += " " + texts(key)
		}
	}
	return ask(ctx, t.environment, "DynamoDB", "BatchGetItem", about, func() (*dynamodb.BatchGetItemOutput, error) {
		return t.world.dynamodb.BatchGetItem(ctx, in)
	})
}

func (t table) BatchExecuteStatement(ctx context.Context, in *dynamodb.BatchExecuteStatementInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchExecuteStatementOutput, error) {
	about := ""
	for _, one := range in.Statements {
		parameters := map[string]types.AttributeValue{}
		for i, v := range one.Parameters {
			parameters[strconv.Itoa(i)] = v
		}
		about += " " + digest(*one.Statement) + " " + texts(parameters)
	}
	return ask(ctx, t.environment, "DynamoDB", "BatchExecuteStatement", about, func() (*dynamodb.BatchExecuteStatementOutput, error) {
		return t.world.dynamodb.BatchExecuteStatement(ctx, in)
	})
}

// queues is the Amazon SQS client of an environment.
type queues struct{ *environment }

var errNoQueue = errors.New("AWS.SimpleQueueService.NonExistentQueue")

func (q queues) find(url *string) (*queue, error) {
	for _, one := range q.world.queues {
		if one.url() == aws.ToString(url) {
			return one, nil
		}
	}
	return nil, errNoQueue
}

func (q queues) SendMessage(ctx context.Context, in *sqs.SendMessageInput, _ ...func(*sqs.Options)) (*sqs.SendMessageOutput, error) {
	attributes := map[string]string{}
	for name, v := range in.MessageAttributes {
		attributes[name] = aws.ToString(v.StringValue)
	}
	about := *in.QueueUrl + " " + attributes["MessageId"] + " " + digest(*in.MessageBody)
	return ask(ctx, q.environment, "SQS", "SendMessage", about, func() (*sqs.SendMessageOutput, error) {
		to, err := q.find(in.QueueUrl)
		if err != nil {
			return nil, err
		}
		if to == q.world.ingest {
			q.world.observeComposite(q.fn, *in.MessageBody)
		}
		m := to.send(*in.MessageBody, attributes)
		if in.DelaySeconds > 0 {
			to.postpone(m, time.Duration(in.DelaySeconds)*time.Second)
		}
		return &sqs.SendMessageOutput{MessageId: &m.id}, nil
	})
}

func digest(text string) string {
	sum := fnv.New64a()
	sum.Write([]byte(text)) // never fails
	return strconv.FormatUint(sum.Sum64(), 16)
}

func (q queues) SendMessageBatch(ctx context.Context, in *sqs.SendMessageBatchInput, _ ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error) {
	about := *in.QueueUrl
	for _, e := range in.Entries {
		about += " " + digest(*e.MessageBody)
	}
	return ask(ctx, q.environment, "SQS", "SendMessageBatch", about, func() (*sqs.SendMessageBatchOutput, error) {
		to, err := q.find(in.QueueUrl)
		if err != nil {
			return nil, err
		}
		out := &sqs.SendMessageBatchOutput{}
		for _, e := range in.Entries {
			if q.world.faults.strikes(queueFails, q.fn) {
				out.Failed = append(out.Failed, sqstypes.BatchResultErrorEntry{Id: e.Id, Code: aws.String("InternalError")})
				continue
			}
			m := to.send(*e.MessageBody, nil)
			q.world.model.transition(*e.MessageBody)
			out.Successful = append(out.Successful, sqstypes.SendMessageBatchResultEntry{Id: e.Id, MessageId: &m.id})
		}
		return out, nil
	})
}

func (q queues) ChangeMessageVisibility(ctx context.Context, in *sqs.ChangeMessageVisibilityInput, _ ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityOutput, error) {
	return ask(ctx, q.environment, "SQS", "ChangeMessageVisibility", *in.ReceiptHandle, func() (*sqs.ChangeMessageVisibilityOutput, error) {
		to, err := q.find(in.QueueUrl)
		if err == nil {
			err = to.change(*in.ReceiptHandle, time.Duration(in.VisibilityTimeout)*time.Second)
		}
		return &sqs.ChangeMessageVisibilityOutput{}, err
	})
}

func (q queues) GetQueueUrl(ctx context.Context, in *sqs.GetQueueUrlInput, _ ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error) {
	return ask(ctx, q.environment, "SQS", "GetQueueUrl", *in.QueueName, func() (*sqs.GetQueueUrlOutput, error) {
		for _, one := range q.world.queues {
			if one.name == *in.QueueName {
				return &sqs.GetQueueUrlOutput{QueueUrl: aws.String(one.url())}, nil
			}
		}
		return nil, errNoQueue
	})
}

func (q queues) GetQueueAttributes(ctx context.Context, in *sqs.GetQueueAttributesInput, _ ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error) {
	return ask(ctx, q.environment, "SQS", "GetQueueAttributes", *in.QueueUrl, func() (*sqs.GetQueueAttributesOutput, error) {
		to, err := q.find(in.QueueUrl)
		if err != nil {
			return nil, err
		}
		available, inFlight := to.count()
		return &sqs.GetQueueAttributesOutput{Attributes: map[string]string{
			"ApproximateNumberOfMessages": strconv.Itoa(available), "ApproximateNumberOfMessagesNotVisible": strconv.Itoa(inFlight),
		}}, nil
	})
}

// postpone delays a message that was sent.
func (q *queue) postpone(m *message, d time.Duration) {
	if m.shown {
		q.visible = slices.DeleteFunc(q.visible, func(o *message) bool { return o == m })
		m.shown = false
	}
	q.hide(m, d)
}

// errLost is the error of a client that gets no answer.
var errLost = errors.New("read tcp: connection reset by peer")

// writes reports whether a call changes something.
func (c *call) writes() bool {
	return strings.HasPrefix(c.operation, "Put") || strings.HasPrefix(c.operation, "Publish") || strings.HasPrefix(c.operation, "Update") || strings.HasPrefix(c.operation, "Delete") || strings.HasPrefix(c.operation, "Transact") || strings.HasPrefix(c.operation, "BatchExecute") || strings.HasPrefix(c.operation, "Send")
}

// serve lets a call reach its service, or makes it fail.
func (w *world) serve(c *call) {
	if w.faults.strikes(crash, c.env.fn) {
		if w.chance(0.5) {
			_, err := c.do()
			w.ledger.end(c, false)
			w.log.printf("%v, then a crash: %v", c, err)
		}
		w.kill(c.env)
		c.answers(nil, errCrashed)
		return
	}
	value, err := w.effect(c)
	w.ledger.end(c, !errors.Is(err, errLost))
	w.log.printf("%v: %v", c, err)
	c.answers(value, err)
}

// effect returns the answer that a client gets for a call, after the retries of the SDK.
func (w *world) effect(c *call) (any, error) {
	f, fn := w.faults, c.env.fn
	w.serving = fn
	switch c.service {
	case "DynamoDB":
		w.tableCalls++
		if f.strikes(tableThrottle, fn) {
			return nil, &types.ProvisionedThroughputExceededException{Message: aws.String("The level of configured provisioned throughput for the table was exceeded")}
		}
	case "SQS", "SNS", "IoT", "IoTData", "Kinesis":
		if f.strikes(queueFails, fn) {
			return nil, errLost
		}
	}
	value, err := c.do()
	if !c.writes() || err != nil {
		return value, err
	}
	if f.strikes(answerLost, fn) {
		return nil, errLost
	}
	if f.strikes(answerRetried, fn) { // the first answer was lost, so the SDK has repeated the call
		return c.do()
	}
	return value, err
}
