package providers

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/functions"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// deployment has the types that exist only in a deployment.
func deployment(a Account) map[string]cloudformation.Declared {
	metadata := func(_ context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
		return cloudformation.Resource{PhysicalID: r.PhysicalResourceID}, nil
	}
	return map[string]cloudformation.Declared{
		"AWS::CDK::Metadata": {Make: metadata, Change: metadata},
	}
}

// responseLimit is the maximum size of a custom resource's response.
// https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
const responseLimit = 4096

// CustomResources is the provider of custom resources. It invokes the function in ServiceToken, and
// receives the response as the http.Handler of the response URL.
type CustomResources struct {
	// Invoke runs a function by its ARN.
	Invoke func(ctx context.Context, function string, payload []byte) (functions.Result, error)
	// ResponseURL is the URL of this handler.
	ResponseURL string

	mu      sync.Mutex
	waiting map[string]chan []byte
}

type customResponse struct {
	Status             string
	Reason             string
	PhysicalResourceID string `json:"PhysicalResourceId"`
	Data               map[string]any
}

// Create implements cloudformation.Provider.
func (c *CustomResources) Create(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	r.PhysicalResourceID = ""
	return c.send(ctx, r)
}

// Update implements cloudformation.Provider.
func (c *CustomResources) Update(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	made, err := c.send(ctx, r)
	if err == nil && made.PhysicalID != r.PhysicalResourceID {
		// A new physical ID means a replacement: the old resource is deleted.
		old := r
		old.RequestType, old.ResourceProperties, old.OldResourceProperties = cloudformation.Delete, r.OldResourceProperties, nil
		_, err = c.send(ctx, old)
	}
	return made, err
}

// Delete implements cloudformation.Provider.
func (c *CustomResources) Delete(ctx context.Context, r cloudformation.Request) error {
	_, err := c.send(ctx, r)
	return err
}

func (c *CustomResources) send(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	token := text(r, "ServiceToken")
	if !strings.Contains(token, ":lambda:") {
		return cloudformation.Resource{}, fmt.Errorf("ServiceToken %q: the local AWS supports only Lambda functions as custom resources", token)
	}
	id := rand.Text()
	event := map[string]any{
		"RequestType": r.RequestType, "RequestId": id, "ResponseURL": c.ResponseURL + "/" + id,
		"ServiceToken": token, "StackId": r.StackID, "ResourceType": r.ResourceType, "LogicalResourceId": r.LogicalResourceID,
		"ResourceProperties": allText(r.ResourceProperties),
	}
	if r.PhysicalResourceID != "" {
		event["PhysicalResourceId"] = r.PhysicalResourceID
	}
	if r.OldResourceProperties != nil {
		event["OldResourceProperties"] = allText(r.OldResourceProperties)
	}
	payload, err := json.Marshal(event)
	if err != nil {
		return cloudformation.Resource{}, err
	}
	answer := c.expect(id)
	defer c.forget(id)
	result, err := c.Invoke(ctx, token, payload)
	if err != nil {
		return cloudformation.Resource{}, err
	}
	select {
	case body := <-answer:
		return readResponse(body)
	default:
	}
	// CloudFormation would wait for an hour.
	reason := "CloudFormation did not receive a response from your Custom Resource"
	if result.FunctionError != "" {
		reason += ": its function failed: " + result.Reason()
	}
	return cloudformation.Resource{}, errors.New(reason)
}

func readResponse(body []byte) (cloudformation.Resource, error) {
	var response customResponse
	if err := json.Unmarshal(body, &response); err != nil {
		return cloudformation.Resource{}, fmt.Errorf("invalid response from the custom resource: %w", err)
	}
	switch {
	case response.Status == "FAILED":
		return cloudformation.Resource{}, fmt.Errorf("received response status [FAILED] from custom resource. Message returned: %s", response.Reason)
	case response.Status != "SUCCESS":
		return cloudformation.Resource{}, fmt.Errorf("invalid response from the custom resource: Status %q", response.Status)
	case response.PhysicalResourceID == "":
		return cloudformation.Resource{}, errors.New("invalid response from the custom resource: no PhysicalResourceId")
	}
	return cloudformation.Resource{PhysicalID: response.PhysicalResourceID, Attributes: response.Data}, nil
}

func (c *CustomResources) expect(id string) <-chan []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		c.waiting = map[string]chan []byte{}
	}
	c.waiting[id] = make(chan []byte, 1)
	return c.waiting[id]
}

func (c *CustomResources) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

// ServeHTTP receives the response of a function. Only the first one counts.
func (c *CustomResources) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, responseLimit+1))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if r.Method != http.MethodPut {
		http.Error(w, "use PUT", http.StatusMethodNotAllowed)
		return
	}
	if len(body) > responseLimit {
		body = []byte(`{"Status":"FAILED","Reason":"Response object is too long."}`)
	}
	if !c.deliver(r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:], body) {
		http.Error(w, "no custom resource waits for this response", http.StatusForbidden)
	}
}

// deliver passes the first response to the request that waits for it.
func (c *CustomResources) deliver(id string, body []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := c.waiting[id]
	if answer == nil {
		return false
	}
	delete(c.waiting, id)
	answer <- body
	return true
}

// allText converts every scalar to a string, as CloudFormation does for custom resources.
func allText(value any) any {
	switch v := value.(type) {
	case map[string]any:
		converted := make(map[string]any, len(v))
		for key, inner := range v {
			converted[key] = allText(inner)
		}
		return converted
	case []any:
		list := make([]any, len(v))
		for i, inner := range v {
			list[i] = allText(inner)
		}
		return list
	}
	if s, ok := schema.String(value); ok {
		return s
	}
	return value
}
