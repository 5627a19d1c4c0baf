package dynamodbtest

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// Client passes calls to a service, and lets a test observe them and make them fail. As the SDK's
// client does, it fails a call whose context has ended.
type Client struct {
	*Service
	// Step, if set, runs before each call and, with done, after each call that succeeded. Its error
	// becomes the call's. It may call the client, and concurrent calls run it concurrently.
	Step func(c Call, done bool) error
}

// Call is a call of a service.
type Call struct {
	Operation string
	// Key is the partition key of the first item. For a query it is # and the name of the index, for
	// a batch of statements it is empty.
	Key string
	// Items is the number of items that the call names. A query names one.
	Items int
	// Consistent reports a strongly consistent read.
	Consistent bool
}

// step makes a call between the two calls of Step.
func step[In, Out any](ctx context.Context, c *Client, call Call, in In, make func(context.Context, In, ...func(*dynamodb.Options)) (Out, error)) (out Out, err error) {
	if err := ctx.Err(); err != nil {
		return out, err
	}
	if c.Step == nil {
		return make(ctx, in)
	}
	if err := c.Step(call, false); err != nil {
		return out, err
	}
	if out, err = make(ctx, in); err != nil {
		return out, err
	}
	return out, c.Step(call, true)
}

// partition returns the partition key of an item.
func (c *Client) partition(name *string, it Item) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, err := c.table(name)
	if err != nil {
		return ""
	}
	return text(it, t.Partition)
}

// GetItem implements the client's method.
func (c *Client) GetItem(ctx context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	return step(ctx, c, Call{"GetItem", c.partition(in.TableName, in.Key), 1, aws.ToBool(in.ConsistentRead)}, in, c.Service.GetItem)
}

// BatchGetItem implements the client's method.
func (c *Client) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	call := Call{Operation: "BatchGetItem"}
	for name, request := range in.RequestItems {
		if len(request.Keys) > 0 {
			call = Call{call.Operation, c.partition(&name, request.Keys[0]), call.Items + len(request.Keys), aws.ToBool(request.ConsistentRead)}
		}
	}
	return step(ctx, c, call, in, c.Service.BatchGetItem)
}

// Query implements the client's method.
func (c *Client) Query(ctx context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	return step(ctx, c, Call{"Query", "#" + aws.ToString(in.IndexName), 1, aws.ToBool(in.ConsistentRead)}, in, c.Service.Query)
}

// PutItem implements the client's method.
func (c *Client) PutItem(ctx context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	return step(ctx, c, Call{Operation: "PutItem", Key: c.partition(in.TableName, in.Item), Items: 1}, in, c.Service.PutItem)
}

// UpdateItem implements the client's method.
func (c *Client) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return step(ctx, c, Call{Operation: "UpdateItem", Key: c.partition(in.TableName, in.Key), Items: 1}, in, c.Service.UpdateItem)
}

// DeleteItem implements the client's method.
func (c *Client) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	return step(ctx, c, Call{Operation: "DeleteItem", Key: c.partition(in.TableName, in.Key), Items: 1}, in, c.Service.DeleteItem)
}

// BatchExecuteStatement implements the client's method.
func (c *Client) BatchExecuteStatement(ctx context.Context, in *dynamodb.BatchExecuteStatementInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchExecuteStatementOutput, error) {
	return step(ctx, c, Call{Operation: "BatchExecuteStatement", Items: len(in.Statements)}, in, c.Service.BatchExecuteStatement)
}
