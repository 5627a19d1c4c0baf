package handler_test

import (
	"sync"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
)

// table is a state table in memory, with short pages. All its reads of items and partitions must be
// consistent.
type table struct {
	*dynamodbtest.Client
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
	f := &table{Client: &dynamodbtest.Client{Service: s}, calls: map[string]int{}}
	f.Step = func(c dynamodbtest.Call, done bool) error {
		if !c.Consistent && (c.Operation == "GetItem" || c.Operation == "Query" && c.Key == "#") {
			t.Errorf("%s without ConsistentRead: %s", c.Operation, c.Key)
		}
		if done {
			f.count(c.Operation, done)
		}
		if f.step != nil {
			if err := f.step(c.Operation, c.Key, done); err != nil {
				return err
			}
		}
		if !done {
			f.count(c.Operation, done)
		}
		return nil
	}
	return f
}

func (f *table) count(operation string, done bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !done:
		f.calls[operation]++
	case operation == "PutItem":
		f.writes++
	}
}
