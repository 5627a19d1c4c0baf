// Package recordtest is a table in memory with the DynamoDB semantics that the notifier's records
// need.
package recordtest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/internal/contract"
)

type item = map[string]types.AttributeValue

// Table implements record.DynamoDB. The zero value is an empty table.
type Table struct {
	// Step, if set, runs before and after each operation takes effect. Its error becomes the
	// operation's.
	Step func(ctx context.Context, operation string, done bool) error

	mu     sync.Mutex
	items  map[string]item
	writes int
}

// Writes counts the writes that took effect.
func (t *Table) Writes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.writes
}

// Count returns the number of items whose partition key begins with prefix.
func (t *Table) Count(prefix string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for key := range t.items {
		if strings.HasPrefix(key, prefix) {
			n++
		}
	}
	return n
}

func (t *Table) do(ctx context.Context, operation string, effect func() error) error {
	if t.Step != nil {
		if err := t.Step(ctx, operation, false); err != nil {
			return err
		}
	}
	t.mu.Lock()
	if t.items == nil {
		t.items = map[string]item{}
	}
	err := effect()
	t.mu.Unlock()
	if err == nil && t.Step != nil {
		err = t.Step(ctx, operation, true)
	}
	return err
}

func keyOf(it item) string {
	return text(it[contract.NotifyPartitionKey]) + "\x00" + text(it[contract.NotifySortKey])
}

// GetItem implements record.DynamoDB.
func (t *Table) GetItem(ctx context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	out := &dynamodb.GetItemOutput{}
	return out, t.do(ctx, "GetItem", func() error {
		out.Item = maps.Clone(t.items[keyOf(in.Key)])
		return nil
	})
}

// PutItem implements record.DynamoDB.
func (t *Table) PutItem(ctx context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	return &dynamodb.PutItemOutput{}, t.do(ctx, "PutItem", func() error {
		key := keyOf(in.Item)
		if err := check(t.items[key], in.ConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues); err != nil {
			return err
		}
		t.items[key] = maps.Clone(in.Item)
		t.writes++
		return nil
	})
}

// UpdateItem implements record.DynamoDB: it adds to the count of a minute.
func (t *Table) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return &dynamodb.UpdateItemOutput{}, t.do(ctx, "UpdateItem", func() error {
		if *in.UpdateExpression != "SET #expires = :expires ADD #n :add" {
			return fmt.Errorf("update %s", *in.UpdateExpression)
		}
		key := keyOf(in.Key)
		if err := check(t.items[key], in.ConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues); err != nil {
			return err
		}
		n := int64(0)
		if v, ok := t.items[key][in.ExpressionAttributeNames["#n"]]; ok {
			n = number(v)
		}
		it := maps.Clone(in.Key)
		it[in.ExpressionAttributeNames["#n"]] = &types.AttributeValueMemberN{Value: strconv.FormatInt(n+number(in.ExpressionAttributeValues[":add"]), 10)}
		t.items[key] = it
		t.writes++
		return nil
	})
}

// DeleteItem implements record.DynamoDB.
func (t *Table) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	return &dynamodb.DeleteItemOutput{}, t.do(ctx, "DeleteItem", func() error {
		key := keyOf(in.Key)
		if err := check(t.items[key], in.ConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues); err != nil {
			return err
		}
		delete(t.items, key)
		return nil
	})
}

// pageSize is how many items a page of Query has.
const pageSize = 50

// Query implements record.DynamoDB, for a partition of the table or of the index.
func (t *Table) Query(ctx context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	out := &dynamodb.QueryOutput{}
	return out, t.do(ctx, "Query", func() error {
		attribute, value := in.ExpressionAttributeNames["#pk"], in.ExpressionAttributeValues[":pk"]
		if in.IndexName != nil {
			attribute, value = in.ExpressionAttributeNames["#s"], in.ExpressionAttributeValues[":s"]
		}
		var found []item
		for _, key := range slices.Sorted(maps.Keys(t.items)) {
			if it := t.items[key]; it[attribute] != nil && text(it[attribute]) == text(value) && key > keyOf(in.ExclusiveStartKey) {
				found = append(found, maps.Clone(it))
			}
		}
		if len(found) > pageSize {
			found = found[:pageSize]
			out.LastEvaluatedKey = found[pageSize-1]
		}
		out.Items = found
		return nil
	})
}

// check evaluates the conditions that the records use.
func check(it item, condition *string, names map[string]string, values item) error {
	if condition == nil {
		return nil
	}
	for term := range strings.SplitSeq(*condition, " OR ") {
		if name, ok := strings.CutPrefix(term, "attribute_not_exists("); ok {
			if it[names[strings.TrimSuffix(name, ")")]] == nil {
				return nil
			}
			continue
		}
		parts := strings.Fields(term)
		if len(parts) != 3 {
			return fmt.Errorf("condition %s", *condition)
		}
		if has := it[names[parts[0]]]; has != nil && holds(compare(has, values[parts[2]]), parts[1]) {
			return nil
		}
	}
	return &types.ConditionalCheckFailedException{}
}

func holds(order int, operator string) bool {
	switch operator {
	case "=":
		return order == 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	}
	panic("operator " + operator)
}

func compare(a, b types.AttributeValue) int {
	if _, ok := a.(*types.AttributeValueMemberN); ok {
		return cmp.Compare(number(a), number(b))
	}
	return strings.Compare(text(a), text(b))
}

func text(v types.AttributeValue) string {
	if s, ok := v.(*types.AttributeValueMemberS); ok {
		return s.Value
	}
	return ""
}

func number(v types.AttributeValue) int64 {
	n, ok := v.(*types.AttributeValueMemberN)
	if !ok {
		panic(fmt.Sprintf("%T, want a number", v))
	}
	i, err := strconv.ParseInt(n.Value, 10, 64)
	if err != nil {
		panic(err)
	}
	return i
}
