// Package incident decides which composite findings are active, from the known states of the
// findings that a rule matches.
//
// The decision is a function of the known states alone. So events may arrive in any order and more
// than once: each adds a state to the history of its finding, and [Replay] reads all histories in
// the order of their times.
package incident

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/findingevent"
)

// State is whether a finding counts.
type State int

const (
	// Ended: the product archived the finding.
	Ended State = iota
	// Open: it is active, and needs attention.
	Open
	// Dismissed: an analyst suppressed or resolved it.
	Dismissed
)

// Mark is one state of a finding.
type Mark struct {
	Order    findingevent.Order
	State    State
	Severity defender.Severity
}

// markJSON is the compact JSON form of a Mark, with times in ns since 1970.
type markJSON [5]int64

// MarshalJSON writes five numbers.
func (m Mark) MarshalJSON() ([]byte, error) {
	return json.Marshal(markJSON{nanoseconds(m.Order.Updated), nanoseconds(m.Order.Processed), nanoseconds(m.Order.Event), int64(m.State), int64(m.Severity)})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *Mark) UnmarshalJSON(data []byte) error {
	var n markJSON
	if err := json.Unmarshal(data, &n); err != nil {
		return fmt.Errorf("state of a finding: %w", err)
	}
	*m = Mark{findingevent.Order{Updated: at(n[0]), Processed: at(n[1]), Event: at(n[2])}, State(n[3]), defender.Severity(n[4])}
	return nil
}

func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func at(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// time is when the state began: the product's time of the update, which is not later than the
// event. An analyst's change leaves the product's time as it is, so it began when Security Hub
// processed it.
func (m Mark) time() int64 {
	t := nanoseconds(m.Order.Updated)
	if m.State == Dismissed {
		t = max(t, nanoseconds(m.Order.Processed), nanoseconds(m.Order.Event))
	}
	if event := nanoseconds(m.Order.Event); event > 0 {
		t = min(t, event+int64(time.Second)) // the event's time is truncated to a second
	}
	return t
}

// Part is a finding that matches rules, with its history. All other fields are those of its newest
// state.
type Part struct {
	Finding asff.RelatedFinding `json:"finding"`
	// Service is the service that the finding is from.
	Service string `json:"service,omitempty"`
	// Matches are the indexes of the stages that the finding matches, by the rule's digest.
	Matches map[string][]int `json:"matches,omitempty"`
	// Start is when the finding's product says that its present state began, in ns since 1970; 0 if
	// it does not say.
	Start int64 `json:"start,omitempty"`
	// Device is the device of a campaign's part.
	Device string `json:"device,omitempty"`
	// Thing reports whether the finding shows its device as a thing of the registry.
	Thing bool `json:"thing,omitempty"`
	// Resources are the first resources of the finding.
	Resources []asff.Resource `json:"resources,omitempty"`
	// History has the states, oldest first.
	History []Mark `json:"history"`
	// From is when the history begins, in ns since 1970, if older states were dropped; else 0.
	From int64 `json:"from,omitempty"`
	// Shared reports whether the finding is about a policy or a role alias that the device uses. It
	// is not stored.
	Shared bool `json:"-"`
}

// Known returns the time since which the histories of all parts are complete. It is not before
// since.
func Known(parts []Part, since time.Time) time.Time {
	for _, p := range parts {
		if from := at(p.From); from.After(since) {
			since = from
		}
	}
	return since
}

// Latest returns the time of the newest event of all parts, or now if that is later.
func Latest(parts []Part, now time.Time) time.Time {
	for _, p := range parts {
		for _, m := range p.History {
			if m.Order.Event.After(now) {
				now = m.Order.Event
			}
		}
	}
	return now
}

// Key identifies the finding.
func (p Part) Key() string { return p.Finding.ProductARN + "/" + p.Finding.ID }

// Newest returns the newest state.
func (p Part) Newest() Mark { return p.History[len(p.History)-1] }

// MaxHistory limits the states of a finding. Beyond it the oldest are dropped.
const MaxHistory = 32

// Observe adds a state to the history; seen has one state. It reports whether that changed the
// part. It reports a tie if another state has the same times: then only Security Hub can say which
// is newer, and nothing changes.
func (p *Part) Observe(seen Part) (changed, tied bool) {
	mark := seen.Newest()
	i, found := slices.BinarySearchFunc(p.History, mark, func(a, b Mark) int { return a.Order.Compare(b.Order) })
	if found {
		return false, p.History[i].State != mark.State || p.History[i].Severity != mark.Severity
	}
	p.insert(i, seen)
	return true, false
}

// Settle adds a state that GetFindings returned: it replaces a state with the same times.
func (p *Part) Settle(seen Part) {
	i, found := slices.BinarySearchFunc(p.History, seen.Newest(), func(a, b Mark) int { return a.Order.Compare(b.Order) })
	if found {
		p.History = slices.Delete(p.History, i, i+1)
	}
	p.insert(i, seen)
}

func (p *Part) insert(i int, seen Part) {
	was := *p
	history := slices.Insert(slices.Clone(p.History), i, seen.Newest())
	if i == len(history)-1 {
		*p = seen
	}
	p.Thing = was.Thing || seen.Thing
	p.From, p.History = was.From, history
	p.Shorten(MaxHistory)
}

// Shorten keeps only a number of states, the newest.
func (p *Part) Shorten(states int) {
	if n := len(p.History); n > states {
		p.History = p.History[n-states:]
		p.From = max(p.From, p.History[0].time())
	}
}

// DeviceKey identifies the part among those of all devices.
func (p Part) DeviceKey() string { return p.Device + "\x00" + p.Key() }

// Merge returns the parts with one history for each finding and device.
func Merge(parts []Part) []Part {
	var merged []Part
	index := map[string]int{}
	for _, p := range parts {
		key := p.DeviceKey()
		i, found := index[key]
		if !found {
			index[key] = len(merged)
			merged = append(merged, p)
			continue
		}
		for _, m := range p.History {
			seen := p
			seen.History = []Mark{m}
			if m.Order.Compare(p.Newest().Order) != 0 {
				seen.Matches = merged[i].Matches
			}
			merged[i].Observe(seen)
		}
	}
	return merged
}

// Forget drops the states that ended before a time, and reports whether the whole part may be
// dropped. No event may arrive later that is older than the dropped states.
func (p *Part) Forget(before time.Time) (all bool) {
	until := before.UnixNano()
	for len(p.History) > 1 && p.History[1].time() < until {
		p.History = p.History[1:]
	}
	return p.Newest().time() < until
}
