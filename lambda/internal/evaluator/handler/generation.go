package handler

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/document"
)

// generationsStand is how long an environment believes the generations that it read.
const generationsStand = time.Minute

// Name tells the generations of behaviors, and remembers them where they are others than
// those of whoever named last.
func (s *Store) Name(ctx context.Context, behaviors []engine.Compiled) (engine.Generations, error) {
	v, err := s.generations().Change(ctx, func(v *document.Version[engine.Generations]) (changed bool) {
		v.Value, changed = v.Value.Next(behaviors, v.Revision)
		return changed
	})
	return v.Value, err
}

// Generations reads what [Store.Name] remembered last, consistently.
func (s *Store) Generations(ctx context.Context) (engine.Generations, error) {
	v, err := s.generations().Read(ctx)
	return v.Value, err
}

// generations is their document.
func (s *Store) generations() document.Document[engine.Generations] {
	return document.Document[engine.Generations]{Place: generations{s}, Name: "generations of behaviors"}
}

// generations are the item in which they lie.
type generations struct{ *Store }

func (g generations) key() item {
	return item{contract.StatePartitionKey: text(behaviorsKey), contract.StateSortKey: text(behaviorsKey)}
}

// Read implements [document.Place].
func (g generations) Read(ctx context.Context) ([]byte, int64, error) {
	out, err := g.api.GetItem(ctx, &dynamodb.GetItemInput{TableName: &g.table, Key: g.key(), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return nil, 0, fmt.Errorf("GetItem of table %s: %w", g.table, err)
	}
	return []byte(stringOf(out.Item, attrNames)), numberOf(out.Item, attrRevision), nil
}

// Write implements [document.Place].
func (g generations) Write(ctx context.Context, names []byte, revision int64) error {
	it := g.key()
	it[attrRevision], it[attrNames] = number(revision), text(string(names))
	return g.put(ctx, g.conditional(it, revision-1))
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
		g, err = h.Store.Generations(ctx)
	default:
		return nil
	}
	if err == nil {
		b.all, b.asked = g.Of(b.all), now
	}
	return err
}
