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

// table is a state table in memory. It supports only the correlator's expressions; any other fails
// the test. Its pages are short.
type table struct {
	t tester
	// step, if set, runs before and after each call takes effect. Its error becomes the call's.
	step func(operation, key string, done bool) error

	mu    sync.Mutex
	items map[[2]string]item
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

func (f *table) do(ctx context.Context, operation, key string, effect func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.step != nil {
		if err := f.step(operation, key, false); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.calls[operation]++
	err := effect()
	f.mu.Unlock()
	if err == nil && f.step != nil {
		err = f.step(operation, key, true)
	}
	return err
}

func (f *table) GetItem(ctx context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	if !aws.ToBool(in.ConsistentRead) || *in.TableName != "state" {
		f.t.Errorf("read %+v", in)
	}
	out := &dynamodb.GetItemOutput{}
	err := f.do(ctx, "GetItem", keyOf(in.Key)[0], func() error {
		out.Item = maps.Clone(f.items[keyOf(in.Key)])
		return nil
	})
	return out, err
}

func (f *table) PutItem(ctx context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	err := f.do(ctx, "PutItem", keyOf(in.Item)[0], func() error {
		stored, names, values := f.items[keyOf(in.Item)], in.ExpressionAttributeNames, in.ExpressionAttributeValues
		ok := false
		switch aws.ToString(in.ConditionExpression) {
		case "":
			ok = strings.HasPrefix(keyOf(in.Item)[1], "user#")
		case "attribute_not_exists(#revision)":
			ok = stored == nil
		case "#revision = :before":
			ok = stored != nil && num(stored, names["#revision"]) == num(values, ":before")
		case "attribute_not_exists(#at) OR #at <= :before":
			ok = stored == nil || num(stored, names["#at"]) <= num(values, ":before")
		default:
			f.t.Errorf("condition %s", *in.ConditionExpression)
		}
		if !ok {
			return &types.ConditionalCheckFailedException{}
		}
		f.writes++
		f.items[keyOf(in.Item)] = maps.Clone(in.Item)
		return nil
	})
	return &dynamodb.PutItemOutput{}, err
}

func (f *table) Query(ctx context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	out := &dynamodb.QueryOutput{}
	names, values := in.ExpressionAttributeNames, in.ExpressionAttributeValues
	err := f.do(ctx, "Query", "#"+aws.ToString(in.IndexName), func() error {
		var found []item
		for _, it := range f.items {
			ok := false
			switch *in.KeyConditionExpression {
			case "#pk = :pk":
				ok = keyOf(it)[0] == str(values, ":pk") && aws.ToBool(in.ConsistentRead)
			case "#pk = :pk AND begins_with(#sk, :prefix)":
				ok = keyOf(it)[0] == str(values, ":pk") && strings.HasPrefix(keyOf(it)[1], str(values, ":prefix")) && aws.ToBool(in.ConsistentRead)
			case "#shard = :shard AND #at <= :at":
				ok = *in.IndexName == contract.StateDueIndex && it[names["#at"]] != nil && str(it, names["#shard"]) == str(values, ":shard") && num(it, names["#at"]) <= num(values, ":at")
			default:
				f.t.Errorf("condition %s", *in.KeyConditionExpression)
			}
			if ok {
				found = append(found, it)
			}
		}
		order := func(a, b item) int {
			ka, kb := keyOf(a), keyOf(b)
			return cmp.Or(cmp.Compare(num(a, names["#at"]), num(b, names["#at"])), slices.Compare(ka[:], kb[:]))
		}
		slices.SortFunc(found, order)
		if start := in.ExclusiveStartKey; start != nil {
			found = slices.DeleteFunc(found, func(it item) bool { return order(it, start) <= 0 })
		}
		if page := 30; len(found) > page {
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
