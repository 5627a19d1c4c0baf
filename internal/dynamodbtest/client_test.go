package dynamodbtest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
)

func TestStepSeesEachCallBeforeAndAfterIt(t *testing.T) {
	var steps []string
	c := &dynamodbtest.Client{Service: newService(), Step: func(c dynamodbtest.Call, done bool) error {
		steps = append(steps, fmt.Sprint(c, done))
		return nil
	}}
	one, two := dynamodbtest.Item{"pk": text("p"), "sk": text("a")}, dynamodbtest.Item{"pk": text("p"), "sk": text("b")}
	_, put := c.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("t"), Item: one})
	_, get := c.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("t"), Key: one, ConsistentRead: aws.Bool(true)})
	_, batch := c.BatchGetItem(t.Context(), &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{"t": {Keys: []map[string]types.AttributeValue{one, two}}}})
	_, missing := c.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("t"), Item: one, ConditionExpression: aws.String("attribute_not_exists(#pk)"), ExpressionAttributeNames: map[string]string{"#pk": "pk"}})
	_, deletion := c.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("t"), Key: one})
	var failed *types.ConditionalCheckFailedException
	if err := errors.Join(put, get, batch, deletion); err != nil || !errors.As(missing, &failed) {
		t.Errorf("errors %v, and %v of the second write; want only a failed condition of that", err, missing)
	}
	want := []string{
		"{PutItem p 1 false} false", "{PutItem p 1 false} true", "{GetItem p 1 true} false", "{GetItem p 1 true} true", "{BatchGetItem p 2 false} false",
		"{BatchGetItem p 2 false} true", "{PutItem p 1 false} false", "{DeleteItem p 1 false} false", "{DeleteItem p 1 false} true",
	}
	if !slices.Equal(steps, want) {
		t.Errorf("got steps %q, want %q", steps, want)
	}
}

func TestFailedStepFailsTheCallBeforeOrAfterItsEffect(t *testing.T) {
	for _, after := range []bool{false, true} {
		crash := errors.New("crash")
		c := &dynamodbtest.Client{Service: newService(), Step: func(_ dynamodbtest.Call, done bool) error {
			if done == after {
				return crash
			}
			return nil
		}}
		_, err := c.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("t"), Item: item("a", 1)})
		if stored := len(c.Items("t")) == 1; !errors.Is(err, crash) || stored != after {
			t.Errorf("after %v: error %v, stored: %v; want the crash, stored: %v", after, err, stored, after)
		}
	}
}

func TestEndedContextFailsTheCall(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := &dynamodbtest.Client{Service: newService()}
	if _, err := c.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String("t"), Item: item("a", 1)}); !errors.Is(err, context.Canceled) || len(c.Items("t")) > 0 {
		t.Errorf("error %v, items %v; want context.Canceled and none", err, c.Items("t"))
	}
}
