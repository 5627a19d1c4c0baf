package handler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/state"
)

// openTelnet delivers reports of n devices with an open telnet port.
func openTelnet(r *rig, n int, when time.Time) {
	var batch []events.SQSMessage
	for i := range n {
		batch = append(batch, report(fmt.Sprint(i), fmt.Sprintf("pump%03d", i), when, ports(1, 23)))
	}
	r.deliver(batch...)
}

func TestPartitionsShareTheThings(t *testing.T) {
	const n = 60
	r := newRig(t, telnet())
	openTelnet(r, n, at(0))
	r.close(at(5), 0)
	first := len(r.messages())
	if first == 0 || first == n {
		t.Errorf("one of two partitions judged %d of %d devices, want a part of them", first, n)
	}
	r.close(at(5), 1)
	if all := len(r.messages()); all != n || len(r.queue.bodies) != n {
		t.Errorf("both partitions judged %d of %d devices, and sent %d messages", all, n, len(r.queue.bodies))
	}
}

func TestCloserStopsInTimeAndResumes(t *testing.T) {
	const n = 300
	r := newRig(t, telnet())
	openTelnet(r, n, at(0))
	ctx, cancel := context.WithCancel(context.Background())
	queries := 0
	r.table.step = func(operation, _ string, done bool) error {
		r.table.mu.Lock()
		defer r.table.mu.Unlock()
		if operation == "Query" && done {
			if queries++; queries == 20 {
				cancel()
			}
		}
		return nil
	}
	if err := r.tryClose(ctx, at(5), 0); err != nil {
		t.Fatal(err)
	}
	r.table.step = nil
	done := 0
	for _, it := range r.table.items() {
		if num(it, contract.StateDueAt) > at(6).UnixMilli() {
			done++
		}
	}
	if got := r.counted(contract.MetricUnfinished); got != 1 {
		t.Errorf("%d unfinished runs counted, want one", got)
	}
	if done == 0 || done >= n/2 {
		t.Errorf("%d of about %d devices judged before the deadline, want a part of them", done, n/2)
	}
	r.close(at(7))
	if all := len(r.messages()); all != n {
		t.Errorf("%d of %d devices judged in the end", all, n)
	}
}

// A closer fails if the table never answers before its deadline.
func TestCloserThatJudgesNothingInTimeFails(t *testing.T) {
	for _, silent := range []string{"Query", "BatchGetItem", "PutItem"} {
		t.Run(silent, func(t *testing.T) {
			r := newRig(t, telnet())
			openTelnet(r, 3, at(0))
			ctx, cancel := context.WithCancel(context.Background())
			r.table.step = func(operation, key string, done bool) error {
				if operation == silent && key != "progress" {
					cancel()
					return context.DeadlineExceeded
				}
				return nil
			}
			if err := r.tryClose(ctx, at(5)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want context.DeadlineExceeded", err)
			}
		})
	}
}

func TestFaultOfTheIndexIsAnError(t *testing.T) {
	r := newRig(t, telnet())
	r.table.step = func(operation, _ string, done bool) error {
		if operation == "Query" {
			return fmt.Errorf("no index")
		}
		return nil
	}
	if err := r.tryClose(context.Background(), at(5)); err == nil {
		t.Error("no error although the index fails")
	}
}

// A closer's invocation must fail if it cannot write, because no metric would show it. AWS
// IoT's throttling is temporary, and a retry of the invocation would make it worse.
func TestCloserFailsWithItsThings(t *testing.T) {
	r := newRig(t, telnet())
	r.deliver(report("1", "good", at(0), ports(1, 23)), report("2", "bad", at(0), ports(1, 23)))
	r.table.step = func(operation, key string, done bool) error {
		if operation == "PutItem" && key == "thing#bad" {
			return fmt.Errorf("no key to encrypt with")
		}
		return nil
	}
	if err := r.tryClose(context.Background(), at(5)); err == nil || !strings.Contains(err.Error(), "no key to encrypt with") {
		t.Errorf("error %v, want the reason for which nothing was written", err)
	}
	if got := r.changes(); got != "good ports in-alarm" {
		t.Errorf("changes %q, want the other device judged", got)
	}
	r.table.step, r.registry.fails = nil, fmt.Errorf("%w: %w", certificate.ErrUnresolved, throttled)
	if err := r.tryClose(context.Background(), at(6)); err != nil {
		t.Error(err)
	}
	r.registry.fails = nil
	r.close(at(7))
	if got := r.changes(); got != "bad ports in-alarm, good ports in-alarm" {
		t.Errorf("changes %q, want both devices judged", got)
	}
}

// The closer waits for telemetry in the queue, which would be late after it.
func TestCloserWaitsForTheTransport(t *testing.T) {
	for name, c := range map[string]struct {
		lag               time.Duration // reported at minute 60
		waiting, inFlight string
		at                float64
		closed            bool
		blind             int
		batching          int // seconds
	}{
		"no lag":                            {time.Minute, "5", "5", 61, true, 0, 0},
		"a lag that batching explains":      {2 * time.Minute, "5", "5", 61, true, 0, 0},
		"a lag of an hour":                  {time.Hour, "5", "0", 61, false, 0, 0},
		"no progress, and no message waits": {time.Hour, "0", "0", 80, true, 0, 0},
		"no progress, and messages wait":    {0, "5", "5", 80, false, 2, 0},
		// The batch of the message is filling, or the evaluator failed and a retry follows in minutes.
		"no progress, and a message is in flight": {0, "0", "1", 80, false, 0, 0},
		"in flight within a long batching window": {0, "0", "1", 63, false, 0, 300},
		"waiting for less than a batching window": {0, "1", "5", 65, false, 0, 300},
		"waiting for more than a batching window": {0, "1", "5", 67, false, 2, 300},
	} {
		config := telnet()
		config.BatchSeconds = max(config.BatchSeconds, c.batching)
		r := newRig(t, config)
		r.now = at(0)
		r.deliver(report("1", "pump", at(0), ports(1, 23)))
		r.now = at(60)
		r.deliver(report("2", "other", at(60).Add(-c.lag), ports(1, 443)))
		r.queue.waiting, r.queue.inFlight = c.waiting, c.inFlight
		r.close(at(c.at))
		if closed := r.changes() != ""; closed != c.closed || r.counted(contract.MetricBlind) != c.blind {
			t.Errorf("%s: closed %v, blind %d; want %v and %d", name, closed, r.counted(contract.MetricBlind), c.closed, c.blind)
		}
	}
}

func TestProgressIsRarelyWritten(t *testing.T) {
	r := newRig(t, telnet())
	wrote := func(minute, sentAt float64, retried bool) bool {
		r.now = at(minute)
		m := report(fmt.Sprint(minute), "pump", at(sentAt), ports(int(sentAt*60)+1, 443))
		if retried {
			m.Attributes["ApproximateReceiveCount"] = "2"
		}
		r.deliver(m)
		return r.table.took()["PutItem progress"] == 1
	}
	for _, step := range []struct {
		name          string
		minute, sent  float64
		retried, want bool
	}{
		{"first batch", 10, 9.9, false, true},
		{"within the minute", 10.5, 10.4, false, false},
		{"a lag that batching does not explain", 10.6, 5, false, true},
		{"a smaller lag", 10.7, 6, false, false},
		{"after a minute", 12, 11.9, false, true},
		{"a retried message", 14, 2, true, false},
	} {
		if got := wrote(step.minute, step.sent, step.retried); got != step.want {
			t.Errorf("%s: wrote progress: %v, want %v", step.name, got, step.want)
		}
	}
}

func TestGreatestLagExpires(t *testing.T) {
	store := state.New(newTable(t), "state", nil)
	ctx := context.Background()
	for _, step := range []struct {
		at        float64
		lag, want time.Duration
	}{
		{0, time.Hour, time.Hour}, {1, time.Second, time.Hour}, {1, 2 * time.Hour, 2 * time.Hour}, {4, time.Second, time.Second},
	} {
		if err := store.Beat(ctx, state.Progress{At: at(step.at), Lag: step.lag}); err != nil {
			t.Fatal(err)
		}
		if p, err := store.Progress(ctx); err != nil || p.Lag != step.want {
			t.Errorf("at minute %v: progress %+v, error %v; want lag %v", step.at, p, err, step.want)
		}
	}
}

// An offline device and an agent that stopped raise alarms.
func TestSilenceIsJudged(t *testing.T) {
	config := profile(defender.Behavior{Name: "away", Criteria: defender.DisconnectDuration.LessThan(30)})
	config.ReportsEvery = 10
	r := newRig(t, config)
	r.deliver(report("1", "pump", at(0), ports(1, 443)), lifecycle("pump", "connected", "s", at(0)))
	r.deliver(lifecycle("pump", "disconnected", "s", at(1)))
	for minute := range 60 {
		r.close(at(float64(minute)))
	}
	if got := r.changes(); got != "pump away in-alarm, pump reports-regularly in-alarm" {
		t.Fatalf("changes %q", got)
	}
	var times []time.Duration
	for _, m := range r.messages() {
		times = append(times, time.UnixMilli(m.Transition.Time).Sub(start).Truncate(time.Minute))
	}
	if !slices.Equal(times, []time.Duration{31 * time.Minute, 12 * time.Minute}) {
		t.Errorf("alarms at %v, want after 31 and 12 minutes", times)
	}
}

// A closer's alarm checks that its own schedule runs: the sum would hide a missing run.
func TestEachOfSeveralClosersCountsItsRuns(t *testing.T) {
	r := newRig(t, telnet())
	run := func(partition, partitions int) {
		t.Helper()
		request := strings.ReplaceAll(contract.CloseRequest(partition, partitions), "<aws.scheduler.scheduled-time>", at(5).Format(time.RFC3339))
		if _, err := r.handler.Handle(context.Background(), json.RawMessage(request)); err != nil {
			t.Fatal(err)
		}
	}
	for _, partition := range []int{0, 1, 3, 1} {
		run(partition, 4)
	}
	runs := map[string]int{}
	for line := range strings.Lines(r.metrics.String()) {
		var counts map[string]any
		if err := json.Unmarshal([]byte(line), &counts); err != nil {
			t.Fatal(err)
		}
		if n, ok := counts[contract.MetricRuns].(float64); ok {
			runs[counts[contract.MetricDimensionSource].(string)] += int(n)
		}
	}
	want := map[string]int{contract.CloserSource(0): 1, contract.CloserSource(1): 2, contract.CloserSource(3): 1}
	if !maps.Equal(runs, want) {
		t.Errorf("runs %v, want %v", runs, want)
	}
	run(0, 1)
	if n := r.counted(contract.MetricRuns); n != 4 {
		t.Errorf("%d runs, want 4: Lambda counts the invocations of a single closer", n)
	}
}
