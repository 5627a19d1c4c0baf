package dynamodbtest_test

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
)

// If no request with the expression succeeds, the table is unchanged.
func FuzzExpressions(f *testing.F) {
	f.Add("attribute_not_exists(#n) OR #n < :a")
	f.Add("NOT (#n BETWEEN :a AND :a) AND #n <> :a")
	f.Add(`INSERT INTO "t" VALUE {'pk': ?, 'sk': ?}`)
	f.Add(`UPDATE "t" SET "m" = ? REMOVE "n" WHERE "pk" = ? AND "sk" = ?`)
	f.Add("SET #n = :a REMOVE #n ADD #n :a")
	f.Fuzz(func(t *testing.T, expression string) {
		s := newService()
		if err := put(s, item("a", 5), "", nil); err != nil {
			t.Fatal(err)
		}
		wrote := put(s, item("a", 6), expression, dynamodbtest.Item{":a": number(1)}) == nil && expression != ""
		out, err := s.BatchExecuteStatement(context.Background(), &dynamodb.BatchExecuteStatementInput{
			Statements: []types.BatchStatementRequest{{Statement: &expression, Parameters: []types.AttributeValue{text("p"), text("b"), number(1)}}},
		})
		wrote = wrote || err == nil && out.Responses[0].Error == nil
		_, err = s.UpdateItem(context.Background(), &dynamodb.UpdateItemInput{
			TableName: aws.String("t"), Key: dynamodbtest.Item{"pk": text("p"), "sk": text("a")}, UpdateExpression: &expression,
			ExpressionAttributeNames: map[string]string{"#n": "n"}, ExpressionAttributeValues: dynamodbtest.Item{":a": number(1)},
		})
		wrote = wrote || err == nil
		items := s.Items("t")
		if !wrote && expression != "" && (len(items) != 1 || items[0]["n"].(*types.AttributeValueMemberN).Value != "5") {
			t.Errorf("%q: all requests failed, but the items are %v", expression, items)
		}
	})
}
