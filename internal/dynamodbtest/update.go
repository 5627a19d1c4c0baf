package dynamodbtest

import (
	"context"
	"maps"
	"strconv"
	"strings"

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

// UpdateItem implements the client's method for SET #name = :value, ADD #name :number and REMOVE
// #name.
func (s *Service) UpdateItem(_ context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.Expected != nil || in.AttributeUpdates != nil || in.ReturnValuesOnConditionCheckFailure != "" ||
		in.ReturnValues != "" && in.ReturnValues != types.ReturnValueAllNew && in.ReturnValues != types.ReturnValueAllOld {
		return nil, unsupported("the values that UpdateItem returns")
	}
	t, err := s.table(in.TableName)
	if err != nil {
		return nil, err
	}
	r, err := t.row(in.Key)
	if err != nil {
		return nil, err
	}
	var before Item
	if r != nil {
		before = r.item
	}
	if condition := aws.ToString(in.ConditionExpression); condition != "" {
		names, values := used(condition, in.ExpressionAttributeNames, in.ExpressionAttributeValues)
		holds, err := evaluate(condition, names, values, before)
		if err != nil {
			return nil, err
		}
		if !holds {
			err := &types.ConditionalCheckFailedException{Message: aws.String("The conditional request failed")}
			s.observe(t, write{key: in.Key}, err)
			return nil, err
		}
	}
	names, values := used(aws.ToString(in.ConditionExpression)+" "+aws.ToString(in.UpdateExpression), in.ExpressionAttributeNames, in.ExpressionAttributeValues)
	if len(names) < len(in.ExpressionAttributeNames) || len(values) < len(in.ExpressionAttributeValues) {
		return nil, invalid("Value provided in ExpressionAttributeNames or ExpressionAttributeValues unused in expressions")
	}
	after := maps.Clone(in.Key)
	maps.Copy(after, before)
	if err := change(after, aws.ToString(in.UpdateExpression), in.ExpressionAttributeNames, in.ExpressionAttributeValues); err != nil {
		return nil, err
	}
	w := write{item: after, key: in.Key}
	if err := s.check(t, &w); err != nil {
		return nil, err
	}
	s.apply(t, w)
	out := &dynamodb.UpdateItemOutput{}
	switch in.ReturnValues {
	case types.ReturnValueAllNew:
		out.Attributes = maps.Clone(after)
	case types.ReturnValueAllOld:
		out.Attributes = maps.Clone(before)
	}
	return out, nil
}

// change makes the changes of an update expression.
func change(it Item, expression string, names map[string]string, values Item) error {
	tokens := tokenize(expression)
	clause := ""
	next := func() string {
		if len(tokens) == 0 {
			return ""
		}
		token := tokens[0]
		tokens = tokens[1:]
		return token
	}
	for len(tokens) > 0 {
		token := next()
		switch strings.ToUpper(token) {
		case "SET", "ADD", "REMOVE":
			clause = strings.ToUpper(token)
			continue
		case ",":
			continue
		}
		name := names[token]
		if name == "" {
			return unsupported("%q in the update %q", token, expression)
		}
		if clause == "REMOVE" {
			delete(it, name)
			continue
		}
		operator := ""
		if clause == "SET" {
			operator = next()
		}
		value := values[next()]
		switch {
		case value == nil || clause == "SET" && operator != "=" || clause == "":
			return unsupported("the update %q", expression)
		case clause == "SET":
			it[name] = value
		default:
			add, ok := number(value)
			now, also := number(it[name])
			if !ok || it[name] != nil && !also {
				return unsupported("ADD of anything but numbers in the update %q", expression)
			}
			it[name] = &types.AttributeValueMemberN{Value: strconv.FormatFloat(now+add, 'f', -1, 64)}
		}
	}
	return nil
}
