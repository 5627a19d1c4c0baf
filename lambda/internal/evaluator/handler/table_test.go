package handler_test

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/internal/contract"
)

type item = map[string]types.AttributeValue

// table is a state table in memory. An expression that the evaluator and the fleet do not use
// fails the test. Its pages are short.
type table struct {
	t tester
	// step, if set, runs before and after each call takes effect. Its error becomes the call's.
	step func(operation, key string, done bool) error
	// unprocessed is how many keys of each BatchGetItem are left for the next one.
	unprocessed int

	mu    sync.Mutex
	items map[[2]string]item
	calls map[string]int
}

func newTable(t tester) *table {
	return &table{t: t, items: map[[2]string]item{}, calls: map[string]int{}}
}

func str(it item, name string) string {
	s, _ := it[name].(*types.AttributeValueMemberS)
	if s == nil {
		return ""
	}
	return s.Value
}

func num(it item, name string) int64 {
	n, _ := it[name].(*types.AttributeValueMemberN)
	if n == nil {
		return 0
	}
	v, _ := strconv.ParseInt(n.Value, 10, 64)
	return v
}

func keyOf(it item) [2]string {
	return [2]string{str(it, contract.StatePartitionKey), str(it, contract.StateSortKey)}
}

// of returns the stored item of a thing.
func (f *table) of(subject string) item {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.items[[2]string{"thing#" + subject, "state"}]
}

// took returns the number of calls since it was last called, by operation. The name of a call about
// another item than a thing's ends with the partition key.
func (f *table) took() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = map[string]int{}
	return calls
}

func (f *table) do(ctx context.Context, operation, key string, units int, effect func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.step != nil {
		if err := f.step(operation, key, false); err != nil {
			return err
		}
	}
	f.mu.Lock()
	name := operation
	if !strings.HasPrefix(key, "thing#") && key != "" {
		name += " " + key
	}
	f.calls[name] += units
	err := effect()
	f.mu.Unlock()
	if err == nil && f.step != nil {
		err = f.step(operation, key, true)
	}
	return err
}

func (f *table) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	asked := in.RequestItems["state"]
	if len(in.RequestItems) != 1 || len(asked.Keys) == 0 || len(asked.Keys) > 100 || asked.ConsistentRead != nil {
		f.t.Errorf("unexpected BatchGetItem %+v", in.RequestItems)
	}
	out := &dynamodb.BatchGetItemOutput{Responses: map[string][]item{}}
	err := f.do(ctx, "BatchGetItem", keyOf(asked.Keys[0])[0], len(asked.Keys), func() error {
		seen := map[[2]string]bool{}
		for i, k := range asked.Keys {
			if seen[keyOf(k)] {
				f.t.Errorf("%v is read twice", keyOf(k))
			}
			seen[keyOf(k)] = true
			if left := len(asked.Keys) - i; left <= f.unprocessed && i > 0 {
				out.UnprocessedKeys = map[string]types.KeysAndAttributes{"state": {Keys: asked.Keys[i:]}}
				break
			}
			if it := f.items[keyOf(k)]; it != nil {
				out.Responses["state"] = append(out.Responses["state"], maps.Clone(it))
			}
		}
		return nil
	})
	return out, err
}

func (f *table) GetItem(ctx context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	if !aws.ToBool(in.ConsistentRead) || *in.TableName != "state" {
		f.t.Errorf("unexpected GetItem %+v", in)
	}
	out := &dynamodb.GetItemOutput{}
	err := f.do(ctx, "GetItem", keyOf(in.Key)[0], 1, func() error {
		out.Item = maps.Clone(f.items[keyOf(in.Key)])
		return nil
	})
	return out, err
}

func (f *table) PutItem(ctx context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	err := f.do(ctx, "PutItem", keyOf(in.Item)[0], 1, func() error {
		stored, names, values := f.items[keyOf(in.Item)], in.ExpressionAttributeNames, in.ExpressionAttributeValues
		ok := false
		switch *in.ConditionExpression {
		case "attribute_not_exists(#pk)", "attribute_not_exists(#revision)":
			ok = stored == nil && len(values) == 0
		case "#revision = :before":
			ok = stored != nil && num(stored, names["#revision"]) == num(values, ":before")
		case "attribute_not_exists(#at) OR #lag <= :lag OR #at < :since":
			ok = stored == nil || num(stored, names["#lag"]) <= num(values, ":lag") || num(stored, names["#at"]) < num(values, ":since")
		default:
			f.t.Errorf("unexpected condition %s", *in.ConditionExpression)
		}
		if !ok {
			return &types.ConditionalCheckFailedException{}
		}
		f.items[keyOf(in.Item)] = maps.Clone(in.Item)
		return nil
	})
	return &dynamodb.PutItemOutput{}, err
}

func (f *table) Query(ctx context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	out := &dynamodb.QueryOutput{}
	names, values := in.ExpressionAttributeNames, in.ExpressionAttributeValues
	err := f.do(ctx, "Query", "#"+aws.ToString(in.IndexName), 1, func() error {
		var found []item
		for _, it := range f.items {
			ok := false
			switch *in.KeyConditionExpression {
			case "#pk = :pk":
				ok = keyOf(it)[0] == str(values, ":pk")
			case "#pk = :pk AND #sk BETWEEN :from AND :to":
				ok = keyOf(it)[0] == str(values, ":pk") && str(values, ":from") <= keyOf(it)[1] && keyOf(it)[1] <= str(values, ":to")
			case "#shard = :shard AND #at <= :at":
				ok = *in.IndexName == contract.StateDueIndex && it[names["#at"]] != nil && str(it, names["#shard"]) == str(values, ":shard") && num(it, names["#at"]) <= num(values, ":at")
			default:
				f.t.Errorf("unexpected key condition %s", *in.KeyConditionExpression)
			}
			if ok {
				found = append(found, it)
			}
		}
		order := func(a, b item) int {
			return cmp.Or(cmp.Compare(num(a, names["#at"]), num(b, names["#at"])), slices.Compare(keySlice(a), keySlice(b)))
		}
		slices.SortFunc(found, order)
		if start := in.ExclusiveStartKey; start != nil {
			found = slices.DeleteFunc(found, func(it item) bool { return order(it, start) <= 0 })
		}
		if page := 3; len(found) > page {
			found = found[:page]
			out.LastEvaluatedKey = maps.Clone(found[page-1])
		}
		for _, it := range found {
			if in.IndexName != nil { // it projects only the keys
				it = item{contract.StatePartitionKey: it[contract.StatePartitionKey], contract.StateSortKey: it[contract.StateSortKey]}
			}
			out.Items = append(out.Items, it)
		}
		return nil
	})
	return out, err
}

func keySlice(it item) []string { k := keyOf(it); return k[:] }

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// conflict returns the error of a conditional write that lost.
func conflict() error { return &types.ConditionalCheckFailedException{} }
