package ledger_test

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger/ledgertest"
)

// newClient returns a client of an empty ledger, with short pages. Each read of the table must be
// consistent, and a batch must name more than one item.
func newClient(t *testing.T) *dynamodbtest.Client {
	s := dynamodbtest.New(dynamodbtest.Schema{
		Name: "ledger", Partition: contract.LedgerPartitionKey, Sort: contract.LedgerSortKey, Expiry: contract.LedgerExpiry,
		Indexes: []dynamodbtest.Index{{Name: contract.LedgerRefreshIndex, Partition: contract.LedgerRefreshShard, Sort: contract.LedgerRefreshAt}},
	})
	s.PageItems = 7
	return &dynamodbtest.Client{Service: s, Step: func(c dynamodbtest.Call, done bool) error {
		switch c.Operation {
		case "BatchGetItem", "BatchExecuteStatement":
			if c.Items < 2 {
				t.Errorf("%s of %d items, want at least 2", c.Operation, c.Items)
			}
		}
		if read := c.Operation == "GetItem" || c.Operation == "BatchGetItem" || c.Operation == "Query" && c.Key == "#"; read && !c.Consistent {
			t.Errorf("%s without ConsistentRead", c.Operation)
		}
		return nil
	}}
}

// broken returns a client whose batches of statements fail.
func broken(t *testing.T, err error) *dynamodbtest.Client {
	c := newClient(t)
	healthy := c.Step
	c.Step = func(call dynamodbtest.Call, done bool) error {
		if call.Operation == "BatchExecuteStatement" {
			return err
		}
		return healthy(call, done)
	}
	return c
}

// throttling returns a client that throttles every third item of a batch.
func throttling(t *testing.T) *dynamodbtest.Client {
	c := newClient(t)
	n := 0
	c.Throttle = func(string, dynamodbtest.Item) bool { n++; return n%3 == 0 }
	return c
}

// late throttles every other statement after it took effect.
type late struct{ *dynamodbtest.Client }

func (l late) BatchExecuteStatement(ctx context.Context, in *dynamodb.BatchExecuteStatementInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchExecuteStatementOutput, error) {
	out, err := l.Client.BatchExecuteStatement(ctx, in)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(out.Responses); i += 2 {
		out.Responses[i].Error = &types.BatchStatementError{Code: types.BatchStatementErrorCodeEnumThrottlingError}
	}
	return out, nil
}

func TestTablesInMemoryAndInDynamoDBBehaveAlike(t *testing.T) {
	for name, table := range map[string]ledger.Table{
		"memory":                              &ledgertest.Table{},
		"DynamoDB":                            ledger.NewDynamoDB(newClient(t), "ledger"),
		"DynamoDB that throttles":             ledger.NewDynamoDB(throttling(t), "ledger"),
		"DynamoDB without PartiQL permission": ledger.NewDynamoDB(broken(t, &smithy.GenericAPIError{Code: "AccessDeniedException"}), "ledger"),
	} {
		if err := ledgertest.Check(context.Background(), table); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDamagedItemIsReported(t *testing.T) {
	k := ledger.Key{Partition: "finding#a", Sort: "finding"}
	c := newClient(t)
	if _, err := c.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("ledger"), Item: dynamodbtest.Item{
		contract.LedgerPartitionKey: attribute.Text(k.Partition), contract.LedgerSortKey: attribute.Text(k.Sort),
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.NewDynamoDB(c, "ledger").Get(t.Context(), k); err == nil {
		t.Error("an item without a revision was read")
	}
}

// records returns n records that the ledger does not have.
func records(n int) (all []ledger.Record) {
	for i := range n {
		all = append(all, ledger.Record{Key: ledger.Key{Partition: "p", Sort: strconv.Itoa(i)}, Revision: 1, Doc: []byte("{}")})
	}
	return all
}

// After an outage of a whole batch, the records are not written one by one.
func TestOutageFailsTheWholeBatch(t *testing.T) {
	c := broken(t, &smithy.GenericAPIError{Code: "InternalServerError", Fault: smithy.FaultServer})
	for i, err := range ledger.NewDynamoDB(c, "ledger").PutAll(t.Context(), records(30)) {
		if err == nil || errors.Is(err, ledger.ErrConflict) {
			t.Errorf("record %d: error %v, want one other than ErrConflict", i, err)
		}
	}
	if stored := c.Items("ledger"); len(stored) > 0 {
		t.Errorf("%d items were written, want none", len(stored))
	}
}

// A statement is throttled after it took effect. Its retry is a conflict, as after a lost answer.
func TestStatementThatTookEffectIsAConflict(t *testing.T) {
	for i, err := range ledger.NewDynamoDB(late{newClient(t)}, "ledger").PutAll(t.Context(), records(10)) {
		if want := i%2 == 0; errors.Is(err, ledger.ErrConflict) != want {
			t.Errorf("record %d: error %v, want a conflict: %v", i, err, want)
		}
	}
}

func TestBatchesUseAsFewCallsAsPossible(t *testing.T) {
	c, calls := newClient(t), map[string]int{}
	var mu sync.Mutex
	c.Step = func(c dynamodbtest.Call, done bool) error {
		mu.Lock()
		defer mu.Unlock()
		if !done {
			calls[c.Operation]++
		}
		return nil
	}
	table, all := ledger.NewDynamoDB(c, "ledger"), records(250)
	var keys []ledger.Key
	for _, r := range all {
		keys = append(keys, r.Key)
	}
	table.PutAll(t.Context(), all)
	table.GetAll(t.Context(), keys)
	table.PutAll(t.Context(), all[:1])
	table.GetAll(t.Context(), keys[:1])
	if want := map[string]int{"BatchExecuteStatement": 10, "BatchGetItem": 3, "PutItem": 1, "GetItem": 1}; !maps.Equal(calls, want) {
		t.Errorf("calls %v, want %v", calls, want)
	}
}
