package handler_test

import (
	"context"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
)

type item = dynamodbtest.Item

// table is a state table in memory, with short pages. The evaluator reads single items
// consistently, and batches of them not, which costs half.
type table struct {
	*dynamodbtest.Client
	t tester
	// step, if set, runs before and after each call takes effect. Its error becomes the call's.
	step func(operation, key string, done bool) error

	mu    sync.Mutex
	calls map[string]int
}

func newTable(t tester) *table {
	s := dynamodbtest.New(dynamodbtest.Schema{
		Name: "state", Partition: contract.StatePartitionKey, Sort: contract.StateSortKey, Expiry: contract.StateExpiry,
		Indexes: []dynamodbtest.Index{{Name: contract.StateDueIndex, Partition: contract.StateDueShard, Sort: contract.StateDueAt, KeysOnly: true}},
	})
	s.PageItems = 3
	f := &table{Client: &dynamodbtest.Client{Service: s}, t: t, calls: map[string]int{}}
	f.Step = func(c dynamodbtest.Call, done bool) error {
		if c.Operation == "GetItem" && !c.Consistent || c.Operation == "BatchGetItem" && c.Consistent {
			t.Errorf("unexpected consistency of %+v", c)
		}
		if f.step != nil {
			if err := f.step(c.Operation, c.Key, done); err != nil {
				return err
			}
		}
		if !done {
			f.count(c)
		}
		return nil
	}
	return f
}

func (f *table) count(c dynamodbtest.Call) {
	name := c.Operation
	if !strings.HasPrefix(c.Key, "thing#") {
		name += " " + c.Key
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[name] += c.Items
}

// took returns how many items its calls named since it was last called, by operation. The name of
// a call about another item than a thing's ends with the partition key.
func (f *table) took() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = map[string]int{}
	return calls
}

func (f *table) items() []item { return f.Items("state") }

// of returns the stored item of a thing.
func (f *table) of(subject string) item {
	return f.at(item{contract.StatePartitionKey: attribute.Text("thing#" + subject), contract.StateSortKey: attribute.Text("state")})
}

// at returns the stored item of a key. It does not count as a call.
func (f *table) at(key item) item {
	out, err := f.Service.GetItem(context.Background(), &dynamodb.GetItemInput{TableName: aws.String("state"), Key: key})
	if err != nil {
		f.t.Fatalf("read %v: %v", key, err)
	}
	return out.Item
}

// change sets an attribute of the stored item of a thing.
func (f *table) change(subject, name string, value types.AttributeValue) {
	it := f.of(subject)
	it[name] = value
	if _, err := f.Service.PutItem(context.Background(), &dynamodb.PutItemInput{TableName: aws.String("state"), Item: it}); err != nil {
		f.t.Fatalf("change the item of %s: %v", subject, err)
	}
}

func str(it item, name string) string { return attribute.TextOf(it, name) }

func num(it item, name string) int64 { return attribute.OptionalNumberOf(it, name) }

// conflict returns the error of a conditional write that lost.
func conflict() error { return &types.ConditionalCheckFailedException{} }
