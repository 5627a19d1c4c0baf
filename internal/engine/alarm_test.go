package engine

import (
	"strings"
	"testing"
	"time"
)

// A letter is a window of five minutes. In in, . is a conforming datapoint, x a violating one, _ a
// missing one, and z a day without datapoints. In want, A is in alarm, I an invalidated alarm.
func TestAlarmTimelines(t *testing.T) {
	for _, row := range []struct {
		why              string
		toAlarm, toClear int
		in, want         string
	}{
		{"one datapoint raises and clears", 1, 1, "x.x.", "A.A."},
		{"missing datapoints neither continue nor break a run", 2, 1, ".xx_.", "..AA."},
		{"missing datapoints inside a run", 2, 2, "x_x_._.", "..AAAA."},
		{"a conforming datapoint breaks a run", 2, 1, "x.xx", "...A"},
		{"a violating datapoint breaks the run to clear", 1, 2, "x.x..", "AAAA."},
		{"ten of ten", 10, 10, "xxxxxxxxxx..........", ".........AAAAAAAAAA."},
		{"nine of ten", 10, 1, "xxxxxxxxx.xxxxxxxxx", "..................."},
		{"an alarm lasts while the device violates", 1, 1, "xxxx", "AAAA"},
		{"missing datapoints never clear an alarm", 1, 1, "x____________", "AAAAAAAAAAAAA"},
		{"more than two days without datapoints invalidate an alarm", 1, 1, "xzzz", "AAAI"},
		{"any datapoint within two days keeps the alarm", 1, 2, "xz.zxzzzz", "AAAAAAAAI"},
		{"an invalidated alarm can be raised again", 1, 1, "xzzzx.", "AAAIA."},
		{"more than two days without datapoints end a run", 2, 1, "xzzzxx", ".....A"},
	} {
		if got := timeline(row.toAlarm, row.toClear, row.in); got != row.want {
			t.Errorf("%s: toAlarm %d, toClear %d, datapoints %q: got %q, want %q", row.why, row.toAlarm, row.toClear, row.in, got, row.want)
		}
	}
}

func timeline(toAlarm, toClear int, in string) string {
	var a alarm
	var out strings.Builder
	at := time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)
	for _, letter := range in {
		verdict := map[rune]Verdict{'.': Conforms, 'x': Violates}[letter]
		change := a.silence(at.UnixMilli())
		if change == "" {
			change = a.observe(verdict, at.UnixMilli(), toAlarm, toClear)
		}
		switch {
		case change == AlarmInvalidated:
			out.WriteByte('I')
		case a.open():
			out.WriteByte('A')
		default:
			out.WriteByte('.')
		}
		at = at.Add(5 * time.Minute)
		if letter == 'z' {
			at = at.Add(24*time.Hour - 5*time.Minute)
		}
	}
	return out.String()
}

func TestConformingDeviceHasNoState(t *testing.T) {
	var a alarm
	a.observe(Conforms, 1, 1, 1)
	if !a.idle() {
		t.Errorf("state %+v after a conforming datapoint", a)
	}
	a.observe(Violates, 2, 2, 1)
	if a.idle() {
		t.Error("no state after a violating datapoint")
	}
	a.observe(Conforms, 3, 2, 1)
	if !a.idle() {
		t.Errorf("state %+v after the run ended", a)
	}
}
