package handler_test

import (
	"context"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
)

// table is a state table in memory, with short pages. All its reads of items and partitions must be
// consistent.
type table struct {
	*dynamodbtest.Service
	t tester
	// step, if set, runs before and after each call takes effect. Its error becomes the call's.
	step func(operation, key string, done bool) error

	mu sync.Mutex
	// writes counts successful writes, calls all calls, by operation.
	writes int
	calls  map[string]int
}

// tester is a test, a benchmark or a property test.
type tester interface {
	Helper()
	Errorf(string, ...any)
	Fatalf(string, ...any)
}

func newTable(t tester) *table {
	s := dynamodbtest.New(dynamodbtest.Schema{
		Name: "state", Partition: contract.StatePartitionKey, Sort: contract.StateSortKey, Expiry: contract.StateExpiry,
		Indexes: []dynamodbtest.Index{{Name: contract.StateDueIndex, Partition: contract.StateDueShard, Sort: contract.StateDueAt, KeysOnly: true}},
	})
	s.PageItems = 30
	return &table{Service: s, t: t, calls: map[string]int{}}
}

// call runs step before and after a call, and counts the call.
func call[Out any](ctx context.Context, f *table, operation, key string, effect func() (Out, error)) (out Out, err error) {
	if err := ctx.Err(); err != nil {
		return out, err
	}
	if f.step != nil {
		if err := f.step(operation, key, false); err != nil {
			return out, err
		}
	}
	out, err = effect()
	f.mu.Lock()
	f.calls[operation]++
	if operation == "PutItem" && err == nil {
		f.writes++
	}
	f.mu.Unlock()
	if err == nil && f.step != nil {
		err = f.step(operation, key, true)
	}
	return out, err
}

func (f *table) GetItem(ctx context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	if !aws.ToBool(in.ConsistentRead) {
		f.t.Errorf("GetItem without ConsistentRead: %v", in.Key)
	}
	return call(ctx, f, "GetItem", attribute.TextOf(in.Key, contract.StatePartitionKey), func() (*dynamodb.GetItemOutput, error) { return f.Service.GetItem(ctx, in) })
}

func (f *table) PutItem(ctx context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	return call(ctx, f, "PutItem", attribute.TextOf(in.Item, contract.StatePartitionKey), func() (*dynamodb.PutItemOutput, error) { return f.Service.PutItem(ctx, in) })
}

func (f *table) Query(ctx context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	if in.IndexName == nil && !aws.ToBool(in.ConsistentRead) {
		f.t.Errorf("Query without ConsistentRead: %v", in.ExpressionAttributeValues)
	}
	return call(ctx, f, "Query", "#"+aws.ToString(in.IndexName), func() (*dynamodb.QueryOutput, error) { return f.Service.Query(ctx, in) })
}
