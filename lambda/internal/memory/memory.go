// Package memory caches answers.
package memory

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

// Answers are cached by key. Unlike other caches with expiry, they take the time from their
// callers. They are safe for concurrent use.
type Answers[V any] struct {
	known   *lru.Cache[string, answer[V]]
	flights singleflight.Group
	maxAge  time.Duration
}

type answer[V any] struct {
	value V
	at    time.Time
}

// New returns a cache for that many answers, each valid for less than maxAge.
func New[V any](size int, maxAge time.Duration) (*Answers[V], error) {
	known, err := lru.New[string, answer[V]](size)
	return &Answers[V]{known: known, maxAge: maxAge}, err
}

// Get returns the cached answer, or asks; errors are not cached. Callers' times need not rise: an
// answer is valid for maxAge before and after its time. Concurrent calls for one key ask once.
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
