package engine

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func TestSessionIsOpenOnlyIfKnown(t *testing.T) {
	in := func(session string, at int64) mark { return mark{at * minute, Connected, session, ""} }
	out := func(session string, at int64) mark { return mark{at * minute, Disconnected, session, ""} }
	message := func(at int64) mark { return mark{at * minute, Alive, "", ""} }
	for _, row := range []struct {
		why   string
		marks []mark
		open  bool // throughout minutes 10 to 15
	}{
		{"no marks", nil, false},
		{"connected before", []mark{in("a", 5)}, true},
		{"connected before, within the error of the clocks", []mark{in("a", 9)}, false},
		{"connected inside", []mark{in("a", 11)}, false},
		{"a message before", []mark{message(9)}, true},
		{"a message at its first moment", []mark{message(10)}, false},
		{"a message inside", []mark{message(12)}, false},
		{"disconnected inside", []mark{in("a", 5), out("a", 12)}, false},
		{"disconnected and reconnected inside", []mark{in("a", 5), out("a", 12), in("b", 12)}, false},
		{"disconnected before", []mark{in("a", 5), out("a", 6)}, false},
		{"a message, then disconnected", []mark{message(5), out("a", 6)}, false},
		{"disconnected after", []mark{in("a", 5), out("a", 15)}, true},
		{"disconnected and reconnected before", []mark{in("a", 1), out("a", 5), in("b", 6)}, true},
		{"a new session took over, with timestamps in the wrong order", []mark{in("b", 5), out("a", 6)}, true},
		{"a message long after the disconnection", []mark{out("a", 5), message(8)}, true},
		{"a message that may be older than the disconnection", []mark{out("a", 5), message(6)}, false},
	} {
		var p presence
		for _, m := range row.marks {
			p.add(m)
		}
		if got := len(p.openThroughout(10*minute, 15*minute, 0)) > 0; got != row.open {
			t.Errorf("%s: open %v, want %v", row.why, got, row.open)
		}
	}
}

// A message that may be older than the disconnection proves no session. If only the disconnection were
// dropped, it would.
func TestDisconnectionIsKeptWithItsMessages(t *testing.T) {
	for _, proofs := range []bool{false, true} {
		p := presence{{9 * minute, Disconnected, "a", ""}, {10 * minute, Alive, "", ""}}
		if p = p.before(10*minute, proofs); p.online() || len(p) != 2 {
			t.Errorf("proofs %v: marks %v, online %v, want both marks, offline", proofs, p, p.online())
		}
	}
}

func TestPresenceIgnoresOrderAndDuplicatesAndStaysSmall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		marks := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) mark {
			m := mark{Time: rapid.Int64Range(1, 40).Draw(t, "minute") * minute, Link: rapid.SampledFrom([]Link{Alive, Connected, Disconnected}).Draw(t, "link")}
			if m.Link != Alive {
				m.Session = rapid.StringMatching(`[a-c]`).Draw(t, "session")
			}
			return m
		}), 0, 30).Draw(t, "marks")
		var p, shuffled presence
		for _, m := range marks {
			p.add(m)
		}
		for _, m := range append(rapid.Permutation(marks).Draw(t, "order"), marks...) {
			shuffled.add(m)
		}
		if !reflect.DeepEqual(p, shuffled) {
			t.Fatalf("marks %v, in another order %v", p, shuffled)
		}
		if len(p) > (maxMarks+1)*40/5+1 {
			t.Fatalf("%d marks, want at most %d", len(p), (maxMarks+1)*40/5+1)
		}
		cut := rapid.Int64Range(0, 8).Draw(t, "cut") * 5 * minute
		short := p.before(cut, true)
		for a := cut + 5*minute; a < 45*minute; a += 5 * minute {
			if (len(short.openThroughout(a, a+5*minute, 0)) > 0) != (len(p.openThroughout(a, a+5*minute, 0)) > 0) {
				t.Fatalf("minute %d: %v and %v, without the marks before minute %d, differ", a/minute, p, short, cut/minute)
			}
		}
	})
}
