package defender_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
)

func ExampleSeverities() {
	fmt.Println(defender.Severities{
		Sources:   map[defender.Source]defender.Severity{defender.RejectedReports: defender.High},
		Behaviors: map[string]defender.Severity{"small-messages": defender.Low},
	})
	// Output: detect/small-messages=LOW,rejected-report=HIGH
}

func TestSeveritiesSurviveTheEnvironment(t *testing.T) {
	want := defender.Severities{
		Sources:     map[defender.Source]defender.Severity{defender.DeviceEvents: defender.Critical, defender.AuditNotifications: defender.Informational},
		Behaviors:   map[string]defender.Severity{"a:b_c-d": defender.High},
		Disconnects: map[string]defender.Severity{"DUPLICATE_CLIENTID": defender.Low},
		Events:      map[string]defender.Severity{"tamper": defender.Critical, "boot": defender.SeverityDefault},
	}
	got, err := defender.ParseSeverities(want.String())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestSeveritiesReportEveryFault(t *testing.T) {
	for _, text := range []string{"nonsense=HIGH", "device-event", "device-event=LOUD", "detect/b=", "event/x=LOUD", "event/x=", "disconnect/X"} {
		if s, err := defender.ParseSeverities(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, s)
		}
	}
}

func TestDefaultSeveritiesAreNotWritten(t *testing.T) {
	s := defender.Severities{
		Sources:   map[defender.Source]defender.Severity{defender.DeviceEvents: defender.SeverityDefault},
		Behaviors: map[string]defender.Severity{"b": defender.SeverityDefault},
	}
	if got := s.String() + (defender.Severities{}).String(); got != "" {
		t.Errorf("got %q", got)
	}
	if got, err := defender.ParseSeverities(""); err != nil || len(got.Sources)+len(got.Behaviors) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}
