package startaudit_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/auditresources/startaudit"
)

// fakeIoT returns errs in order, then starts an audit.
type fakeIoT struct {
	errs  []error
	calls [][]string
}

func (f *fakeIoT) StartOnDemandAuditTask(_ context.Context, in *iot.StartOnDemandAuditTaskInput, _ ...func(*iot.Options)) (*iot.StartOnDemandAuditTaskOutput, error) {
	f.calls = append(f.calls, in.TargetCheckNames)
	if n := len(f.calls); n <= len(f.errs) {
		return nil, f.errs[n-1]
	}
	return &iot.StartOnDemandAuditTaskOutput{TaskId: aws.String("task-1")}, nil
}

func starter(f *fakeIoT) *startaudit.Starter {
	return &startaudit.Starter{IoT: f, Log: slog.New(slog.DiscardHandler), Random: func(n int64) int64 { return n - 1 }}
}

func event(kind cfn.RequestType, checks ...any) cfn.Event {
	return cfn.Event{RequestType: kind, LogicalResourceID: "Start", ResourceProperties: map[string]any{contract.StartAuditChecks: checks}}
}

// handle passes an event to a function that has a minute left.
func handle(f *fakeIoT, e cfn.Event) (string, map[string]any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return starter(f).Handle(ctx, e)
}

func TestCreateAndUpdateStartTheAudit(t *testing.T) {
	for _, kind := range []cfn.RequestType{cfn.RequestCreate, cfn.RequestUpdate} {
		f := &fakeIoT{}
		id, data, err := handle(f, event(kind, "LOGGING_DISABLED_CHECK", "CONFLICTING_CLIENT_IDS_CHECK"))
		if err != nil || id != "start-audit-Start" || data["TaskId"] != "task-1" {
			t.Errorf("%s: physical ID %q, data %v, error %v", kind, id, data, err)
		}
		if len(f.calls) != 1 || !slices.Equal(f.calls[0], []string{"LOGGING_DISABLED_CHECK", "CONFLICTING_CLIENT_IDS_CHECK"}) {
			t.Errorf("%s: calls %v, want one with both checks", kind, f.calls)
		}
	}
}

func TestPhysicalIDNeverChanges(t *testing.T) {
	e := event(cfn.RequestUpdate, "LOGGING_DISABLED_CHECK")
	e.PhysicalResourceID = "old-id"
	for _, checks := range []any{e.ResourceProperties[contract.StartAuditChecks], "broken"} {
		e.ResourceProperties[contract.StartAuditChecks] = checks
		if id, _, _ := handle(&fakeIoT{}, e); id != "old-id" {
			t.Errorf("checks %v: physical ID %q, want old-id", checks, id)
		}
	}
}

func TestDeleteDoesNothing(t *testing.T) {
	f := &fakeIoT{}
	e := event(cfn.RequestDelete, "REMOVED_CHECK")
	e.PhysicalResourceID = "start-audit-Start"
	if id, data, err := handle(f, e); err != nil || id != "start-audit-Start" || data != nil || len(f.calls) > 0 {
		t.Errorf("physical ID %q, data %v, error %v, %d calls; want none", id, data, err, len(f.calls))
	}
}

func TestTenRunningAuditsDoNotRollADeploymentBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := make([]error, 100)
		for i := range limit {
			limit[i] = &types.LimitExceededException{}
		}
		f := &fakeIoT{errs: limit}
		_, data, err := handle(f, event(cfn.RequestCreate, "LOGGING_DISABLED_CHECK"))
		if err != nil || data["TaskId"] != "" || len(f.calls) < 3 {
			t.Errorf("data %v, error %v, %d calls; want no task and no error after some calls", data, err, len(f.calls))
		}
		f = &fakeIoT{errs: limit[:2]}
		if _, data, err := handle(f, event(cfn.RequestCreate, "LOGGING_DISABLED_CHECK")); err != nil || data["TaskId"] != "task-1" {
			t.Errorf("an audit ended, but ours did not start: data %v, error %v", data, err)
		}
	})
}

func TestCheckThatStaysOffFailsTheDeployment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		off := make([]error, 100)
		for i := range off {
			off[i] = &types.InvalidRequestException{Message: aws.String("check is disabled")}
		}
		_, _, err := handle(&fakeIoT{errs: off}, event(cfn.RequestCreate, "LOGGING_DISABLED_CHECK"))
		var invalid *types.InvalidRequestException
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), "must be enabled") {
			t.Errorf("error %v, want one that says that the check must be enabled", err)
		}
	})
}

func TestWrongPropertiesAreReported(t *testing.T) {
	for _, e := range []cfn.Event{event(cfn.RequestCreate), event(cfn.RequestCreate, "NO_SUCH_CHECK"), event(cfn.RequestCreate, 7.0), {RequestType: cfn.RequestCreate}} {
		if _, _, err := handle(&fakeIoT{}, e); err == nil || !strings.Contains(err.Error(), contract.StartAuditChecks) {
			t.Errorf("properties %v: error %v, want one that names %s", e.ResourceProperties, err, contract.StartAuditChecks)
		}
	}
}

func TestCloudFormationGetsTheAnswer(t *testing.T) {
	var answer struct {
		Status             string
		PhysicalResourceId string
		Data               map[string]any
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	e := event(cfn.RequestCreate, "LOGGING_DISABLED_CHECK")
	e.ResponseURL = server.URL
	if _, err := cfn.LambdaWrap(starter(&fakeIoT{}).Handle)(context.Background(), e); err != nil {
		t.Fatal(err)
	}
	if answer.Status != "SUCCESS" || answer.PhysicalResourceId != "start-audit-Start" || answer.Data["TaskId"] != "task-1" {
		t.Errorf("got %+v", answer)
	}
}
