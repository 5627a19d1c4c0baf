package engine

import (
	"testing"
	"time"
)

func TestHeldListsTheStateOfEachBehavior(t *testing.T) {
	s := State{tracks: map[string]*track{
		"plant/telnet#3": {Alarm: alarm{Since: 60_000, Run: 1}, Settled: 120_000},
		"plant/bytes":    {Windows: make([]window, 2)},
	}}
	got := s.Held()
	want := []Held{
		{Profile: "plant", Behavior: "bytes", Waiting: 2},
		{Profile: "plant", Behavior: "telnet", Since: time.UnixMilli(60_000).UTC(), Run: 1, Settled: time.UnixMilli(120_000).UTC()},
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := (State{}).Held(); len(got) != 0 {
		t.Errorf("the zero value holds %+v, want nothing", got)
	}
}
