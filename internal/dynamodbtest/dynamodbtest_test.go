package dynamodbtest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
)

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number(n int) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: fmt.Sprint(n)}
}

func newService() *dynamodbtest.Service {
	return dynamodbtest.New(dynamodbtest.Schema{
		Name: "t", Partition: "pk", Sort: "sk", Expiry: "expires",
		Indexes: []dynamodbtest.Index{{Name: "due", Partition: "shard", Sort: "at", KeysOnly: true}},
	})
}

func item(sk string, n int) dynamodbtest.Item {
	return dynamodbtest.Item{"pk": text("p"), "sk": text(sk), "n": number(n)}
}

// put writes an item under a condition on #n or #sk. An empty condition always holds.
func put(s *dynamodbtest.Service, it dynamodbtest.Item, condition string, values dynamodbtest.Item) error {
	in := &dynamodb.PutItemInput{TableName: aws.String("t"), Item: it}
	if condition != "" {
		name := "n"
		if strings.Contains(condition, "#sk") {
			name = "sk"
		}
		in.ConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues = &condition, map[string]string{"#" + name: name}, values
	}
	_, err := s.PutItem(context.Background(), in)
	return err
}

func TestConditionsOfWrites(t *testing.T) {
	for _, row := range []struct {
		condition string
		values    dynamodbtest.Item
		holds     bool
	}{
		{"attribute_exists(#n)", nil, true},
		{"attribute_not_exists(#n)", nil, false},
		{"#n = :a", dynamodbtest.Item{":a": number(5)}, true},
		{"#n = :a", dynamodbtest.Item{":a": text("5")}, false},
		{"#n <> :a", dynamodbtest.Item{":a": number(5)}, false},
		{"#n < :a OR #n >= :b", dynamodbtest.Item{":a": number(3), ":b": number(5)}, true},
		{"#n <= :a AND #n > :b", dynamodbtest.Item{":a": number(9), ":b": number(10)}, false},
		{"NOT (#n <= :a AND #n > :b)", dynamodbtest.Item{":a": number(9), ":b": number(10)}, true},
		{"begins_with(#sk, :a)", dynamodbtest.Item{":a": text("a")}, true},
		{"begins_with(#sk, :a)", dynamodbtest.Item{":a": text("b")}, false},
		{"begins_with(#n, :a)", dynamodbtest.Item{":a": text("5")}, false},
		{"#n BETWEEN :a AND :b", dynamodbtest.Item{":a": number(5), ":b": number(10)}, true},
	} {
		s := newService()
		if err := put(s, item("a", 5), "", nil); err != nil {
			t.Fatal(err)
		}
		err := put(s, item("a", 6), row.condition, row.values)
		var failed *types.ConditionalCheckFailedException
		if (err == nil) != row.holds || err != nil && !errors.As(err, &failed) {
			t.Errorf("%s: error %v, want that the condition holds: %t", row.condition, err, row.holds)
		}
	}
}

func TestUnsupportedExpressionsAreErrors(t *testing.T) {
	for condition, want := range map[string]string{
		"size(#n) > :a":           `"size"`,
		"contains(#n, :a)":        `"contains"`,
		"#n IN (:a)":              `"IN"`,
		"#n = :a garbage":         `"garbage"`,
		"#n":                      "the end of",
		"attribute_not_exists(n)": `"n"`,
	} {
		err := put(newService(), item("a", 5), condition, dynamodbtest.Item{":a": number(1)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one about %s", condition, err, want)
		}
	}
	err := put(newService(), item("a", 5), "attribute_not_exists(#n)", dynamodbtest.Item{":a": number(1)})
	if err == nil || !strings.Contains(err.Error(), "unused") {
		t.Errorf("an unused value: error %v, want one that says unused", err)
	}
}

func TestQueriesReadPartitionsAndIndexesInOrder(t *testing.T) {
	s := newService()
	s.PageItems = 2
	for i := range 5 {
		it := item(fmt.Sprint(4-i), i)
		if i != 2 {
			it["shard"], it["at"] = text("1"), number(10-i)
		}
		if err := put(s, it, "", nil); err != nil {
			t.Fatal(err)
		}
	}
	all := func(in *dynamodb.QueryInput) string {
		t.Helper()
		in.TableName = aws.String("t")
		var keys []string
		for pages := dynamodb.NewQueryPaginator(s, in); pages.HasMorePages(); {
			page, err := pages.NextPage(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for _, it := range page.Items {
				keys = append(keys, it["sk"].(*types.AttributeValueMemberS).Value)
			}
		}
		return strings.Join(keys, " ")
	}
	if got := all(&dynamodb.QueryInput{
		KeyConditionExpression: aws.String("#pk = :pk"), FilterExpression: aws.String("#n <> :n"),
		ExpressionAttributeNames: map[string]string{"#pk": "pk", "#n": "n"}, ExpressionAttributeValues: dynamodbtest.Item{":pk": text("p"), ":n": number(1)},
	}); got != "0 1 2 4" {
		t.Errorf("partition: got %s, want 0 1 2 4", got)
	}
	if got := all(&dynamodb.QueryInput{
		IndexName: aws.String("due"), KeyConditionExpression: aws.String("#shard = :shard AND #at <= :at"),
		ExpressionAttributeNames: map[string]string{"#shard": "shard", "#at": "at"}, ExpressionAttributeValues: dynamodbtest.Item{":shard": text("1"), ":at": number(9)},
	}); got != "0 1 3" {
		t.Errorf("index: got %s, want 0 1 3", got)
	}
}

func TestBatchesReportUnprocessedKeys(t *testing.T) {
	s := newService()
	for _, sk := range []string{"a", "b"} {
		if err := put(s, item(sk, 1), "", nil); err != nil {
			t.Fatal(err)
		}
	}
	s.Throttle = func(_ string, key dynamodbtest.Item) bool {
		return key["sk"].(*types.AttributeValueMemberS).Value == "b"
	}
	key := func(sk string) dynamodbtest.Item { return dynamodbtest.Item{"pk": text("p"), "sk": text(sk)} }
	out, err := s.BatchGetItem(context.Background(), &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
		"t": {Keys: []map[string]types.AttributeValue{key("a"), key("b"), key("c")}},
	}})
	if err != nil || len(out.Responses["t"]) != 1 || len(out.UnprocessedKeys["t"].Keys) != 1 {
		t.Errorf("got %+v, error %v, want the item a, and the key b unprocessed", out, err)
	}
}

func TestStatementsHaveTheirOwnConditionsAndErrors(t *testing.T) {
	s := newService()
	if err := put(s, item("a", 1), "", nil); err != nil {
		t.Fatal(err)
	}
	insert := func(sk string) types.BatchStatementRequest {
		return types.BatchStatementRequest{Statement: aws.String(`INSERT INTO "t" VALUE {'pk': ?, 'sk': ?, 'n': ?}`), Parameters: []types.AttributeValue{text("p"), text(sk), number(2)}}
	}
	update := func(sk string, before int) types.BatchStatementRequest {
		return types.BatchStatementRequest{
			Statement:  aws.String(`UPDATE "t" SET "m" = ? SET "shard" = ? REMOVE "n" WHERE "pk" = ? AND "sk" = ? AND "n" = ?`),
			Parameters: []types.AttributeValue{number(7), text("1"), text("p"), text(sk), number(before)},
		}
	}
	run := func(all ...types.BatchStatementRequest) string {
		t.Helper()
		out, err := s.BatchExecuteStatement(context.Background(), &dynamodb.BatchExecuteStatementInput{Statements: all})
		if err != nil {
			t.Fatal(err)
		}
		var codes []string
		for _, r := range out.Responses {
			if r.Error == nil {
				codes = append(codes, "ok")
			} else {
				codes = append(codes, string(r.Error.Code))
			}
		}
		return strings.Join(codes, " ")
	}
	if got := run(insert("a"), insert("b"), update("c", 1)); got != "DuplicateItem ok ConditionalCheckFailed" {
		t.Errorf("first batch: got %s, want DuplicateItem ok ConditionalCheckFailed", got)
	}
	if got := run(update("a", 2), update("b", 2)); got != "ConditionalCheckFailed ok" {
		t.Errorf("second batch: got %s, want ConditionalCheckFailed ok", got)
	}
	if it := s.Items("t")[1]; it["n"] != nil || it["m"].(*types.AttributeValueMemberN).Value != "7" {
		t.Errorf("the item after the update is %v, want m 7 and no n", it)
	}
	for _, text := range []string{`DELETE FROM "t"`, `UPDATE "t" SET "m" = ? WHERE "pk" = ?`, `INSERT INTO "t" VALUE {'pk': ?} ON CONFLICT DO NOTHING`} {
		_, err := s.BatchExecuteStatement(context.Background(), &dynamodb.BatchExecuteStatementInput{Statements: []types.BatchStatementRequest{
			{Statement: &text, Parameters: []types.AttributeValue{number(1), number(2)}},
		}})
		if err == nil || !strings.Contains(err.Error(), "does not support") {
			t.Errorf("%s: error %v, want one that says does not support", text, err)
		}
	}
}

func TestStaleReadsAndExpiry(t *testing.T) {
	s := newService()
	now := time.Unix(100, 0)
	s.Now = func() time.Time { return now }
	s.Stale = func(since time.Duration) bool { return since < time.Second }
	it := item("a", 1)
	it["expires"] = number(150)
	for n := range 2 {
		it["n"] = number(n)
		if err := put(s, it, "", nil); err != nil {
			t.Fatal(err)
		}
	}
	read := func(consistent bool) string {
		out, err := s.GetItem(context.Background(), &dynamodb.GetItemInput{TableName: aws.String("t"), Key: dynamodbtest.Item{"pk": text("p"), "sk": text("a")}, ConsistentRead: &consistent})
		if err != nil {
			t.Fatal(err)
		}
		return out.Item["n"].(*types.AttributeValueMemberN).Value
	}
	if read(true) != "1" || read(false) != "0" {
		t.Error("an eventually consistent read returns the last write at once, or a consistent one does not")
	}
	now = now.Add(time.Second)
	if read(false) != "1" {
		t.Error("an eventually consistent read is stale after a second")
	}
	if s.Expire("t", time.Unix(149, 0)); len(s.Items("t")) != 1 {
		t.Error("the item expired too soon")
	}
	if s.Expire("t", time.Unix(150, 0)); len(s.Items("t")) != 0 {
		t.Error("the item did not expire")
	}
}
