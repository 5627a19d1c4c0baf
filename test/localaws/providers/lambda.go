package providers

import (
	"context"
	"errors"
	"fmt"
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

func (a Account) lambda() map[string]cloudformation.Declared {
	return map[string]cloudformation.Declared{
		// Asynchronous invocations run at once here, so no event becomes too old. Destinations are
		// not supported.
		eventInvokeConfig:  {Make: a.configureInvocations},
		eventSourceMapping: {Make: a.mapEventSource},
	}
}

// configureInvocations creates the configuration, of which a function can have one.
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

// mapping are the properties of an event source mapping.
type mapping struct {
	EventSourceArn, FunctionName, StartingPosition  string
	BatchSize, MaximumBatchingWindowInSeconds       int
	MaximumRetryAttempts, MaximumRecordAgeInSeconds int
	Enabled, BisectBatchOnFunctionError             bool
	FunctionResponseTypes                           []string
	DestinationConfig                               struct{ OnFailure struct{ Destination string } }
}

func readMapping(properties map[string]any) (m mapping, err error) {
	m.Enabled, m.BatchSize, m.MaximumRetryAttempts = true, 10, -1 // Lambda's defaults
	if arn, _ := properties["EventSourceArn"].(string); strings.Contains(arn, ":kinesis:") {
		m.BatchSize = 100
	}
	return m, schema.Decode(properties, &m)
}

// mapEventSource creates the mapping only here. The emulator runs no functions, so its mapping would
// fail and move messages to the dead-letter queue.
func (a Account) mapEventSource(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	m, err := readMapping(r.ResourceProperties)
	switch stream := strings.Contains(m.EventSourceArn, ":kinesis:"); {
	case err != nil:
	case strings.HasSuffix(m.EventSourceArn, ".fifo"):
		err = errors.New("the local AWS polls only standard queues, and the queue is FIFO")
	case !stream && m.BatchSize > 10 && m.MaximumBatchingWindowInSeconds < 1:
		err = errors.New("Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10 (Service: Lambda, Status Code: 400)") //nolint:staticcheck // AWS's words
	default:
		if err = a.mayBeFed(ctx, m); err == nil && !stream {
			err = a.checkVisibility(ctx, m)
		}
	}
	if err != nil {
		return cloudformation.Resource{}, err
	}
	id := uuid.NewString()
	return kept(id, map[string]any{"Id": id, "EventSourceMappingArn": r.ARN("lambda", "event-source-mapping:"+id)}, ""), nil
}

// mayBeFed returns an error if the function does not exist, or if its role does not let Lambda read
// the source.
func (a Account) mayBeFed(ctx context.Context, m mapping) error {
	if _, err := Function(a.Registry, functions.Name(m.FunctionName)); err != nil || a.MayBeFed == nil {
		return err
	}
	if err := a.MayBeFed(ctx, m.FunctionName, m.EventSourceArn); err != nil {
		return fmt.Errorf("the function's execution role does not let Lambda read %s: %w", m.EventSourceArn, err)
	}
	return nil
}

// checkVisibility refuses a queue whose visibility timeout is shorter than the function's timeout.
func (a Account) checkVisibility(ctx context.Context, m mapping) error {
	f, err := Function(a.Registry, functions.Name(m.FunctionName))
	if err != nil {
		return err
	}
	var answer struct{ Attributes map[string]string }
	err = a.API.Target(ctx, "sqs", "AmazonSQS.GetQueueAttributes", map[string]any{
		"QueueUrl": QueueURL(a.API.Endpoint, m.EventSourceArn), "AttributeNames": []string{"VisibilityTimeout"},
	}, &answer)
	if err != nil {
		return err
	}
	visibility, err := strconv.Atoi(answer.Attributes["VisibilityTimeout"])
	if err != nil {
		return fmt.Errorf("visibility timeout of %s: %w", m.EventSourceArn, err)
	}
	if limit := int(f.Timeout.Seconds()); visibility < limit {
		return fmt.Errorf("Queue visibility timeout: %d seconds is less than Function timeout: %d seconds (Service: Lambda, Status Code: 400)", visibility, limit) //nolint:staticcheck // AWS's words
	}
	return nil
}

// QueueURL returns the URL of a queue at an endpoint, from its ARN.
func QueueURL(endpoint, arn string) string {
	parts := strings.Split(arn, ":")
	return endpoint + "/" + parts[len(parts)-2] + "/" + parts[len(parts)-1]
}

// Mappings returns the deployed and enabled event source mappings.
func Mappings(r *cloudformation.Registry, endpoint string) []eventsource.Mapping {
	var mappings []eventsource.Mapping
	for _, d := range r.Deployed(eventSourceMapping) {
		p, err := readMapping(d.Properties)
		if err != nil || !p.Enabled { // deployed ones have no error
			continue
		}
		m := eventsource.Mapping{
			UUID: d.PhysicalID, SourceARN: p.EventSourceArn, Function: p.FunctionName, BatchSize: p.BatchSize,
			Window:          time.Duration(p.MaximumBatchingWindowInSeconds) * time.Second,
			PartialFailures: len(p.FunctionResponseTypes) > 0,
		}
		if strings.Contains(m.SourceARN, ":kinesis:") {
			m.Latest, m.Bisect, m.Retries = p.StartingPosition == "LATEST", p.BisectBatchOnFunctionError, p.MaximumRetryAttempts
			m.MaximumAge = time.Duration(max(0, p.MaximumRecordAgeInSeconds)) * time.Second
			m.OnFailure = p.DestinationConfig.OnFailure.Destination
		} else {
			m.QueueURL = QueueURL(endpoint, m.SourceARN)
		}
		mappings = append(mappings, m)
	}
	return mappings
}

// Function returns a deployed function as its template declares it.
func Function(r *cloudformation.Registry, name string) (functions.Function, error) {
	d, ok := r.Find("AWS::Lambda::Function", name)
	if !ok {
		return functions.Function{}, fmt.Errorf("function %s was not deployed by a stack", name)
	}
	var p struct {
		Runtime, Handler, Role string
		Timeout, MemorySize    int
		Code                   struct{ S3Bucket, S3Key string }
		Environment            struct{ Variables map[string]string }
	}
	p.Timeout, p.MemorySize = 3, 128 // Lambda's defaults
	if err := schema.Decode(d.Properties, &p); err != nil {
		return functions.Function{}, fmt.Errorf("function %s: %w", name, err)
	}
	return functions.Function{
		Name: name, Runtime: p.Runtime, Handler: p.Handler, Role: p.Role, Bucket: p.Code.S3Bucket, Key: p.Code.S3Key,
		Environment: p.Environment.Variables, Timeout: time.Duration(p.Timeout) * time.Second, MemoryMB: p.MemorySize, Retries: retries(r, name),
	}, nil
}

// retries returns how often a failed asynchronous invocation of a function is retried.
func retries(r *cloudformation.Registry, function string) int {
	for _, d := range r.Deployed(eventInvokeConfig) {
		name, _ := d.Properties["FunctionName"].(string)
		if n, ok := schema.Float(d.Properties["MaximumRetryAttempts"]); ok && functions.Name(name) == function {
			return int(n)
		}
	}
	return 2 // Lambda's default
}
