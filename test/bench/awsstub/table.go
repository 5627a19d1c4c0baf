// Package awsstub answers the calls that the forwarder's executable makes while it is measured:
// those of the Lambda runtime, DynamoDB, AWS IoT, Security Hub and Amazon SQS.
//
// Its table evaluates the conditions and statements that the ledger uses exactly as DynamoDB
// does, and refuses all others by name. So a design that loses updates cannot measure well.
package awsstub

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// value is an attribute value of the types that the ledger uses.
type value struct {
	S    *string `json:"S,omitempty"`
	N    *string `json:"N,omitempty"`
	BOOL *bool   `json:"BOOL,omitempty"`
}

func (v value) text() string {
	switch {
	case v.S != nil:
		return *v.S
	case v.N != nil:
		return *v.N
	}
	return ""
}

func (v value) number() int64 {
	n, _ := strconv.ParseInt(v.text(), 10, 64)
	return n
}

// size is the number of bytes that DynamoDB charges for a value.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
func (v value) size() int {
	switch {
	case v.N != nil:
		return (len(*v.N)+1)/2 + 1
	case v.BOOL != nil:
		return 1
	}
	return len(v.text())
}

type item map[string]value

func (it item) size() int {
	n := 0
	for name, v := range it {
		n += len(name) + v.size()
	}
	return n
}

func (it item) key() string {
	return it[contract.LedgerPartitionKey].text() + "\x00" + it[contract.LedgerSortKey].text()
}

// indexed reports whether the item is in the index, which projects all attributes.
func (it item) indexed() bool {
	return it[contract.LedgerRefreshShard].S != nil && it[contract.LedgerRefreshAt].N != nil
}

func (it item) indexKey() string {
	return fmt.Sprintf("%s\x00%020d\x00%s", it[contract.LedgerRefreshShard].text(), it[contract.LedgerRefreshAt].number(), it.key())
}

// Units are what DynamoDB charges: read units of 4 KB, write units of 1 KB. Index are the write
// units of the index.
type Units struct{ Read, Write, Index float64 }

// Table is the ledger's table in memory.
type Table struct {
	mu    sync.Mutex
	items map[string]item
	units Units
	watch func(Write)
}

// Write is a write of an item whose condition holds.
type Write struct {
	Key string
	// Before and After are the documents.
	Before, After string
	// Due reports whether the item is in the index.
	Due bool
}

// Watch calls a function with each further write, one at a time.
func (t *Table) Watch(f func(Write)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watch = f
}

// errCondition is the error of a write whose condition is false.
var errCondition = errors.New("ConditionalCheckFailed")

// refused is the error of a request that the table does not know.
type refused struct{ what string }

func (r refused) Error() string { return "awsstub does not know " + r.what }

// Units returns what was charged so far.
func (t *Table) Units() Units {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.units
}

// Since returns the units of each of n findings since an earlier time.
func (u Units) Since(before Units, n int) Units {
	return Units{(u.Read - before.Read) / float64(n), (u.Write - before.Write) / float64(n), (u.Index - before.Index) / float64(n)}
}

// Size returns the number and the mean size in bytes of the items of findings whose partition key
// has a prefix.
func (t *Table) Size(prefix string) (n, size int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, it := range t.items {
		if strings.HasPrefix(it[contract.LedgerPartitionKey].text(), prefix) && it[contract.LedgerSortKey].text() != "watermark" {
			n, size = n+1, size+it.size()
		}
	}
	return n, size / max(n, 1)
}

// Pending returns the keys of the findings whose import is not confirmed.
func (t *Table) Pending() (keys []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, it := range t.items {
		var doc struct{ Status string }
		if json.Unmarshal([]byte(it["doc"].text()), &doc) == nil && doc.Status == "pending" {
			keys = append(keys, key)
		}
	}
	return keys
}

func units(size, unit int) float64 { return float64(max(1, (size+unit-1)/unit)) }

// put stores an item and charges for it, whether or not the condition holds.
func (t *Table) put(it item, holds func(old item) bool) error {
	old := t.items[it.key()]
	if !holds(old) {
		t.units.Write += units(max(old.size(), 1), 1024)
		return errCondition
	}
	t.units.Write += units(max(old.size(), it.size()), 1024)
	switch {
	case old.indexed() && it.indexed() && old.indexKey() == it.indexKey():
		t.units.Index += units(max(old.size(), it.size()), 1024)
	default:
		if old.indexed() {
			t.units.Index += units(old.size(), 1024)
		}
		if it.indexed() {
			t.units.Index += units(it.size(), 1024)
		}
	}
	if t.items == nil {
		t.items = map[string]item{}
	}
	t.items[it.key()] = it
	if t.watch != nil {
		t.watch(Write{Key: it.key(), Before: old["doc"].text(), After: it["doc"].text(), Due: it.indexed()})
	}
	return nil
}

// strict decodes JSON and refuses fields that out does not have.
func strict(text []byte, out any) error {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		return refused{err.Error()}
	}
	return nil
}

// Call runs an operation of DynamoDB and returns its answer.
func (t *Table) Call(operation string, body []byte) (any, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch operation {
	case "GetItem":
		return t.getItem(body)
	case "BatchGetItem":
		return t.batchGetItem(body)
	case "PutItem":
		return t.putItem(body)
	case "Query":
		return t.query(body)
	case "BatchExecuteStatement":
		return t.batchExecuteStatement(body)
	}
	return nil, refused{"operation " + operation}
}

func (t *Table) getItem(body []byte) (any, error) {
	var in struct {
		TableName      string
		Key            item
		ConsistentRead bool
	}
	if err := strict(body, &in); err != nil {
		return nil, err
	}
	it := t.items[in.Key.key()]
	t.units.Read += units(it.size(), 4096) / consistency(in.ConsistentRead)
	if it == nil {
		return struct{}{}, nil
	}
	return map[string]any{"Item": it}, nil
}

// consistency divides the units of an eventually consistent read.
func consistency(consistent bool) float64 {
	if consistent {
		return 1
	}
	return 2
}

const (
	mostKeys       = 100
	mostStatements = 25
	// pageBytes limits a page of Query, batchBytes an answer of BatchGetItem.
	pageBytes  = 1 << 20
	batchBytes = 16 << 20
)

func (t *Table) batchGetItem(body []byte) (any, error) {
	var in struct {
		RequestItems map[string]struct {
			Keys           []item
			ConsistentRead bool
		}
	}
	if err := strict(body, &in); err != nil {
		return nil, err
	}
	responses, unprocessed := map[string][]item{}, map[string]any{}
	for table, request := range in.RequestItems {
		if n := len(request.Keys); n == 0 || n > mostKeys {
			return nil, refused{fmt.Sprintf("BatchGetItem with %d keys", n)}
		}
		seen := map[string]bool{}
		bytes := 0
		for i, k := range request.Keys {
			if seen[k.key()] {
				return nil, refused{"BatchGetItem with a key twice"}
			}
			seen[k.key()] = true
			it := t.items[k.key()]
			if bytes += it.size(); bytes > batchBytes {
				unprocessed[table] = map[string]any{"Keys": request.Keys[i:], "ConsistentRead": request.ConsistentRead}
				break
			}
			t.units.Read += units(it.size(), 4096) / consistency(request.ConsistentRead)
			if it != nil {
				responses[table] = append(responses[table], it)
			}
		}
	}
	return map[string]any{"Responses": responses, "UnprocessedKeys": unprocessed}, nil
}

func (t *Table) putItem(body []byte) (any, error) {
	var in struct {
		TableName                 string
		Item                      item
		ConditionExpression       string
		ExpressionAttributeNames  map[string]string
		ExpressionAttributeValues item
	}
	if err := strict(body, &in); err != nil {
		return nil, err
	}
	revision := in.ExpressionAttributeNames["#revision"]
	var holds func(item) bool
	switch in.ConditionExpression {
	case "attribute_not_exists(#revision)":
		holds = func(old item) bool { _, ok := old[revision]; return !ok }
	case "#revision = :before":
		holds = func(old item) bool {
			return old[revision].N != nil && old[revision].number() == in.ExpressionAttributeValues[":before"].number()
		}
	default:
		return nil, refused{"condition " + in.ConditionExpression}
	}
	return struct{}{}, t.put(in.Item, holds)
}

func (t *Table) query(body []byte) (any, error) {
	var in struct {
		TableName, IndexName      string
		ConsistentRead            bool
		KeyConditionExpression    string
		FilterExpression          string
		ExpressionAttributeNames  map[string]string
		ExpressionAttributeValues item
		ExclusiveStartKey         item
		Limit                     int
		Select                    string
	}
	if err := strict(body, &in); err != nil {
		return nil, err
	}
	names, values := in.ExpressionAttributeNames, in.ExpressionAttributeValues
	order := item.key
	var selects func(item) bool
	switch {
	case in.IndexName == "" && in.KeyConditionExpression == "#pk = :pk":
		selects = func(it item) bool { return it[names["#pk"]].text() == values[":pk"].text() }
	case in.IndexName == contract.LedgerRefreshIndex && in.KeyConditionExpression == "#shard = :shard AND #at <= :at" && !in.ConsistentRead:
		order = item.indexKey
		selects = func(it item) bool {
			return it.indexed() && it[names["#shard"]].text() == values[":shard"].text() && it[names["#at"]].number() <= values[":at"].number()
		}
	default:
		return nil, refused{"query " + in.IndexName + " " + in.KeyConditionExpression}
	}
	keep := func(item) bool { return true }
	switch in.FilterExpression {
	case "":
	case "#open = :true AND (attribute_not_exists(#active) OR #active < :before)":
		keep = func(it item) bool {
			open := it[names["#open"]].BOOL
			return open != nil && *open && (it[names["#active"]].N == nil || it[names["#active"]].number() < values[":before"].number())
		}
	case "#open = :true":
		keep = func(it item) bool { open := it[names["#open"]].BOOL; return open != nil && *open }
	default:
		return nil, refused{"filter " + in.FilterExpression}
	}
	var found []item
	for _, it := range t.items {
		if selects(it) && (in.ExclusiveStartKey == nil || order(it) > order(in.ExclusiveStartKey)) {
			found = append(found, it)
		}
	}
	slices.SortFunc(found, func(a, b item) int { return cmp.Compare(order(a), order(b)) })
	out := map[string]any{}
	items, read := []item{}, 0
	for i, it := range found {
		if read += it.size(); keep(it) {
			items = append(items, it)
		}
		if i+1 < len(found) && (read > pageBytes || in.Limit > 0 && i+1 >= in.Limit) {
			last := item{}
			for _, name := range []string{contract.LedgerPartitionKey, contract.LedgerSortKey, contract.LedgerRefreshShard, contract.LedgerRefreshAt} {
				if v, ok := it[name]; ok && (in.IndexName != "" || name == contract.LedgerPartitionKey || name == contract.LedgerSortKey) {
					last[name] = v
				}
			}
			out["LastEvaluatedKey"] = last
			break
		}
	}
	t.units.Read += units(read, 4096) / consistency(in.ConsistentRead)
	out["Count"] = len(items)
	switch in.Select {
	case "":
		out["Items"] = items
	case "COUNT":
	default:
		return nil, refused{"selection " + in.Select}
	}
	return out, nil
}
