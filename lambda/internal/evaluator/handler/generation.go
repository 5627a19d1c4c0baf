package handler

import (
	"context"
	"sync"
	"time"

	"github.com/defenderhub/defenderhub/internal/engine"
)

// generationsStand is how long an environment believes the generations that it read.
const generationsStand = time.Minute

// behaviors are those with their generations, as this environment read them last.
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

// knowGenerations names the behaviors where the environment is new. Later it only follows:
// while a deployment goes on, an environment from before it may name its own in between, and
// what is new gets another generation then.
func (h *Handler) knowGenerations(ctx context.Context) (err error) {
	b := &h.behaviors
	b.mu.Lock()
	defer b.mu.Unlock()
	now := h.Now()
	var g engine.Generations
	switch {
	case b.asked.IsZero():
		g, err = h.Store.Name(ctx, b.all)
	case now.Sub(b.asked) >= generationsStand:
		g, err = h.Store.Generations(ctx)
	default:
		return nil
	}
	if err == nil {
		b.all, b.asked = g.Of(b.all), now
	}
	return err
}
