package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
)

// DynamoDBAPI is the part of the DynamoDB client that [DynamoDB] calls.
type DynamoDBAPI interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
	BatchExecuteStatement(context.Context, *dynamodb.BatchExecuteStatementInput, ...func(*dynamodb.Options)) (*dynamodb.BatchExecuteStatementOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
}

// DynamoDB is a [Table] in Amazon DynamoDB.
type DynamoDB struct {
	api  DynamoDBAPI
	name string
}

// NewDynamoDB returns the table of that name.
func NewDynamoDB(api DynamoDBAPI, name string) *DynamoDB {
	return &DynamoDB{api: api, name: name}
}

// Attributes besides those in package contract.
const (
	attrDoc    = "doc"
	attrOpen   = "open"
	attrActive = "active"
)

type item = map[string]types.AttributeValue

// Get reads consistently.
func (d *DynamoDB) Get(ctx context.Context, k Key) (Record, error) {
	out, err := d.api.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      &d.name,
		Key:            keyItem(k),
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return Record{}, fmt.Errorf("GetItem of table %s: %w", d.name, err)
	}
	if len(out.Item) == 0 {
		return Record{Key: k}, nil
	}
	return decodeItem(out.Item)
}

// Put writes if the stored revision is the one before.
func (d *DynamoDB) Put(ctx context.Context, r Record) error {
	return attribute.Put(ctx, d.api, attribute.Next(d.name, encodeItem(r), r.Revision), ErrConflict)
}

// Open queries the partition consistently.
func (d *DynamoDB) Open(ctx context.Context, partition string, before int64, after string) ([]Record, string, error) {
	in := &dynamodb.QueryInput{
		TableName:                 &d.name,
		ConsistentRead:            aws.Bool(true),
		KeyConditionExpression:    aws.String("#pk = :pk"),
		FilterExpression:          aws.String("#open = :true"),
		ExpressionAttributeNames:  map[string]string{"#pk": contract.LedgerPartitionKey, "#open": attrOpen},
		ExpressionAttributeValues: item{":pk": attribute.Text(partition), ":true": &types.AttributeValueMemberBOOL{Value: true}},
	}
	if before != 0 {
		in.FilterExpression = aws.String("#open = :true AND (attribute_not_exists(#active) OR #active < :before)")
		in.ExpressionAttributeNames["#active"], in.ExpressionAttributeValues[":before"] = attrActive, attribute.Number(before)
	}
	if after != "" {
		in.ExclusiveStartKey = item{contract.LedgerPartitionKey: attribute.Text(partition), contract.LedgerSortKey: attribute.Text(after)}
	}
	records, last, err := d.query(ctx, in)
	return records, attribute.TextOf(last, contract.LedgerSortKey), err
}

// Due queries the index.
func (d *DynamoDB) Due(ctx context.Context, shard string, at time.Time, after Record) ([]Record, bool, error) {
	in := d.due(shard, at)
	if after.Key != (Key{}) {
		in.ExclusiveStartKey = item{
			contract.LedgerPartitionKey: attribute.Text(after.Partition), contract.LedgerSortKey: attribute.Text(after.Sort),
			contract.LedgerRefreshShard: attribute.Text(shard), contract.LedgerRefreshAt: attribute.Number(after.RefreshAt.Unix()),
		}
	}
	records, last, err := d.query(ctx, in)
	return records, len(last) > 0, err
}

// DueCount counts in the index, whose items are not sent.
func (d *DynamoDB) DueCount(ctx context.Context, shard string, at time.Time, most int) (n int, err error) {
	in := d.due(shard, at)
	in.Select = types.SelectCount
	for n < most {
		out, err := d.api.Query(ctx, in)
		if err != nil {
			return 0, fmt.Errorf("query of table %s: %w", d.name, err)
		}
		n += int(out.Count)
		if in.ExclusiveStartKey = out.LastEvaluatedKey; len(in.ExclusiveStartKey) == 0 {
			break
		}
	}
	return n, nil
}

func (d *DynamoDB) due(shard string, at time.Time) *dynamodb.QueryInput {
	return &dynamodb.QueryInput{
		TableName:              &d.name,
		IndexName:              aws.String(contract.LedgerRefreshIndex),
		KeyConditionExpression: aws.String("#shard = :shard AND #at <= :at"),
		ExpressionAttributeNames: map[string]string{
			"#shard": contract.LedgerRefreshShard, "#at": contract.LedgerRefreshAt,
		},
		ExpressionAttributeValues: item{":shard": attribute.Text(shard), ":at": attribute.Number(at.Unix())},
	}
}

func (d *DynamoDB) query(ctx context.Context, in *dynamodb.QueryInput) ([]Record, item, error) {
	out, err := d.api.Query(ctx, in)
	if err != nil {
		return nil, nil, fmt.Errorf("query of table %s: %w", d.name, err)
	}
	records := make([]Record, len(out.Items))
	for i, it := range out.Items {
		if records[i], err = decodeItem(it); err != nil {
			return nil, nil, err
		}
	}
	return records, out.LastEvaluatedKey, nil
}

func encodeItem(r Record) item {
	it := item{
		contract.LedgerPartitionKey: attribute.Text(r.Partition),
		contract.LedgerSortKey:      attribute.Text(r.Sort),
		attribute.Revision:          attribute.Number(r.Revision),
		attrDoc:                     attribute.Text(string(r.Doc)),
	}
	if r.Open {
		it[attrOpen] = &types.AttributeValueMemberBOOL{Value: true}
	}
	if r.Active != 0 {
		it[attrActive] = attribute.Number(r.Active)
	}
	if !r.RefreshAt.IsZero() {
		it[contract.LedgerRefreshShard] = attribute.Text(r.RefreshShard)
		it[contract.LedgerRefreshAt] = attribute.Number(r.RefreshAt.Unix())
	}
	if !r.Expires.IsZero() {
		it[contract.LedgerExpiry] = attribute.Number(r.Expires.Unix())
	}
	return it
}

func decodeItem(it item) (Record, error) {
	r := Record{
		Key: keyOf(it),
		Doc: []byte(attribute.TextOf(it, attrDoc)),
	}
	revision, err := attribute.NumberOf(it, attribute.Revision)
	if err != nil || revision < 1 {
		return Record{Key: r.Key}, fmt.Errorf("item %s / %s of the ledger has no revision", r.Partition, r.Sort)
	}
	r.Revision = revision
	if open, ok := it[attrOpen].(*types.AttributeValueMemberBOOL); ok {
		r.Open = open.Value
	}
	if active, err := attribute.NumberOf(it, attrActive); err == nil {
		r.Active = active
	}
	r.RefreshShard = attribute.TextOf(it, contract.LedgerRefreshShard)
	if at, err := attribute.NumberOf(it, contract.LedgerRefreshAt); err == nil {
		r.RefreshAt = time.Unix(at, 0)
	}
	if at, err := attribute.NumberOf(it, contract.LedgerExpiry); err == nil {
		r.Expires = time.Unix(at, 0)
	}
	return r, nil
}
