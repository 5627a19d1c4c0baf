// Package dynamodbtest is Amazon DynamoDB in memory, for tests and for the simulation. It checks
// conditions, keys and limits as AWS documents them. It returns an error that names each
// operation, parameter or expression that it does not support, so that no test passes because a
// condition was ignored.
package dynamodbtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
)

// Item is an item, or its key.
type Item = map[string]types.AttributeValue

// Schema is the schema of a table. Both keys are strings.
type Schema struct {
	Name, Partition, Sort string
	// Expiry is the TTL attribute, in seconds since 1970.
	Expiry  string
	Indexes []Index
}

// Index is a global secondary index. Its partition key is a string and its sort key a number.
type Index struct {
	Name, Partition, Sort string
	// KeysOnly reports whether it projects only the keys.
	KeysOnly bool
}

// Service has tables. It is safe for concurrent use.
type Service struct {
	// Throttle reports whether an item of a batch is not processed because of throttling.
	// Default: none.
	Throttle func(table string, key Item) bool
	// Stale reports whether an eventually consistent read returns an item, or an index, as it was
	// before its last write. It gets the time since that write.
	// Default: never.
	Stale func(since time.Duration) bool
	// Now is the clock, which is needed only for Stale.
	Now func() time.Time
	// Observe gets each access to an item, except queries and eventually consistent reads. It must
	// not call the service.
	// Default: nil.
	Observe func(Access)
	// PageItems is the maximum number of items that a query reads for a page. AWS's limit is 1 MB.
	// Default: 200.
	PageItems int

	mu     sync.Mutex
	tables map[string]*table
}

// Access is one read or attempted write of an item.
type Access struct {
	Table string
	// Item is what was read, nil for none, or what was to be written.
	Key, Item Item
	Write     bool
	// Failed reports that the condition of a write did not hold.
	Failed bool
}

type table struct {
	Schema
	rows map[string]map[string]*row // by partition key and sort key
	// indexed are the rows by index and partition key, in the order of the index.
	indexed map[string]map[string][]*row
}

// row is an item and what it was before its last write.
type row struct {
	partition, sort string
	item, before    Item
	changed         time.Time
}

// maxItem is the maximum size of an item, in bytes.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
const maxItem = 400 << 10

// New returns a service with empty tables.
func New(schemas ...Schema) *Service {
	s := &Service{tables: map[string]*table{}}
	for _, schema := range schemas {
		s.Create(schema)
	}
	return s
}

// Create adds an empty table.
func (s *Service) Create(schema Schema) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tables[schema.Name] = &table{Schema: schema, rows: map[string]map[string]*row{}, indexed: map[string]map[string][]*row{}}
}

// Delete deletes a table. Later calls that name it fail.
func (s *Service) Delete(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tables, name)
}

// Items returns copies of all items of a table, ordered by key.
func (s *Service) Items(name string) []Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tables[name]
	var all []Item
	for _, partition := range slices.Sorted(maps.Keys(t.rows)) {
		for _, sort := range slices.Sorted(maps.Keys(t.rows[partition])) {
			if r := t.rows[partition][sort]; r.item != nil {
				all = append(all, maps.Clone(r.item))
			}
		}
	}
	return all
}

// Expire deletes the items of a table whose TTL attribute is not after a time.
func (s *Service) Expire(name string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tables[name]
	for partition, rows := range t.rows {
		for sort, r := range rows {
			if n, ok := number(r.item[t.Expiry]); ok && n <= float64(now.Unix()) {
				t.index(r, nil)
				delete(rows, sort)
			}
		}
		if len(rows) == 0 {
			delete(t.rows, partition)
		}
	}
}

// invalid is AWS's error for a wrong request.
func invalid(format string, args ...any) error {
	return &smithy.GenericAPIError{Code: "ValidationException", Message: fmt.Sprintf(format, args...)}
}

// unsupported is the error for what this package lacks.
func unsupported(format string, args ...any) error {
	return fmt.Errorf("dynamodbtest does not support "+format, args...)
}

func (s *Service) table(name *string) (*table, error) {
	t := s.tables[aws.ToString(name)]
	if t == nil {
		return nil, &types.ResourceNotFoundException{Message: aws.String("no table " + aws.ToString(name))}
	}
	return t, nil
}

// GetItem implements the client's method.
func (s *Service) GetItem(_ context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.ProjectionExpression != nil || in.AttributesToGet != nil {
		return nil, unsupported("projections of GetItem")
	}
	t, err := s.table(in.TableName)
	if err != nil {
		return nil, err
	}
	it, err := s.get(t, in.Key, aws.ToBool(in.ConsistentRead))
	return &dynamodb.GetItemOutput{Item: it}, err
}

// get returns a copy of an item, nil if there is none.
func (s *Service) get(t *table, key Item, consistent bool) (Item, error) {
	r, err := t.row(key)
	if err != nil {
		return nil, err
	}
	var it Item
	if r != nil {
		it = maps.Clone(s.seen(r, consistent))
	}
	if s.Observe != nil && consistent {
		s.Observe(Access{Table: t.Name, Key: key, Item: it})
	}
	return it, nil
}

// seen is what a read returns of a row.
func (s *Service) seen(r *row, consistent bool) Item {
	if !consistent && s.Stale != nil && s.Stale(s.Now().Sub(r.changed)) {
		return r.before
	}
	return r.item
}

// row finds the row of a key; nil if there is none.
func (t *table) row(key Item) (*row, error) {
	partition, sort, err := t.keyOf(key)
	if err != nil {
		return nil, err
	}
	if len(key) != 2 {
		return nil, invalid("The provided key element does not match the schema")
	}
	return t.rows[partition][sort], nil
}

func (t *table) keyOf(it Item) (partition, sort string, err error) {
	p, ok := it[t.Partition].(*types.AttributeValueMemberS)
	q, also := it[t.Sort].(*types.AttributeValueMemberS)
	switch {
	case !ok || !also || p.Value == "" || q.Value == "":
		return "", "", invalid("One of the required keys was not given a value, of table %s", t.Name)
	case len(p.Value) > 2048 || len(q.Value) > 1024:
		return "", "", invalid("One or more parameter values were invalid: Size of a key has exceeded the maximum, in table %s", t.Name)
	}
	return p.Value, q.Value, nil
}

// PutItem implements the client's method.
func (s *Service) PutItem(_ context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.ReturnValues != "" || in.Expected != nil || in.ReturnValuesOnConditionCheckFailure != "" {
		return nil, unsupported("values that PutItem returns")
	}
	t, err := s.table(in.TableName)
	if err != nil {
		return nil, err
	}
	w := write{item: in.Item, condition: aws.ToString(in.ConditionExpression), names: in.ExpressionAttributeNames, values: in.ExpressionAttributeValues}
	if err := s.check(t, &w); err != nil {
		s.observe(t, w, err)
		return nil, err
	}
	s.apply(t, w)
	return &dynamodb.PutItemOutput{}, nil
}

// write is a conditional write of an item.
type write struct {
	item, key Item // item is nil for a deletion
	condition string
	names     map[string]string
	values    Item
	row       *row
}

// check returns the error of a write, and finds its row.
func (s *Service) check(t *table, w *write) error {
	if w.key == nil {
		w.key = Item{t.Partition: w.item[t.Partition], t.Sort: w.item[t.Sort]}
	}
	r, err := t.row(w.key)
	if err != nil {
		return err
	}
	if size := sizeOf(w.item); size > maxItem {
		return invalid("Item size has exceeded the maximum allowed size: %d bytes", size)
	}
	for _, i := range t.Indexes {
		_, isText := w.item[i.Partition].(*types.AttributeValueMemberS)
		_, isNumber := w.item[i.Sort].(*types.AttributeValueMemberN)
		if w.item[i.Partition] != nil && !isText || w.item[i.Sort] != nil && !isNumber {
			return invalid("One or more parameter values were invalid: Type mismatch for Index Key of %s", i.Name)
		}
	}
	if w.row = r; r == nil {
		w.row = &row{}
	}
	if w.condition == "" {
		if len(w.names)+len(w.values) > 0 {
			return invalid("ExpressionAttributeNames can only be specified when using expressions")
		}
		return nil
	}
	holds, err := evaluate(w.condition, w.names, w.values, w.row.item)
	if err == nil && !holds {
		err = &types.ConditionalCheckFailedException{Message: aws.String("The conditional request failed")}
	}
	return err
}

// apply makes a checked write.
func (s *Service) apply(t *table, w write) {
	partition, sort, _ := t.keyOf(w.key) // was checked
	if t.rows[partition] == nil {
		t.rows[partition] = map[string]*row{}
	}
	t.rows[partition][sort] = w.row
	s.observe(t, w, nil)
	w.row.partition, w.row.sort = partition, sort
	next := maps.Clone(w.item)
	t.index(w.row, next)
	w.row.before, w.row.item = w.row.item, next
	if s.Now != nil {
		w.row.changed = s.Now()
	}
}

// observe reports a write that was made, or whose condition failed.
func (s *Service) observe(t *table, w write, err error) {
	var failed *types.ConditionalCheckFailedException
	if s.Observe != nil && (err == nil || errors.As(err, &failed)) {
		s.Observe(Access{Table: t.Name, Key: w.key, Item: w.item, Write: true, Failed: err != nil})
	}
}

// index moves a row to where its next item belongs.
func (t *table) index(r *row, next Item) {
	for _, i := range t.Indexes {
		if t.indexed[i.Name] == nil {
			t.indexed[i.Name] = map[string][]*row{}
		}
		place := func(rows []*row, it Item) int {
			at, _ := slices.BinarySearchFunc(rows, it, func(r *row, it Item) int { return i.compare(t, r.item, it) })
			return at
		}
		if was := i.partition(r.item); was != "" {
			rows := t.indexed[i.Name][was]
			at := place(rows, r.item)
			t.indexed[i.Name][was] = slices.Delete(rows, at, at+1)
		}
		if is := i.partition(next); is != "" {
			rows := t.indexed[i.Name][is]
			t.indexed[i.Name][is] = slices.Insert(rows, place(rows, next), r)
		}
	}
}

// partition is the item's partition of the index, "" if it is not in the index.
func (i Index) partition(it Item) string {
	p, ok := it[i.Partition].(*types.AttributeValueMemberS)
	if _, sorted := it[i.Sort]; !ok || !sorted {
		return ""
	}
	return p.Value
}

// sizeOf is the size of an item without its overhead.
func sizeOf(it Item) int {
	n := 0
	for name, v := range it {
		n += len(name)
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			n += len(v.Value)
		case *types.AttributeValueMemberB:
			n += len(v.Value)
		case *types.AttributeValueMemberN:
			n += len(v.Value)/2 + 1
		default:
			n++
		}
	}
	return n
}

func number(v types.AttributeValue) (float64, bool) {
	n, ok := v.(*types.AttributeValueMemberN)
	if !ok {
		return 0, false
	}
	f, err := strconv.ParseFloat(n.Value, 64)
	return f, err == nil
}

// compare orders two values of one type.
func compare(a, b types.AttributeValue) (order int, ok bool) {
	switch a := a.(type) {
	case *types.AttributeValueMemberS:
		if b, ok := b.(*types.AttributeValueMemberS); ok {
			return cmp.Compare(a.Value, b.Value), true
		}
	case *types.AttributeValueMemberN:
		x, ok := number(a)
		y, also := number(b)
		return cmp.Compare(x, y), ok && also
	case *types.AttributeValueMemberBOOL:
		if b, ok := b.(*types.AttributeValueMemberBOOL); ok && a.Value == b.Value {
			return 0, true
		} else if ok {
			return 1, true
		}
	}
	return 0, false
}
