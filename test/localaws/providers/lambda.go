package providers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/eventsource"
	"github.com/defenderhub/defenderhub/test/localaws/functions"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

const (
	eventSourceMapping = "AWS::Lambda::EventSourceMapping"
	eventInvokeConfig  = "AWS::Lambda::EventInvokeConfig"
)

func isStream(source any) bool {
	arn, _ := source.(string)
	return strings.Contains(arn, ":kinesis:")
}

func (a Account) lambda() map[string]cloudformation.Declared {
	return map[string]cloudformation.Declared{
		// What was invoked asynchronously runs at once here, so that no event grows old. No
		// destination receives it.
		eventInvokeConfig: {Make: a.configureInvocations},
		eventSourceMapping: {
			Make: a.mapEventSource,
			Remove: func(ctx context.Context, r cloudformation.Request) error {
				if isStream(r.ResourceProperties["EventSourceArn"]) {
					return nil
				}
				return a.Emulator.REST(ctx, "lambda", http.MethodDelete, "/2015-03-31/event-source-mappings/"+url.PathEscape(r.PhysicalResourceID), nil, nil)
			},
		},
	}
}

// configureInvocations makes what a function has one of.
func (a Account) configureInvocations(_ context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	function := functions.Name(text(r, "FunctionName"))
	if _, err := Function(a.Registry, function); err != nil {
		return cloudformation.Resource{}, err
	}
	id := function + "|" + text(r, "Qualifier")
	if err := a.unique(r, id); err != nil {
		return cloudformation.Resource{}, err
	}
	return kept(id, nil, ""), nil
}

// mapEventSource makes the mapping in the emulator as a disabled one: enabled there,
// each message would call a function that the emulator cannot run, and its failures
// would send messages to the dead-letter queue. One of a stream it would serve although
// disabled, so it receives none.
func (a Account) mapEventSource(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	p := r.ResourceProperties
	queue := text(r, "EventSourceArn")
	if isStream(queue) {
		if err := a.mayBeFed(ctx, r); err != nil {
			return cloudformation.Resource{}, err
		}
		id := uuid.NewString()
		return kept(id, map[string]any{"Id": id, "EventSourceMappingArn": r.ARN("lambda", "event-source-mapping:"+id)}, ""), nil
	}
	if strings.HasSuffix(queue, ".fifo") {
		return cloudformation.Resource{}, errors.New("the local AWS polls standard queues only, and the queue is FIFO")
	}
	size, hasSize := schema.Float(p["BatchSize"])
	window, _ := schema.Float(p["MaximumBatchingWindowInSeconds"])
	if hasSize && size > 10 && window < 1 {
		return cloudformation.Resource{}, errors.New("Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10 (Service: Lambda, Status Code: 400)") //nolint:staticcheck // AWS's words
	}
	if err := a.mayBeFed(ctx, r); err != nil {
		return cloudformation.Resource{}, err
	}
	if err := a.checkVisibility(ctx, queue, text(r, "FunctionName")); err != nil {
		return cloudformation.Resource{}, err
	}
	body := map[string]any{"Enabled": false}
	for _, property := range []string{"EventSourceArn", "FunctionName", "FunctionResponseTypes", "ScalingConfig"} {
		if value, ok := p[property]; ok {
			body[property] = value
		}
	}
	body["MaximumBatchingWindowInSeconds"] = int(window)
	if hasSize {
		body["BatchSize"] = int(size)
	}
	var answer struct{ UUID, EventSourceMappingArn string }
	if err := a.Emulator.REST(ctx, "lambda", http.MethodPost, "/2015-03-31/event-source-mappings/", body, &answer); err != nil {
		return cloudformation.Resource{}, err
	}
	return cloudformation.Resource{
		PhysicalID: answer.UUID,
		Attributes: map[string]any{"Id": answer.UUID, "EventSourceMappingArn": answer.EventSourceMappingArn},
	}, nil
}

// mayBeFed refuses a function that does not exist, and one whose role does not let Lambda
// read the source for it.
func (a Account) mayBeFed(ctx context.Context, r cloudformation.Request) error {
	function, source := text(r, "FunctionName"), text(r, "EventSourceArn")
	if _, err := Function(a.Registry, functions.Name(function)); err != nil || a.MayBeFed == nil {
		return err
	}
	if err := a.MayBeFed(ctx, function, source); err != nil {
		return fmt.Errorf("the function's execution role does not let Lambda read %s: %w", source, err)
	}
	return nil
}

// checkVisibility refuses a queue that would show a message again while the function
// still works on it.
func (a Account) checkVisibility(ctx context.Context, queueARN, function string) error {
	f, err := Function(a.Registry, functions.Name(function))
	if err != nil {
		return err
	}
	var answer struct{ Attributes map[string]string }
	err = a.API.Target(ctx, "sqs", "AmazonSQS.GetQueueAttributes", map[string]any{
		"QueueUrl": QueueURL(a.API.Endpoint, queueARN), "AttributeNames": []string{"VisibilityTimeout"},
	}, &answer)
	if err != nil {
		return err
	}
	visibility, err := strconv.Atoi(answer.Attributes["VisibilityTimeout"])
	if err != nil {
		return fmt.Errorf("visibility timeout of %s: %w", queueARN, err)
	}
	if limit := int(f.Timeout.Seconds()); visibility < limit {
		return fmt.Errorf("Queue visibility timeout: %d seconds is less than Function timeout: %d seconds (Service: Lambda, Status Code: 400)", visibility, limit) //nolint:staticcheck // AWS's words
	}
	return nil
}

// QueueURL is where a queue is at an endpoint, from its ARN.
func QueueURL(endpoint, arn string) string {
	parts := strings.Split(arn, ":")
	return endpoint + "/" + parts[len(parts)-2] + "/" + parts[len(parts)-1]
}

// Mappings are the deployed and enabled event source mappings.
func Mappings(r *cloudformation.Registry, endpoint string) []eventsource.Mapping {
	var mappings []eventsource.Mapping
	for _, d := range r.Deployed(eventSourceMapping) {
		number := func(name string, otherwise int) int {
			if n, ok := schema.Float(d.Properties[name]); ok {
				return int(n)
			}
			return otherwise
		}
		m := eventsource.Mapping{UUID: d.PhysicalID}
		m.SourceARN, _ = d.Properties["EventSourceArn"].(string)
		m.Function, _ = d.Properties["FunctionName"].(string)
		types, _ := d.Properties["FunctionResponseTypes"].([]any)
		m.PartialFailures = len(types) > 0
		m.Window = time.Duration(number("MaximumBatchingWindowInSeconds", 0)) * time.Second
		if isStream(m.SourceARN) {
			m.BatchSize, m.Retries = number("BatchSize", 100), number("MaximumRetryAttempts", -1) // Lambda's defaults
			m.Latest = d.Properties["StartingPosition"] == "LATEST"
			m.Bisect, _ = schema.Boolean(d.Properties["BisectBatchOnFunctionError"])
			m.MaximumAge = time.Duration(max(0, number("MaximumRecordAgeInSeconds", -1))) * time.Second
			destinations, _ := d.Properties["DestinationConfig"].(map[string]any)
			failure, _ := destinations["OnFailure"].(map[string]any)
			m.OnFailure, _ = failure["Destination"].(string)
		} else {
			m.QueueURL, m.BatchSize = QueueURL(endpoint, m.SourceARN), number("BatchSize", 10)
		}
		if enabled, given := schema.Boolean(d.Properties["Enabled"]); enabled || !given {
			mappings = append(mappings, m)
		}
	}
	return mappings
}

// Function is a deployed function as its template declares it.
func Function(r *cloudformation.Registry, name string) (functions.Function, error) {
	d, ok := r.Find("AWS::Lambda::Function", name)
	if !ok {
		return functions.Function{}, fmt.Errorf("function %s was not deployed by a stack", name)
	}
	get := func(m map[string]any, key, fallback string) string {
		if s, ok := schema.String(m[key]); ok {
			return s
		}
		return fallback
	}
	code, _ := d.Properties["Code"].(map[string]any)
	f := functions.Function{
		Name: name, Runtime: get(d.Properties, "Runtime", ""), Handler: get(d.Properties, "Handler", ""),
		Role:   get(d.Properties, "Role", ""),
		Bucket: get(code, "S3Bucket", ""), Key: get(code, "S3Key", ""), Environment: map[string]string{},
		Retries: retries(r, name),
	}
	environment, _ := d.Properties["Environment"].(map[string]any)
	variables, _ := environment["Variables"].(map[string]any)
	for key := range variables {
		f.Environment[key] = get(variables, key, "")
	}
	seconds, err := strconv.Atoi(get(d.Properties, "Timeout", "3")) // Lambda's defaults
	if err != nil {
		return functions.Function{}, fmt.Errorf("timeout of function %s: %w", name, err)
	}
	f.Timeout = time.Duration(seconds) * time.Second
	if f.MemoryMB, err = strconv.Atoi(get(d.Properties, "MemorySize", "128")); err != nil {
		return functions.Function{}, fmt.Errorf("memory of function %s: %w", name, err)
	}
	return f, nil
}

// retries are how often a failed asynchronous invocation of a function is repeated.
func retries(r *cloudformation.Registry, function string) int {
	for _, d := range r.Deployed(eventInvokeConfig) {
		name, _ := d.Properties["FunctionName"].(string)
		if n, ok := schema.Float(d.Properties["MaximumRetryAttempts"]); ok && functions.Name(name) == function {
			return int(n)
		}
	}
	return 2 // Lambda's default
}
