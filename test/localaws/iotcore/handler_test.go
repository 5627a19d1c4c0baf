package iotcore_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	datatypes "github.com/aws/aws-sdk-go-v2/service/iotdataplane/types"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

func TestUnsupportedEndpointIsRefused(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	got := must[*iot.DescribeEndpointOutput](t)(w.DescribeEndpoint(ctx, &iot.DescribeEndpointInput{EndpointType: aws.String("iot:Data-ATS")}))
	if *got.EndpointAddress != "localhost" {
		t.Errorf("endpoint %s, want localhost", *got.EndpointAddress)
	}
	_, err := w.DescribeEndpoint(ctx, &iot.DescribeEndpointInput{EndpointType: aws.String("iot:Jobs")})
	wantCode(t, err, "NotImplementedException", "iot:Jobs")
}

func TestDataPlaneRequestsReachTheBroker(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	must[*iotdataplane.PublishOutput](t)(w.data.Publish(ctx, &iotdataplane.PublishInput{
		Topic: aws.String("a/b c/d"), Payload: []byte{0, 1, 255}, Qos: 1, Retain: true,
	}))
	if len(w.sent.published) != 1 {
		t.Fatalf("%d messages were published, want 1", len(w.sent.published))
	}
	m := w.sent.published[0]
	if m.Topic != "a/b c/d" || string(m.Payload) != "\x00\x01\xff" || m.QoS != 1 || !m.Retain {
		t.Errorf("published %+v, want the topic, payload, QoS and retain flag of the request", m)
	}
	for want, in := range map[string]iotdataplane.PublishInput{
		"User-Properties": {UserProperties: aws.String(`[{"k":"v"}]`)}, "Correlation-Data": {CorrelationData: aws.String("aGk=")},
		"Payload-Format-Indicator": {PayloadFormatIndicator: datatypes.PayloadFormatIndicatorUtf8Data},
		"messageExpiry":            {MessageExpiry: 60}, "contentType": {ContentType: aws.String("text/plain")}, "responseTopic": {ResponseTopic: aws.String("r")},
	} {
		in.Topic = aws.String("a")
		_, err := w.data.Publish(ctx, &in)
		wantCode(t, err, "NotImplementedException", want)
	}
	_, err := w.data.Publish(ctx, &iotdataplane.PublishInput{Topic: aws.String("a"), Payload: make([]byte, iotcore.MaxPayload+1)})
	wantCode(t, err, "InvalidRequestException", "131073")
	_, err = w.data.DeleteConnection(ctx, &iotdataplane.DeleteConnectionInput{ClientId: aws.String("a/b")})
	wantCode(t, err, "NotImplementedException", "DeleteConnection")
	got := must[*iotdataplane.GetConnectionOutput](t)(w.data.GetConnection(ctx, &iotdataplane.GetConnectionInput{ClientId: aws.String("a/b#2")}))
	if *got.ClientId != "a/b#2" || !got.Connected || got.ConnectedSince != 7 || got.DisconnectedSince != 0 || aws.ToString(got.ThingName) != "a" {
		t.Errorf("connection %+v, want that of the data plane", got)
	}
	_, err = w.data.GetConnection(ctx, &iotdataplane.GetConnectionInput{ClientId: aws.String("nobody")})
	wantCode(t, err, "ResourceNotFoundException", "nobody")
	_, err = w.data.GetConnection(ctx, &iotdataplane.GetConnectionInput{ClientId: aws.String("$aws")})
	wantCode(t, err, "InvalidRequestException", "$aws")
	_, err = w.data.GetConnection(ctx, &iotdataplane.GetConnectionInput{ClientId: aws.String("a"), IncludeSocketInformation: true})
	wantCode(t, err, "NotImplementedException", "includeSocketInformation")
	_, err = w.data.GetThingShadow(ctx, &iotdataplane.GetThingShadowInput{ThingName: aws.String("a")})
	wantCode(t, err, "NotImplementedException", "GetThingShadow")
}

func TestErrorsNameUnsupportedRequests(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	_, err := w.ListJobs(ctx, &iot.ListJobsInput{})
	wantCode(t, err, "NotImplementedException", "ListJobs")
	_, err = w.CreateDynamicThingGroup(ctx, &iot.CreateDynamicThingGroupInput{ThingGroupName: aws.String("g"), QueryString: aws.String("*")})
	wantCode(t, err, "NotImplementedException", "CreateDynamicThingGroup")
	tests := []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/things?colour=red", "", 501, "colour"},
		{"POST", "/things/a", `{"colour":"red"}`, 501, "colour"},
		{"POST", "/things/a", `{"attributePayload":`, 400, "JSON"},
		{"GET", "/nothing/like/this", "", 501, "/nothing/like/this"},
		{"PATCH", "/things", "", 501, "PATCH"},
		{"DELETE", "/certificates/x?forceDelete=perhaps", "", 400, "perhaps"},
		{"POST", "/policies/p", strings.Repeat(" ", 1<<20+1), 413, "1048576"},
	}
	for _, tt := range tests {
		r, _ := http.NewRequest(tt.method, w.endpoint+tt.path, strings.NewReader(tt.body))
		response := must[*http.Response](t)(http.DefaultClient.Do(r))
		text := string(must[[]byte](t)(io.ReadAll(response.Body)))
		response.Body.Close()
		if response.StatusCode != tt.status || !strings.Contains(text, tt.want) {
			t.Errorf("%s %s: %d %s, want %d and %q", tt.method, tt.path, response.StatusCode, text, tt.status, tt.want)
		}
	}
}

func TestOtherPackagesCanAddOperations(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	iotcore.Handle(w.handler, "DescribeAuditTask", "taskId", func(*iot.DescribeAuditTaskInput) (*iot.DescribeAuditTaskOutput, error) {
		return &iot.DescribeAuditTaskOutput{TaskStatus: types.AuditTaskStatusCompleted}, nil
	})
	got := must[*iot.DescribeAuditTaskOutput](t)(w.DescribeAuditTask(ctx, &iot.DescribeAuditTaskInput{TaskId: aws.String("1")}))
	if got.TaskStatus != types.AuditTaskStatusCompleted {
		t.Errorf("status %s, want COMPLETED", got.TaskStatus)
	}
	defer func() {
		if recover() == nil {
			t.Error("an operation that AWS does not have was accepted")
		}
	}()
	iotcore.Do(w.handler, "DescribeWeather", "", func(*struct{}) error { return nil })
}

func TestPartitionsFollowTheRegion(t *testing.T) {
	for region, want := range map[string]string{"cn-north-1": "arn:aws-cn:iot:cn-north-1:111122223333:topic/a", "us-gov-west-1": "arn:aws-us-gov:iot:us-gov-west-1:111122223333:topic/a"} {
		s := must[*iotcore.Service](t)(iotcore.New(iotcore.Config{Account: "111122223333", Region: region}))
		if got := s.ARN("topic/a"); got != want {
			t.Errorf("%s: ARN %s, want %s", region, got, want)
		}
	}
}
