package templates

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/test/localaws/cloudwatch"
)

// TestStoppedCloserRaisesItsAlarm evaluates the alarms of a template while one of three schedules
// has stopped. The function runs for the others, so only the metric of this schedule is missing.
func TestStoppedCloserRaisesItsAlarm(t *testing.T) {
	const closers, missing = 3, 1
	_, tpl := synth(t, "closers", func() awscdk.Stack {
		return hub(nil, &defenderhub.DefenderHubProps{Detect: &defenderhub.DetectProps{
			Behaviors: defender.DemoBehaviors(), SelfManaged: &defenderhub.SelfManagedProps{Closers: closers},
		}})
	})
	var alarms []cloudwatch.Alarm
	function := ""
	for id, r := range tpl.Resources {
		if r.Type == "AWS::Lambda::Function" && strings.Contains(id, "Closer") {
			function = id
		}
		if r.Type != "AWS::CloudWatch::Alarm" || !strings.Contains(id, "CloserStopped") {
			continue
		}
		a, err := cloudwatch.ParseAlarm(id, id, resolved(r.Properties).(map[string]any))
		if err != nil {
			t.Fatal(err)
		}
		alarms = append(alarms, a)
	}
	if len(alarms) != closers {
		t.Fatalf("the template has %d alarms CloserStopped, want %d", len(alarms), closers)
	}
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := cloudwatch.Evaluator{Store: &cloudwatch.Store{}}
	stopped := from.Add(time.Hour)
	for at := from; at.Before(from.Add(2 * time.Hour)); at = at.Add(time.Minute) {
		for i := range closers {
			if i == missing && !at.Before(stopped) {
				continue
			}
			e.Store.Put(cloudwatch.NewMetric(contract.MetricNamespace, contract.MetricRuns,
				map[string]string{contract.MetricDimensionEvaluator: function, contract.MetricDimensionSource: contract.CloserSource(i)}), at, 1)
			e.Store.Put(cloudwatch.FunctionMetric("Invocations", function), at, 1)
		}
	}
	states := map[string]string{}
	for _, c := range e.Advance(alarms, from, from.Add(2*time.Hour)) {
		states[c.Alarm.Name] += fmt.Sprintf(" %s", c.To)
		if c.To == cloudwatch.InAlarm && c.At.Sub(stopped) > 25*time.Minute { // three periods, and two that CloudWatch looks back
			t.Errorf("%s goes off %v after the schedule stopped, want at most 25m", c.Alarm.Name, c.At.Sub(stopped))
		}
	}
	for name, got := range states {
		want := " OK"
		if strings.Contains(name, fmt.Sprintf("CloserStopped%d", missing)) {
			want = " OK ALARM"
		}
		if got != want {
			t.Errorf("states of %s:%s, want%s", name, got, want)
		}
	}
	if len(states) != closers {
		t.Errorf("%d alarms changed their state, want %d: %v", len(states), closers, states)
	}
}

// resolved replaces each reference with its logical ID.
func resolved(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if id, ok := v["Ref"].(string); ok {
			return id
		}
		out := map[string]any{}
		for k, inner := range v {
			out[k] = resolved(inner)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = resolved(inner)
		}
		return out
	}
	return v
}
