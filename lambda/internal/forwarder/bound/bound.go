// Package bound limits how many findings one sender raises. Without a limit, a device that
// invents event types, or a client that invents client IDs, would fill Security Hub at the
// account's expense and hide important findings.
//
// A record in the ledger's table lists the findings that a group has raised. It only grows, so a
// decision about a finding does not change, in any order of arrival. A new finding costs a write,
// all others at most a read.
//
// An end may arrive before the beginning of its finding. So a second record lists the findings that
// the group has only ended: a sender that ends what it never raised uses up that list alone.
//
// The record of a group whose findings end by themselves expires [lifetime] after its last new
// finding. Until then such a finding has ended, or another one takes its place.
package bound

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/deviceevent"
	"github.com/defenderhub/defenderhub/lambda/internal/document"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// Bounds is safe for concurrent use.
type Bounds struct {
	Table  ledger.Table
	Region string
	// Now is the clock. An event's own time may be forged.
	Now func() time.Time

	mu sync.Mutex
	// known are the lists, by kind and group, as last read or written. A list only grows: its
	// findings stay admitted, and a full list is final.
	known map[string][]string
}

const (
	// parallel is how many groups are looked up at once.
	parallel = 16
	// mostKnown is how many lists are cached, in about 50 MB.
	mostKnown = 5000
	// lifetime is longer than the longest quiet time, 80 days.
	lifetime = asff.FindingLifetime
)

// Apply returns the signals to deliver for each of signals: itself, the one of its bound instead,
// or none. The errors are by index; such a signal must be retried.
func (b *Bounds) Apply(ctx context.Context, signals []signal.Signal) ([][]signal.Signal, map[int]error) {
	results := make([][]signal.Signal, len(signals))
	groups := map[string][]int{}
	for i, s := range signals {
		switch {
		case s.Bound == nil:
			results[i] = []signal.Signal{s}
		case s.Bound.Group == "":
			results[i] = instead(s)
		default:
			groups[s.Bound.Group] = append(groups[s.Bound.Group], i)
		}
	}
	faults := map[int]error{}
	var mu sync.Mutex
	var some errgroup.Group
	some.SetLimit(parallel)
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		members := groups[group]
		some.Go(func() error {
			var raised, ended []string
			for _, i := range members {
				if id := signals[i].Finding.ID; signals[i].Raised {
					raised = append(raised, id)
				} else {
					ended = append(ended, id)
				}
			}
			admitted, err := b.admit(ctx, group, signals[members[0]].Bound.Ends, raised, ended)
			mu.Lock()
			defer mu.Unlock()
			for _, i := range members {
				switch {
				case err != nil:
					faults[i] = err
				case slices.Contains(admitted, signals[i].Finding.ID):
					results[i] = []signal.Signal{signals[i]}
				default:
					results[i] = instead(signals[i])
				}
			}
			return nil
		})
	}
	_ = some.Wait() // each error is a group's own
	return results, faults
}

func instead(s signal.Signal) []signal.Signal {
	if s.Bound.Over == nil {
		return nil
	}
	return []signal.Signal{s.Bound.Over()}
}

// Sort keys of a group's lists.
const (
	raisedList = "findings"
	endedList  = "ends"
)

// admit returns the findings of a group that are admitted, with as many of the new ones as there is
// room for. If the group has raised as many as its limit allows, no end needs a place: its beginning
// gets none.
func (b *Bounds) admit(ctx context.Context, group string, expires bool, raised, ended []string) ([]string, error) {
	ends := b.cached(group, endedList)
	list, err := b.list(ctx, group, raisedList, expires, raised, without(ended, ends))
	if err != nil || len(list) >= deviceevent.MaxTypes {
		return list, err
	}
	if left := without(ended, slices.Concat(list, ends)); len(left) > 0 {
		ends, err = b.list(ctx, group, endedList, expires, left, nil)
	}
	return slices.Concat(list, ends), err
}

func without(names, known []string) (rest []string) {
	for _, name := range names {
		if !slices.Contains(known, name) {
			rest = append(rest, name)
		}
	}
	return rest
}

// list returns a list of a group, with as many of names as there is room for. It reads the list if
// the cached one lacks one of others.
func (b *Bounds) list(ctx context.Context, group, kind string, expires bool, names, others []string) ([]string, error) {
	if list := b.cached(group, kind); settled(list, names) && settled(list, others) {
		return list, nil
	}
	v, err := b.lists(group, kind, expires).Change(ctx, func(v *document.Version[[]string]) bool {
		before := len(v.Value)
		for _, name := range names {
			if len(v.Value) < deviceevent.MaxTypes && !slices.Contains(v.Value, name) {
				v.Value = append(v.Value, name)
			}
		}
		return len(v.Value) > before
	})
	if err != nil {
		return nil, err
	}
	b.remember(group, kind, v.Value)
	return v.Value, nil
}

// settled reports whether a list decides about all names.
func settled(list, names []string) bool {
	return len(list) >= deviceevent.MaxTypes || len(without(names, list)) == 0
}

func (b *Bounds) cached(group, kind string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.known[kind+" "+group]
}

func (b *Bounds) remember(group, kind string, list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known == nil || len(b.known) >= mostKnown {
		b.known = map[string][]string{}
	}
	b.known[kind+" "+group] = list
}

// lists returns the document of a group's list. Its key contains a hash, because clients choose parts
// of a group. Earlier versions of the program have only the list of raised findings, in this form.
func (b *Bounds) lists(group, kind string, expires bool) document.Document[[]string] {
	sum := sha256.Sum256([]byte(group))
	place := ledger.Place{Table: b.Table, Key: ledger.Key{Partition: "bound#" + b.Region + "#" + hex.EncodeToString(sum[:]), Sort: kind}}
	if expires {
		place.Expires = b.Now().Add(lifetime)
	}
	return document.Document[[]string]{Place: place, Name: "list of a sender's findings"}
}
