package fleet_test

import (
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/fleet"
)

const (
	lateness = 4 * time.Minute
	minute   = time.Minute
	day      = 24 * time.Hour
)

// midnight is the start of a day and of windows of any length.
var midnight = time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)

// sent is the population of a metric: the messages that each device sent.
var sent = engine.FleetKey{Profile: "Profile", Metric: "aws:num-messages-sent", Window: defender.Window5m}

// table is a state table in memory, with short pages. It counts calls. No query needs a consistent
// read, which costs twice as much.
type table struct {
	*dynamodbtest.Client
	t testing.TB
	// fails, if set, is the error of every call. query, if set, runs before the nth query.
	fails error
	query func(n int)

	mutex         sync.Mutex
	puts, queries int
}

func newTable(t testing.TB) *table {
	s := dynamodbtest.New(dynamodbtest.Schema{Name: "state", Partition: contract.StatePartitionKey, Sort: contract.StateSortKey, Expiry: contract.StateExpiry})
	s.PageItems = 3
	f := &table{Client: &dynamodbtest.Client{Service: s}, t: t}
	f.Step = f.step
	return f
}

func (f *table) step(c dynamodbtest.Call, done bool) error {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	switch {
	case done:
	case c.Operation == "PutItem":
		f.puts++
	case c.Operation == "Query" && !c.Consistent:
		if f.queries++; f.query != nil {
			f.query(f.queries)
		}
	default:
		f.t.Errorf("unexpected call %+v", c)
	}
	return f.fails
}

// copied returns a new table with the items whose partition has the prefix.
func (f *table) copied(prefix string) *table {
	other := newTable(f.t)
	for _, it := range f.items() {
		if strings.HasPrefix(partition(it), prefix) {
			other.add(it)
		}
	}
	return other
}

// add stores an item as it is.
func (f *table) add(it dynamodbtest.Item) {
	f.t.Helper()
	if _, err := f.Service.PutItem(f.t.Context(), &dynamodb.PutItemInput{TableName: aws.String("state"), Item: it}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *table) items() []dynamodbtest.Item { return f.Items("state") }

func partition(it dynamodbtest.Item) string {
	return attribute.TextOf(it, contract.StatePartitionKey)
}

func sortKey(it dynamodbtest.Item) string { return attribute.TextOf(it, contract.StateSortKey) }

// took returns the numbers of calls since it was last called.
func (f *table) took() (puts, queries int) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	puts, queries = f.puts, f.queries
	f.puts, f.queries = 0, 0
	return puts, queries
}

// partitions returns the distinct partitions of the items, sorted.
func (f *table) partitions() (all []string) {
	for _, it := range f.items() {
		all = append(all, partition(it))
	}
	return slices.Compact(all)
}

func (f *table) expiry(it dynamodbtest.Item) time.Time {
	seconds, err := attribute.NumberOf(it, contract.StateExpiry)
	if err != nil {
		f.t.Fatalf("item %s / %s never expires: %v", partition(it), sortKey(it), err)
	}
	return time.Unix(seconds, 0).UTC()
}

// store returns the store of a new environment of the function.
func (f *table) store(t testing.TB, log io.Writer) *fleet.Store {
	t.Helper()
	s, err := fleet.New(f, fleet.Config{Table: "state", Lateness: lateness, MinDatapoints: 10, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// samples returns samples of one window.
func samples(k engine.FleetKey, start time.Time, values ...float64) []engine.Samples {
	all := make([]engine.Samples, len(values))
	for i, v := range values {
		all[i] = engine.Samples{{Key: k, Start: start.UnixMilli()}: v}
	}
	return all
}

// upTo returns the numbers from 1 to n.
func upTo(n int) []float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = float64(i + 1)
	}
	return all
}

func mustAdd(t testing.TB, s *fleet.Store, id string, at time.Time, all []engine.Samples) {
	t.Helper()
	if left, err := s.Add(t.Context(), id, at, all); err != nil || left != 0 {
		t.Fatalf("batch %s: %d samples left out, error %v", id, left, err)
	}
}
