package timetolive_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/test/localaws/timetolive"
)

type item = map[string]types.AttributeValue

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func seconds(t time.Time) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(t.Unix(), 10)}
}

// tables is a DynamoDB with tables whose key is pk and whose time to live is until. Its pages have
// one table or one item.
type tables struct {
	items map[string][]item
	off   string // the table without time to live
	// touched is an item that changes between scan and deletion.
	touched string
	fail    error
}

func (d *tables) ListTables(_ context.Context, in *dynamodb.ListTablesInput, _ ...func(*dynamodb.Options)) (*dynamodb.ListTablesOutput, error) {
	names := slices.Sorted(maps.Keys(d.items))
	next := 0
	if in.ExclusiveStartTableName != nil {
		next = slices.Index(names, *in.ExclusiveStartTableName) + 1
	}
	out := &dynamodb.ListTablesOutput{TableNames: names[next : next+1]}
	if next+1 < len(names) {
		out.LastEvaluatedTableName = &names[next]
	}
	return out, nil
}

func (d *tables) DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error) {
	return &dynamodb.DescribeTableOutput{Table: &types.TableDescription{KeySchema: []types.KeySchemaElement{{AttributeName: aws.String("pk"), KeyType: types.KeyTypeHash}}}}, nil
}

func (d *tables) DescribeTimeToLive(_ context.Context, in *dynamodb.DescribeTimeToLiveInput, _ ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error) {
	if *in.TableName == d.off {
		return &dynamodb.DescribeTimeToLiveOutput{TimeToLiveDescription: &types.TimeToLiveDescription{TimeToLiveStatus: types.TimeToLiveStatusDisabled}}, nil
	}
	return &dynamodb.DescribeTimeToLiveOutput{TimeToLiveDescription: &types.TimeToLiveDescription{
		TimeToLiveStatus: types.TimeToLiveStatusEnabled, AttributeName: aws.String("until"),
	}}, nil
}

func pk(i item) string { return i["pk"].(*types.AttributeValueMemberS).Value }

func (d *tables) Scan(_ context.Context, in *dynamodb.ScanInput, _ ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	if *in.FilterExpression != "attribute_type(#ttl, :number) AND #ttl < :now AND #ttl > :tooOld" || in.ExpressionAttributeNames["#ttl"] != "until" {
		return nil, errors.New("bad filter")
	}
	for _, i := range d.items[*in.TableName] {
		if in.ExclusiveStartKey == nil || pk(i) > pk(in.ExclusiveStartKey) {
			out := &dynamodb.ScanOutput{LastEvaluatedKey: item{"pk": i["pk"]}}
			number := func(v types.AttributeValue) string { return v.(*types.AttributeValueMemberN).Value } // all have as many digits
			values := in.ExpressionAttributeValues
			if until, ok := i["until"].(*types.AttributeValueMemberN); ok && until.Value < number(values[":now"]) && until.Value > number(values[":tooOld"]) {
				out.Items = []item{i}
			}
			return out, nil
		}
	}
	return &dynamodb.ScanOutput{}, nil
}

func (d *tables) DeleteItem(_ context.Context, in *dynamodb.DeleteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	if d.fail != nil {
		return nil, d.fail
	}
	if len(in.Key) != 1 || *in.ConditionExpression != "#ttl = :seen" || in.ExpressionAttributeNames["#ttl"] != "until" {
		return nil, errors.New("bad deletion")
	}
	if pk(in.Key) == d.touched {
		return nil, &types.ConditionalCheckFailedException{}
	}
	d.items[*in.TableName] = slices.DeleteFunc(slices.Clone(d.items[*in.TableName]), func(i item) bool { return pk(i) == pk(in.Key) })
	return &dynamodb.DeleteItemOutput{}, nil
}

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func ledger(touched string) *tables {
	items := func() []item {
		return []item{
			{"pk": text("a-expired"), "until": seconds(now.Add(-time.Second))},
			{"pk": text("b-now"), "until": seconds(now)},
			{"pk": text("c-later"), "until": seconds(now.Add(time.Hour))},
			{"pk": text("d-no-number"), "until": text("1")},
			{"pk": text("e-without")},
			{"pk": text("f-archive"), "until": seconds(now.AddDate(-6, 0, 0))},
			{"pk": text("g-expired"), "until": seconds(now.AddDate(0, -6, 0))},
		}
	}
	return &tables{items: map[string][]item{"a": items(), "b": items(), "off": items()}, off: "off", touched: touched}
}

func TestExpiredItemsAreRemovedAndNoOthers(t *testing.T) {
	db := ledger("g-expired")
	if err := timetolive.Sweep(t.Context(), db, now); err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]string{
		"a": "b-now c-later d-no-number e-without f-archive g-expired", "b": "b-now c-later d-no-number e-without f-archive g-expired",
		"off": "a-expired b-now c-later d-no-number e-without f-archive g-expired",
	} {
		var left []string
		for _, i := range db.items[table] {
			left = append(left, pk(i))
		}
		if got := strings.Join(left, " "); got != want {
			t.Errorf("table %s has %s, want %s", table, got, want)
		}
	}
}

func TestFailedDeletionNamesItsTable(t *testing.T) {
	db := ledger("")
	db.fail = errors.New("throttled")
	if err := timetolive.Sweep(t.Context(), db, now); !errors.Is(err, db.fail) || !strings.Contains(err.Error(), "table a") {
		t.Errorf("got %v, want the error and the table's name", err)
	}
}
