package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
)

// Progress is how far the evaluator has judged the telemetry.
type Progress struct {
	// At is when the evaluator last wrote it, the zero time if never.
	At time.Time
	// Lag is the age that its batch's oldest telemetry had then, 0 if batching explains it.
	Lag time.Duration
}

// LagAge is how long the greatest lag of all environments counts: a queue has no order, so some
// environments may get new messages while others work on a backlog.
const LagAge = 2 * time.Minute

// beats is how often Beat tries. Without the heartbeat of the last telemetry of a stream, the closer
// mistakes that telemetry for a backlog until newer telemetry arrives.
const beats = 5

// Beat stores progress, unless a greater lag was stored recently.
func (s *Store) Beat(ctx context.Context, p Progress) error {
	for failures := 1; ; failures++ {
		err := s.beat(ctx, p)
		if err == nil || errors.Is(err, ErrConflict) {
			return nil
		}
		if failures == beats || !s.backoff.Wait(ctx, failures) {
			return err
		}
	}
}

func (s *Store) beat(ctx context.Context, p Progress) error {
	return attribute.Put(ctx, s.api, &dynamodb.PutItemInput{
		TableName: &s.table,
		Item: item{
			contract.StatePartitionKey: attribute.Text(contract.StateProgressKey), contract.StateSortKey: attribute.Text(contract.StateProgressKey),
			contract.StateHeartbeat: attribute.Number(p.At.UnixMilli()), contract.StateLag: attribute.Number(p.Lag.Milliseconds()),
			contract.StateProgressVersion: attribute.Number(contract.ProgressVersion),
		},
		ConditionExpression:       aws.String("attribute_not_exists(#at) OR #lag <= :lag OR #at < :since"),
		ExpressionAttributeNames:  map[string]string{"#at": contract.StateHeartbeat, "#lag": contract.StateLag},
		ExpressionAttributeValues: item{":lag": attribute.Number(p.Lag.Milliseconds()), ":since": attribute.Number(p.At.Add(-LagAge).UnixMilli())},
	}, ErrConflict)
}

// Progress reads what [Store.Beat] stored, consistently.
func (s *Store) Progress(ctx context.Context) (Progress, error) {
	out, err := s.api.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: &s.table, ConsistentRead: aws.Bool(true),
		Key: item{contract.StatePartitionKey: attribute.Text(contract.StateProgressKey), contract.StateSortKey: attribute.Text(contract.StateProgressKey)},
	})
	if err != nil {
		return Progress{}, fmt.Errorf("GetItem of table %s: %w", s.table, err)
	}
	return Progress{timeOf(out.Item, contract.StateHeartbeat), time.Duration(attribute.OptionalNumberOf(out.Item, contract.StateLag)) * time.Millisecond}, nil
}
