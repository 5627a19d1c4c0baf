package dynamodbtest

import (
	"context"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// maxGets is the limit of one request.
// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
const maxGets = 100

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
