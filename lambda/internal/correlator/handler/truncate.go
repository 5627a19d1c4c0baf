package handler

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/incident"
)

// Limits of what is kept of an entity. An item of 400 KB has room for that and for the outbox.
const (
	maxParts = 200
	// maxBytes limits the JSON of all parts. As few as fewParts never exceed it.
	maxBytes = 200 << 10
	fewParts = 20
)

// truncate keeps what an item of the table has room for. A device must not be able to end its
// incident with a flood of findings, so each stage of each rule keeps its newest parts.
func (h *Handler) truncate(d *document) {
	before := len(d.Parts)
	if before > maxParts {
		d.Parts = foremost(d.Parts)[:maxParts]
	}
	for states := incident.MaxHistory / 2; states > 1 && tooLong(d.Parts); states /= 2 {
		for i := range d.Parts {
			d.Parts[i].Shorten(states)
		}
	}
	if tooLong(d.Parts) {
		d.Parts = foremost(d.Parts)
	}
	for tooLong(d.Parts) {
		d.Parts = d.Parts[:len(d.Parts)*3/4]
	}
	h.count(unknownProduct, contract.MetricTruncated, before-len(d.Parts))
	// More parts may exist until many have been dropped.
	d.Truncated = len(d.Parts) < before || d.Truncated && len(d.Parts) > maxParts/2
}

func tooLong(parts []incident.Part) bool {
	if len(parts) <= fewParts {
		return false
	}
	text, _ := json.Marshal(parts) // cannot fail for strings and numbers
	return len(text) > maxBytes
}

// foremost returns the parts in the order in which they are kept: open ones first, then the newest
// of each stage, then the second of each stage, and so on.
func foremost(parts []incident.Part) []incident.Part {
	parts = slices.Clone(parts)
	closed := func(p incident.Part) int {
		if p.Newest().State == incident.Open {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(parts, func(a, b incident.Part) int {
		return cmp.Or(cmp.Compare(closed(a), closed(b)), b.Newest().Order.Compare(a.Newest().Order), cmp.Compare(a.Key(), b.Key()))
	})
	inStage := map[string]int{}
	rank := map[string]int{} // by the part's key
	for _, p := range parts {
		best := len(parts)
		for digest, stages := range p.Matches {
			for _, s := range stages {
				stage := fmt.Sprint(digest, s)
				best = min(best, inStage[stage])
				inStage[stage]++
			}
		}
		rank[p.Key()] = best
	}
	slices.SortStableFunc(parts, func(a, b incident.Part) int {
		return cmp.Or(cmp.Compare(closed(a), closed(b)), cmp.Compare(rank[a.Key()], rank[b.Key()]))
	})
	return parts
}
