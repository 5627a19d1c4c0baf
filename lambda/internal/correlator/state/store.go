// Package state stores the correlator's state in a table of Amazon DynamoDB. Every record has a
// revision, and is written on the condition that no other invocation has written it since it was
// read.
//
// The partitions are those of an entity, of a shared resource and of a shard of a campaign. No call
// reads the whole table.
package state

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
	"github.com/defenderhub/defenderhub/lambda/internal/document"
)

// API is the part of the DynamoDB client that [Store] calls.
type API interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
}

// Store is safe for concurrent use.
type Store struct {
	api   API
	table string
}

// New returns the store in that table.
func New(api API, table string) *Store { return &Store{api, table} }

// Key is a record's key. Its texts may have any length: long ones are stored as a hash.
type Key struct{ Partition, Sort string }

// Record is a JSON document with its revision.
type Record struct {
	Key
	// Revision counts the writes; 0 means that nothing is stored.
	Revision int64
	Doc      []byte
	// Due is when the schedule must read the record, and Expires when it may be deleted; the zero
	// time means never.
	Due, Expires time.Time
}

// ErrConflict is the error of a write if another invocation has written first.
var ErrConflict = fmt.Errorf("the correlator's state %w", document.ErrConflict)

// ErrTooLarge is the error of a write that exceeds the maximum size of an item.
var ErrTooLarge = errors.New("the correlator's state is larger than an item of the table may be")

// maxDoc leaves room for keys in an item of 400 KB.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
const maxDoc = 400<<10 - 4<<10

// Attributes besides those in package contract. attrSubject has the partition key before it was
// shortened.
const (
	attrDoc     = "doc"
	attrSubject = "subject"
	attrAt      = "at"
)

// Sort keys.
const (
	// Main is the record of an entity, of a shared resource or of a campaign.
	Main = "state"
	// userPrefix begins the devices that use a shared resource.
	userPrefix = "user#"
	slotKey    = "getfindings"
)

type item = map[string]types.AttributeValue

// Get reads a record consistently.
func (s *Store) Get(ctx context.Context, k Key) (Record, error) {
	out, err := s.api.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: keyItem(k), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return Record{}, fmt.Errorf("GetItem of table %s: %w", s.table, err)
	}
	r := decode(out.Item)
	r.Key = k
	return r, nil
}

// Put writes a record if the stored revision is the one before, else it returns [ErrConflict].
func (s *Store) Put(ctx context.Context, r Record) error {
	if len(r.Doc) > maxDoc {
		return fmt.Errorf("%s: %w: %d bytes", r.Partition, ErrTooLarge, len(r.Doc))
	}
	it := keyItem(r.Key)
	it[attrDoc], it[attrSubject] = attribute.Text(string(r.Doc)), attribute.Text(r.Partition)
	if !r.Due.IsZero() {
		it[contract.StateDueShard], it[contract.StateDueAt] = attribute.Text(strconv.Itoa(shardOf(r.Partition, DueShards))), attribute.Number(r.Due.UnixMilli())
	}
	if !r.Expires.IsZero() {
		it[contract.StateExpiry] = attribute.Number(r.Expires.Unix())
	}
	return s.put(ctx, attribute.Next(s.table, it, r.Revision))
}

func (s *Store) put(ctx context.Context, in *dynamodb.PutItemInput) error {
	return attribute.Put(ctx, s.api, in, ErrConflict)
}

// Link records that a device uses a shared resource, until a time.
func (s *Store) Link(ctx context.Context, resource, device string, until time.Time) error {
	it := keyItem(Key{resource, userPrefix + device})
	it[attrSubject], it[contract.StateExpiry] = attribute.Text(device), attribute.Number(until.Unix())
	return s.put(ctx, &dynamodb.PutItemInput{TableName: &s.table, Item: it})
}

// Users returns at most that many (most) of the devices that use a shared resource, and whether
// there are more.
func (s *Store) Users(ctx context.Context, resource string, most int) (devices []string, more bool, err error) {
	err = s.pages(ctx, resource, userPrefix, func(items []item) bool {
		for _, it := range items {
			devices = append(devices, attribute.TextOf(it, attrSubject))
		}
		return len(devices) <= most
	})
	if len(devices) > most {
		return devices[:most], true, err
	}
	return devices, false, err
}

// CampaignShards is the number of partitions for the parts of a campaign in one period: each allows
// 1,000 writes per second.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
const CampaignShards = 4

// PartKey returns the key of a campaign's part that was seen in a period. Each period has
// partitions of its own, so that reading the present one does not read old parts.
func PartKey(campaign string, period int64, part string) Key {
	return Key{partsPartition(campaign, period, shardOf(part, CampaignShards)), part}
}

func partsPartition(campaign string, period int64, shard int) string {
	return campaign + "#" + strconv.FormatInt(period, 10) + "#" + strconv.Itoa(shard)
}

// Parts calls each with the documents of the parts that were seen in a period, page by page, until
// it returns false. It reads consistently.
func (s *Store) Parts(ctx context.Context, campaign string, period int64, each func([][]byte) bool) error {
	more := true
	for shard := 0; shard < CampaignShards && more; shard++ {
		err := s.pages(ctx, partsPartition(campaign, period, shard), "", func(items []item) bool {
			docs := make([][]byte, len(items))
			for i, it := range items {
				docs[i] = []byte(attribute.TextOf(it, attrDoc))
			}
			more = each(docs)
			return more
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) pages(ctx context.Context, partition, prefix string, each func([]item) bool) error {
	in := &dynamodb.QueryInput{
		TableName: &s.table, ConsistentRead: aws.Bool(true),
		KeyConditionExpression:    aws.String("#pk = :pk"),
		ExpressionAttributeNames:  map[string]string{"#pk": contract.StatePartitionKey},
		ExpressionAttributeValues: item{":pk": attribute.Text(short(partition))},
	}
	if prefix != "" {
		in.KeyConditionExpression = aws.String("#pk = :pk AND begins_with(#sk, :prefix)")
		in.ExpressionAttributeNames["#sk"] = contract.StateSortKey
		in.ExpressionAttributeValues[":prefix"] = attribute.Text(prefix)
	}
	for {
		out, err := s.api.Query(ctx, in)
		if err != nil {
			return fmt.Errorf("query of table %s: %w", s.table, err)
		}
		if !each(out.Items) || len(out.LastEvaluatedKey) == 0 {
			return nil
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

// Page is the start of the next page of [Store.Due]; nil before the first.
type Page item

// DueShards is the number of partitions of the index of due records: each allows 1,000 writes per
// second. The schedule reads every shard each minute, so more shards cost more
// even without events.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
const DueShards = 4

// pageSize is how many records the schedule reads at once.
const pageSize = 100

// Due returns the partitions of a shard's records that are due at a time, the longest due first,
// and the next page, nil after the last.
func (s *Store) Due(ctx context.Context, shard int, at time.Time, after Page) ([]string, Page, error) {
	out, err := s.api.Query(ctx, &dynamodb.QueryInput{
		TableName: &s.table, IndexName: aws.String(contract.StateDueIndex), Limit: aws.Int32(pageSize), ExclusiveStartKey: item(after),
		KeyConditionExpression:    aws.String("#shard = :shard AND #at <= :at"),
		ExpressionAttributeNames:  map[string]string{"#shard": contract.StateDueShard, "#at": contract.StateDueAt},
		ExpressionAttributeValues: item{":shard": attribute.Text(strconv.Itoa(shard)), ":at": attribute.Number(at.UnixMilli())},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("query of table %s: %w", s.table, err)
	}
	var partitions []string
	for _, it := range out.Items {
		partitions = append(partitions, attribute.TextOf(it, contract.StatePartitionKey))
	}
	return partitions, out.LastEvaluatedKey, nil
}

// Subject reads the record of a partition key that [Store.Due] returned. Its key is the original
// one.
func (s *Store) Subject(ctx context.Context, partition string) (Record, error) {
	out, err := s.api.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: &s.table, ConsistentRead: aws.Bool(true),
		Key: item{contract.StatePartitionKey: attribute.Text(partition), contract.StateSortKey: attribute.Text(Main)},
	})
	if err != nil {
		return Record{}, fmt.Errorf("GetItem of table %s: %w", s.table, err)
	}
	r := decode(out.Item)
	r.Key = Key{attribute.TextOf(out.Item, attrSubject), Main}
	return r, nil
}

// slotTime is the minimum time between two calls of GetFindings, by all invocations together. Its
// quota per account and Region is 3 calls per second, shared with people and other tools.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/Welcome.html
const slotTime = time.Second

// Slot reports whether GetFindings may be called now. now is the machine's clock.
func (s *Store) Slot(ctx context.Context, now time.Time) (bool, error) {
	it := keyItem(Key{slotKey, slotKey})
	it[attrAt], it[contract.StateExpiry] = attribute.Number(now.UnixMilli()), attribute.Number(now.Add(time.Hour).Unix())
	err := s.put(ctx, &dynamodb.PutItemInput{
		TableName: &s.table, Item: it,
		ConditionExpression:       aws.String("attribute_not_exists(#at) OR #at <= :before"),
		ExpressionAttributeNames:  map[string]string{"#at": attrAt},
		ExpressionAttributeValues: item{":before": attribute.Number(now.Add(-slotTime).UnixMilli())},
	})
	if errors.Is(err, ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

func shardOf(key string, shards int) int {
	sum := sha256.Sum256([]byte(key))
	return int(sum[0]) % shards
}

// short returns a key's text, or its hash if it is too long for a sort key of 1,024 bytes.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
func short(s string) string {
	if len(s) <= 900 {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	kind, _, _ := strings.Cut(s, "#")
	return kind + "#sha256:" + hex.EncodeToString(sum[:])
}

func keyItem(k Key) item {
	return item{contract.StatePartitionKey: attribute.Text(short(k.Partition)), contract.StateSortKey: attribute.Text(short(k.Sort))}
}

func decode(it item) Record {
	r := Record{Revision: attribute.OptionalNumberOf(it, attribute.Revision), Doc: []byte(attribute.TextOf(it, attrDoc))}
	if ms := attribute.OptionalNumberOf(it, contract.StateDueAt); ms > 0 {
		r.Due = time.UnixMilli(ms).UTC()
	}
	if s := attribute.OptionalNumberOf(it, contract.StateExpiry); s > 0 {
		r.Expires = time.Unix(s, 0).UTC()
	}
	return r
}
