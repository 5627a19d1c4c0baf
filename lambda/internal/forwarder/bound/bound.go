// Package bound limits how many findings one sender raises. Without a limit, a device that
// invents event types, or a client that invents client IDs, would fill Security Hub at the
// account's expense and hide important findings.
//
// A record in the ledger's table lists the findings that a group has raised. It only grows, so a
// decision about a finding does not change, in any order of arrival. A new finding costs a write,
// all others at most a read.
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
	// known are the lists of groups as last read or written. A list only grows: its findings stay
	// admitted, and a full list is final.
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
			names := make([]string, len(members))
			for j, i := range members {
				names[j] = signals[i].Finding.ID
			}
			admitted, err := b.admit(ctx, group, signals[members[0]].Bound.Ends, names)
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

// admit returns the group's list, with as many of names as there is room for.
func (b *Bounds) admit(ctx context.Context, group string, ends bool, names []string) ([]string, error) {
	b.mu.Lock()
	list := b.known[group]
	b.mu.Unlock()
	if settled(list, names) {
		return list, nil
	}
	v, err := b.lists(group, ends).Change(ctx, func(v *document.Version[[]string]) bool {
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
	b.know(group, v.Value)
	return v.Value, nil
}

// settled reports whether a list decides about all names.
func settled(list, names []string) bool {
	return len(list) >= deviceevent.MaxTypes ||
		!slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(list, name) })
}

func (b *Bounds) know(group string, list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known == nil || len(b.known) >= mostKnown {
		b.known = map[string][]string{}
	}
	b.known[group] = list
}

// lists is the document of a group's list. Its key contains a hash, because clients choose parts
// of a group.
func (b *Bounds) lists(group string, ends bool) document.Document[[]string] {
	sum := sha256.Sum256([]byte(group))
	place := ledger.Place{Table: b.Table, Key: ledger.Key{Partition: "bound#" + b.Region + "#" + hex.EncodeToString(sum[:]), Sort: "findings"}}
	if ends {
		place.Expires = b.Now().Add(lifetime)
	}
	return document.Document[[]string]{Place: place, Name: "list of the findings that a sender has raised"}
}
