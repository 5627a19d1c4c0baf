package record_test

import (
	"context"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/message"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/record"
)

func TestListHasTheLineOfTheNewestEvent(t *testing.T) {
	table := record.Table{Name: "t", API: dynamodbtest.New(dynamodbtest.Schema{Name: "t", Partition: contract.NotifyPartitionKey, Sort: contract.NotifySortKey})}
	begin := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for _, minute := range []time.Duration{1, 3, 2} { // the invocation with the event of minute 2 is the last to write
		at := begin.Add(minute * time.Minute)
		if err := table.PutLine(context.Background(), "digest", "finding", message.Line{Since: at}, findingevent.Order{Updated: at}, begin); err != nil {
			t.Fatal(err)
		}
	}
	lines, err := table.Lines(context.Background(), "digest")
	if err != nil || len(lines) != 1 || !lines[0].Since.Equal(begin.Add(3*time.Minute)) {
		t.Errorf("lines %+v, error %v; want the line of minute 3", lines, err)
	}
}
