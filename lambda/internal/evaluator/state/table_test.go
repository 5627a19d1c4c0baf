package state_test

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/internal/contract"
)

var start = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func at(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

type item = map[string]types.AttributeValue

// table is a state table in memory. It supports only conditions on revisions; any other fails the
// test.
type table struct {
	t     *testing.T
	items map[string]item
	fails error
}

func newTable(t *testing.T) *table { return &table{t: t, items: map[string]item{}} }

func keyOf(it item) string {
	return it[contract.StatePartitionKey].(*types.AttributeValueMemberS).Value + "/" + it[contract.StateSortKey].(*types.AttributeValueMemberS).Value
}

// of returns the stored item of a thing.
func (f *table) of(subject string) item { return f.items["thing#"+subject+"/state"] }

func (f *table) BatchGetItem(_ context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	out := &dynamodb.BatchGetItemOutput{Responses: map[string][]item{}}
	for _, k := range in.RequestItems["state"].Keys {
		if it := f.items[keyOf(k)]; it != nil {
			out.Responses["state"] = append(out.Responses["state"], maps.Clone(it))
		}
	}
	return out, f.fails
}

func (f *table) GetItem(_ context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	if !aws.ToBool(in.ConsistentRead) {
		f.t.Errorf("read %+v", in)
	}
	return &dynamodb.GetItemOutput{Item: maps.Clone(f.items[keyOf(in.Key)])}, f.fails
}

func (f *table) PutItem(_ context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	stored := f.items[keyOf(in.Item)]
	number := func(it item, name string) string { return it[name].(*types.AttributeValueMemberN).Value }
	ok := stored == nil
	switch *in.ConditionExpression {
	case "attribute_not_exists(#revision)":
	case "#revision = :before":
		ok = stored != nil && number(stored, in.ExpressionAttributeNames["#revision"]) == number(in.ExpressionAttributeValues, ":before")
	default:
		f.t.Errorf("condition %s", *in.ConditionExpression)
	}
	if !ok {
		return nil, &types.ConditionalCheckFailedException{}
	}
	f.items[keyOf(in.Item)] = maps.Clone(in.Item)
	return &dynamodb.PutItemOutput{}, f.fails
}

func (f *table) Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	f.t.Error("a query")
	return &dynamodb.QueryOutput{}, f.fails
}
