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

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/eventsource"
	"github.com/defenderhub/defenderhub/test/localaws/functions"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

const eventSourceMapping = "AWS::Lambda::EventSourceMapping"

func (a Account) lambda() map[string]declared {
	return map[string]declared{
		eventSourceMapping: {
			// A property that is not here has a meaning which the poller does not have.
			properties: schema.Object{
				"BatchSize":                      schema.Optional(schema.Integer(1, 10000)),
				"Enabled":                        schema.Optional(schema.Bool),
				"EventSourceArn":                 schema.Required(schema.ARN("sqs")),
				"FunctionName":                   schema.Required(schema.Text(1, 140)),
				"FunctionResponseTypes":          schema.Optional(schema.List(0, 1, schema.Enum("ReportBatchItemFailures"))),
				"MaximumBatchingWindowInSeconds": schema.Optional(schema.Integer(0, 300)),
				"ScalingConfig":                  schema.Optional(schema.Map(schema.Object{"MaximumConcurrency": schema.Optional(schema.Integer(2, 1000))})),
				"MetricsConfig":                  schema.Optional(schema.Document),
				"Tags":                           schema.Optional(schema.Tags),
			},
			create: a.mapEventSource,
			remove: func(ctx context.Context, r cloudformation.Request) error {
				return a.Emulator.REST(ctx, "lambda", http.MethodDelete, "/2015-03-31/event-source-mappings/"+url.PathEscape(r.PhysicalResourceID), nil, nil)
			},
		},
	}
}

// mapEventSource makes the mapping in the emulator as a disabled one: enabled there,
// each message would call a function that the emulator cannot run, and its failures
// would send messages to the dead-letter queue.
func (a Account) mapEventSource(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	p := r.ResourceProperties
	queue := text(r, "EventSourceArn")
	if strings.HasSuffix(queue, ".fifo") {
		return cloudformation.Resource{}, errors.New("the local AWS polls standard queues only, and the queue is FIFO")
	}
	size, hasSize := schema.Float(p["BatchSize"])
	window, _ := schema.Float(p["MaximumBatchingWindowInSeconds"])
	if hasSize && size > 10 && window < 1 {
		return cloudformation.Resource{}, errors.New("Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10 (Service: Lambda, Status Code: 400)") //nolint:staticcheck // AWS's words
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
		if enabled, ok := schema.Boolean(d.Properties["Enabled"]); ok && !enabled {
			continue
		}
		m := eventsource.Mapping{UUID: d.PhysicalID, BatchSize: 10} // Lambda's default
		m.QueueARN, _ = d.Properties["EventSourceArn"].(string)
		m.QueueURL = QueueURL(endpoint, m.QueueARN)
		m.Function, _ = d.Properties["FunctionName"].(string)
		if size, ok := schema.Float(d.Properties["BatchSize"]); ok {
			m.BatchSize = int(size)
		}
		if window, ok := schema.Float(d.Properties["MaximumBatchingWindowInSeconds"]); ok {
			m.Window = time.Duration(window) * time.Second
		}
		types, _ := d.Properties["FunctionResponseTypes"].([]any)
		m.PartialFailures = len(types) > 0
		mappings = append(mappings, m)
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
		Bucket: get(code, "S3Bucket", ""), Key: get(code, "S3Key", ""), Environment: map[string]string{},
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
