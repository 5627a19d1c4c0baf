// Package memory remembers what was asked for last.
package memory

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

// Answers are remembered by key. They take time from their callers, as no cache that expires
// by itself does. They are safe for concurrent use.
type Answers[V any] struct {
	known   *lru.Cache[string, answer[V]]
	flights singleflight.Group
	maxAge  time.Duration
}

type answer[V any] struct {
	value V
	at    time.Time
}

// New returns room for so many answers, each believed for less than maxAge.
func New[V any](size int, maxAge time.Duration) (*Answers[V], error) {
	known, err := lru.New[string, answer[V]](size)
	return &Answers[V]{known: known, maxAge: maxAge}, err
}

// Get returns what is known, or asks; errors are not remembered. Callers' times need not
// rise: an answer is believed for as long before it was given as after. Concurrent calls for
// one key ask once.
func (a *Answers[V]) Get(key string, at time.Time, ask func() (V, error)) (V, error) {
	v, err, _ := a.flights.Do(key, func() (any, error) {
		if known, ok := a.known.Get(key); ok && at.Sub(known.at).Abs() < a.maxAge {
			return known.value, nil
		}
		value, err := ask()
		if err == nil {
			a.known.Add(key, answer[V]{value, at})
		}
		return value, err
	})
	return v.(V), err
}
