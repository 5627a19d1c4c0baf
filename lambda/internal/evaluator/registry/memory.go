package registry

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

// memory keeps the answers that were asked for last. It takes time from its callers, as
// no cache that expires by itself does.
type memory[V any] struct {
	answers *lru.Cache[string, answer[V]]
	flights singleflight.Group
	maxAge  time.Duration
}

type answer[V any] struct {
	value V
	at    time.Time
}

func newMemory[V any](size int, maxAge time.Duration) (*memory[V], error) {
	answers, err := lru.New[string, answer[V]](size)
	return &memory[V]{answers: answers, maxAge: maxAge}, err
}

// get returns what is known, or asks; errors are not remembered. Callers' times need not
// rise: an answer is believed for as long before it was given as after.
func (m *memory[V]) get(key string, at time.Time, ask func() (V, error)) (V, error) {
	v, err, _ := m.flights.Do(key, func() (any, error) {
		if known, ok := m.answers.Get(key); ok && at.Sub(known.at).Abs() < m.maxAge {
			return known.value, nil
		}
		value, err := ask()
		if err == nil {
			m.answers.Add(key, answer[V]{value, at})
		}
		return value, err
	})
	return v.(V), err
}
