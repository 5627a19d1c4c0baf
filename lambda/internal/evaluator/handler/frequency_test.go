package handler_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
)

func traffic(id string, client string, minute float64, bytes int) events.SQSMessage {
	return report(id, client, at(minute), fmt.Appendf(nil, `{"header":{"report_id":%d,"version":"1.0"},"metrics":{"network_stats":{"bytes_out":%d}}}`, at(minute).Unix(), bytes))
}

func fewBytes(seconds int) engine.Config {
	c := profile(defender.Behavior{Name: "out", Criteria: defender.AllBytesOut.LessThan(5000, defender.Window5m)})
	c.ReportSeconds = seconds
	return c
}

// 1,500 bytes each minute are 7,500 in five.
func TestReportsEachMinuteAddUp(t *testing.T) {
	for _, c := range []struct {
		seconds int
		window  defender.Window
		want    string
	}{
		{60, defender.Window5m, "pump out in-alarm 7500"},
		{0, defender.Window5m, ""},
		{0, defender.Window10m, "pump out in-alarm 7500"}, // five of them are in the window
	} {
		for seed := range uint64(20) {
			order := rand.New(rand.NewPCG(seed, 0)).Perm(5)
			config := fewBytes(c.seconds)
			config.Profiles[0].Behaviors[0].Criteria = defender.AllBytesOut.LessThan(5000, c.window)
			r := newRig(t, config)
			// The lateness bound is four minutes: all five arrive within it, in any order, twice.
			for _, i := range append(order, order[:2]...) {
				m := traffic(fmt.Sprint(i), "pump", float64(i), 1500)
				m.Attributes["SentTimestamp"] = fmt.Sprint(at(4).UnixMilli())
				r.deliver(m)
			}
			r.close(at(30))
			var got []string
			for _, m := range r.messages() {
				got = append(got, fmt.Sprintf("%s %s %s %s", m.ClientID, m.Transition.Behavior.Name, m.Transition.Change, m.Transition.Value))
			}
			if strings.Join(got, ", ") != c.want {
				t.Errorf("a report each %d s, window %d, order %v: changes %v, want %s", c.seconds, c.window, order, got, c.want)
			}
		}
	}
}

func TestDefaultIntervalWritesNothing(t *testing.T) {
	r := newRig(t, fewBytes(0))
	r.deliver(traffic("0", "pump", 0, 1500))
	r.table.took() // the first batch writes progress
	for i := range 3 {
		r.now = at(float64(i) * 0.1)
		r.deliver(traffic(fmt.Sprint(i), "pump", float64(i)*0.1, 1500))
	}
	if calls := r.table.took(); calls["PutItem"] != 0 || calls["BatchGetItem"] != 3 {
		t.Errorf("calls %v, want three reads", calls)
	}
	if r.table.of("pump") != nil {
		t.Errorf("stored %v, want nothing", r.table.of("pump"))
	}
}

func TestFrequentReportsAreCounted(t *testing.T) {
	for name, c := range map[string]struct {
		seconds int
		minutes []float64
		want    int
	}{
		"as configured":              {0, []float64{0, 5, 10, 15}, 0},
		"a timer that drifts":        {0, []float64{0, 4.6, 9.2}, 0},
		"each minute":                {0, []float64{0, 1, 2, 3}, 3},
		"each minute, as configured": {60, []float64{0, 1, 2, 3}, 0},
		"twice a minute":             {60, []float64{0, 0.5, 1}, 2},
		"in another order":           {0, []float64{2, 0, 1}, 2},
		"delivered twice":            {0, []float64{0, 0, 5, 5}, 0},
		"late, but far from others":  {60, []float64{0, 2, 1}, 0},
	} {
		r := newRig(t, fewBytes(c.seconds))
		for i, m := range c.minutes {
			r.deliver(traffic(fmt.Sprint(i), "pump", m, 10), traffic(fmt.Sprint("other", i), fmt.Sprint("other", i), m, 10))
		}
		if n := r.counted(contract.MetricFrequentReports); n != c.want {
			t.Errorf("%s: %d frequent reports counted, want %d", name, n, c.want)
		}
	}
}

// The order of records in a batch does not matter.
func TestFrequentReportsOfOneBatch(t *testing.T) {
	r := newRig(t, fewBytes(0))
	r.deliver(traffic("2", "pump", 2, 10), traffic("0", "pump", 0, 10), traffic("1", "pump", 1, 10), message("3", "pump", at(1), 4))
	if n := r.counted(contract.MetricFrequentReports); n != 2 {
		t.Errorf("%d frequent reports counted, want 2", n)
	}
}
