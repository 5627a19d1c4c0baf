// Package timetolive deletes the expired items of DynamoDB tables, which the emulator keeps forever.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html
package timetolive

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// tooOld is how long ago an item may have expired. DynamoDB keeps items that expired before, to
// protect old data from a wrong attribute.
const tooOld = 5 * 365 * 24 * time.Hour

// Tables has the operations of DynamoDB that Sweep needs. *dynamodb.Client implements it.
type Tables interface {
	ListTables(context.Context, *dynamodb.ListTablesInput, ...func(*dynamodb.Options)) (*dynamodb.ListTablesOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	DescribeTimeToLive(context.Context, *dynamodb.DescribeTimeToLiveInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error)
	Scan(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
}

// Sweep deletes the expired items of every table with time to live. In DynamoDB this takes up to a few
// days.
func Sweep(ctx context.Context, db Tables, now time.Time) error {
	for pages := dynamodb.NewListTablesPaginator(db, &dynamodb.ListTablesInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list tables: %w", err)
		}
		for _, table := range page.TableNames {
			if err := sweep(ctx, db, table, now); err != nil {
				return fmt.Errorf("expired items of table %s: %w", table, err)
			}
		}
	}
	return nil
}

func sweep(ctx context.Context, db Tables, table string, now time.Time) error {
	ttl, err := db.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &table})
	if err != nil {
		return err
	}
	if ttl.TimeToLiveDescription.TimeToLiveStatus != types.TimeToLiveStatusEnabled {
		return nil
	}
	described, err := db.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &table})
	if err != nil {
		return err
	}
	attribute := *ttl.TimeToLiveDescription.AttributeName
	seconds := func(t time.Time) types.AttributeValue {
		return &types.AttributeValueMemberN{Value: strconv.FormatInt(t.Unix(), 10)}
	}
	expired := &dynamodb.ScanInput{ // what is no number never expires
		TableName: &table, ConsistentRead: aws.Bool(true), FilterExpression: aws.String("attribute_type(#ttl, :number) AND #ttl < :now AND #ttl > :tooOld"),
		ExpressionAttributeNames:  map[string]string{"#ttl": attribute},
		ExpressionAttributeValues: map[string]types.AttributeValue{":number": &types.AttributeValueMemberS{Value: "N"}, ":now": seconds(now), ":tooOld": seconds(now.Add(-tooOld))},
	}
	for pages := dynamodb.NewScanPaginator(db, expired); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, item := range page.Items {
			if err := remove(ctx, db, table, described.Table.KeySchema, attribute, item); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove deletes an item, unless its expiration has changed.
func remove(ctx context.Context, db Tables, table string, schema []types.KeySchemaElement, attribute string, item map[string]types.AttributeValue) error {
	key := map[string]types.AttributeValue{}
	for _, k := range schema {
		key[*k.AttributeName] = item[*k.AttributeName]
	}
	_, err := db.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &table, Key: key, ConditionExpression: aws.String("#ttl = :seen"),
		ExpressionAttributeNames:  map[string]string{"#ttl": attribute},
		ExpressionAttributeValues: map[string]types.AttributeValue{":seen": item[attribute]},
	})
	var changed *types.ConditionalCheckFailedException
	if errors.As(err, &changed) {
		return nil
	}
	return err
}
