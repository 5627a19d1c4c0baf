package devicedefender

import (
	"context"
	"encoding/json"
)

// notification is what SNS gets at the end of a task. The fields are in the order in
// which AWS documents them. Times are in milliseconds.
type notification struct {
	AccountID               string            `json:"accountId"`
	TaskID                  string            `json:"taskId"`
	TaskStatus              string            `json:"taskStatus"`
	TaskType                string            `json:"taskType"`
	ScheduledAuditName      string            `json:"scheduledAuditName,omitempty"`
	FailedChecksCount       int               `json:"failedChecksCount"`
	CanceledChecksCount     int               `json:"canceledChecksCount"`
	NonCompliantChecksCount int               `json:"nonCompliantChecksCount"`
	CompliantChecksCount    int               `json:"compliantChecksCount"`
	TotalChecksCount        int               `json:"totalChecksCount"`
	TaskStartTime           int64             `json:"taskStartTime"`
	AuditDetails            []notifiedDetails `json:"auditDetails"`
}

type notifiedDetails struct {
	CheckName                  string `json:"checkName"`
	CheckRunStatus             string `json:"checkRunStatus"`
	NonCompliantResourcesCount int    `json:"nonCompliantResourcesCount"`
	TotalResourcesCount        int    `json:"totalResourcesCount"`
	// The spelling of this key is unverified.
	SuppressedNonCompliantResourcesCount int    `json:"suppressedNonCompliantResourcesCount,omitempty"`
	ErrorCode                            string `json:"errorCode,omitempty"`
	Message                              string `json:"message,omitempty"`
}

// notification is for a task that has ended.
func (t *task) notification(account string) notification {
	stats := t.statistics()
	n := notification{
		AccountID: account, TaskID: t.id, TaskStatus: t.status, TaskType: t.kind, ScheduledAuditName: t.schedule,
		FailedChecksCount: stats.FailedChecks, CanceledChecksCount: stats.CanceledChecks,
		NonCompliantChecksCount: stats.NonCompliantChecks, CompliantChecksCount: stats.CompliantChecks,
		TotalChecksCount: stats.TotalChecks, TaskStartTime: t.started.UnixMilli(), AuditDetails: []notifiedDetails{},
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
		err = s.config.Notify(ctx, target.RoleARN, target.TargetARN, string(message))
	}
	if err != nil {
		s.config.Logger.Error("audit notification not published", "taskId", t.id, "topicArn", target.TargetARN, "error", err)
	}
}
