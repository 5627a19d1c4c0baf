package simulation

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/internal/securityhubtest"
)

// part is the reference's record of a finding that rules are about.
type part struct {
	// kind is what a stage asks for: "offline", "type-1", "policy". device is a client, or for a
	// policy its name.
	kind, device string
	states       []partState
}

// partState is a state of a finding from a time on.
type partState struct {
	at   time.Time
	open bool
}

func (p part) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s %s", p.device, p.kind)
	for _, s := range p.states {
		fmt.Fprintf(&b, " %s %t", s.at.Format("02 15:04:05.000"), s.open)
	}
	return b.String()
}

// observePart notes a state of a finding. Its time is UpdatedAt, but not after the event's, which
// is truncated to a second.
func (w *world) observePart(f securityhubtest.Finding) {
	kind, device := "", ""
	parts := strings.Split(f.ID, "/") // defenderhub, source, Region, identity
	switch {
	case len(parts) == 6 && parts[1] == "behavior":
		kind, device = parts[4], parts[5]
	case len(parts) == 5 && parts[1] == "device-event":
		kind, device = parts[4], parts[3]
	case len(parts) == 8 && parts[1] == "audit" && parts[3] == "IOT_POLICY":
		kind, device = "policy", parts[4]
	default:
		return
	}
	p := w.parts[f.ID]
	if p == nil {
		p = &part{kind: kind, device: device}
		w.parts[f.ID] = p
	}
	s := partState{f.UpdatedAt, f.RecordState == "ACTIVE"}
	if latest := time.Now().Truncate(time.Second).Add(time.Second); s.at.After(latest) {
		s.at = latest
	}
	i, found := slices.BinarySearchFunc(p.states, s, func(a, b partState) int { return a.at.Compare(b.at) })
	if found {
		p.states[i] = s
		return
	}
	p.states = slices.Insert(p.states, i, s)
}

// refRule is the reference's own statement of a rule: which kinds each stage asks for.
type refRule struct {
	window        time.Duration
	first, second []string
	inOrder       bool
	devices       int
}

// allowance is by how much a later stage may begin before an earlier one.
const allowance = 2 * time.Minute

func (w *world) refRules() map[string]refRule {
	return map[string]refRule{
		vanished: {window: 48 * time.Hour, first: []string{"offline"}, second: []string{"reports-regularly"}},
		worsens:  {window: 48 * time.Hour, first: []string{"type-0"}, second: []string{"type-1"}, inOrder: true},
		noisy:    {window: w.settings().noisyFor(), first: []string{"type-1"}, second: []string{"type-2"}},
		exposed:  {window: 48 * time.Hour, first: []string{"open-ports", "few-ports"}, second: []string{"policy"}},
	}
}

type incidentKey struct{ rule, entity string }

func (k incidentKey) compare(o incidentKey) int {
	return cmp.Or(strings.Compare(k.rule, o.rule), strings.Compare(k.entity, o.entity))
}

// wanted is the reference's result for an incident. unsure reports that a window ends about now,
// or that a finding changed more often than the correlator keeps.
type wanted struct {
	active, ever, unsure bool
	parts                []part
}

// incidents returns the incidents of the reference, which sees all states in the order of their times.
func (w *world) incidents(now time.Time) map[incidentKey]wanted {
	all := map[incidentKey]wanted{}
	devices, types := map[string][]part{}, map[string][]part{}
	for _, id := range slices.Sorted(maps.Keys(w.parts)) {
		p := *w.parts[id]
		devices[p.device] = append(devices[p.device], p)
		if strings.HasPrefix(p.kind, "type-") {
			types[p.kind] = append(types[p.kind], p)
		}
	}
	for name, r := range w.refRules() {
		for device, parts := range devices {
			d := w.deviceOf(device)
			if name == exposed && d != nil && d.registered {
				parts = slices.Concat(parts, devices[policyOf(device)])
			}
			parts = slices.DeleteFunc(slices.Clone(parts), func(p part) bool { return !slices.Contains(slices.Concat(r.first, r.second), p.kind) })
			if len(parts) > 0 && parts[0].kind != "policy" {
				all[incidentKey{name, device}] = r.judge(parts, now)
			}
		}
	}
	for kind, parts := range types {
		all[incidentKey{campaign, kind}] = refRule{window: 12 * time.Hour, devices: campaignOf}.judge(parts, now)
	}
	return all
}

// judge evaluates the rule at each time at which a part changes or its window passes.
func (r refRule) judge(parts []part, now time.Time) wanted {
	result := wanted{parts: parts}
	var moments []time.Time
	for _, p := range parts {
		result.unsure = result.unsure || len(p.states) > 30
		for _, s := range p.states {
			moments = append(moments, s.at, s.at.Add(r.window))
		}
	}
	slices.SortFunc(moments, time.Time.Compare)
	for _, at := range moments {
		if at.Sub(now).Abs() < 30*time.Minute {
			result.unsure = true
		}
		if at.After(now) {
			break
		}
		own, holds := r.counts(parts, at)
		switch {
		case own == 0:
			result.active = false
		case holds:
			result.active, result.ever = true, true
		}
	}
	return result
}

// counts returns how many parts of the device itself count at a time, and whether all stages hold.
func (r refRule) counts(parts []part, at time.Time) (own int, holds bool) {
	var first, second []time.Time
	devices := map[string]bool{}
	for _, p := range parts {
		since, counts := p.since(at, r.window)
		if !counts {
			continue
		}
		if devices[p.device] = true; p.kind != "policy" {
			own++
		}
		if slices.Contains(r.first, p.kind) {
			first = append(first, since)
		} else {
			second = append(second, since)
		}
	}
	if r.devices > 0 {
		return own, len(devices) >= r.devices
	}
	if len(first) == 0 || len(second) == 0 {
		return own, false
	}
	slices.SortFunc(first, time.Time.Compare)
	slices.SortFunc(second, time.Time.Compare)
	return own, !r.inOrder || !second[len(second)-1].Before(first[0].Add(-allowance))
}

// since returns when a part became open, and whether it counts at a time.
func (p part) since(at time.Time, window time.Duration) (since time.Time, counts bool) {
	var last partState
	for _, s := range p.states {
		if s.at.After(at) {
			break
		}
		if s.open && !last.open {
			since = s.at
		}
		last = s
	}
	return since, last.open && (p.kind == "policy" || at.Before(last.at.Add(window)))
}
