package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// Progress is how far the evaluator has come.
type Progress struct {
	// At is when the evaluator last told, the zero time if it never did.
	At time.Time
	// Lag is how old the oldest telemetry of its batch was then, 0 where batching explains it.
	Lag time.Duration
}

// LagStands is how long the greatest lag of all environments stands: a queue has no
// order, so one of them may have newer messages while others work a backlog off.
const LagStands = 2 * time.Minute

// Beat stores progress, unless a greater lag was stored a short while ago.
func (s *Store) Beat(ctx context.Context, p Progress) error {
	err := s.put(ctx, &dynamodb.PutItemInput{
		TableName: &s.table,
		Item: item{
			contract.StatePartitionKey: text(progressKey), contract.StateSortKey: text(progressKey),
			attrHeartbeat: number(p.At.UnixMilli()), attrLag: number(p.Lag.Milliseconds()),
		},
		ConditionExpression:       aws.String("attribute_not_exists(#at) OR #lag <= :lag OR #at < :stands"),
		ExpressionAttributeNames:  map[string]string{"#at": attrHeartbeat, "#lag": attrLag},
		ExpressionAttributeValues: item{":lag": number(p.Lag.Milliseconds()), ":stands": number(p.At.Add(-LagStands).UnixMilli())},
	})
	if errors.Is(err, ErrConflict) {
		return nil
	}
	return err
}

// Progress reads what [Store.Beat] stored, consistently.
func (s *Store) Progress(ctx context.Context) (Progress, error) {
	out, err := s.api.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: &s.table, ConsistentRead: aws.Bool(true),
		Key: item{contract.StatePartitionKey: text(progressKey), contract.StateSortKey: text(progressKey)},
	})
	if err != nil {
		return Progress{}, fmt.Errorf("GetItem of table %s: %w", s.table, err)
	}
	return Progress{timeOf(out.Item, attrHeartbeat), time.Duration(numberOf(out.Item, attrLag)) * time.Millisecond}, nil
}
