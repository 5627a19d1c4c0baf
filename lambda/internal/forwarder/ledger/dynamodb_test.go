package ledger_test

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger/ledgertest"
)

type item = map[string]types.AttributeValue

// fakeDynamoDB stores items and knows the ledger's expressions; any other fails the test. Its
// pages are short and count before the filter, as DynamoDB's do.
type fakeDynamoDB struct {
	t     *testing.T
	items map[[2]string]item
}

func keyOf(it item) [2]string {
	return [2]string{str(it, contract.LedgerPartitionKey), str(it, contract.LedgerSortKey)}
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

func (f *fakeDynamoDB) GetItem(_ context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	if !aws.ToBool(in.ConsistentRead) {
		f.t.Error("a read that is not consistent")
	}
	return &dynamodb.GetItemOutput{Item: f.items[keyOf(in.Key)]}, nil
}

func (f *fakeDynamoDB) PutItem(_ context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	stored, exists := f.items[keyOf(in.Item)]
	attribute := in.ExpressionAttributeNames["#revision"]
	ok := false
	switch *in.ConditionExpression {
	case "attribute_not_exists(#revision)":
		ok = !exists && len(in.ExpressionAttributeValues) == 0
	case "#revision = :before":
		ok = exists && num(stored, attribute) == num(in.ExpressionAttributeValues, ":before")
	default:
		f.t.Errorf("condition %s", *in.ConditionExpression)
	}
	if !ok {
		return nil, &types.ConditionalCheckFailedException{}
	}
	f.items[keyOf(in.Item)] = in.Item
	return &dynamodb.PutItemOutput{}, nil
}

func (f *fakeDynamoDB) Query(_ context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	names, values := in.ExpressionAttributeNames, in.ExpressionAttributeValues
	var found []item
	index := aws.ToString(in.IndexName) != ""
	for _, it := range f.items {
		switch *in.KeyConditionExpression {
		case "#pk = :pk":
			if !aws.ToBool(in.ConsistentRead) {
				f.t.Error("a query that is not consistent")
			}
			if str(it, names["#pk"]) == str(values, ":pk") {
				found = append(found, it)
			}
		case "#shard = :shard AND #at <= :at":
			if *in.IndexName != contract.LedgerRefreshIndex {
				f.t.Errorf("index %s", *in.IndexName)
			}
			if str(it, names["#shard"]) == str(values, ":shard") && num(it, names["#at"]) <= num(values, ":at") {
				found = append(found, it)
			}
		default:
			f.t.Fatalf("condition %s", *in.KeyConditionExpression)
		}
	}
	order := func(a, b item) int {
		if index {
			if c := cmp.Compare(num(a, names["#at"]), num(b, names["#at"])); c != 0 {
				return c
			}
		}
		return cmp.Compare(keyOf(a)[0]+"\x00"+keyOf(a)[1], keyOf(b)[0]+"\x00"+keyOf(b)[1])
	}
	slices.SortFunc(found, order)
	out := &dynamodb.QueryOutput{}
	if start := in.ExclusiveStartKey; start != nil {
		if index && (start[contract.LedgerRefreshShard] == nil || start[contract.LedgerRefreshAt] == nil) {
			f.t.Error("a start key without the index's own keys")
		}
		found = slices.DeleteFunc(found, func(it item) bool { return order(it, start) <= 0 })
	}
	const page = 7
	if len(found) > page {
		found = found[:page]
		out.LastEvaluatedKey = found[page-1]
	}
	for _, it := range found {
		open, _ := it[names["#open"]].(*types.AttributeValueMemberBOOL)
		if in.FilterExpression == nil || open != nil && open.Value {
			out.Items = append(out.Items, it)
		}
	}
	return out, nil
}

func TestTablesOfMemoryAndDynamoDBAreAlike(t *testing.T) {
	for name, table := range map[string]ledger.Table{
		"memory":   &ledgertest.Table{},
		"DynamoDB": ledger.NewDynamoDB(&fakeDynamoDB{t: t, items: map[[2]string]item{}}, "ledger"),
	} {
		if err := ledgertest.Check(context.Background(), table); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestItemsThatTheLedgerDidNotWriteAreReported(t *testing.T) {
	k := ledger.Key{Partition: "finding#a", Sort: "finding"}
	fake := &fakeDynamoDB{t: t, items: map[[2]string]item{{k.Partition, k.Sort}: {"pk": &types.AttributeValueMemberS{Value: k.Partition}}}}
	if _, err := ledger.NewDynamoDB(fake, "ledger").Get(context.Background(), k); err == nil {
		t.Error("an item without a revision was read")
	}
}
