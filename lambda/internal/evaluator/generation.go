package evaluator

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

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/evaluate"
)

// ErrReplaced says that a function with other behaviors began later.
var ErrReplaced = errors.New("the function was replaced by one with other behaviors")

// Generations tells the generations of behaviors. Where they are others than the last that
// asked had, they are remembered as of a time, unless others are as of a later one.
func (s *Store) Generations(ctx context.Context, behaviors []evaluate.Compiled, at time.Time) (evaluate.Generations, error) {
	key := item{defender.StatePartitionKey: text(behaviorsKey), defender.StateSortKey: text(behaviorsKey)}
	for range maxConflicts {
		out, err := s.api.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, Key: key, ConsistentRead: aws.Bool(true)})
		if err != nil {
			return nil, fmt.Errorf("GetItem of table %s: %w", s.table, err)
		}
		var known evaluate.Generations
		revision := numberOf(out.Item, attrRevision)
		if revision > 0 {
			if err := json.Unmarshal([]byte(stringOf(out.Item, attrNames)), &known); err != nil {
				return nil, fmt.Errorf("generations of behaviors: %w: %w", ErrState, err)
			}
		}
		next, changed := known.Next(behaviors, revision)
		if !changed {
			return next, nil
		}
		if at.Before(timeOf(out.Item, attrNamedAt)) {
			return nil, ErrReplaced
		}
		names, err := json.Marshal(next)
		if err != nil {
			return nil, fmt.Errorf("generations of behaviors: %w", err)
		}
		it := item{attrRevision: number(revision + 1), attrNamedAt: number(at.UnixMilli()), attrNames: text(string(names))}
		maps.Copy(it, key)
		err = s.put(ctx, s.conditional(it, revision))
		if !errors.Is(err, ErrConflict) {
			return next, err
		}
	}
	return nil, fmt.Errorf("generations of behaviors: %w", ErrConflict)
}

// generations make the behaviors know theirs, once for each environment.
type generations struct {
	mu    sync.Mutex
	known bool
}

func (h *Handler) knowGenerations(ctx context.Context) error {
	h.generations.mu.Lock()
	defer h.generations.mu.Unlock()
	if h.generations.known {
		return nil
	}
	g, err := h.Store.Generations(ctx, h.engine.behaviors, h.Now())
	if err != nil {
		return err
	}
	h.engine.behaviors, h.generations.known = g.Of(h.engine.behaviors), true
	return nil
}
