package incident

import (
	"cmp"
	"slices"
	"time"
)

// satisfied reports whether the parts that count now satisfy the rule.
func (r *replay) satisfied() bool {
	if r.rule.Campaign() {
		return len(r.devices) >= r.rule.Devices
	}
	var counted []candidate
	services := map[string]bool{}
	for i, s := range r.current {
		if s >= 0 {
			counted = append(counted, candidate{r.spans[s].since, r.stages[i], r.parts[i].Key()})
			services[r.parts[i].Service] = true
		}
	}
	if len(services) < r.rule.DistinctProducts {
		return false
	}
	need := make([]int, len(r.rule.Stages))
	for i, s := range r.rule.Stages {
		need[i] = max(s.AtLeast, 1)
	}
	if r.rule.InOrder {
		return inOrder(need, counted)
	}
	return anyOrder(need, counted)
}

// candidate is a part that counts.
type candidate struct {
	since  int64
	stages []int
	key    string
}

// anyOrder reports whether each stage can have its number of parts, each part in one stage: it
// looks for a maximum matching, with one slot per needed part.
func anyOrder(need []int, counted []candidate) bool {
	var slots []int // stages
	for stage, n := range need {
		for range n {
			slots = append(slots, stage)
		}
	}
	if len(counted) < len(slots) {
		return false
	}
	taken := make([]int, len(counted)) // the slot of each part, plus one
	for slot := range slots {
		if !assign(slot, slots, counted, taken, make([]bool, len(counted))) {
			return false
		}
	}
	return true
}

// assign finds a part for a slot, and moves other slots' parts if that helps.
func assign(slot int, slots []int, counted []candidate, taken []int, tried []bool) bool {
	for i, c := range counted {
		if tried[i] || !slices.Contains(c.stages, slots[slot]) {
			continue
		}
		tried[i] = true
		if taken[i] == 0 || assign(taken[i]-1, slots, counted, taken, tried) {
			taken[i] = slot + 1
			return true
		}
	}
	return false
}

// precision, in ns, is how much the times of findings may be off: those of lifecycle events up to 2
// minutes.
// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
const precision = int64(2 * time.Minute)

// inOrder reports whether the stages can have their parts one after the other: no part of a stage
// began before the last part of the stage before it, within [precision]. Each stage takes the
// earliest parts, or the earliest that no later stage can use.
func inOrder(need []int, counted []candidate) bool {
	return earliest(need, counted, false) || earliest(need, counted, true)
}

// earliest reports whether each stage finds its parts if it takes the earliest ones. sparing takes
// those first that no later stage can use.
func earliest(need []int, counted []candidate, sparing bool) bool {
	slices.SortFunc(counted, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(len(a.stages), len(b.stages)), cmp.Compare(a.key, b.key))
	})
	used := make([]bool, len(counted))
	var from int64
	for stage, n := range need {
		last := from
		for _, shared := range []bool{false, true} {
			for i, c := range counted {
				later := sparing && slices.ContainsFunc(c.stages, func(s int) bool { return s > stage })
				if n > 0 && !used[i] && later == shared && c.since >= from-precision && slices.Contains(c.stages, stage) {
					used[i], n, last = true, n-1, max(last, c.since)
				}
			}
		}
		if n > 0 {
			return false
		}
		from = last
	}
	return true
}
