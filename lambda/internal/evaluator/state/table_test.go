package state_test

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
)

var start = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func at(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }

func newTable() *dynamodbtest.Service {
	return dynamodbtest.New(dynamodbtest.Schema{Name: "state", Partition: contract.StatePartitionKey, Sort: contract.StateSortKey, Expiry: contract.StateExpiry})
}

// failing is a table whose BatchGetItem fails.
type failing struct {
	*dynamodbtest.Service
	err error
}

func (f failing) BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	return nil, f.err
}

// throttled is a table whose first writes fail.
type throttled struct {
	*dynamodbtest.Service
	left int
}

func (t *throttled) PutItem(ctx context.Context, in *dynamodb.PutItemInput, options ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	if t.left--; t.left >= 0 {
		return nil, errors.New("throttled")
	}
	return t.Service.PutItem(ctx, in, options...)
}
