// Package providers creates the CloudFormation resources that the emulator lacks or creates wrongly.
// Each type validates its properties as AWS does. If the local AWS has the service, the resource is
// created with the service's API, so that clients can read it. Others exist only in the registry.
package providers

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// Account is the account in which the providers create resources.
type Account struct {
	// API is the local AWS, and Emulator the emulator itself.
	API, Emulator awsapi.Client
	Registry      *cloudformation.Registry
	// CustomResources runs the functions of custom resources.
	CustomResources *CustomResources
	// MayBeFed returns an error if a function's role does not let Lambda read a queue or a stream
	// for it. Default: nil, everything may be read.
	MayBeFed func(ctx context.Context, function, sourceARN string) error
}

// Register registers every provider of this package.
func Register(a Account) {
	if a.CustomResources != nil {
		a.Registry.Register(cloudformation.CustomResource, a.CustomResources)
	}
	for _, types := range []map[string]cloudformation.Declared{
		a.messaging(), a.monitoring(), a.iot(), a.detect(), a.securityHub(), a.lambda(), a.kinesis(), a.chatbot(), deployment(a),
	} {
		for name, d := range types {
			a.Registry.Register(name, d)
		}
	}
	a.Registry.Check = checkNative
}

// named returns the name in the template, or a generated name of at most limit characters.
func named(r cloudformation.Request, property string, limit int) string {
	if name := text(r, property); name != "" {
		return name
	}
	name := r.PhysicalResourceID
	if over := len(name) - limit; over > 0 {
		// The end of the ID makes the name unique.
		name = name[over:]
	}
	return strings.TrimLeft(name, "-")
}

// text returns a property as text, or "" if it is missing.
func text(r cloudformation.Request, property string) string {
	s, _ := schema.String(r.ResourceProperties[property])
	return s
}

// unique returns the error of AWS's resource handlers if a resource of the type has the identifier.
func (a Account) unique(r cloudformation.Request, identifier string) error {
	if _, taken := a.Registry.Find(r.ResourceType, identifier); taken {
		return fmt.Errorf("Resource of type '%s' with identifier '%s' already exists. (HandlerErrorCode: AlreadyExists)", r.ResourceType, identifier) //nolint:staticcheck // AWS's words
	}
	return nil
}

// kept returns a resource that exists only in the registry.
func kept(id string, attributes map[string]any, inert string) cloudformation.Resource {
	return cloudformation.Resource{PhysicalID: id, Attributes: attributes, Inert: inert}
}

func (a Account) securityHub() map[string]cloudformation.Declared {
	return map[string]cloudformation.Declared{
		"AWS::SecurityHub::Hub": {
			Make: a.enableSecurityHub,
			Remove: func(ctx context.Context, _ cloudformation.Request) error {
				return a.API.REST(ctx, "securityhub", http.MethodDelete, "/accounts", nil, nil)
			},
		},
		"AWS::SecurityHub::Insight": {
			Make: a.createInsight,
			Change: func(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
				err := a.API.REST(ctx, "securityhub", http.MethodPatch, "/insights/"+url.PathEscape(r.PhysicalResourceID), r.ResourceProperties, nil)
				return insight(r.PhysicalResourceID), err
			},
			Remove: func(ctx context.Context, r cloudformation.Request) error {
				return a.API.REST(ctx, "securityhub", http.MethodDelete, "/insights/"+url.PathEscape(r.PhysicalResourceID), nil, nil)
			},
		},
		"AWS::SecurityHub::ProductSubscription": {
			Make: a.subscribeProduct,
			Remove: func(ctx context.Context, r cloudformation.Request) error {
				return a.API.REST(ctx, "securityhub", http.MethodDelete, "/productSubscriptions/"+url.PathEscape(r.PhysicalResourceID), nil, nil)
			},
		},
	}
}

func (a Account) enableSecurityHub(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	body := map[string]any{}
	for _, property := range []string{"ControlFindingGenerator", "Tags"} {
		if value, ok := r.ResourceProperties[property]; ok {
			body[property] = value
		}
	}
	if on, ok := schema.Boolean(r.ResourceProperties["EnableDefaultStandards"]); ok {
		body["EnableDefaultStandards"] = on
	}
	if err := a.API.REST(ctx, "securityhub", http.MethodPost, "/accounts", body, nil); err != nil {
		return cloudformation.Resource{}, err
	}
	arn := r.ARN("securityhub", "hub/default")
	return cloudformation.Resource{PhysicalID: arn, Attributes: map[string]any{"ARN": arn}}, nil
}

func insight(arn string) cloudformation.Resource {
	return kept(arn, map[string]any{"InsightArn": arn}, "")
}

func (a Account) createInsight(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	var answer struct{ InsightArn string }
	err := a.API.REST(ctx, "securityhub", http.MethodPost, "/insights", r.ResourceProperties, &answer)
	return insight(answer.InsightArn), err
}

func (a Account) subscribeProduct(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	var answer struct{ ProductSubscriptionArn string }
	err := a.API.REST(ctx, "securityhub", http.MethodPost, "/productSubscriptions", map[string]string{"ProductArn": text(r, "ProductArn")}, &answer)
	if err != nil {
		return cloudformation.Resource{}, err
	}
	arn := answer.ProductSubscriptionArn
	inert := "the product sends no findings"
	if strings.HasSuffix(arn, "/aws/iot-device-defender-audit") { // the local Device Defender sends findings
		inert = ""
	}
	return kept(arn, map[string]any{"ProductSubscriptionArn": arn}, inert), nil
}
