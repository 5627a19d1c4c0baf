package incident

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/correlation"
)

// Rule is a rule with its digest.
type Rule struct {
	correlation.Rule
	Digest string
}

// Rules returns the rules with their digests.
func Rules(all []correlation.Rule) []Rule {
	rules := make([]Rule, len(all))
	for i, r := range all {
		rules[i] = Rule{r, r.Digest()}
	}
	return rules
}

// Outcome is the result of a rule for a set of parts at a time.
type Outcome struct {
	// Active reports whether the rule was satisfied, and since then always had at least one part.
	Active bool
	// Began reports whether the rule was ever satisfied.
	Began bool
	// Time is when the outcome last changed, and Next when time alone will change it; zero if never.
	Time, Next time.Time
	// Severity is the highest since the composite finding became active.
	Severity defender.Severity
	// Counted are the parts that count.
	Counted []Counted
	// End says why the composite finding is not active any more.
	End correlation.End
}

// Counted is a part that counts.
type Counted struct {
	Part
	// Stages are the indexes of the stages that it matches.
	Stages []int
	// Since is when it became open, in ns since 1970.
	Since int64
}

// span is a period, in ns since 1970, in which a part counts with one severity.
type span struct {
	part            int
	from, to, since int64
	severity        defender.Severity
	// expires reports whether the window ends the span.
	expires bool
}

// boundary is the beginning or the end of a span.
type boundary struct {
	time   int64
	begins bool
	span   int
}

// replay is the state of one [Replay].
type replay struct {
	rule    correlation.Rule
	stages  [][]int // by part
	parts   []Part
	spans   []span
	current []int // the span of each part that counts, -1 for none
	own     int   // parts that count and are about the device itself
	devices map[string]int
	Outcome
}

// tolerance is how far a state's time may be ahead of the correlator's clock.
const tolerance = 5 * time.Minute

// Replay reads the histories of all parts in the order of their times. A part counts from each
// state in which it is open, for the rule's window or until its next state. Findings about shared
// resources count as long as they are open.
func Replay(rule Rule, parts []Part, now time.Time) Outcome {
	return Resume(rule, parts, now, Past{})
}

// Past is a composite finding that has been active since a time, with its severity. The zero value
// means that there was none.
type Past struct {
	Since    time.Time
	Severity defender.Severity
}

// Resume is [Replay] for histories whose beginning was dropped: of the parts that made the composite
// finding active, some may be unknown.
func Resume(rule Rule, parts []Part, now time.Time, past Past) Outcome {
	r := replay{rule: rule.Rule, devices: map[string]int{}}
	present := now.UnixNano()
	for _, p := range parts {
		stages := ownStages(rule, p)
		if len(stages) == 0 {
			continue
		}
		r.parts, r.stages, r.current = append(r.parts, p), append(r.stages, stages), append(r.current, -1)
		r.add(len(r.parts)-1, p)
		if t := p.Newest().time(); t > present && t <= now.Add(tolerance).UnixNano() {
			present = t
		}
	}
	bounds := r.boundaries()
	resumed := past.Since.IsZero()
	next := len(bounds)
	for i := 0; i < len(bounds); {
		if !resumed && bounds[i].time > past.Since.UnixNano() {
			r.resume(past)
			resumed = true
		}
		if bounds[i].time > present {
			next = i
			break
		}
		j := i
		for j < len(bounds) && bounds[j].time == bounds[i].time {
			j++
		}
		r.step(bounds[i:j])
		i = j
	}
	if !resumed {
		r.resume(past)
	}
	if r.Active && r.own == 0 { // it was active, and no known part counts
		r.Active, r.End, r.Time = false, correlation.WindowPassed, at(present)
	}
	for _, b := range bounds[next:] {
		if r.Active || b.begins {
			r.Next = at(b.time)
			break
		}
	}
	for i, s := range r.current {
		if s >= 0 {
			r.Counted = append(r.Counted, Counted{r.parts[i], r.stages[i], r.spans[s].since})
		}
	}
	slices.SortFunc(r.Counted, newestFirst)
	return r.Outcome
}

// resume continues a composite finding that was active.
func (r *replay) resume(past Past) {
	if !r.Active {
		r.Severity = past.Severity
	}
	r.Active, r.Began, r.End, r.Severity = true, true, "", max(r.Severity, past.Severity)
}

// ownStages returns the stages that a part matches. Shared findings match only shared stages, and
// the device's own findings only the others.
func ownStages(rule Rule, p Part) []int {
	return slices.DeleteFunc(slices.Clone(p.Matches[rule.Digest]), func(i int) bool { return i >= len(rule.Stages) || rule.Stages[i].Shared != p.Shared })
}

func newestFirst(a, b Counted) int {
	return cmp.Or(cmp.Compare(b.Since, a.Since), cmp.Compare(a.Key(), b.Key()))
}

// add adds the spans of a part.
func (r *replay) add(part int, p Part) {
	var last, since int64
	open := false
	times := make([]int64, len(p.History))
	for i, m := range p.History {
		last = max(last, m.time()) // the order of the states decides, so times must not fall
		times[i] = last
	}
	for i, m := range p.History {
		if m.State != Open {
			open = false
			continue
		}
		if !open {
			open, since = true, times[i]
		}
		s := span{part: part, from: times[i], to: math.MaxInt64, since: since, severity: m.Severity}
		if !p.Shared {
			s.to, s.expires = times[i]+int64(r.rule.Window()), true
		}
		if i+1 < len(times) && times[i+1] <= s.to {
			s.to, s.expires = times[i+1], false
		}
		r.spans = append(r.spans, s)
	}
	if open && p.Start > 0 && p.Start <= last {
		for i := len(r.spans) - 1; i >= 0 && r.spans[i].part == part && r.spans[i].since == since; i-- {
			r.spans[i].since = p.Start
		}
	}
}

func (r *replay) boundaries() []boundary {
	all := make([]boundary, 0, 2*len(r.spans))
	for i, s := range r.spans {
		if s.from < s.to {
			all = append(all, boundary{s.from, true, i})
			if s.to < math.MaxInt64 {
				all = append(all, boundary{s.to, false, i})
			}
		}
	}
	// Within one instant, ends are first: a state replaces the one before it.
	slices.SortFunc(all, func(a, b boundary) int {
		begins := func(b boundary) int {
			if b.begins {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(begins(a), begins(b)), cmp.Compare(a.span, b.span))
	})
	return all
}

// step handles the boundaries of one instant.
func (r *replay) step(bounds []boundary) {
	added := defender.SeverityDefault
	expired := false
	for _, b := range bounds {
		s := r.spans[b.span]
		if b.begins {
			r.count(s.part, 1)
			r.current[s.part] = b.span
			added = max(added, s.severity)
			continue
		}
		expired = expired || s.expires
		r.count(s.part, -1)
		r.current[s.part] = -1
	}
	r.Time = at(bounds[0].time)
	switch {
	case r.own == 0 && r.Active:
		r.Active, r.End = false, correlation.PartsEnded
		if expired {
			r.End = correlation.WindowPassed
		}
	case r.own == 0:
	case r.Active:
		r.Severity = max(r.Severity, added)
	case r.satisfied():
		r.Active, r.Began, r.End = true, true, ""
		r.Severity = defender.Severity(r.rule.Severity)
		for _, s := range r.current {
			if s >= 0 {
				r.Severity = max(r.Severity, r.spans[s].severity)
			}
		}
	}
}

func (r *replay) count(part, n int) {
	p := r.parts[part]
	if !p.Shared {
		r.own += n
	}
	if r.rule.Campaign() {
		if r.devices[p.Device] += n; r.devices[p.Device] == 0 {
			delete(r.devices, p.Device)
		}
	}
}

// Devices returns the distinct devices of parts that count, sorted.
func (o Outcome) Devices() []string {
	names := map[string]bool{}
	for _, c := range o.Counted {
		names[c.Device] = true
	}
	return slices.Sorted(maps.Keys(names))
}
