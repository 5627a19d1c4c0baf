package fleet_test

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
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

type item = map[string]types.AttributeValue

// table stores items. An expression that the store does not use fails the test.
// Its pages are short, and it counts calls.
type table struct {
	t             testing.TB
	mutex         sync.Mutex
	items         map[[2]string]item
	puts, queries int
	// fails, if set, is the error of every call. query, if set, runs in the nth query.
	fails error
	query func(n int)
}

func newTable(t testing.TB) *table { return &table{t: t, items: map[[2]string]item{}} }

func str(it item, name string) string {
	s, _ := it[name].(*types.AttributeValueMemberS)
	if s == nil {
		return ""
	}
	return s.Value
}

func (f *table) PutItem(_ context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.puts++
	if f.fails != nil {
		return nil, f.fails
	}
	if *in.TableName != "state" || aws.ToString(in.ConditionExpression) != "attribute_not_exists(#pk)" || in.ExpressionAttributeNames["#pk"] != "pk" {
		f.t.Errorf("unexpected PutItem %+v", in)
	}
	key := [2]string{str(in.Item, "pk"), str(in.Item, "sk")}
	if key[0] == "" || key[1] == "" || len(key[0]) > 2048 || len(key[1]) > 1024 {
		f.t.Errorf("invalid key %q", key)
	}
	if f.items[key] != nil {
		return nil, &types.ConditionalCheckFailedException{}
	}
	f.items[key] = in.Item
	return &dynamodb.PutItemOutput{}, nil
}

func (f *table) Query(ctx context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.queries++
	if f.query != nil {
		f.query(f.queries)
	}
	if f.fails != nil {
		return nil, f.fails
	}
	values, names := in.ExpressionAttributeValues, in.ExpressionAttributeNames
	between := false
	switch *in.KeyConditionExpression {
	case "#pk = :pk":
	case "#pk = :pk AND #sk BETWEEN :from AND :to":
		between = true
	default:
		f.t.Errorf("unexpected key condition %s", *in.KeyConditionExpression)
	}
	if *in.TableName != "state" || names["#pk"] != "pk" || between != (names["#sk"] == "sk") || in.ConsistentRead != nil {
		f.t.Errorf("unexpected Query %+v", in)
	}
	var found []string
	for key := range f.items {
		if key[0] == str(values, ":pk") && key[1] > str(in.ExclusiveStartKey, "sk") &&
			(!between || str(values, ":from") <= key[1] && key[1] <= str(values, ":to")) {
			found = append(found, key[1])
		}
	}
	slices.Sort(found)
	out := &dynamodb.QueryOutput{}
	const page = 3
	for i, sk := range found {
		it := f.items[[2]string{str(values, ":pk"), sk}]
		if i == page {
			break
		}
		out.Items = append(out.Items, it)
		if i == page-1 {
			out.LastEvaluatedKey = item{"pk": it["pk"], "sk": it["sk"]}
		}
	}
	return out, ctx.Err()
}

// took returns the numbers of calls since it was last called.
func (f *table) took() (puts, queries int) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	puts, queries = f.puts, f.queries
	f.puts, f.queries = 0, 0
	return puts, queries
}

// partitions returns the distinct partitions of the items, sorted.
func (f *table) partitions() []string {
	all := map[string]bool{}
	for key := range f.items {
		all[key[0]] = true
	}
	return slices.Sorted(maps.Keys(all))
}

func (f *table) expiry(pk, sk string) time.Time {
	n, _ := f.items[[2]string{pk, sk}][contract.StateExpiry].(*types.AttributeValueMemberN)
	if n == nil {
		f.t.Fatalf("item %s / %s never expires", pk, sk)
	}
	seconds, _ := strconv.ParseInt(n.Value, 10, 64)
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
