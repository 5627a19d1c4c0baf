// Package state stores the evaluator's state in a table of Amazon DynamoDB: the things that do
// not conform, the generations of behaviors, and the evaluator's progress.
package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/engine/transition"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
	"github.com/defenderhub/defenderhub/lambda/internal/document"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
	"github.com/defenderhub/defenderhub/lambda/internal/retry"
)

// API is the part of the DynamoDB client that [Store] calls.
type API interface {
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
}

// Store stores the state of things in a table of Amazon DynamoDB.
type Store struct {
	api     API
	table   string
	backoff retry.Backoff
}

// New returns the store in that table. random returns a number in [0, n); nil means math/rand/v2.
func New(api API, table string, random func(n int64) int64) *Store {
	return &Store{api: api, table: table, backoff: retry.Backoff{First: 50 * time.Millisecond, Longest: 2 * time.Second, Random: random}}
}

// Item is the state of one thing.
type Item struct {
	// Subject identifies the thing.
	Subject string
	// Revision counts the writes; 0 means that nothing is stored.
	Revision int64
	State    engine.State
	// Clock is the time of the last stored step: it never goes back.
	Clock time.Time
	// Outbox has the transitions that may not have been sent.
	Outbox []transition.Message
	// Principal is the last known principal of the thing, "" if unknown, for the closer, which
	// has no message with a principal.
	Principal string
	// Thing is the registry's answer at KnownAt; the zero time means none.
	Thing   registry.Thing
	KnownAt time.Time
	// Gone is why the registry ends alarms that only time raises, until the device sends again.
	Gone Gone
	// CheckAt is when the closer checks in the registry that the device still exists, for an
	// alarm that nothing else ends. It is the zero time without such an alarm.
	CheckAt time.Time
	// Due is when the closer must check the thing; the zero time if never.
	Due time.Time
	// Expires is when the item may be deleted; the zero time means never.
	Expires time.Time
}

// Gone is what the registry said at a time about a device that is out of service.
type Gone struct {
	engine.Retirement
	At time.Time
}

// The errors of [Store] for a thing.
var (
	// ErrConflict is the error if another invocation has written first.
	ErrConflict = fmt.Errorf("the state %w", document.ErrConflict)
	// ErrState is the error if this version of the engine cannot read the state.
	ErrState = errors.New("state cannot be read")
	// ErrTooLarge is the error if the state exceeds the maximum size of an item.
	ErrTooLarge = errors.New("state is larger than an item of the table may be")
)

// maxItemBytes is the maximum size of an item, without names and numbers.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
const maxItemBytes = 400<<10 - 1<<10

// Keys and attributes besides those in package contract.
const (
	behaviorsKey  = "behaviors"
	attrClock     = "clock"
	attrOutbox    = "outbox"
	attrPrincipal = "principal"
	attrThing     = "thing"
	attrGone      = "gone"
	attrKnownAt   = "knownAt"
	attrCheckAt   = "checkAt"
	attrNames     = "generations"
)

// LoadSize is how many items DynamoDB reads at once.
// https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
const LoadSize = 100

type item = map[string]types.AttributeValue

// Load reads distinct things, at most [LoadSize], with eventual consistency: one request, and
// half a unit per thing. A thing that could not be read has an error.
func (s *Store) Load(ctx context.Context, subjects []string) (map[string]Item, map[string]error) {
	items, faults := map[string]Item{}, map[string]error{}
	keys := make([]item, len(subjects))
	for i, subject := range subjects {
		items[subject] = Item{Subject: subject}
		keys[i] = thingKey(subject)
	}
	for failures := 1; len(keys) > 0; failures++ {
		out, err := s.api.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{s.table: {Keys: keys}}})
		if err != nil {
			return s.unread(items, faults, keys, fmt.Errorf("BatchGetItem of table %s: %w", s.table, err))
		}
		for _, it := range out.Responses[s.table] {
			subject := strings.TrimPrefix(attribute.TextOf(it, contract.StatePartitionKey), contract.StateThingPrefix)
			if items[subject], err = decodeItem(it); err != nil {
				faults[subject] = err
			}
		}
		keys = out.UnprocessedKeys[s.table].Keys
		if len(keys) > 0 && !s.backoff.Wait(ctx, failures) {
			return s.unread(items, faults, keys, fmt.Errorf("BatchGetItem of table %s: throttled", s.table))
		}
	}
	return items, faults
}

func (s *Store) unread(items map[string]Item, faults map[string]error, keys []item, err error) (map[string]Item, map[string]error) {
	for _, k := range keys {
		faults[strings.TrimPrefix(attribute.TextOf(k, contract.StatePartitionKey), contract.StateThingPrefix)] = err
	}
	return items, faults
}

// Get reads one thing consistently.
func (s *Store) Get(ctx context.Context, subject string) (Item, error) {
	out, err := s.api.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: thingKey(subject), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return Item{}, fmt.Errorf("GetItem of table %s: %w", s.table, err)
	}
	if len(out.Item) == 0 {
		return Item{Subject: subject}, nil
	}
	return decodeItem(out.Item)
}

// Put writes state and outbox together if the stored revision is the one before, else it returns
// [ErrConflict]. If the item is too large, it returns [ErrTooLarge].
func (s *Store) Put(ctx context.Context, i Item) error {
	it, err := encodeItem(i)
	if err != nil {
		return err
	}
	return attribute.Put(ctx, s.api, attribute.Next(s.table, it, i.Revision), ErrConflict)
}

// Page is the start of the next page of [Store.Due]; nil before the first.
type Page item

// Due returns a shard's things that are due at a time, the longest due first, and the next page,
// nil after the last.
func (s *Store) Due(ctx context.Context, shard int, at time.Time, after Page) ([]string, Page, error) {
	out, err := s.api.Query(ctx, &dynamodb.QueryInput{
		TableName: &s.table, IndexName: aws.String(contract.StateDueIndex), Limit: aws.Int32(LoadSize), ExclusiveStartKey: item(after),
		KeyConditionExpression:    aws.String("#shard = :shard AND #at <= :at"),
		ExpressionAttributeNames:  map[string]string{"#shard": contract.StateDueShard, "#at": contract.StateDueAt},
		ExpressionAttributeValues: item{":shard": attribute.Text(strconv.Itoa(shard)), ":at": attribute.Number(at.UnixMilli())},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("query of table %s: %w", s.table, err)
	}
	var subjects []string
	for _, it := range out.Items {
		subjects = append(subjects, strings.TrimPrefix(attribute.TextOf(it, contract.StatePartitionKey), contract.StateThingPrefix))
	}
	return subjects, out.LastEvaluatedKey, nil
}

// shardOf distributes things over the partitions of the index.
func shardOf(subject string) int {
	f := fnv.New32a()
	f.Write([]byte(subject)) // never fails
	return int(f.Sum32() % contract.StateDueShards)
}

func thingKey(subject string) item {
	return item{contract.StatePartitionKey: attribute.Text(contract.StateThingPrefix + subject), contract.StateSortKey: attribute.Text(contract.StateThingSort)}
}

func encodeItem(i Item) (item, error) {
	state, err := json.Marshal(i.State)
	if err != nil {
		return nil, fmt.Errorf("state of %s: %w", i.Subject, err)
	}
	it := thingKey(i.Subject)
	it[attrClock], it[contract.StateDocument] = attribute.Number(i.Clock.UnixMilli()), attribute.Text(string(state))
	if len(i.Outbox) > 0 {
		outbox, err := json.Marshal(i.Outbox)
		if err != nil {
			return nil, fmt.Errorf("outbox of %s: %w", i.Subject, err)
		}
		it[attrOutbox] = attribute.Text(string(outbox))
	}
	if i.Principal != "" {
		it[attrPrincipal] = attribute.Text(i.Principal)
	}
	if !i.KnownAt.IsZero() {
		thing, err := json.Marshal(i.Thing)
		if err != nil {
			return nil, fmt.Errorf("thing of %s: %w", i.Subject, err)
		}
		it[attrThing], it[attrKnownAt] = attribute.Text(string(thing)), attribute.Number(i.KnownAt.UnixMilli())
	}
	if i.Gone.Reason != "" {
		gone, err := json.Marshal(i.Gone)
		if err != nil {
			return nil, fmt.Errorf("thing of %s: %w", i.Subject, err)
		}
		it[attrGone] = attribute.Text(string(gone))
	}
	if size := len(i.Subject) + len(state) + len(attribute.TextOf(it, attrOutbox)) + len(attribute.TextOf(it, attrThing)); size > maxItemBytes {
		return nil, fmt.Errorf("thing %s: %w: %d bytes", i.Subject, ErrTooLarge, size)
	}
	if !i.Due.IsZero() {
		it[contract.StateDueShard], it[contract.StateDueAt] = attribute.Text(strconv.Itoa(shardOf(i.Subject))), attribute.Number(i.Due.UnixMilli())
	}
	if !i.CheckAt.IsZero() {
		it[attrCheckAt] = attribute.Number(i.CheckAt.UnixMilli())
	}
	if !i.Expires.IsZero() {
		it[contract.StateExpiry] = attribute.Number(i.Expires.Unix())
	}
	return it, nil
}

func decodeItem(it item) (Item, error) {
	i := Item{
		Subject:   strings.TrimPrefix(attribute.TextOf(it, contract.StatePartitionKey), contract.StateThingPrefix),
		Principal: attribute.TextOf(it, attrPrincipal),
		Revision:  attribute.OptionalNumberOf(it, attribute.Revision), Clock: timeOf(it, attrClock), KnownAt: timeOf(it, attrKnownAt), CheckAt: timeOf(it, attrCheckAt), Due: timeOf(it, contract.StateDueAt),
	}
	if i.Revision < 1 || i.Clock.IsZero() {
		return Item{}, fmt.Errorf("thing %s: %w: it has no revision or no clock", i.Subject, ErrState)
	}
	for name, into := range map[string]any{contract.StateDocument: &i.State, attrOutbox: &i.Outbox, attrThing: &i.Thing, attrGone: &i.Gone} {
		if _, there := it[name]; !there && name != contract.StateDocument {
			continue
		}
		if err := json.Unmarshal([]byte(attribute.TextOf(it, name)), into); err != nil {
			return Item{}, fmt.Errorf("thing %s: %w: attribute %s: %w", i.Subject, ErrState, name, err)
		}
	}
	if seconds := attribute.OptionalNumberOf(it, contract.StateExpiry); seconds > 0 {
		i.Expires = time.Unix(seconds, 0)
	}
	return i, nil
}

func timeOf(it item, name string) time.Time {
	if ms := attribute.OptionalNumberOf(it, name); ms > 0 {
		return time.UnixMilli(ms).UTC()
	}
	return time.Time{}
}
