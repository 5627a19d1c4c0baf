package devicedefender

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// maxOnDemand is the maximum number of on-demand audits in progress (AWS General Reference, AWS IoT
// Device Defender quotas).
const maxOnDemand = 10

const (
	onDemand  = types.AuditTaskTypeOnDemandAuditTask
	scheduled = types.AuditTaskTypeScheduledAuditTask

	running      = types.AuditCheckRunStatusInProgress
	compliant    = types.AuditCheckRunStatusCompletedCompliant
	nonCompliant = types.AuditCheckRunStatusCompletedNonCompliant
	failed       = types.AuditCheckRunStatusFailed

	// The two error codes that AWS documents for a check.
	checkDisabled = "AUDIT_CHECK_DISABLED"
	notPermitted  = "INSUFFICIENT_PERMISSIONS"
)

// task is an audit that is running or has ended. A task as a whole never ends FAILED here, only its
// checks.
type task struct {
	id             string
	kind           types.AuditTaskType
	status         types.AuditTaskStatus
	schedule       string // the name of the scheduled audit, "" for an on-demand audit
	started, ended time.Time
	// since is the beginning of the period that a scheduled audit evaluates; zero means 31 days.
	since  time.Time
	checks []*checkDetails // in the order of the request
}

// checkDetails is the state of one check of a task.
type checkDetails struct {
	check                           defender.Check
	status                          types.AuditCheckRunStatus
	total, nonCompliant, suppressed int
	errorCode, message              string
	findings                        []*finding
}

func (t *task) over() bool { return t.status == types.AuditTaskStatusCompleted }

// newTask adds a task, and removes those that are too old. It needs the lock.
func (s *Service) newTask(kind types.AuditTaskType, schedule string, at, since time.Time, checks []defender.Check) *task {
	t := &task{id: iotcore.NewID(), kind: kind, status: types.AuditTaskStatusInProgress, schedule: schedule, started: at, since: since}
	for _, c := range checks {
		t.checks = append(t.checks, &checkDetails{check: c, status: running})
	}
	old := func(at time.Time) bool { return t.started.Sub(at) > retention }
	s.tasks = slices.DeleteFunc(s.tasks, func(t *task) bool { return old(t.started) })
	s.findings = slices.DeleteFunc(s.findings, func(f *finding) bool { return old(f.time) })
	s.tasks = append(s.tasks, t)
	return t
}

// startOnDemandAuditTask starts an audit of checks that are enabled.
func (s *Service) startOnDemandAuditTask(in *iot.StartOnDemandAuditTaskInput) (*iot.StartOnDemandAuditTaskOutput, error) {
	t, err := s.newOnDemandTask(in.TargetCheckNames)
	if err != nil {
		return nil, err
	}
	s.audits.Add(1)
	s.config.Go(func() {
		defer s.audits.Done()
		s.perform(t, s.config.Now())
	})
	return &iot.StartOnDemandAuditTaskOutput{TaskId: &t.id}, nil
}

func (s *Service) newOnDemandTask(names []string) (*task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	checks, err := s.configuration.usable(names)
	if err != nil {
		return nil, err
	}
	inProgress := 0
	for _, t := range s.tasks {
		if t.kind == onDemand && !t.over() {
			inProgress++
		}
	}
	if inProgress >= maxOnDemand {
		return nil, iotcore.LimitExceeded("%d on-demand audits are in progress, which is the limit", maxOnDemand)
	}
	return s.newTask(onDemand, "", s.config.Now(), time.Time{}, checks), nil
}

// RunDue runs the scheduled audits that are due, and returns when they have ended. Call it after each
// step of the clock and, while the clock runs by itself, regularly.
func (s *Service) RunDue() {
	s.due.Lock()
	defer s.due.Unlock()
	now := s.config.Now()
	for t := s.nextScheduled(now); t != nil; t = s.nextScheduled(now) {
		s.perform(t, t.started)
	}
}

// nextScheduled returns a task for the earliest run that is due, or nil if there is none.
func (s *Service) nextScheduled(now time.Time) *task {
	s.mu.Lock()
	defer s.mu.Unlock()
	var next *scheduledAudit
	var at time.Time
	for _, a := range s.schedules {
		due := a.runs(a.done, now)
		if len(due) > 0 && (next == nil || due[0].Before(at) || due[0].Equal(at) && a.name < next.name) {
			next, at = a, due[0]
		}
	}
	if next == nil {
		return nil
	}
	since := next.last
	next.done, next.last = at, at
	return s.newTask(scheduled, next.name, at, since, next.checks)
}

// perform runs the checks of a task as of a time, ends the task and publishes its results.
func (s *Service) perform(t *task, at time.Time) {
	for _, d := range t.checks {
		run, ok := s.begin(t, d, at)
		if !ok {
			continue
		}
		total, issues, err := s.evaluate(d.check, run)
		s.conclude(t, d, at, total, issues, err)
	}
	s.mu.Lock()
	t.status, t.ended = types.AuditTaskStatusCompleted, at
	s.mu.Unlock()
	s.notify(t)
	if err := s.native.send(t); err != nil {
		s.config.Logger.Warn("findings of the native integration not imported", "taskId", t.id, "error", err)
	}
}

// begin returns the parameters of a check. ok is false if the check cannot run.
func (s *Service) begin(t *task, d *checkDetails, at time.Time) (checkRun, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.configuration.checks[d.check]
	if !c.enabled {
		d.status, d.errorCode, d.message = failed, checkDisabled, "The check was disabled after the audit had started."
		return checkRun{}, false
	}
	run := checkRun{at: at, since: t.started.Add(-lookBack), until: t.started, role: s.configuration.roleARN}
	if !t.since.IsZero() {
		run.since = t.since
	}
	if d.check == defender.DeviceCertificateShared {
		run.since, run.until = run.since.Add(-sharedDelay), run.until.Add(-sharedDelay)
	}
	if c.since.After(run.since) {
		run.since = c.since
	}
	if threshold := d.check.Info().Threshold; threshold != nil {
		run.days = cmp.Or(c.days, threshold.Default)
	}
	return run, true
}

// conclude records the result of a check.
func (s *Service) conclude(t *task, d *checkDetails, at time.Time, total int, issues []issue, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		// The API's limit is 2048 characters.
		runes := []rune(err.Error())
		d.status, d.message = failed, string(runes[:min(len(runes), 2048)])
		if errors.As(err, new(insufficientPermissions)) {
			d.errorCode = notPermitted
		}
		return
	}
	d.total = total
	bad, quiet := map[string]bool{}, map[string]bool{}
	for _, i := range issues {
		f := s.newFinding(t, d.check, i, at)
		d.findings = append(d.findings, f)
		if f.suppressed {
			quiet[key(i.resource.ResourceIdentifier)] = true
		} else {
			bad[key(i.resource.ResourceIdentifier)] = true
		}
	}
	d.nonCompliant, d.suppressed = len(bad), len(quiet)
	d.status = compliant
	if len(bad) > 0 {
		d.status = nonCompliant
	}
}

func (s *Service) task(id string) (*task, error) {
	for _, t := range s.tasks {
		if t.id == id {
			return t, nil
		}
	}
	return nil, iotcore.NotFound("The audit task %s does not exist", id)
}

// describeAuditTask describes a task and its checks. Only completed checks have counts.
func (s *Service) describeAuditTask(in *iot.DescribeAuditTaskInput) (*iot.DescribeAuditTaskOutput, error) {
	t, err := s.task(*in.TaskId)
	if err != nil {
		return nil, err
	}
	count := t.count()
	number := func(status types.AuditCheckRunStatus) *int32 { return aws.Int32(int32(count[status])) }
	out := &iot.DescribeAuditTaskOutput{
		TaskStatus: t.status, TaskType: t.kind, TaskStartTime: &t.started, AuditDetails: map[string]types.AuditCheckDetails{},
		TaskStatistics: &types.TaskStatistics{
			TotalChecks: aws.Int32(int32(len(t.checks))), InProgressChecks: number(running), WaitingForDataCollectionChecks: aws.Int32(0),
			CompliantChecks: number(compliant), NonCompliantChecks: number(nonCompliant), FailedChecks: number(failed), CanceledChecks: aws.Int32(0),
		},
	}
	if t.schedule != "" {
		out.ScheduledAuditName = &t.schedule
	}
	for _, d := range t.checks {
		out.AuditDetails[d.check.String()] = d.described()
	}
	return out, nil
}

func (d *checkDetails) completed() bool { return d.status == compliant || d.status == nonCompliant }

func (d *checkDetails) described() types.AuditCheckDetails {
	out := types.AuditCheckDetails{CheckRunStatus: d.status}
	if d.errorCode != "" {
		out.ErrorCode = &d.errorCode
	}
	if d.message != "" {
		out.Message = &d.message
	}
	if d.completed() {
		out.CheckCompliant = aws.Bool(d.status == compliant)
		out.TotalResourcesCount, out.NonCompliantResourcesCount = aws.Int64(int64(d.total)), aws.Int64(int64(d.nonCompliant))
		if d.suppressed > 0 {
			out.SuppressedNonCompliantResourcesCount = aws.Int64(int64(d.suppressed))
		}
	}
	return out
}

// count counts the checks of a task by their status.
func (t *task) count() map[types.AuditCheckRunStatus]int {
	count := map[types.AuditCheckRunStatus]int{}
	for _, d := range t.checks {
		count[d.status]++
	}
	return count
}

// listAuditTasks lists the tasks that started in a period, oldest first. The period cannot begin more
// than 90 days ago, because older tasks are deleted.
func (s *Service) listAuditTasks(in *iot.ListAuditTasksInput) (*iot.ListAuditTasksOutput, error) {
	if in.StartTime == nil || in.EndTime == nil {
		return nil, iotcore.InvalidRequest("startTime or endTime is missing")
	}
	if in.TaskType != "" && !slices.Contains(in.TaskType.Values(), in.TaskType) {
		return nil, iotcore.InvalidRequest("taskType is %q, want one of %q", in.TaskType, in.TaskType.Values())
	}
	if in.TaskStatus != "" && !slices.Contains(in.TaskStatus.Values(), in.TaskStatus) {
		return nil, iotcore.InvalidRequest("taskStatus is %q, want one of %q", in.TaskStatus, in.TaskStatus.Values())
	}
	if oldest := s.config.Now().Add(-retention); in.StartTime.Before(oldest.Truncate(time.Second)) {
		return nil, iotcore.InvalidRequest("startTime is %s, but audits are kept for 90 days only", in.StartTime)
	}
	if in.EndTime.Before(*in.StartTime) {
		return nil, iotcore.InvalidRequest("endTime is before startTime")
	}
	var all []*task
	for _, t := range s.tasks {
		if !t.started.Before(*in.StartTime) && !t.started.After(*in.EndTime) &&
			(in.TaskType == "" || in.TaskType == t.kind) && (in.TaskStatus == "" || in.TaskStatus == t.status) {
			all = append(all, t)
		}
	}
	slices.SortStableFunc(all, func(a, b *task) int { return a.started.Compare(b.started) })
	page, next, err := iotcore.Page(all, in.NextToken, in.MaxResults, standardPage)
	out := &iot.ListAuditTasksOutput{NextToken: next}
	for _, t := range page {
		out.Tasks = append(out.Tasks, types.AuditTaskMetadata{TaskId: &t.id, TaskStatus: t.status, TaskType: t.kind})
	}
	return out, err
}

// patience is the timeout of a notification. It only ends what hangs.
const patience = 2 * time.Minute

// notification is the SNS message at the end of a task. Its fields have the order of AWS's
// documentation. Times are in milliseconds.
type notification struct {
	AccountID               string                `json:"accountId"`
	TaskID                  string                `json:"taskId"`
	TaskStatus              types.AuditTaskStatus `json:"taskStatus"`
	TaskType                types.AuditTaskType   `json:"taskType"`
	ScheduledAuditName      string                `json:"scheduledAuditName,omitempty"`
	FailedChecksCount       int                   `json:"failedChecksCount"`
	CanceledChecksCount     int                   `json:"canceledChecksCount"`
	NonCompliantChecksCount int                   `json:"nonCompliantChecksCount"`
	CompliantChecksCount    int                   `json:"compliantChecksCount"`
	TotalChecksCount        int                   `json:"totalChecksCount"`
	TaskStartTime           int64                 `json:"taskStartTime"`
	AuditDetails            []notifiedDetails     `json:"auditDetails"`
}

type notifiedDetails struct {
	CheckName                  string                    `json:"checkName"`
	CheckRunStatus             types.AuditCheckRunStatus `json:"checkRunStatus"`
	NonCompliantResourcesCount int                       `json:"nonCompliantResourcesCount"`
	TotalResourcesCount        int                       `json:"totalResourcesCount"`
	// The spelling of this key is unverified.
	SuppressedNonCompliantResourcesCount int    `json:"suppressedNonCompliantResourcesCount,omitempty"`
	ErrorCode                            string `json:"errorCode,omitempty"`
	Message                              string `json:"message,omitempty"`
}

// notification returns the message about a task that has ended.
func (t *task) notification(account string) notification {
	count := t.count()
	n := notification{
		AccountID: account, TaskID: t.id, TaskStatus: t.status, TaskType: t.kind, ScheduledAuditName: t.schedule,
		FailedChecksCount:       count[failed],
		NonCompliantChecksCount: count[nonCompliant], CompliantChecksCount: count[compliant],
		TotalChecksCount: len(t.checks), TaskStartTime: t.started.UnixMilli(), AuditDetails: []notifiedDetails{},
	}
	for _, d := range t.checks {
		n.AuditDetails = append(n.AuditDetails, notifiedDetails{
			CheckName: d.check.String(), CheckRunStatus: d.status, NonCompliantResourcesCount: d.nonCompliant,
			TotalResourcesCount: d.total, SuppressedNonCompliantResourcesCount: d.suppressed, ErrorCode: d.errorCode, Message: d.message,
		})
	}
	return n
}

// notify publishes the message about a task that has ended.
func (s *Service) notify(t *task) {
	s.mu.Lock()
	target := s.configuration.sns
	message, err := json.Marshal(t.notification(s.config.Account))
	s.mu.Unlock()
	if target == nil || !target.Enabled || s.config.Notify == nil {
		return
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		defer cancel()
		err = s.config.Notify(ctx, *target.RoleArn, *target.TargetArn, string(message))
	}
	if err != nil {
		s.config.Logger.Error("audit notification not published", "taskId", t.id, "topicArn", *target.TargetArn, "error", err)
	}
}
