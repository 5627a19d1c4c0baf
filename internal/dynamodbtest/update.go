package dynamodbtest

import (
	"context"
	"maps"
	"regexp"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// DeleteItem implements the client's method.
func (s *Service) DeleteItem(_ context.Context, in *dynamodb.DeleteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.ReturnValues != "" || in.Expected != nil || in.ReturnValuesOnConditionCheckFailure != "" {
		return nil, unsupported("values that DeleteItem returns")
	}
	t, err := s.table(in.TableName)
	if err != nil {
		return nil, err
	}
	w := write{key: in.Key, condition: aws.ToString(in.ConditionExpression), names: in.ExpressionAttributeNames, values: in.ExpressionAttributeValues}
	if err := s.check(t, &w); err != nil {
		s.observe(t, w, err)
		return nil, err
	}
	s.apply(t, w)
	return &dynamodb.DeleteItemOutput{}, nil
}

// setAndAdd is the only form of an update expression that UpdateItem knows.
var setAndAdd = regexp.MustCompile(`^SET (#\w+) = (:\w+) ADD (#\w+) (:\w+)$`)

// UpdateItem implements the client's method for expressions that set one attribute and add to
// another.
func (s *Service) UpdateItem(_ context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	update := setAndAdd.FindStringSubmatch(aws.ToString(in.UpdateExpression))
	if update == nil || in.ReturnValues != "" || in.ReturnValuesOnConditionCheckFailure != "" {
		return nil, unsupported("the update %q, or values that UpdateItem returns", aws.ToString(in.UpdateExpression))
	}
	t, err := s.table(in.TableName)
	if err != nil {
		return nil, err
	}
	r, err := t.row(in.Key)
	if err != nil {
		return nil, err
	}
	next := maps.Clone(in.Key)
	if r != nil && r.item != nil {
		next = maps.Clone(r.item)
	}
	set, add := in.ExpressionAttributeNames[update[1]], in.ExpressionAttributeNames[update[3]]
	value, more := in.ExpressionAttributeValues[update[2]], in.ExpressionAttributeValues[update[4]]
	was, isNumber := number(next[add])
	by, alsoNumber := number(more)
	switch {
	case set == "" || add == "" || value == nil || more == nil:
		return nil, invalid("An expression attribute name or value used in the document path is not defined")
	case !alsoNumber || next[add] != nil && !isNumber:
		return nil, invalid("An operand in the update expression has an incorrect data type")
	}
	next[set] = value
	next[add] = &types.AttributeValueMemberN{Value: strconv.FormatFloat(was+by, 'f', -1, 64)}
	w := write{item: next, condition: aws.ToString(in.ConditionExpression)}
	// A name or value of the update may be one of the condition's too.
	used := map[string]bool{}
	for _, token := range tokenize(w.condition) {
		used[token] = true
	}
	w.names, w.values = maps.Clone(in.ExpressionAttributeNames), maps.Clone(in.ExpressionAttributeValues)
	for _, token := range update[1:] {
		if !used[token] {
			delete(w.names, token)
			delete(w.values, token)
		}
	}
	if err := s.check(t, &w); err != nil {
		s.observe(t, w, err)
		return nil, err
	}
	s.apply(t, w)
	return &dynamodb.UpdateItemOutput{}, nil
}
