package dynamodbtest

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Limits of one request.
// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
const (
	maxGets   = 100
	maxWrites = 100
)

func (s *Service) throttled(t *table, key Item) bool {
	return s.Throttle != nil && s.Throttle(t.Name, key)
}

// BatchGetItem implements the client's method. Items come in the order of their keys.
func (s *Service) BatchGetItem(_ context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &dynamodb.BatchGetItemOutput{Responses: map[string][]map[string]types.AttributeValue{}, UnprocessedKeys: map[string]types.KeysAndAttributes{}}
	n := 0
	for _, name := range slices.Sorted(maps.Keys(in.RequestItems)) {
		request := in.RequestItems[name]
		if request.ProjectionExpression != nil || request.AttributesToGet != nil {
			return nil, unsupported("projections of BatchGetItem")
		}
		t, err := s.table(&name)
		if err != nil {
			return nil, err
		}
		seen := map[[2]string]bool{}
		unprocessed := request
		unprocessed.Keys = nil
		for _, key := range request.Keys {
			partition, sort, err := t.keyOf(key)
			if err != nil {
				return nil, err
			}
			if n++; n > maxGets || seen[[2]string{partition, sort}] {
				return nil, invalid("Too many items requested for the BatchGetItem call, or duplicates")
			}
			seen[[2]string{partition, sort}] = true
			if s.throttled(t, key) {
				unprocessed.Keys = append(unprocessed.Keys, key)
				continue
			}
			it, err := s.get(t, key, aws.ToBool(request.ConsistentRead))
			if err != nil {
				return nil, err
			}
			if it != nil {
				out.Responses[name] = append(out.Responses[name], it)
			}
		}
		if len(unprocessed.Keys) > 0 {
			out.UnprocessedKeys[name] = unprocessed
		}
	}
	if n == 0 {
		return nil, invalid("The batch get request list for a table cannot be null or empty")
	}
	return out, nil
}

// TransactWriteItems implements the client's method for puts. Without a client request token, each
// call is a transaction of its own.
func (s *Service) TransactWriteItems(_ context.Context, in *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.ClientRequestToken != nil {
		return nil, unsupported("ClientRequestToken of TransactWriteItems")
	}
	if len(in.TransactItems) == 0 || len(in.TransactItems) > maxWrites {
		return nil, invalid("%d items in a transaction, want 1 to %d", len(in.TransactItems), maxWrites)
	}
	var writes []write
	var tables []*table
	reasons := make([]types.CancellationReason, len(in.TransactItems))
	canceled := false
	seen := map[[3]string]bool{}
	for i, item := range in.TransactItems {
		if item.Put == nil || item.Update != nil || item.Delete != nil || item.ConditionCheck != nil {
			return nil, unsupported("transactions of anything but puts")
		}
		p := item.Put
		t, err := s.table(p.TableName)
		if err != nil {
			return nil, err
		}
		w := write{item: p.Item, condition: aws.ToString(p.ConditionExpression), names: p.ExpressionAttributeNames, values: p.ExpressionAttributeValues}
		err = s.check(t, &w)
		var failed *types.ConditionalCheckFailedException
		switch {
		case errors.As(err, &failed):
			canceled, reasons[i] = true, types.CancellationReason{Code: aws.String("ConditionalCheckFailed"), Message: failed.Message}
		case err != nil:
			return nil, err
		case s.throttled(t, w.key):
			canceled, reasons[i] = true, types.CancellationReason{Code: aws.String("ThrottlingError"), Message: aws.String("Throughput exceeds the current capacity of your table")}
		default:
			reasons[i] = types.CancellationReason{Code: aws.String("None")}
		}
		key := [3]string{t.Name, text(w.key, t.Partition), text(w.key, t.Sort)}
		if seen[key] {
			return nil, invalid("Transaction request cannot include multiple operations on one item")
		}
		seen[key] = true
		writes, tables = append(writes, w), append(tables, t)
	}
	if canceled {
		return nil, &types.TransactionCanceledException{CancellationReasons: reasons, Message: aws.String("Transaction cancelled")}
	}
	for i, w := range writes {
		s.apply(tables[i], w)
	}
	return &dynamodb.TransactWriteItemsOutput{}, nil
}
