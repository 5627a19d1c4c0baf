package state

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
	"github.com/defenderhub/defenderhub/lambda/internal/document"
)

// Name returns the generations of behaviors. It stores them if they differ from those that were
// stored last.
func (s *Store) Name(ctx context.Context, behaviors []engine.Compiled) (engine.Generations, error) {
	v, err := s.generations().Change(ctx, func(v *document.Version[engine.Generations]) (changed bool) {
		v.Value, changed = v.Value.Next(behaviors, v.Revision)
		return changed
	})
	return v.Value, err
}

// Generations reads what [Store.Name] stored last, consistently.
func (s *Store) Generations(ctx context.Context) (engine.Generations, error) {
	v, err := s.generations().Read(ctx)
	return v.Value, err
}

// generations returns the document of the generations.
func (s *Store) generations() document.Document[engine.Generations] {
	return document.Document[engine.Generations]{Place: generations{s}, Name: "generations of behaviors"}
}

// generations is the item of the generations.
type generations struct{ *Store }

func (g generations) key() item {
	return item{contract.StatePartitionKey: attribute.Text(behaviorsKey), contract.StateSortKey: attribute.Text(behaviorsKey)}
}

// Read implements [document.Place].
func (g generations) Read(ctx context.Context) ([]byte, int64, error) {
	out, err := g.api.GetItem(ctx, &dynamodb.GetItemInput{TableName: &g.table, Key: g.key(), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return nil, 0, fmt.Errorf("GetItem of table %s: %w", g.table, err)
	}
	return []byte(attribute.TextOf(out.Item, attrNames)), attribute.OptionalNumberOf(out.Item, attribute.Revision), nil
}

// Write implements [document.Place].
func (g generations) Write(ctx context.Context, names []byte, revision int64) error {
	it := g.key()
	it[attrNames] = attribute.Text(string(names))
	return attribute.Put(ctx, g.api, attribute.Next(g.table, it, revision), ErrConflict)
}
