package state_test

import (
	"errors"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
)

var start = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func at(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }

func newTable() *dynamodbtest.Service {
	return dynamodbtest.New(dynamodbtest.Schema{Name: "state", Partition: contract.StatePartitionKey, Sort: contract.StateSortKey, Expiry: contract.StateExpiry})
}

// failing returns a client of the table whose first n calls of an operation fail.
func failing(operation string, n int) *dynamodbtest.Client {
	return &dynamodbtest.Client{Service: newTable(), Step: func(c dynamodbtest.Call, done bool) error {
		if c.Operation != operation || done {
			return nil
		}
		if n--; n >= 0 {
			return errors.New("throttled")
		}
		return nil
	}}
}
