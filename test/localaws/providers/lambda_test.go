package providers_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/eventsource"
	"github.com/defenderhub/defenderhub/test/localaws/functions"
	"github.com/defenderhub/defenderhub/test/localaws/providers"
)

const queueARN = "arn:aws:sqs:us-east-1:123456789012:q"

func observeFunction(r *cloudformation.Registry, properties map[string]any) {
	r.Observe(cloudformation.Request{RequestType: cloudformation.Create, ResourceType: "AWS::Lambda::Function", PhysicalResourceID: "f", ResourceProperties: properties})
}

func TestMappingOfAQueueIsNotInTheEmulator(t *testing.T) {
	answers := map[string]string{
		"POST / AmazonSQS.GetQueueAttributes": `{"Attributes":{"VisibilityTimeout":"180"}}`,
	}
	r, a := newAccount(t, answers)
	observeFunction(r, map[string]any{"Timeout": 30.0})
	made, err := create(t, r, "AWS::Lambda::EventSourceMapping", `{"EventSourceArn":"`+queueARN+`","FunctionName":"f","BatchSize":"100",
		"MaximumBatchingWindowInSeconds":5,"FunctionResponseTypes":["ReportBatchItemFailures"],"Enabled":true}`)
	if err != nil || made.Attributes["Id"] != made.PhysicalID || made.Attributes["EventSourceMappingArn"] != "arn:aws:lambda:us-east-1:123456789012:event-source-mapping:"+made.PhysicalID {
		t.Fatalf("made %+v, error %v", made, err)
	}
	if len(a.calls) != 1 {
		t.Errorf("calls of the emulator: %v, want only that for the queue's attributes", a.calls)
	}
	got := providers.Mappings(r, "http://localhost:1")
	want := eventsource.Mapping{UUID: made.PhysicalID, SourceARN: queueARN, QueueURL: "http://localhost:1/123456789012/q", Function: "f", BatchSize: 100, Window: 5 * time.Second, PartialFailures: true}
	if len(got) != 1 || got[0] != want {
		t.Errorf("mappings %+v, want %+v", got, want)
	}
	if _, err := create(t, r, "AWS::Lambda::EventSourceMapping", `{"EventSourceArn":"`+queueARN+`","FunctionName":"f","Enabled":"false"}`); err != nil {
		t.Fatal(err)
	}
	if got := providers.Mappings(r, ""); len(got) != 1 {
		t.Errorf("a disabled mapping is served: %+v", got)
	}
}

func TestMappingOfAStreamIsNotInTheEmulator(t *testing.T) {
	r, a := newAccount(t, nil)
	observeFunction(r, nil)
	made, err := create(t, r, "AWS::Lambda::EventSourceMapping", stream(`"FunctionResponseTypes":["ReportBatchItemFailures"],"BisectBatchOnFunctionError":true,
		"MaximumRetryAttempts":"5","MaximumRecordAgeInSeconds":3600,"MaximumBatchingWindowInSeconds":2,"DestinationConfig":{"OnFailure":{"Destination":"`+queueARN+`"}}`))
	if err != nil || len(a.calls) != 0 {
		t.Fatalf("called %v, error %v", a.calls, err)
	}
	if _, err := create(t, r, "AWS::Lambda::EventSourceMapping", strings.Replace(stream(`"MaximumRecordAgeInSeconds":-1`), "LATEST", "TRIM_HORIZON", 1)); err != nil {
		t.Fatal(err)
	}
	got := providers.Mappings(r, "")
	arn := "arn:aws:kinesis:us-east-1:123456789012:stream/s"
	want := []eventsource.Mapping{
		{UUID: made.PhysicalID, SourceARN: arn, Function: "f", BatchSize: 100, Window: 2 * time.Second, Latest: true, PartialFailures: true, Bisect: true, Retries: 5, MaximumAge: time.Hour, OnFailure: queueARN},
		{UUID: got[1].UUID, SourceARN: arn, Function: "f", BatchSize: 100, Retries: -1},
	}
	if !slices.Equal(got, want) {
		t.Errorf("mappings %+v\nwant %+v", got, want)
	}
	if _, err := r.Apply(t.Context(), cloudformation.Request{RequestType: cloudformation.Delete, ResourceType: "AWS::Lambda::EventSourceMapping", StackID: "stack", PhysicalResourceID: made.PhysicalID,
		ResourceProperties: map[string]any{"EventSourceArn": arn}}); err != nil || len(a.calls) != 0 || len(providers.Mappings(r, "")) != 1 {
		t.Errorf("after its deletion: called %v, error %v, mappings %v", a.calls, err, providers.Mappings(r, ""))
	}
}

func TestQueueMustHideMessagesForTheFunctionsTimeout(t *testing.T) {
	r, _ := newAccount(t, map[string]string{"POST / AmazonSQS.GetQueueAttributes": `{"Attributes":{"VisibilityTimeout":"29"}}`})
	observeFunction(r, map[string]any{"Timeout": "30"})
	_, err := create(t, r, "AWS::Lambda::EventSourceMapping", `{"EventSourceArn":"`+queueARN+`","FunctionName":"arn:aws:lambda:us-east-1:123456789012:function:f"}`)
	if err == nil || !strings.Contains(err.Error(), "Queue visibility timeout: 29 seconds is less than Function timeout: 30 seconds") {
		t.Errorf("got %v, want an error about the visibility timeout", err)
	}
}

func TestFunctionIsReadFromItsTemplate(t *testing.T) {
	r, _ := newAccount(t, nil)
	observeFunction(r, map[string]any{
		"Runtime": "provided.al2023", "Handler": "bootstrap", "Timeout": 30.0, "MemorySize": "256",
		"Code":        map[string]any{"S3Bucket": "b", "S3Key": "k"},
		"Environment": map[string]any{"Variables": map[string]any{"TEXT": "x", "NUMBER": 7.0, "FLAG": true}},
	})
	f, err := providers.Function(r, "f")
	if err != nil || f.Timeout != 30*time.Second || f.MemoryMB != 256 || f.Bucket != "b" || f.Key != "k" ||
		f.Environment["TEXT"] != "x" || f.Environment["NUMBER"] != "7" || f.Environment["FLAG"] != "true" {
		t.Errorf("function %+v, error %v", f, err)
	}
	if _, err := providers.Function(r, "g"); err == nil || !strings.Contains(err.Error(), "function g") {
		t.Errorf("unknown function: %v", err)
	}
}

func TestRetriesOfAsynchronousInvocations(t *testing.T) {
	r, _ := newAccount(t, nil)
	const config = "AWS::Lambda::EventInvokeConfig"
	retries := func() int {
		t.Helper()
		f, err := providers.Function(r, "f")
		if err != nil {
			t.Fatal(err)
		}
		return f.Retries
	}
	if _, err := create(t, r, config, `{"FunctionName":"f","Qualifier":"$LATEST"}`); err == nil || !strings.Contains(err.Error(), "function f") {
		t.Errorf("of a function that does not exist: %v", err)
	}
	observeFunction(r, nil)
	if got := retries(); got != 2 {
		t.Errorf("without a configuration: %d retries, want 2", got)
	}
	for _, wrong := range []string{
		`{"FunctionName":"f","Qualifier":"live"}`, `{"FunctionName":"f","Qualifier":"$LATEST","MaximumRetryAttempts":3}`,
		`{"FunctionName":"f","Qualifier":"$LATEST","MaximumEventAgeInSeconds":59}`,
		`{"FunctionName":"f","Qualifier":"$LATEST","DestinationConfig":{"OnFailure":{"Destination":"` + queueARN + `"}}}`,
	} {
		if _, err := create(t, r, config, wrong); err == nil || !strings.Contains(err.Error(), "properties validation failed") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
	if _, err := create(t, r, config, `{"FunctionName":"f","Qualifier":"$LATEST","MaximumRetryAttempts":0,"MaximumEventAgeInSeconds":60}`); err != nil {
		t.Fatal(err)
	}
	if got := retries(); got != 0 {
		t.Errorf("%d retries, want 0 as configured", got)
	}
	if _, err := create(t, r, config, `{"FunctionName":"f","Qualifier":"$LATEST"}`); err == nil || !strings.Contains(err.Error(), "AlreadyExists") {
		t.Errorf("a second configuration of a function: %v, want AlreadyExists", err)
	}
}

// custom returns a registry with the provider of custom resources, and the last event of its
// function. The function sends body to the response URL, or nothing if body is "".
func custom(t *testing.T, body string, result functions.Result, err error) (*cloudformation.Registry, *map[string]any) {
	t.Helper()
	var event map[string]any
	c := &providers.CustomResources{}
	server := httptest.NewServer(http.StripPrefix("/response", c))
	t.Cleanup(server.Close)
	c.ResponseURL = server.URL + "/response"
	c.Invoke = func(_ context.Context, _ string, payload []byte) (functions.Result, error) {
		if err := json.Unmarshal(payload, &event); err != nil {
			t.Error(err)
		}
		if body != "" {
			req, _ := http.NewRequest(http.MethodPut, event["ResponseURL"].(string), strings.NewReader(body))
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
			} else {
				resp.Body.Close()
			}
		}
		return result, err
	}
	r := &cloudformation.Registry{}
	r.Register(cloudformation.CustomResource, c)
	return r, &event
}

const service = `{"ServiceToken":"arn:aws:lambda:us-east-1:123456789012:function:f","Count":3,"On":true,"List":[1.5]}`

func TestCustomResourceIsTheAnswerOfItsFunction(t *testing.T) {
	r, event := custom(t, `{"Status":"SUCCESS","PhysicalResourceId":"task-1","Data":{"TaskId":"1"}}`, functions.Result{}, nil)
	made, err := create(t, r, "Custom::StartAudit", service)
	if err != nil || made.PhysicalID != "task-1" || made.Attributes["TaskId"] != "1" {
		t.Fatalf("made %+v, error %v", made, err)
	}
	e := *event
	properties := e["ResourceProperties"].(map[string]any)
	if e["RequestType"] != "Create" || e["ResourceType"] != "Custom::StartAudit" || e["LogicalResourceId"] != "L" || e["StackId"] != "stack" || e["RequestId"] == "" {
		t.Errorf("event %v, want a Create of L in the stack", e)
	}
	if _, there := e["PhysicalResourceId"]; there {
		t.Error("a create event has a physical id")
	}
	if properties["Count"] != "3" || properties["On"] != "true" || properties["List"].([]any)[0] != "1.5" {
		t.Errorf("properties %v, want text as CloudFormation sends", properties)
	}
}

func TestCustomResourceFails(t *testing.T) {
	for name, tt := range map[string]struct {
		body   string
		result functions.Result
		err    error
		want   string
	}{
		"refused":       {body: `{"Status":"FAILED","Reason":"no such check"}`, want: "Message returned: no such check"},
		"no answer":     {want: "did not receive a response"},
		"function died": {result: functions.Result{FunctionError: "Unhandled", Payload: []byte(`{"errorType":"T","errorMessage":"boom"}`)}, want: "T: boom"},
		"cannot run":    {err: errors.New("runtime nodejs22.x"), want: "runtime nodejs22.x"},
		"no id":         {body: `{"Status":"SUCCESS"}`, want: "no PhysicalResourceId"},
		"no status":     {body: `{}`, want: "Status"},
		"no JSON":       {body: `SUCCESS`, want: "invalid response"},
		"too long":      {body: `{"Status":"SUCCESS","PhysicalResourceId":"` + strings.Repeat("x", 5000) + `"}`, want: "too long"},
	} {
		r, _ := custom(t, tt.body, tt.result, tt.err)
		if _, err := create(t, r, "Custom::X", service); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	r, _ := custom(t, "", functions.Result{}, nil)
	if _, err := create(t, r, "Custom::X", `{"ServiceToken":"arn:aws:sns:us-east-1:123456789012:t"}`); err == nil || !strings.Contains(err.Error(), "supports only Lambda functions") {
		t.Errorf("a topic as ServiceToken: %v, want a refusal", err)
	}
}

func TestReplacedCustomResourceIsDeleted(t *testing.T) {
	r, event := custom(t, `{"Status":"SUCCESS","PhysicalResourceId":"new"}`, functions.Result{}, nil)
	var properties map[string]any
	if err := json.Unmarshal([]byte(service), &properties); err != nil {
		t.Fatal(err)
	}
	_, err := r.Apply(t.Context(), cloudformation.Request{
		RequestType: cloudformation.Update, ResourceType: "Custom::X", PhysicalResourceID: "old",
		ResourceProperties: properties, OldResourceProperties: properties,
	})
	if e := *event; err != nil || e["RequestType"] != "Delete" || e["PhysicalResourceId"] != "old" {
		t.Errorf("last event %v, error %v", *event, err)
	}
}

func TestUnexpectedResponseIsRefused(t *testing.T) {
	for method, want := range map[string]int{http.MethodPut: http.StatusForbidden, http.MethodGet: http.StatusMethodNotAllowed} {
		w := httptest.NewRecorder()
		new(providers.CustomResources).ServeHTTP(w, httptest.NewRequest(method, "/response/1", strings.NewReader("{}")))
		if w.Code != want {
			t.Errorf("%s: status %d, want %d", method, w.Code, want)
		}
	}
}
