package devicedefender

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// AuditTaskInput names a task.
type AuditTaskInput struct {
	TaskID string `uri:"taskId"`
}

// task needs the lock.
func (s *Service) task(id string) (*task, error) {
	for _, t := range s.tasks {
		if t.id == id {
			return t, nil
		}
	}
	return nil, notFound("The audit task %s does not exist", id)
}

// CancelAuditTask cancels a task that is in progress. Checks that have ended keep
// their result.
func (s *Service) CancelAuditTask(in *AuditTaskInput) (*struct{}, error) {
	t, err := s.stop(in.TaskID)
	if err != nil {
		return nil, err
	}
	s.announce(t)
	return nil, nil
}

func (s *Service) stop(id string) (*task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.task(id)
	if err != nil {
		return nil, err
	}
	if t.over() {
		return nil, invalidRequest("The audit task %s is %s, and only a task that is %s can be canceled", t.id, t.status, inProgress)
	}
	t.status, t.ended = canceled, s.config.Now()
	for _, d := range t.checks {
		if d.status == inProgress || d.status == waiting {
			d.status = canceled
		}
	}
	return t, nil
}

// AuditCheckDetails is how DescribeAuditTask tells of a check. Counts are there when
// the check has completed.
type AuditCheckDetails struct {
	CheckRunStatus                       string `json:"checkRunStatus"`
	CheckCompliant                       *bool  `json:"checkCompliant,omitempty"`
	TotalResourcesCount                  *int   `json:"totalResourcesCount,omitempty"`
	NonCompliantResourcesCount           *int   `json:"nonCompliantResourcesCount,omitempty"`
	SuppressedNonCompliantResourcesCount int    `json:"suppressedNonCompliantResourcesCount,omitempty"`
	ErrorCode                            string `json:"errorCode,omitempty"`
	Message                              string `json:"message,omitempty"`
}

// TaskStatistics counts the checks of a task.
type TaskStatistics struct {
	TotalChecks                    int `json:"totalChecks"`
	InProgressChecks               int `json:"inProgressChecks"`
	WaitingForDataCollectionChecks int `json:"waitingForDataCollectionChecks"`
	CompliantChecks                int `json:"compliantChecks"`
	NonCompliantChecks             int `json:"nonCompliantChecks"`
	FailedChecks                   int `json:"failedChecks"`
	CanceledChecks                 int `json:"canceledChecks"`
}

// DescribeAuditTaskOutput is the operation's output.
type DescribeAuditTaskOutput struct {
	TaskStatus         string                       `json:"taskStatus"`
	TaskType           string                       `json:"taskType"`
	TaskStartTime      iotcore.Timestamp            `json:"taskStartTime"`
	ScheduledAuditName string                       `json:"scheduledAuditName,omitempty"`
	TaskStatistics     TaskStatistics               `json:"taskStatistics"`
	AuditDetails       map[string]AuditCheckDetails `json:"auditDetails"`
}

// DescribeAuditTask tells of a task and of each of its checks.
func (s *Service) DescribeAuditTask(in *AuditTaskInput) (*DescribeAuditTaskOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.task(in.TaskID)
	if err != nil {
		return nil, err
	}
	out := &DescribeAuditTaskOutput{
		TaskStatus: t.status, TaskType: t.kind, TaskStartTime: iotcore.Timestamp(t.started), ScheduledAuditName: t.schedule,
		TaskStatistics: t.statistics(), AuditDetails: map[string]AuditCheckDetails{},
	}
	for _, d := range t.checks {
		out.AuditDetails[d.check.String()] = d.describe()
	}
	return out, nil
}

func (d *checkDetails) completed() bool {
	return d.status == completedCompliant || d.status == completedNonCompliant
}

func (d *checkDetails) describe() AuditCheckDetails {
	told := AuditCheckDetails{CheckRunStatus: d.status, ErrorCode: d.errorCode, Message: d.message}
	if d.completed() {
		compliant, total, bad := d.status == completedCompliant, d.total, d.nonCompliant
		told.CheckCompliant, told.TotalResourcesCount, told.NonCompliantResourcesCount = &compliant, &total, &bad
		told.SuppressedNonCompliantResourcesCount = d.suppressed
	}
	return told
}

func (t *task) statistics() TaskStatistics {
	stats := TaskStatistics{TotalChecks: len(t.checks)}
	for _, d := range t.checks {
		switch d.status {
		case inProgress:
			stats.InProgressChecks++
		case waiting:
			stats.WaitingForDataCollectionChecks++
		case completedCompliant:
			stats.CompliantChecks++
		case completedNonCompliant:
			stats.NonCompliantChecks++
		case failed:
			stats.FailedChecks++
		case canceled:
			stats.CanceledChecks++
		}
	}
	return stats
}

// ListAuditTasksInput is the operation's input. Times are in RFC 3339.
type ListAuditTasksInput struct {
	StartTime  string `query:"startTime"`
	EndTime    string `query:"endTime"`
	TaskType   string `query:"taskType"`
	TaskStatus string `query:"taskStatus"`
	Paging
}

// AuditTaskMetadata is an element of ListAuditTasksOutput.
type AuditTaskMetadata struct {
	TaskID     string `json:"taskId"`
	TaskStatus string `json:"taskStatus"`
	TaskType   string `json:"taskType"`
	order      string
}

// ListAuditTasksOutput is the operation's output.
type ListAuditTasksOutput struct {
	Tasks     []AuditTaskMetadata `json:"tasks"`
	NextToken string              `json:"nextToken,omitempty"`
}

// ListAuditTasks lists the tasks that started in a period, oldest first. The period
// cannot begin before what is kept: 90 days ago.
func (s *Service) ListAuditTasks(in *ListAuditTasksInput) (*ListAuditTasksOutput, error) {
	start, err := queryTime("startTime", in.StartTime)
	if err != nil {
		return nil, err
	}
	end, err := queryTime("endTime", in.EndTime)
	if err != nil {
		return nil, err
	}
	if err := oneOf("taskType", in.TaskType, "", onDemand, scheduled); err != nil {
		return nil, err
	}
	if err := oneOf("taskStatus", in.TaskStatus, "", inProgress, completed, failed, canceled); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if oldest := s.config.Now().Add(-retention); start.Before(oldest.Truncate(time.Second)) {
		return nil, invalidRequest("startTime is %s, but audits are kept for 90 days only", in.StartTime)
	}
	if end.Before(start) {
		return nil, invalidRequest("endTime is before startTime")
	}
	var all []AuditTaskMetadata
	for _, t := range s.tasks {
		if t.started.Before(start) || t.started.After(end) ||
			in.TaskType != "" && in.TaskType != t.kind || in.TaskStatus != "" && in.TaskStatus != t.status {
			continue
		}
		all = append(all, AuditTaskMetadata{t.id, t.status, t.kind, fmt.Sprintf("%020d %s", t.started.UnixNano(), t.id)})
	}
	slices.SortFunc(all, func(a, b AuditTaskMetadata) int { return strings.Compare(a.order, b.order) })
	out, next, err := page(in.Paging, all, false, func(m AuditTaskMetadata) string { return m.order })
	if err != nil {
		return nil, err
	}
	return &ListAuditTasksOutput{Tasks: out, NextToken: next}, nil
}

func queryTime(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, invalidRequest("%s is missing", name)
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, invalidRequest("%s is %q, want a time such as 2026-11-01T12:00:00Z", name, text)
	}
	return at, nil
}

func oneOf(name, value string, allowed ...string) error {
	if !slices.Contains(allowed, value) {
		return invalidRequest("%s is %q, want one of %q", name, value, allowed)
	}
	return nil
}
