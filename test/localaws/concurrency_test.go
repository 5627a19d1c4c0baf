package localaws_test

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/defenderhub/defenderhub/test/localaws"
)

// atOnce runs f for 0 to n-1 concurrently.
func atOnce(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}

// checkConcurrency checks the guarantees that concurrent functions rely on: a conditional write is
// atomic, and a stream loses no record.
func checkConcurrency(t *testing.T, cloud *localaws.Cloud, stream string) {
	const writers, rounds = 16, 20
	tables := dynamodb.NewFromConfig(cloud.Config())
	if _, err := tables.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String("claims"), BillingMode: types.BillingModePayPerRequest,
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS}},
	}); err != nil {
		t.Fatal(err)
	}
	for round := range rounds {
		var claimed atomic.Int32
		atOnce(writers, func(int) {
			_, err := tables.PutItem(t.Context(), &dynamodb.PutItemInput{
				TableName: aws.String("claims"), ConditionExpression: aws.String("attribute_not_exists(id)"),
				Item: map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: strconv.Itoa(round)}},
			})
			if refused := (*types.ConditionalCheckFailedException)(nil); err == nil {
				claimed.Add(1)
			} else if !errors.As(err, &refused) {
				t.Error(err)
			}
		})
		if n := claimed.Load(); n != 1 {
			t.Fatalf("%d of %d writers claimed item %d, want 1", n, writers, round)
		}
	}

	streams := kinesis.NewFromConfig(cloud.Config())
	atOnce(writers*rounds, func(i int) {
		_, err := streams.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: &stream, PartitionKey: aws.String("one"), Data: []byte(strconv.Itoa(i))})
		if err != nil {
			t.Error(err)
		}
	})
	shards, err := streams.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: &stream})
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	for _, s := range shards.Shards {
		at, err := streams.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: &stream, ShardId: s.ShardId, ShardIteratorType: kinesistypes.ShardIteratorTypeTrimHorizon})
		if err != nil {
			t.Fatal(err)
		}
		out, err := streams.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: at.ShardIterator})
		if err != nil {
			t.Fatal(err)
		}
		records += len(out.Records)
	}
	if records != writers*rounds {
		t.Errorf("%d of %d records are in the stream", records, writers*rounds)
	}
}
