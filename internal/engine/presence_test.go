package engine

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func TestSessionIsOpenOnlyIfKnown(t *testing.T) {
	in := func(session string, at int64) mark { return mark{at * minute, Connected, session, ""} }
	out := func(session string, at int64) mark { return mark{at * minute, Disconnected, session, ""} }
	seen := func(at int64) mark { return mark{at * minute, Alive, "", ""} }
	for _, row := range []struct {
		why   string
		marks []mark
		open  bool // throughout minutes 10 to 15
	}{
		{"nothing known", nil, false},
		{"connected before", []mark{in("a", 5)}, true},
		{"connected so shortly before that the clock may be wrong", []mark{in("a", 9)}, false},
		{"connected inside", []mark{in("a", 11)}, false},
		{"a message before", []mark{seen(9)}, true},
		{"a message at its first moment", []mark{seen(10)}, false},
		{"a message inside", []mark{seen(12)}, false},
		{"disconnected inside", []mark{in("a", 5), out("a", 12)}, false},
		{"disconnected and back inside", []mark{in("a", 5), out("a", 12), in("b", 12)}, false},
		{"disconnected before", []mark{in("a", 5), out("a", 6)}, false},
		{"a message, then disconnected", []mark{seen(5), out("a", 6)}, false},
		{"disconnected after", []mark{in("a", 5), out("a", 15)}, true},
		{"back before", []mark{in("a", 1), out("a", 5), in("b", 6)}, true},
		{"the new session took over, stamps in the wrong order", []mark{in("b", 5), out("a", 6)}, true},
		{"a message long after the disconnection", []mark{out("a", 5), seen(8)}, true},
		{"a message that may be older than the disconnection", []mark{out("a", 5), seen(6)}, false},
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

// A message that may be older than the disconnection proves no session, and must not begin to
// when old signs are dropped.
func TestDisconnectionIsKeptAsLongAsItsSession(t *testing.T) {
	for _, proofs := range []bool{false, true} {
		p := presence{{9 * minute, Disconnected, "a", ""}, {10 * minute, Alive, "", ""}}
		if p = p.before(10*minute, proofs); p.online() || len(p) != 2 {
			t.Errorf("proofs %v: %v", proofs, p)
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
			t.Fatalf("%v, in another order %v", p, shuffled)
		}
		if len(p) > (maxMarks+1)*40/5+1 {
			t.Fatalf("%d marks", len(p))
		}
		cut := rapid.Int64Range(0, 8).Draw(t, "cut") * 5 * minute
		short := p.before(cut, true)
		for a := cut + 5*minute; a < 45*minute; a += 5 * minute {
			if (len(short.openThroughout(a, a+5*minute, 0)) > 0) != (len(p.openThroughout(a, a+5*minute, 0)) > 0) {
				t.Fatalf("%v at %d differs without the marks before %d: %v", p, a/minute, cut/minute, short)
			}
		}
	})
}
