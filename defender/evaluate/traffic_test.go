package evaluate

import (
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
)

// A window of bytes and packets is a sum where devices report more often than it is long.
func TestIntervalDecidesWhichWindowsAreSums(t *testing.T) {
	bytes, ports := defender.AllBytesOut, defender.NumListeningTCPPorts
	for _, row := range []struct {
		normal  defender.Criteria
		seconds int
		want    kind
	}{
		{bytes.LessThan(1, defender.Window5m), 0, each},
		{bytes.LessThan(1, defender.Window10m), 0, summed},
		{bytes.LessThan(1, defender.Window5m), 300, each},
		{bytes.LessThan(1, defender.Window5m), 299, summed},
		{bytes.LessThan(1, defender.Window5m), 60, summed},
		{bytes.LessThan(1, defender.Window10m), 600, each},
		{bytes.LessThan(1, defender.Window15m), 600, summed},
		{bytes.Statistical(defender.LessThan, defender.P90, defender.Window5m), 60, summed},
		{bytes.Learned(defender.LowConfidence), 60, summed},
		{ports.LessThan(1, defender.Window1h), 60, each},
		{defender.CustomNumber("heat").LessThan(1, defender.Window1h), 60, each},
	} {
		c := Config{ReportSeconds: row.seconds, Profiles: []ProfileConfig{{Name: "Profile", Behaviors: []defender.Behavior{behavior(row.normal)}}}}
		all, err := c.Compile()
		if err != nil || all[0].kind != row.want {
			t.Errorf("%s, a report each %d s: kind %d, %v, want %d", row.normal.Normal(), row.seconds, all[0].kind, err, row.want)
		}
	}
}

// What was collected for sums says nothing about single reports, and the other way round.
func TestIntervalIsPartOfTheForm(t *testing.T) {
	b := compile("Profile", behavior(defender.AllBytesOut.LessThan(1, defender.Window5m)))
	if sums := (Traffic{Interval: time.Minute}).of(b); sums.form == b.form {
		t.Errorf("both have the form %s", b.form)
	}
}
