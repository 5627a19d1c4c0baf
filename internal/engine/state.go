package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// StateVersion is the version of [State]'s JSON form. A state of another version is an error.
const StateVersion = 1

// State is what the engine stores about one thing. The zero value is a thing without state. A
// state that is [State.Empty] need not be stored.
type State struct {
	// tracks by Compiled.key.
	tracks   map[string]*track
	presence presence
}

// track is the state of one behavior.
type track struct {
	Alarm alarm `json:"a,omitzero"`
	// Form is the Compiled.form of the behavior when the state was written.
	Form string `json:"f"`
	// Settled is the start of the newest window that was judged, in ms. For durations and
	// reports it is the time up to which the behavior was judged.
	Settled int64 `json:"z,omitempty"`
	// From is the start of the window in which the state of a lower bound began. Too few events
	// in it, or before it, do not violate: not all were recorded.
	From int64 `json:"w,omitempty"`
	// Windows that are not judged yet, oldest first.
	Windows []window `json:"q,omitempty"`
	// Offline is since when there is no session, for disconnect-duration. Next is when the next
	// datapoint is due without an event.
	Offline int64 `json:"o,omitempty"`
	Next    int64 `json:"x,omitempty"`
	// For behaviors whose first traffic must be confirmed: Pending is the window that waits for
	// it, Connects are the times of connections since the last window, oldest first, and Seen is
	// the start of the last window of a sum.
	Pending  *unconfirmed `json:"p,omitempty"`
	Connects []int64      `json:"c,omitempty"`
	Seen     int64        `json:"e,omitempty"`
}

type stateJSON struct {
	Version  int               `json:"v"`
	Tracks   map[string]*track `json:"b,omitempty"`
	Presence presence          `json:"p,omitempty"`
}

// MarshalJSON returns the state with its version.
func (s State) MarshalJSON() ([]byte, error) {
	return json.Marshal(stateJSON{StateVersion, s.tracks, s.presence})
}

// UnmarshalJSON parses the JSON of MarshalJSON.
func (s *State) UnmarshalJSON(data []byte) error {
	var in stateJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("state of a thing: %w", err)
	}
	if in.Version != StateVersion {
		return fmt.Errorf("state of a thing has version %d, want %d: it was written by another version of the engine", in.Version, StateVersion)
	}
	maps.DeleteFunc(in.Tracks, func(_ string, t *track) bool { return t == nil })
	*s = State{in.Tracks, in.Presence}
	return nil
}

// Empty reports whether the state need not be stored, so that its item can be deleted.
func (s State) Empty() bool { return len(s.tracks) == 0 && len(s.presence) == 0 }

// Transient reports whether the state contains only sessions. Without other events they are not
// needed after the lateness bound, so DynamoDB may expire the item.
func (s State) Transient() bool { return len(s.tracks) == 0 }

// Bare returns the state without the measured values of the windows that are not judged yet, which
// only findings show. It is for a state that is too large to be stored.
func (s State) Bare() State {
	bare := s.clone()
	for _, t := range bare.tracks {
		for i := range t.Windows {
			t.Windows[i].Value = nil
		}
		if t.Pending != nil {
			pending := *t.Pending
			pending.Value = nil
			t.Pending = &pending
		}
	}
	return bare
}

// Open reports whether a behavior's alarm is open.
func (s State) Open(profile, behavior string) bool {
	for key, t := range s.tracks {
		if nameOf(key) == profile+"/"+behavior && t.Alarm.open() {
			return true
		}
	}
	return false
}

// clone returns a copy that shares nothing that Step writes to.
func (s State) clone() State {
	c := State{tracks: make(map[string]*track, len(s.tracks)), presence: slices.Clone(s.presence)}
	for key, t := range s.tracks {
		copied := *t
		copied.Windows, copied.Connects = slices.Clone(t.Windows), slices.Clone(t.Connects)
		for i := range copied.Windows {
			if n := copied.Windows[i].Tally; n != nil {
				copied.Windows[i].Tally = &tally{slices.Clone(n.entries)}
			}
		}
		c.tracks[key] = &copied
	}
	return c
}

// never is the due time of a behavior that waits for an event.
const never = math.MaxInt64

// Due returns when Step must be called again without a datapoint; the zero time if never.
func (e Evaluator) Due(s State) time.Time {
	due := int64(never)
	for key, t := range s.tracks {
		if i := slices.IndexFunc(e.Behaviors, func(c Compiled) bool { return c.key == key }); i >= 0 {
			due = min(due, e.due(&e.Behaviors[i], t, s.presence))
		} else {
			due = min(due, t.Alarm.silentSince()+e.Lateness.Milliseconds()+1)
		}
	}
	if due == never {
		return time.Time{}
	}
	return time.UnixMilli(due).UTC()
}
