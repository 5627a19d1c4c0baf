// Package attribute writes and reads the attributes of DynamoDB items that the functions' tables
// have: texts and whole numbers. It also writes items on a condition.
package attribute

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Text returns a text as an attribute.
func Text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// Number returns a whole number as an attribute.
func Number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

// TextOf returns the text of an item's attribute, "" if the attribute is missing or not a text.
func TextOf(item map[string]types.AttributeValue, name string) string {
	if s, ok := item[name].(*types.AttributeValueMemberS); ok {
		return s.Value
	}
	return ""
}

// NumberOf returns the number of an item's attribute. It returns an error if the attribute is
// missing or not a whole number.
func NumberOf(item map[string]types.AttributeValue, name string) (int64, error) {
	n, ok := item[name].(*types.AttributeValueMemberN)
	if !ok {
		return 0, fmt.Errorf("attribute %s is not a number", name)
	}
	return strconv.ParseInt(n.Value, 10, 64)
}

// OptionalNumberOf returns the number of an item's attribute, 0 if the attribute is missing or not
// a whole number.
func OptionalNumberOf(item map[string]types.AttributeValue, name string) int64 {
	n, err := NumberOf(item, name)
	if err != nil {
		return 0
	}
	return n
}

// Revision is the attribute that counts the writes of an item.
const Revision = "revision"

// Next sets an item's revision. It returns a request that writes the item if the stored revision is
// the one before; before revision 1 there is no item.
func Next(table string, item map[string]types.AttributeValue, revision int64) *dynamodb.PutItemInput {
	item[Revision] = Number(revision)
	in := &dynamodb.PutItemInput{
		TableName: &table, Item: item, ExpressionAttributeNames: map[string]string{"#revision": Revision},
		ConditionExpression: aws.String("attribute_not_exists(#revision)"),
	}
	if revision > 1 {
		in.ConditionExpression = aws.String("#revision = :before")
		in.ExpressionAttributeValues = map[string]types.AttributeValue{":before": Number(revision - 1)}
	}
	return in
}

// Put writes an item. It returns conflict if the request's condition does not hold.
func Put(ctx context.Context, api interface {
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
}, in *dynamodb.PutItemInput, conflict error) error {
	_, err := api.PutItem(ctx, in)
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		return conflict
	}
	if err != nil {
		return fmt.Errorf("PutItem of table %s: %w", *in.TableName, err)
	}
	return nil
}
