package dynamodbtest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
)

func TestUpdateWithACondition(t *testing.T) {
	s := newService()
	count := func(by, most int, unused bool) error {
		in := &dynamodb.UpdateItemInput{
			TableName: aws.String("t"), Key: dynamodbtest.Item{"pk": text("p"), "sk": text("a")}, UpdateExpression: aws.String("SET #e = :e ADD #n :by"),
			ConditionExpression:       aws.String("attribute_not_exists(#n) OR #n < :most"),
			ExpressionAttributeNames:  map[string]string{"#n": "n", "#e": "expires"},
			ExpressionAttributeValues: dynamodbtest.Item{":e": number(7), ":by": number(by), ":most": number(most)},
		}
		if unused {
			in.ExpressionAttributeNames["#x"] = "x"
		}
		_, err := s.UpdateItem(context.Background(), in)
		return err
	}
	var failed *types.ConditionalCheckFailedException
	if err := errors.Join(count(1, 2, false), count(1, 2, false)); err != nil {
		t.Fatal(err)
	}
	if err := count(1, 2, false); !errors.As(err, &failed) {
		t.Errorf("a third update, although two are allowed: error %v, want a failed condition", err)
	}
	if err := count(-1, 5, false); err != nil {
		t.Error(err)
	}
	if err := count(1, 5, true); err == nil || errors.As(err, &failed) {
		t.Errorf("an unused name: error %v, want one that is no failed condition", err)
	}
	items := s.Items("t")
	if len(items) != 1 || items[0]["n"].(*types.AttributeValueMemberN).Value != "1" || items[0]["expires"].(*types.AttributeValueMemberN).Value != "7" {
		t.Errorf("items %v, want one with n 1 and expires 7", items)
	}
	for _, expression := range []string{"SET #n = :by", "REMOVE #n", "SET #e = :e ADD #n :none"} {
		_, err := s.UpdateItem(context.Background(), &dynamodb.UpdateItemInput{
			TableName: aws.String("t"), Key: dynamodbtest.Item{"pk": text("p"), "sk": text("a")}, UpdateExpression: &expression,
			ExpressionAttributeNames: map[string]string{"#n": "n", "#e": "expires"}, ExpressionAttributeValues: dynamodbtest.Item{":by": number(1), ":e": number(1)},
		})
		if err == nil {
			t.Errorf("%s: no error, want one", expression)
		}
	}
}

func TestDeleteWithACondition(t *testing.T) {
	s := newService()
	if err := put(s, item("a", 1), "", nil); err != nil {
		t.Fatal(err)
	}
	remove := func(n int) error {
		_, err := s.DeleteItem(context.Background(), &dynamodb.DeleteItemInput{
			TableName: aws.String("t"), Key: dynamodbtest.Item{"pk": text("p"), "sk": text("a")}, ConditionExpression: aws.String("#n = :n"),
			ExpressionAttributeNames: map[string]string{"#n": "n"}, ExpressionAttributeValues: dynamodbtest.Item{":n": number(n)},
		})
		return err
	}
	var failed *types.ConditionalCheckFailedException
	if err := remove(2); !errors.As(err, &failed) || len(s.Items("t")) != 1 {
		t.Errorf("another value of n: error %v, want a failed condition", err)
	}
	if err := remove(1); err != nil || len(s.Items("t")) != 0 {
		t.Errorf("error %v, items %v, want none", err, s.Items("t"))
	}
	if err := remove(1); !errors.As(err, &failed) {
		t.Errorf("a deleted item: error %v, want a failed condition", err)
	}
}
