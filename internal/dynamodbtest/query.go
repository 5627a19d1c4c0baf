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
	limit := cmp.Or(s.PageItems, defaultPageItems)
	if in.Limit != nil {
		limit = min(limit, int(*in.Limit))
	}
	find := s.search
	if in.IndexName != nil && s.Stale == nil {
		find = s.scan
	}
	found, err := find(t, index, partition, in, limit+1)
	if err != nil {
		return nil, err
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

// search returns all items that a query finds, in order.
func (s *Service) search(t *table, index Index, partition string, in *dynamodb.QueryInput, _ int) (found []Item, err error) {
	rows := slices.Collect(maps.Values(t.rows[partition]))
	if index.Name != "" {
		rows = slices.Clone(t.indexed[index.Name][partition])
	}
	if s.Stale != nil { // in one order, so that a seeded Stale gives the same answers each time
		slices.SortFunc(rows, func(a, b *row) int {
			return cmp.Or(strings.Compare(a.partition, b.partition), strings.Compare(a.sort, b.sort))
		})
	}
	names, values := used(*in.KeyConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues)
	for _, r := range rows {
		it := s.seen(r, aws.ToBool(in.ConsistentRead))
		if it == nil || text(it, index.Partition) != partition {
			continue
		}
		holds, err := evaluate(*in.KeyConditionExpression, names, values, it)
		if err != nil {
			return nil, err
		}
		if holds && (len(in.ExclusiveStartKey) == 0 || index.compare(t, it, in.ExclusiveStartKey) > 0) {
			found = append(found, it)
		}
	}
	slices.SortFunc(found, func(a, b Item) int { return index.compare(t, a, b) })
	return found, nil
}

// scan returns at most n items that a query of an index finds, in order. It reads no further than
// that, because an index may have 100,000 items.
func (s *Service) scan(t *table, index Index, partition string, in *dynamodb.QueryInput, n int) (found []Item, err error) {
	rows := t.indexed[index.Name][partition]
	if len(in.ExclusiveStartKey) > 0 {
		i, exact := slices.BinarySearchFunc(rows, in.ExclusiveStartKey, func(r *row, start Item) int { return index.compare(t, r.item, start) })
		if exact {
			i++
		}
		rows = rows[i:]
	}
	tokens := tokenize(*in.KeyConditionExpression)
	upTo := len(tokens) == 7 && strings.HasPrefix(tokens[5], "<") // then nothing follows what is greater
	names, values := used(*in.KeyConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues)
	for _, r := range rows {
		holds, err := evaluate(*in.KeyConditionExpression, names, values, r.item)
		switch {
		case err != nil:
			return nil, err
		case holds:
			found = append(found, r.item)
		}
		if len(found) == n || !holds && upTo {
			break
		}
	}
	return found, nil
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

// keyOf returns the attributes of an item that the index has as keys.
func (i Index) keyOf(t *table, it Item) Item {
	key := Item{}
	for _, name := range []string{t.Partition, t.Sort, i.Partition, i.Sort} {
		key[name] = it[name]
	}
	return key
}
