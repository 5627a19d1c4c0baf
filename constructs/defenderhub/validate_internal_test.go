package defenderhub

import (
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
)

func TestBrief(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"10s": 10 * time.Second, "5m": 5 * time.Minute, "1h": time.Hour, "24h": 24 * time.Hour, "1h30m": 90 * time.Minute, "1m30s": 90 * time.Second, "80 days": 80 * 24 * time.Hour,
	} {
		if got := brief(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestUnknownAndRepeatedValuesOfAList(t *testing.T) {
	var f faults
	f.checks("Except", []defender.Check{defender.LoggingDisabled, 18, defender.LoggingDisabled})
	f.checks("Disabled", defender.Checks())
	f.sources("Forward", []defender.Source{defender.DeviceEvents, 0, defender.DeviceEvents})
	f.sources("Sources", defender.Sources())
	want := `Except[1]: "Check(18)", want one of the checks of package defender, such as defender.LoggingDisabled
Except[2]: "LOGGING_DISABLED_CHECK", want each check once
Forward[1]: "Source(0)", want one of the sources of package defender, such as defender.RejectedReports
Forward[2]: "device-event", want each source once`
	if got := f.err().Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
