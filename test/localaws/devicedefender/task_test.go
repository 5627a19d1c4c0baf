package devicedefender_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/devicedefender"
)

func TestTaskIsInProgressUntilItsChecksHaveRun(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	w.held = true
	task := w.audit(defender.LoggingDisabled, defender.IoTPolicyOverlyPermissive)
	got := w.describe(task)
	if got.TaskStatus != types.AuditTaskStatusInProgress || *got.TaskStatistics.InProgressChecks != 2 || got.TaskType != types.AuditTaskTypeOnDemandAuditTask ||
		!got.TaskStartTime.Equal(start) || got.AuditDetails[logging].TotalResourcesCount != nil || len(w.messages) != 0 {
		t.Errorf("started: %+v, messages %v", got, w.messages)
	}
	w.run()
	got = w.describe(task)
	s := got.TaskStatistics
	if got.TaskStatus != types.AuditTaskStatusCompleted || *s.TotalChecks != 2 || *s.NonCompliantChecks != 1 || *s.CompliantChecks != 1 ||
		*s.InProgressChecks+*s.FailedChecks+*s.CanceledChecks+*s.WaitingForDataCollectionChecks != 0 || len(w.messages) != 1 {
		t.Errorf("ended: %+v %+v, messages %v", got, s, w.messages)
	}
	d := got.AuditDetails[logging]
	if *d.CheckCompliant || *d.NonCompliantResourcesCount != 1 || !*got.AuditDetails[defender.IoTPolicyOverlyPermissive.String()].CheckCompliant {
		t.Errorf("details %+v, want logging non-compliant and policies compliant", got.AuditDetails)
	}
}

// TestAuditReadsInItsRole uses a role that lacks an action. Only the check that needs it fails.
func TestAuditReadsInItsRole(t *testing.T) {
	w := newWorld(t, devicedefender.Config{Connections: useBroker, May: func(_ context.Context, role string, actions ...string) error {
		if role != auditRole || slices.Contains(actions, "iot:ListPolicies") {
			return fmt.Errorf("%s lacks one of %v", role, actions)
		}
		return nil
	}})
	w.enable()
	got := w.describe(w.audit(defender.LoggingDisabled, defender.IoTPolicyOverlyPermissive, defender.ConflictingClientIDs))
	denied := got.AuditDetails[defender.IoTPolicyOverlyPermissive.String()]
	if denied.CheckRunStatus != types.AuditCheckRunStatusFailed || aws.ToString(denied.ErrorCode) != "INSUFFICIENT_PERMISSIONS" ||
		aws.ToString(denied.Message) != auditRole+" lacks one of [iot:ListPolicies iot:GetPolicy]" || denied.CheckCompliant != nil {
		t.Errorf("the check whose reads are denied: %+v", denied)
	}
	if s := got.TaskStatistics; *s.FailedChecks != 1 || *s.NonCompliantChecks != 1 || *s.CompliantChecks != 1 {
		t.Errorf("statistics %+v, want one failed, one non-compliant and one compliant check", s)
	}
}

func TestTasksCannotBeCanceled(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	_, err := w.CancelAuditTask(t.Context(), &iot.CancelAuditTaskInput{TaskId: aws.String("none")})
	wantCode(t, err, "NotImplementedException", "CancelAuditTask")
	_, err = w.DescribeAuditTask(t.Context(), &iot.DescribeAuditTaskInput{TaskId: aws.String("none")})
	wantCode(t, err, "ResourceNotFoundException", "none")
}

func TestCheckDisabledAfterTheStartFails(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	w.held = true
	task := w.audit(defender.LoggingDisabled)
	must[*iot.UpdateAccountAuditConfigurationOutput](t)(w.UpdateAccountAuditConfiguration(t.Context(), &iot.UpdateAccountAuditConfigurationInput{AuditCheckConfigurations: checkMap{logging: {}}}))
	w.run()
	d := w.describe(task).AuditDetails[logging]
	if d.CheckRunStatus != types.AuditCheckRunStatusFailed || *d.ErrorCode != "AUDIT_CHECK_DISABLED" {
		t.Errorf("check %+v, want FAILED with AUDIT_CHECK_DISABLED", d)
	}
}

func TestAtMostTenOnDemandAuditsRunAtOnce(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	w.held = true
	for range 10 {
		w.audit(defender.LoggingDisabled)
	}
	_, err := w.StartOnDemandAuditTask(t.Context(), &iot.StartOnDemandAuditTaskInput{TargetCheckNames: []string{logging}})
	wantCode(t, err, "LimitExceededException", "10")
	w.run()
	w.audit(defender.LoggingDisabled)
}

func TestWaitReturnsAfterTheAudits(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	s := must[*devicedefender.Service](t)(devicedefender.New(devicedefender.Config{Registry: w.registry}))
	devicedefender.Register(w.handler, s)
	w.enable()
	task := w.audit(defender.LoggingDisabled)
	s.Wait()
	if got := w.describe(task); got.TaskStatus != "COMPLETED" {
		t.Errorf("task %+v, want it COMPLETED", got)
	}
	s.Close()
}

func TestTasksAreListed(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	w.schedule(daily("s"))
	var onDemand []string
	for range 5 {
		onDemand = append(onDemand, w.audit(defender.LoggingDisabled))
		w.step(5 * time.Hour) // the fifth step passes noon
	}
	w.held = true
	open := w.audit(defender.LoggingDisabled)
	end := w.clock()
	list := func(in iot.ListAuditTasksInput) []string {
		t.Helper()
		if in.StartTime == nil {
			in.StartTime, in.EndTime = &start, &end
		}
		in.MaxResults = aws.Int32(2)
		var ids []string
		pages := iot.NewListAuditTasksPaginator(w, &in)
		for pages.HasMorePages() {
			for _, task := range must[*iot.ListAuditTasksOutput](t)(pages.NextPage(t.Context())).Tasks {
				ids = append(ids, *task.TaskId)
			}
		}
		return ids
	}
	all := list(iot.ListAuditTasksInput{})
	if len(all) != 7 || !slices.Equal(all[:5], onDemand) || all[6] != open {
		t.Errorf("listed %v, want five on-demand tasks %v, a scheduled one and %s", all, onDemand, open)
	}
	if got := list(iot.ListAuditTasksInput{TaskType: types.AuditTaskTypeScheduledAuditTask}); len(got) != 1 || got[0] != all[5] {
		t.Errorf("scheduled tasks %v, want only %s", got, all[5])
	}
	if got := list(iot.ListAuditTasksInput{TaskStatus: types.AuditTaskStatusInProgress}); !slices.Equal(got, []string{open}) {
		t.Errorf("in progress %v", got)
	}
	if got := list(iot.ListAuditTasksInput{StartTime: aws.Time(start.Add(time.Hour)), EndTime: aws.Time(start.Add(10 * time.Hour))}); !slices.Equal(got, onDemand[1:3]) {
		t.Errorf("of a period: %v", got)
	}
	for _, tt := range []struct {
		in   iot.ListAuditTasksInput
		want string
	}{
		{iot.ListAuditTasksInput{StartTime: aws.Time(end.Add(-91 * 24 * time.Hour)), EndTime: &end}, "90 days"},
		{iot.ListAuditTasksInput{StartTime: &end, EndTime: &start}, "before"},
		{iot.ListAuditTasksInput{StartTime: &start, EndTime: &end, TaskType: "ANY"}, "ANY"},
		{iot.ListAuditTasksInput{StartTime: &start, EndTime: &end, TaskStatus: "ANY"}, "ANY"},
		{iot.ListAuditTasksInput{StartTime: &start, EndTime: &end, MaxResults: aws.Int32(251)}, "251"},
	} {
		_, err := w.ListAuditTasks(t.Context(), &tt.in)
		wantCode(t, err, "InvalidRequestException", tt.want)
	}
}

func TestTasksAndFindingsAreKeptFor90Days(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	task := w.audit(defender.LoggingDisabled)
	finding := w.findings(task)[0].FindingId
	related := func() error {
		_, err := w.ListRelatedResourcesForAuditFinding(t.Context(), &iot.ListRelatedResourcesForAuditFindingInput{FindingId: finding})
		return err
	}
	if err := related(); err != nil {
		t.Error(err)
	}
	w.step(90 * 24 * time.Hour)
	w.audit(defender.LoggingDisabled)
	w.describe(task)
	w.step(time.Second)
	w.audit(defender.LoggingDisabled)
	_, err := w.DescribeAuditTask(t.Context(), &iot.DescribeAuditTaskInput{TaskId: &task})
	wantCode(t, err, "ResourceNotFoundException", task)
	wantCode(t, related(), "ResourceNotFoundException", *finding)
}

func TestThousandFindingsArePaged(t *testing.T) {
	const n = 1000
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	for i := range n {
		w.policy(fmt.Sprintf("p%04d", i), allowAll)
	}
	task := w.audit(defender.IoTPolicyOverlyPermissive, defender.LoggingDisabled)
	for _, size := range []int32{0, 1, 25, 250} {
		in := &iot.ListAuditFindingsInput{TaskId: &task, CheckName: aws.String("IOT_POLICY_OVERLY_PERMISSIVE_CHECK")}
		want := int(size)
		if size != 0 {
			in.MaxResults = &size
		} else {
			want = 25
		}
		seen := map[string]bool{}
		pages := iot.NewListAuditFindingsPaginator(w, in)
		for range 10 { // of each size
			if !pages.HasMorePages() {
				break
			}
			out := must[*iot.ListAuditFindingsOutput](t)(pages.NextPage(t.Context()))
			if len(out.Findings) != want {
				t.Fatalf("size %d: a page has %d findings, want %d", size, len(out.Findings), want)
			}
			for _, f := range out.Findings {
				seen[identifier(f.NonCompliantResource.ResourceIdentifier)] = true
			}
		}
		if len(seen) != min(n, 10*want) {
			t.Errorf("size %d: %d findings, want %d", size, len(seen), min(n, 10*want))
		}
		if more := pages.HasMorePages(); more != (10*want < n) {
			t.Errorf("size %d: more %v", size, more)
		}
	}
	if all := w.findings(task); len(all) != n+1 || *all[n].CheckName != logging {
		t.Errorf("%d findings, want %d, the last of logging", len(all), n+1)
	}
}
