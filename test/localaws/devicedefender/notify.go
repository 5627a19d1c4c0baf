package devicedefender

import (
	"context"
	"encoding/json"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// patience bounds what a check or a notification waits for: it only ends what hangs.
const patience = 2 * time.Minute

// notification is what SNS gets at the end of a task. The fields are in the order in
// which AWS documents them. Times are in milliseconds.
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

// notification is for a task that has ended.
func (t *task) notification(account string) notification {
	count := t.count()
	n := notification{
		AccountID: account, TaskID: t.id, TaskStatus: t.status, TaskType: t.kind, ScheduledAuditName: t.schedule,
		FailedChecksCount: count[failed], CanceledChecksCount: count[canceled],
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

// notify tells the notification target that a task has ended.
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
