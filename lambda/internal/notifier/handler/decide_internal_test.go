package handler

import (
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/message"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/record"
)

// The SDK repeats a write whose answer was lost, so an event may find its own record. It must keep
// waiting for an incident, because no other event would report the finding.
func TestEventThatMeetsItsOwnRecordWaits(t *testing.T) {
	e := findingevent.Event{RecordState: "ACTIVE", Severity: defender.High, Order: findingevent.Order{Updated: time.Unix(1, 0)}}
	a := facts{concerns: true, mayHold: true, wanted: func() bool { return true }, covered: func() (string, error) { return "", nil }}
	first, err := decide(record.Finding{}, e, message.Line{Severity: defender.High}, a)
	if err != nil || !first.hold || !first.write {
		t.Fatalf("first decision %+v, error %v; want to hold and to write", first, err)
	}
	written := first.next
	written.Revision = 1
	if again, err := decide(written, e, message.Line{Severity: defender.High}, a); err != nil || !again.hold || again.write {
		t.Errorf("second decision %+v, error %v; want to hold without a write", again, err)
	}
}
