package dynamodbtest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

const defaultPageItems = 200

// Query implements the client's method. The key condition must begin with an equality of the
// partition key.
func (s *Service) Query(_ context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.ProjectionExpression != nil || in.Select != "" && in.Select != types.SelectCount || in.ScanIndexForward != nil || in.KeyConditions != nil || in.QueryFilter != nil {
		return nil, unsupported("projections and reverse order of Query")
	}
	t, err := s.table(in.TableName)
	if err != nil {
		return nil, err
	}
	index, err := t.find(in)
	if err != nil {
		return nil, err
	}
	partition, err := partitionOf(in, index.Partition)
	if err != nil {
		return nil, err
	}
	consistent := aws.ToBool(in.ConsistentRead)
	var found []Item
	rows := t.candidates(index, partition)
	if s.Stale != nil { // in one order, so that a seeded Stale gives the same answers each time
		slices.SortFunc(rows, func(a, b *row) int {
			return cmp.Or(strings.Compare(a.partition, b.partition), strings.Compare(a.sort, b.sort))
		})
	}
	for _, r := range rows {
		it := s.seen(r, consistent)
		if it == nil || text(it, index.Partition) != partition {
			continue
		}
		names, values := used(aws.ToString(in.KeyConditionExpression), in.ExpressionAttributeNames, in.ExpressionAttributeValues)
		holds, err := evaluate(*in.KeyConditionExpression, names, values, it)
		if err != nil {
			return nil, err
		}
		if holds && index.after(t, it, in.ExclusiveStartKey) {
			found = append(found, it)
		}
	}
	slices.SortFunc(found, func(a, b Item) int { return index.compare(t, a, b) })
	limit := cmp.Or(s.PageItems, defaultPageItems)
	if in.Limit != nil {
		limit = min(limit, int(*in.Limit))
	}
	out := &dynamodb.QueryOutput{}
	if len(found) > limit {
		found = found[:limit]
		out.LastEvaluatedKey = index.keyOf(t, found[limit-1])
	}
	for _, it := range found {
		if in.FilterExpression != nil {
			names, values := used(*in.FilterExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues)
			holds, err := evaluate(*in.FilterExpression, names, values, it)
			if err != nil {
				return nil, err
			}
			if !holds {
				continue
			}
		}
		if index.KeysOnly {
			out.Items = append(out.Items, index.keyOf(t, it))
			continue
		}
		out.Items = append(out.Items, maps.Clone(it))
	}
	out.Count = int32(len(out.Items))
	if in.Select == types.SelectCount {
		out.Items = nil
	}
	return out, nil
}

// find returns the index of a query; the one without a name is the table itself.
func (t *table) find(in *dynamodb.QueryInput) (Index, error) {
	if in.IndexName == nil {
		return Index{Partition: t.Partition, Sort: t.Sort}, nil
	}
	if aws.ToBool(in.ConsistentRead) {
		return Index{}, invalid("Consistent reads are not supported on global secondary indexes")
	}
	for _, i := range t.Indexes {
		if i.Name == *in.IndexName {
			return i, nil
		}
	}
	return Index{}, invalid("The table does not have the specified index: %s", *in.IndexName)
}

// partitionOf returns the partition that a query reads.
func partitionOf(in *dynamodb.QueryInput, key string) (string, error) {
	condition := aws.ToString(in.KeyConditionExpression)
	tokens := tokenize(condition)
	if len(tokens) < 3 || tokens[1] != "=" || in.ExpressionAttributeNames[tokens[0]] != key {
		return "", unsupported("the key condition %q, which does not begin with %s =", condition, key)
	}
	v, ok := in.ExpressionAttributeValues[tokens[2]].(*types.AttributeValueMemberS)
	if !ok {
		return "", unsupported("the key condition %q without a string", condition)
	}
	return v.Value, nil
}

// used returns those of the names and values that an expression uses.
func used(expression string, names map[string]string, values Item) (map[string]string, Item) {
	usedNames, usedValues := map[string]string{}, Item{}
	for _, token := range tokenize(expression) {
		if name, ok := names[token]; ok {
			usedNames[token] = name
		}
		if value, ok := values[token]; ok {
			usedValues[token] = value
		}
	}
	return usedNames, usedValues
}

// candidates returns the rows that may be in a partition of an index.
func (t *table) candidates(i Index, partition string) []*row {
	if i.Name == "" {
		return slices.Collect(maps.Values(t.rows[partition]))
	}
	return slices.Collect(maps.Keys(t.indexed[i.Name][partition]))
}

func text(it Item, name string) string {
	s, _ := it[name].(*types.AttributeValueMemberS)
	if s == nil {
		return ""
	}
	return s.Value
}

// compare orders items by the index's sort key, then by the table's keys.
func (i Index) compare(t *table, a, b Item) int {
	order, _ := compare(a[i.Sort], b[i.Sort])
	return cmp.Or(order, strings.Compare(text(a, t.Partition), text(b, t.Partition)), strings.Compare(text(a, t.Sort), text(b, t.Sort)))
}

func (i Index) after(t *table, it, start Item) bool {
	return len(start) == 0 || i.compare(t, it, start) > 0
}

// keyOf returns the attributes of an item that the index has as keys.
func (i Index) keyOf(t *table, it Item) Item {
	key := Item{}
	for _, name := range []string{t.Partition, t.Sort, i.Partition, i.Sort} {
		key[name] = it[name]
	}
	return key
}
