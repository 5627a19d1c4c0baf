// Package providers makes the CloudFormation resources that the emulator lacks or
// makes wrongly. Each type checks its properties as AWS does and creates the resource
// through the service's own API where the local AWS has it, so that what is deployed
// can be read back; the rest is kept by the registry.
package providers

import (
	"context"
	"fmt"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// Account is what the providers work on.
type Account struct {
	// API is the local AWS; Emulator is the part of it that is not ours.
	API, Emulator awsapi.Client
	Registry      *cloudformation.Registry
	// CustomResources runs the functions behind custom resources.
	CustomResources *CustomResources
	// MayBeFed is an error where a function's role does not let Lambda read a queue or a
	// stream for it. Default: nil, all may be read.
	MayBeFed func(ctx context.Context, function, sourceARN string) error
}

// Register registers every provider of this package.
func Register(a Account) {
	if a.CustomResources != nil {
		a.Registry.Register(cloudformation.CustomResource, a.CustomResources)
	}
	for _, types := range []map[string]cloudformation.Declared{
		a.messaging(), a.monitoring(), a.iot(), a.detect(), a.securityHub(), a.lambda(), a.kinesis(), a.events(), deployment(a),
	} {
		for name, d := range types {
			a.Registry.Register(name, d)
		}
	}
	a.Registry.CheckNative(checkNative)
}

// named is the name that the template gives, or one that CloudFormation makes, with at
// most limit characters.
func named(r cloudformation.Request, property string, limit int) string {
	if name := text(r, property); name != "" {
		return name
	}
	name := r.PhysicalResourceID
	if over := len(name) - limit; over > 0 {
		// The end is what makes the name unique.
		name = name[over:]
	}
	return strings.TrimLeft(name, "-")
}

// text is a property as text, "" when absent.
func text(r cloudformation.Request, property string) string {
	s, _ := schema.String(r.ResourceProperties[property])
	return s
}

// exists is how resource handlers refuse a second resource with one identifier.
func exists(r cloudformation.Request, identifier string) error {
	return fmt.Errorf("Resource of type '%s' with identifier '%s' already exists. (HandlerErrorCode: AlreadyExists)", r.ResourceType, identifier) //nolint:staticcheck // AWS's words
}

// unique refuses a resource whose identifier another of its type has.
func (a Account) unique(r cloudformation.Request, identifier string) error {
	if _, taken := a.Registry.Find(r.ResourceType, identifier); taken {
		return exists(r, identifier)
	}
	return nil
}

// kept is a resource that only the registry holds.
func kept(id string, attributes map[string]any, inert string) cloudformation.Resource {
	return cloudformation.Resource{PhysicalID: id, Attributes: attributes, Inert: inert}
}
