// Package attribute writes and reads the attributes of DynamoDB items that the functions' tables
// have: texts and whole numbers.
package attribute

import (
	"fmt"
	"strconv"

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
