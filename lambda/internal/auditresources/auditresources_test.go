package auditresources_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/auditresources"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

// recorder is AWS IoT; a call that it does not have panics.
type recorder struct {
	auditresources.API
	calls []string
}

func (r *recorder) StartOnDemandAuditTask(context.Context, *iot.StartOnDemandAuditTaskInput, ...func(*iot.Options)) (*iot.StartOnDemandAuditTaskOutput, error) {
	r.calls = append(r.calls, "start")
	return &iot.StartOnDemandAuditTaskOutput{TaskId: aws.String("t")}, nil
}

func (r *recorder) CreateAuditSuppression(context.Context, *iot.CreateAuditSuppressionInput, ...func(*iot.Options)) (*iot.CreateAuditSuppressionOutput, error) {
	r.calls = append(r.calls, "suppress")
	return &iot.CreateAuditSuppressionOutput{}, nil
}

func TestEachResourceTypeHasItsHandler(t *testing.T) {
	for kind, c := range map[string]struct {
		properties map[string]any
		want       string
	}{
		contract.StartAuditResourceType:  {map[string]any{contract.StartAuditChecks: []any{"LOGGING_DISABLED_CHECK"}}, "start"},
		contract.SuppressionResourceType: {map[string]any{contract.SuppressionCheck: "LOGGING_DISABLED_CHECK", contract.SuppressionResource: map[string]any{"account": "123456789012"}}, "suppress"},
		"Custom::Another":                {nil, ""},
	} {
		r := &recorder{}
		handle := auditresources.New(r, host.Host{Now: time.Now, Metrics: io.Discard, Log: io.Discard})
		_, _, err := handle(context.Background(), cfn.Event{RequestType: cfn.RequestCreate, ResourceType: kind, LogicalResourceID: "R", ResourceProperties: c.properties})
		if got := strings.Join(r.calls, ","); got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: calls %q, error %v", kind, got, err)
		}
	}
}
