package auditresources_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/auditresources"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

// recorder records the handlers' calls of AWS IoT. Any other call panics.
type recorder struct {
	auditresources.API
	calls []string
	// failing makes each call fail.
	failing bool
}

func (r *recorder) call(name string) error {
	r.calls = append(r.calls, name)
	if r.failing {
		return errors.New("refused")
	}
	return nil
}

func (r *recorder) StartOnDemandAuditTask(context.Context, *iot.StartOnDemandAuditTaskInput, ...func(*iot.Options)) (*iot.StartOnDemandAuditTaskOutput, error) {
	return &iot.StartOnDemandAuditTaskOutput{TaskId: aws.String("t")}, r.call("start")
}

func (r *recorder) CreateAuditSuppression(context.Context, *iot.CreateAuditSuppressionInput, ...func(*iot.Options)) (*iot.CreateAuditSuppressionOutput, error) {
	return &iot.CreateAuditSuppressionOutput{}, r.call("suppress")
}

var properties = map[string]map[string]any{
	contract.StartAuditResourceType:  {contract.StartAuditChecks: []any{"LOGGING_DISABLED_CHECK"}},
	contract.SuppressionResourceType: {contract.SuppressionCheck: "LOGGING_DISABLED_CHECK", contract.SuppressionResource: map[string]any{"account": "123456789012"}},
}

func handle(ctx context.Context, r *recorder, kind string) error {
	f := auditresources.New(r, host.Host{Now: time.Now, Metrics: io.Discard, Log: io.Discard})
	_, _, err := f(ctx, cfn.Event{RequestType: cfn.RequestCreate, ResourceType: kind, LogicalResourceID: "R", ResourceProperties: properties[kind]})
	return err
}

func TestEachResourceTypeHasItsHandler(t *testing.T) {
	for kind, want := range map[string]string{contract.StartAuditResourceType: "start", contract.SuppressionResourceType: "suppress", "Custom::Another": ""} {
		r := &recorder{}
		err := handle(context.Background(), r, kind)
		if got := strings.Join(r.calls, ","); got != want || (err != nil) != (want == "") {
			t.Errorf("%s: calls %q, error %v; want calls %q", kind, got, err, want)
		}
	}
}

func TestTimeIsLeftToAnswerCloudFormation(t *testing.T) {
	for kind := range properties {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			start := time.Now()
			r := &recorder{failing: true}
			if err := handle(ctx, r, kind); err == nil || len(r.calls) < 3 {
				t.Errorf("%s: %d calls, error %v; want at least 3 and an error", kind, len(r.calls), err)
			}
			if took := time.Since(start); took > 55*time.Second {
				t.Errorf("%s: took %v of a minute, want at most 55s", kind, took)
			}
		})
	}
}
