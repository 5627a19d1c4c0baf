package handler_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
)

// oddValue is a report with a telnet port and one odd value.
type oddValue struct {
	Name, Report string
	Discarded    map[string]int
}

func oddValues(t testing.TB) []oddValue {
	t.Helper()
	text, err := os.ReadFile("../../../../internal/report/testdata/odd-values.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []oddValue
	if err := json.Unmarshal(text, &all); err != nil || len(all) < 40 {
		t.Fatalf("%d odd values, error %v; want at least 40", len(all), err)
	}
	return all
}

func noTelnet() engine.Config {
	return profile(defender.Behavior{Name: "no-telnet", Criteria: defender.ListeningTCPPorts.NotInPorts(23)})
}

// countedByField returns the sums of a metric by field.
func (r *rig) countedByField(metric string) map[string]int {
	r.t.Helper()
	fields := map[string]int{}
	for line := range strings.Lines(r.metrics.String()) {
		var counts map[string]any
		if err := json.Unmarshal([]byte(line), &counts); err != nil {
			r.t.Fatal(err)
		}
		if n, ok := counts[metric].(float64); ok {
			field, _ := counts[contract.MetricDimensionField].(string)
			fields[field] += int(n)
			if !strings.Contains(line, `["Evaluator","Field"]`) {
				r.t.Errorf("%s is not split by field: %s", metric, line)
			}
		}
	}
	return fields
}

func TestOddValueHidesNoTelnetPort(t *testing.T) {
	for _, odd := range oddValues(t) {
		t.Run(odd.Name, func(t *testing.T) {
			r := newRig(t, noTelnet())
			r.deliver(report("1", "pump", at(0), []byte(odd.Report)))
			r.close(at(10))
			if got := r.changes(); got != "pump no-telnet in-alarm" {
				t.Errorf("changes %q, want the telnet alarm", got)
			}
			if got := r.countedByField(contract.MetricDiscarded); !maps.Equal(got, odd.Discarded) {
				t.Errorf("discarded %v, want %v", got, odd.Discarded)
			}
			if n := r.counted(contract.MetricUnreadableReports); n != 0 {
				t.Errorf("%d reports counted as unreadable, want none", n)
			}
			if logged := strings.Contains(r.logs.String(), `"devices":["pump"]`); logged != (len(odd.Discarded) > 0) {
				t.Errorf("the device is in the log: %v, although %v are discarded", logged, odd.Discarded)
			}
		})
	}
}

// A list with an unreadable element does not prove that an element is missing, so it clears no
// alarm.
func TestPartlyReadListClearsNoAlarm(t *testing.T) {
	for last, want := range map[string]string{
		`{"port":22},{"port":"?"}`: "pump no-telnet in-alarm",
		`{"port":22},{"port":0}`:   "pump no-telnet in-alarm, pump no-telnet alarm-cleared",
	} {
		r := newRig(t, noTelnet())
		r.deliver(report("1", "pump", at(0), ports(1, 23)))
		r.deliver(report("2", "pump", at(10), []byte(`{"header":{"report_id":2,"version":"1.0"},"metrics":{"listening_tcp_ports":{"ports":[`+last+`]}}}`)))
		r.close(at(30))
		if got := r.changes(); got != want {
			t.Errorf("after %s: changes %q, want %q", last, got, want)
		}
	}
}

// The rule's traceid() distinguishes reports without a readable ID.
func TestReportsWithoutIDAreDistinct(t *testing.T) {
	r := newRig(t, profile(defender.Behavior{Name: "out", Criteria: defender.AllBytesOut.LessThan(25, defender.Window10m)}))
	for i, id := range []string{"1", "2", "2", "3"} {
		r.deliver(report(id, "pump", at(float64(i)), []byte(`{"header":{"report_id":"?","version":"1.0"},"metrics":{"network_stats":{"bytes_out":10}}}`)))
	}
	r.close(at(30))
	if got := r.messages(); len(got) != 1 || *got[0].Transition.Value.Count != 30 {
		t.Errorf("messages %+v, want an alarm at 30 bytes", got)
	}
}

func TestReportWithoutReadableValuesRaisesAnAlarm(t *testing.T) {
	r := newRig(t, noTelnet())
	for i := range 3 {
		r.deliver(report("1", "pump", at(float64(i)*5), []byte(`{"header":{"report_id":1,"version":"1.0"},"metrics":{"listening_tcp_ports":"none"}}`)))
	}
	r.close(at(30))
	if got := r.changes(); got != "pump reports-readable in-alarm" || !slices.Equal(slices.Collect(maps.Keys(r.countedByField(contract.MetricDiscarded))), []string{"listening_tcp_ports"}) {
		t.Errorf("changes %q, discarded %v", got, r.countedByField(contract.MetricDiscarded))
	}
}
