package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
)

// generationsStand is how long an environment believes the generations that it read.
const generationsStand = time.Minute

// Name tells the generations of behaviors, and remembers them where they are others than
// those of whoever named last.
func (s *Store) Name(ctx context.Context, behaviors []engine.Compiled) (engine.Generations, error) {
	for range maxConflicts {
		known, revision, err := s.Generations(ctx)
		if err != nil {
			return nil, err
		}
		next, changed := known.Next(behaviors, revision)
		if !changed {
			return next, nil
		}
		names, err := json.Marshal(next)
		if err != nil {
			return nil, fmt.Errorf("generations of behaviors: %w", err)
		}
		it := item{attrRevision: number(revision + 1), attrNames: text(string(names))}
		maps.Copy(it, generationsKey())
		err = s.put(ctx, s.conditional(it, revision))
		if !errors.Is(err, ErrConflict) {
			return next, err
		}
	}
	return nil, fmt.Errorf("generations of behaviors: %w", ErrConflict)
}

// Generations reads what [Store.Name] remembered last, consistently.
func (s *Store) Generations(ctx context.Context) (known engine.Generations, revision int64, err error) {
	out, err := s.api.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: generationsKey(), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return nil, 0, fmt.Errorf("GetItem of table %s: %w", s.table, err)
	}
	if revision = numberOf(out.Item, attrRevision); revision > 0 {
		if err := json.Unmarshal([]byte(stringOf(out.Item, attrNames)), &known); err != nil {
			return nil, 0, fmt.Errorf("generations of behaviors: %w: %w", ErrState, err)
		}
	}
	return known, revision, nil
}

func generationsKey() item {
	return item{contract.StatePartitionKey: text(behaviorsKey), contract.StateSortKey: text(behaviorsKey)}
}

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
		g, _, err = h.Store.Generations(ctx)
	default:
		return nil
	}
	if err == nil {
		b.all, b.asked = g.Of(b.all), now
	}
	return err
}
