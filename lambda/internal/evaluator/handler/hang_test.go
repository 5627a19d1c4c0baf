package handler_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// invoked delivers a batch in an invocation of a minute, and returns the IDs of the messages to
// retry.
func (r *rig) invoked(t *testing.T, messages ...events.SQSMessage) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var again []string
	for _, f := range r.handle(ctx, events.SQSEvent{Records: messages}).(events.SQSEventResponse).BatchItemFailures {
		again = append(again, f.ItemIdentifier)
	}
	if ctx.Err() != nil {
		t.Error("the function ran into its deadline")
	}
	return again
}

func TestAlarmDoesNotWaitForARegistryThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, telnet())
		r.deliver(report("1", "pump-7", at(0), ports(1, 23)))
		r.registry.hangs = true
		again := r.invoked(t, report("2", "pump-7", at(6), ports(2, 23)), report("3", "pump-8", at(6), ports(3, 443)))
		if got := r.changes(); got != "pump-7 ports in-alarm" || len(again) > 0 {
			t.Errorf("changes %q, messages %v are retried; want the alarm and none", got, again)
		}
	})
}

func TestOtherRecordsDoNotWaitForACertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, telnet())
		r.deliver(report("0", "pump-8", at(0), ports(1, 23)))
		r.registry.hangs = true
		again := r.invoked(t, via("cert-pump-7", "1", "pump-7#2", at(6), 0, ports(1, 23)), report("2", "pump-8", at(6), ports(2, 23)))
		if got := r.changes(); got != "pump-8 ports in-alarm" || !slices.Equal(again, []string{"1"}) {
			t.Errorf("changes %q, messages %v are retried; want the alarm of pump-8, and the first message", got, again)
		}
	})
}

// The closer has more pages than one in a shard, and an alarm that needs no answer of AWS IoT.
func TestSilenceDoesNotWaitForAConnectionThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 3000
		r := newRig(t, profile(defender.Behavior{Criteria: defender.MessagesSent.GreaterThan(0, defender.Window5m)},
			defender.Behavior{Criteria: defender.MessageByteSize.LessThan(100)}))
		for i := range n {
			client := fmt.Sprintf("pump-%04d", i)
			r.deliver(lifecycle(client, "connected", "s", at(0)), message(client, client, at(1), 8))
		}
		r.iot.hangs = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.tryClose(ctx, at(14.5), 0); err != nil || ctx.Err() != nil {
			t.Errorf("error %v, time over: %v", err, ctx.Err())
		}
		if n := r.counted(contract.MetricUnconfirmed); n < 1400 || r.counted(contract.MetricUnfinished) > 0 {
			t.Errorf("%d windows counted as not judged, %d unfinished runs; want one window for each device of the partition, and none", n, r.counted(contract.MetricUnfinished))
		}
	})
}
