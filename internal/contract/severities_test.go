package contract_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

func ExampleSeverities() {
	fmt.Println(contract.Severities{
		Sources:   map[defender.Source]defender.Severity{defender.RejectedReports: defender.High},
		Behaviors: map[string]defender.Severity{"small-messages": defender.Low},
	})
	// Output: detect/small-messages=LOW,rejected-report=HIGH
}

func TestSeveritiesSurviveTheEnvironment(t *testing.T) {
	want := contract.Severities{
		Sources:     map[defender.Source]defender.Severity{defender.DeviceEvents: defender.Critical, defender.AuditNotifications: defender.Informational},
		Behaviors:   map[string]defender.Severity{"a:b_c-d": defender.High},
		Disconnects: map[string]defender.Severity{"DUPLICATE_CLIENTID": defender.Low},
		Events:      map[string]defender.Severity{"tamper": defender.Critical, "boot": defender.SeverityDefault},
	}
	got, err := contract.ParseSeverities(want.String())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestInvalidSeveritiesAreErrors(t *testing.T) {
	for _, text := range []string{"nonsense=HIGH", "device-event", "device-event=LOUD", "detect/b=", "event/x=LOUD", "event/x=", "disconnect/X"} {
		if s, err := contract.ParseSeverities(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, s)
		}
	}
}

func TestDefaultSeveritiesAreNotWritten(t *testing.T) {
	s := contract.Severities{
		Sources:   map[defender.Source]defender.Severity{defender.DeviceEvents: defender.SeverityDefault},
		Behaviors: map[string]defender.Severity{"b": defender.SeverityDefault},
	}
	if got := s.String() + (contract.Severities{}).String(); got != "" {
		t.Errorf("got %q, want an empty string", got)
	}
	if got, err := contract.ParseSeverities(""); err != nil || len(got.Sources)+len(got.Behaviors) != 0 {
		t.Errorf("an empty string is read as %v, error %v, want no severities", got, err)
	}
}
