package handler

import (
	"context"
	"sync"
	"time"

	"github.com/defenderhub/defenderhub/internal/engine"
)

// generationsAge is how long an environment caches the generations.
const generationsAge = time.Minute

// behaviors has the behaviors with the generations that this environment read last.
type behaviors struct {
	mu    sync.Mutex
	all   []engine.Compiled
	asked time.Time
}

func (b *behaviors) known() []engine.Compiled {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all
}

// readGenerations stores the generations if the environment is new. Later it only reads them:
// during a deployment an old environment may store its own in between, and new behaviors get
// another generation then.
func (h *Handler) readGenerations(ctx context.Context) (err error) {
	b := &h.behaviors
	b.mu.Lock()
	defer b.mu.Unlock()
	now := h.Now()
	var g engine.Generations
	switch {
	case b.asked.IsZero():
		g, err = h.Store.Name(ctx, b.all)
	case now.Sub(b.asked) >= generationsAge:
		g, err = h.Store.Generations(ctx)
	default:
		return nil
	}
	if err == nil {
		b.all, b.asked = g.Of(b.all), now
	}
	return err
}
