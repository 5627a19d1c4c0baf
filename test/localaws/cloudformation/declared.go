package cloudformation

import (
	"context"
	"fmt"

	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// Declared is a provider made of a schema and what AWS does behind it.
type Declared struct {
	Properties schema.Object
	// Variant takes the place of Properties where a property decides which others exist.
	Variant func(properties map[string]any) schema.Object
	Make    func(context.Context, Request) (Resource, error)
	// Change is nil for types that only a new local AWS changes.
	Change func(context.Context, Request) (Resource, error)
	// Remove is nil for types that only the registry holds.
	Remove func(context.Context, Request) error
}

func (d Declared) validate(r Request) error {
	if d.Variant != nil {
		d.Properties = d.Variant(r.ResourceProperties)
	}
	return d.Properties.Validate(r.ResourceProperties)
}

// Create implements [Provider].
func (d Declared) Create(ctx context.Context, r Request) (Resource, error) {
	if err := d.validate(r); err != nil {
		return Resource{}, err
	}
	return d.Make(ctx, r)
}

// Update implements [Provider].
func (d Declared) Update(ctx context.Context, r Request) (Resource, error) {
	if d.Change == nil {
		return Resource{}, Untouched(fmt.Errorf("the local AWS does not update %s: start a new one and deploy to it", r.ResourceType))
	}
	if err := d.validate(r); err != nil {
		return Resource{}, Untouched(err)
	}
	return d.Change(ctx, r)
}

// Delete implements [Provider].
func (d Declared) Delete(ctx context.Context, r Request) error {
	if d.Remove == nil {
		return nil
	}
	return d.Remove(ctx, r)
}
