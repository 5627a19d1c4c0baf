// Package cloudformation is the local CloudFormation registry. It has a provider for each resource
// type that the emulator lacks or creates wrongly, and the endpoint that the emulator calls for
// them. A deployment with a type that has no provider fails and names the type.
package cloudformation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// CustomResource is the type under which the provider of AWS::CloudFormation::CustomResource
// and of every Custom::* type is registered.
const CustomResource = "AWS::CloudFormation::CustomResource"

// RequestType is what happens to a resource.
type RequestType string

// The request types.
const (
	Create RequestType = "Create"
	Update RequestType = "Update"
	Delete RequestType = "Delete"
)

// Request is a request to a provider about one resource. Its intrinsic functions are resolved.
type Request struct {
	RequestType       RequestType
	ResourceType      string
	StackID           string `json:"StackId"`
	LogicalResourceID string `json:"LogicalResourceId"`
	// PhysicalResourceID of a Create is a unique name for a resource that has none in the
	// template. It may be longer than the type allows.
	PhysicalResourceID    string `json:"PhysicalResourceId"`
	ResourceProperties    map[string]any
	OldResourceProperties map[string]any // Update only
	AccountID             string         `json:"AccountId"`
	Region                string
}

// ARN returns the ARN of a resource in the request's account and Region.
func (r Request) ARN(service, resource string) string {
	return fmt.Sprintf("arn:%s:%s:%s:%s:%s", Partition(r.Region), service, r.Region, r.AccountID, resource)
}

// Partition returns the partition of a Region.
func Partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// Resource is a resource that a provider created.
type Resource struct {
	PhysicalID string         // for Ref
	Attributes map[string]any // for Fn::GetAtt
	// Inert says what the resource does not do here. It is empty for a resource that works.
	Inert string
}

// ErrUntouched is in the chain of an update's error if nothing was changed, so that nothing has to
// be rolled back.
var ErrUntouched = errors.New("nothing was changed")

// Untouched adds [ErrUntouched] to the chain of err, but not to its text.
func Untouched(err error) error { return untouched{err} }

type untouched struct{ error }

func (u untouched) Unwrap() []error { return []error{u.error, ErrUntouched} }

// Provider creates resources of one type. Its errors are the reasons for which a stack fails, in
// AWS's words.
type Provider interface {
	Create(context.Context, Request) (Resource, error)
	Update(context.Context, Request) (Resource, error)
	Delete(context.Context, Request) error
}

// Deployed is a resource that exists.
type Deployed struct {
	Type       string
	LogicalID  string
	StackID    string
	Properties map[string]any
	Created    time.Time
	Resource
}

// Registry holds the providers and the resources that they created.
type Registry struct {
	// Now returns the time at which a resource is created. Default: time.Now.
	Now func() time.Time
	// Check returns an error if the emulator must not create or update a resource itself.
	// Default: nil, it may.
	Check func(Request) error

	mu        sync.Mutex
	providers map[string]Provider
	deployed  []Deployed
	changed   []func()
}

// Register makes p the provider of a resource type. It replaces an earlier provider.
func (r *Registry) Register(resourceType string, p Provider) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.providers == nil {
		r.providers = map[string]Provider{}
	}
	r.providers[resourceType] = p
}

// Types returns the registered types, sorted.
func (r *Registry) Types() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.providers))
}

// Deployed returns the resources of a type, or all resources for "", in the order of their
// creation. They include those that the emulator created.
func (r *Registry) Deployed(resourceType string) []Deployed {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Deployed
	for _, d := range r.deployed {
		if resourceType == "" || d.Type == resourceType {
			found = append(found, d)
		}
	}
	return found
}

// Find returns the resource of a type with a physical ID.
func (r *Registry) Find(resourceType, physicalID string) (Deployed, bool) {
	for _, d := range r.Deployed(resourceType) {
		if d.PhysicalID == physicalID {
			return d, true
		}
	}
	return Deployed{}, false
}

// OnChange registers f, which is called after every change of a resource.
func (r *Registry) OnChange(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed = append(r.changed, f)
}

// Provider is the provider of a resource type.
func (r *Registry) Provider(resourceType string) (Provider, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.providers[resourceType]
	if p == nil && strings.HasPrefix(resourceType, "Custom::") {
		p = r.providers[CustomResource]
	}
	if p == nil {
		return nil, Untouched(fmt.Errorf("the local AWS has no provider for resource type %s: leave the resource out of the local deployment, or add a provider to test/localaws/providers", resourceType))
	}
	return p, nil
}

// Apply carries out a request.
func (r *Registry) Apply(ctx context.Context, req Request) (Resource, error) {
	p, err := r.Provider(req.ResourceType)
	if err != nil {
		return Resource{}, err
	}
	if req.ResourceProperties == nil {
		req.ResourceProperties = map[string]any{}
	}
	var made Resource
	switch req.RequestType {
	case Create:
		made, err = p.Create(ctx, req)
	case Update:
		made, err = p.Update(ctx, req)
	case Delete:
		err = p.Delete(ctx, req)
	default:
		err = fmt.Errorf("request type %q, want Create, Update or Delete", req.RequestType)
	}
	if err != nil {
		return Resource{}, err
	}
	r.record(req, made)
	return made, nil
}

// Observe records a resource that the emulator itself created, updated or deleted.
func (r *Registry) Observe(req Request) {
	r.record(req, Resource{PhysicalID: req.PhysicalResourceID})
}

func (r *Registry) record(req Request, made Resource) {
	r.mu.Lock()
	if req.RequestType != Create {
		r.deployed = slices.DeleteFunc(r.deployed, func(d Deployed) bool {
			return d.Type == req.ResourceType && d.StackID == req.StackID && d.PhysicalID == req.PhysicalResourceID
		})
	}
	now := time.Now
	if r.Now != nil {
		now = r.Now
	}
	if req.RequestType != Delete {
		r.deployed = append(r.deployed, Deployed{
			Type: req.ResourceType, LogicalID: req.LogicalResourceID, StackID: req.StackID,
			Properties: req.ResourceProperties, Created: now(), Resource: made,
		})
	}
	changed := slices.Clone(r.changed)
	r.mu.Unlock()
	for _, f := range changed {
		f()
	}
}

// The request types with which the emulator reports its own resources: checked before it creates or
// updates one, observed after it created, updated or deleted one.
const (
	checked  = "Checked"
	observed = "Observed"
)

type answer struct {
	Status             string `json:"Status"` // SUCCESS or FAILED
	Reason             string `json:"Reason,omitempty"`
	Untouched          bool   `json:"Untouched,omitempty"` // of a refused update
	PhysicalResourceID string `json:"PhysicalResourceId,omitempty"`
	Data               any    `json:"Data,omitempty"`
}

// ServeHTTP serves the emulator's launcher. It posts a [Request], with the field names of
// CloudFormation's requests to custom resources.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var wire struct {
		Request
		Change RequestType // of a checked or observed resource
	}
	if err := json.NewDecoder(req.Body).Decode(&wire); err != nil {
		http.Error(w, "resource request: "+err.Error(), http.StatusBadRequest)
		return
	}
	request, kind := wire.Request, wire.RequestType
	if wire.Change != "" {
		request.RequestType = wire.Change
	}
	reply := answer{Status: "SUCCESS", PhysicalResourceID: request.PhysicalResourceID}
	fail := func(err error) {
		if err != nil {
			reply = answer{Status: "FAILED", Reason: err.Error(), Untouched: errors.Is(err, ErrUntouched)}
		}
	}
	switch kind {
	case checked:
		if r.Check != nil {
			fail(r.Check(request))
		}
	case observed:
		r.Observe(request)
	default:
		made, err := r.Apply(req.Context(), request)
		if request.RequestType != Delete {
			reply.PhysicalResourceID, reply.Data = made.PhysicalID, made.Attributes
		}
		fail(err)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(reply)
}

// Declared is a provider of a type that has a schema, which validates the properties.
type Declared struct {
	Make func(context.Context, Request) (Resource, error)
	// Change is nil for a type that the local AWS does not update.
	Change func(context.Context, Request) (Resource, error)
	// Remove is nil for a type that exists only in the registry.
	Remove func(context.Context, Request) error
}

// Create implements [Provider].
func (d Declared) Create(ctx context.Context, r Request) (Resource, error) {
	if err := schema.Validate(r.ResourceType, r.ResourceProperties); err != nil {
		return Resource{}, err
	}
	return d.Make(ctx, r)
}

// Update implements [Provider].
func (d Declared) Update(ctx context.Context, r Request) (Resource, error) {
	if d.Change == nil {
		return Resource{}, Untouched(fmt.Errorf("the local AWS does not update %s: start a new local AWS and deploy to it", r.ResourceType))
	}
	if err := schema.Validate(r.ResourceType, r.ResourceProperties); err != nil {
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
