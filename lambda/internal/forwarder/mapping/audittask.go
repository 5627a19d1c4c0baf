package mapping

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// AuditTask is Device Defender's notification at the end of an audit. Times are in ms since 1970.
type AuditTask struct {
	ID, Status, Type, Schedule string
	Started                    int64
	// Ended is when the notification was sent.
	Ended  int64
	Checks []AuditCheck
}

// AuditCheck is a check of a task.
type AuditCheck struct {
	Name, Status string
	// NonCompliant does not include Suppressed.
	NonCompliant, Suppressed, Total int64
	ErrorCode, Message              string
}

// CheckDisabled is our own Status for a check that is disabled in the account.
const CheckDisabled = "DISABLED"

// Completed reports whether the check ran to its end, so that its findings are complete.
func (c AuditCheck) Completed() bool {
	return c.Status == "COMPLETED_COMPLIANT" || c.Status == "COMPLETED_NON_COMPLIANT"
}

// Completed reports whether the task ran to its end.
func (t AuditTask) Completed() bool { return t.Status == "COMPLETED" }

type auditNotification struct {
	AccountID    string        `json:"accountId"`
	TaskID       string        `json:"taskId"`
	TaskStatus   string        `json:"taskStatus"`
	TaskType     string        `json:"taskType"`
	Schedule     string        `json:"scheduledAuditName"`
	StartTime    millis        `json:"taskStartTime"`
	AuditDetails []auditDetail `json:"auditDetails"`
}

// auditDetail accepts both spellings of the suppressed count that AWS uses.
type auditDetail struct {
	CheckName     string `json:"checkName"`
	Status        string `json:"checkRunStatus"`
	NonCompliant  int64  `json:"nonCompliantResourcesCount"`
	Total         int64  `json:"totalResourcesCount"`
	Suppressed    int64  `json:"suppressedNonCompliantResourcesCount"`
	SuppressedOne int64  `json:"suppressedNonCompliantResourceCount"`
	ErrorCode     string `json:"errorCode"`
	Message       string `json:"message"`
}

// AuditTask decodes a notification. An error means that retrying is useless: for example,
// findings of another account or Region cannot be read from here.
func (m Mapper) AuditTask(message []byte, o Origin) (AuditTask, error) {
	var n auditNotification
	if err := json.Unmarshal(message, &n); err != nil {
		return AuditTask{}, fmt.Errorf("audit notification is not the JSON that Device Defender sends: %w", err)
	}
	switch {
	case n.TaskID == "" || n.StartTime == 0:
		return AuditTask{}, errors.New("audit notification lacks taskId or taskStartTime")
	case n.AccountID != "" && n.AccountID != m.Account:
		return AuditTask{}, fmt.Errorf("audit task %s belongs to account %s, this forwarder serves %s: deploy one there", n.TaskID, n.AccountID, m.Account)
	case o.Region != "" && o.Region != m.Region:
		return AuditTask{}, fmt.Errorf("audit task %s ran in %s, this forwarder serves %s: deploy one there", n.TaskID, o.Region, m.Region)
	}
	sent := o.Sent.UnixMilli()
	t := AuditTask{ID: n.TaskID, Status: n.TaskStatus, Type: n.TaskType, Schedule: n.Schedule, Started: min(int64(n.StartTime), sent), Ended: sent}
	for _, d := range n.AuditDetails {
		if d.CheckName == "" {
			continue
		}
		t.Checks = append(t.Checks, AuditCheck{
			Name: CheckName(d.CheckName), Status: d.Status,
			NonCompliant: d.NonCompliant, Suppressed: max(d.Suppressed, d.SuppressedOne), Total: d.Total,
			ErrorCode: d.ErrorCode, Message: d.Message,
		})
	}
	return t, nil
}

// CheckSummaries returns the summary findings of a task. A summary is active while its check
// fails or finds something. It is archived when all resources are compliant or the task was
// canceled. A check without a result yet has no summary.
func (m Mapper) CheckSummaries(t AuditTask) []signal.Signal {
	var all []signal.Signal
	for _, c := range t.Checks {
		if s, ok := m.checkSummary(t, c); ok {
			all = append(all, s)
		}
	}
	return all
}

// summaryID returns the finding ID of a check's summary: one per schedule, and one for on-demand
// audits.
func (m Mapper) summaryID(t AuditTask, check string) string {
	run := []string{t.Type}
	if t.Schedule != "" {
		run = append(run, t.Schedule)
	}
	return asff.FindingID(defender.AuditNotifications, m.Region, append(run, check)...)
}

func summaryTitle(check, status, nonCompliant string) string {
	title := check + " Summary: "
	switch status {
	case "CANCELED":
		return title + "Canceled"
	case CheckDisabled:
		return title + "Disabled"
	case "FAILED":
		return title + "Failed"
	}
	return title + "Completed with " + nonCompliant + " non-compliant resources"
}

func (m Mapper) checkSummary(t AuditTask, c AuditCheck) (signal.Signal, bool) {
	const source = defender.AuditNotifications
	p := m.here()
	task := "Task " + t.ID + " of an on-demand audit"
	if t.Schedule != "" {
		task = "Task " + t.ID + " of scheduled audit " + t.Schedule
	}
	f := m.finding(m.summaryID(t, c.Name), t.ID)
	f.Title = summaryTitle(c.Name, c.Status, strconv.FormatInt(c.NonCompliant, 10))
	switch {
	case t.Status == "CANCELED" || c.Status == "CANCELED":
		f.RecordState = asff.Archived
		f.Title = summaryTitle(c.Name, "CANCELED", "")
		f.Description = task + " was canceled before " + c.Name + " completed."
		if c.Completed() {
			f.Description = fmt.Sprintf("%s was canceled after %s completed. The check reports %d non-compliant resources out of %d.", task, c.Name, c.NonCompliant, c.Total)
		}
	case c.Status == CheckDisabled:
		f.RecordState = asff.Archived
		f.Description = c.Name + " is disabled in the account."
	case c.Status == "FAILED":
		f.Description = task + ": " + c.Name + " failed."
		if c.ErrorCode != "" {
			f.Description += " Error: " + c.ErrorCode + "."
		}
		if c.Message != "" {
			f.Description += " " + sentence(c.Message)
		}
	case c.Completed():
		if c.Status == "COMPLETED_COMPLIANT" {
			f.RecordState = asff.Archived
		}
		f.Description = fmt.Sprintf("%s completed. %s reports %d non-compliant resources out of %d.", task, c.Name, c.NonCompliant, c.Total)
	default:
		return signal.Signal{}, false
	}
	f.FindingProviderFields = m.auditFields(c.Name, "")
	f.Remediation = auditRemedy(c.Name)
	f.SourceURL = p.auditURL(t.ID, c.Name)
	fields := pairs{
		"ReportType":     "CheckSummary",
		"TaskId":         t.ID,
		"CheckName":      c.Name,
		"CheckRunStatus": c.Status,
		// The misspelling is AWS's own.
		"NonComopliantResourcesCount":          strconv.FormatInt(c.NonCompliant, 10),
		"SuppressedNonCompliantResourcesCount": strconv.FormatInt(c.Suppressed, 10),
		"TotalResourcesCount":                  strconv.FormatInt(c.Total, 10),
	}
	fields.set("TaskType", t.Type)
	fields.set("ScheduledAuditName", t.Schedule)
	fields.set("ErrorCode", c.ErrorCode)
	f.ProductFields = fields
	f.Resources = []asff.Resource{p.resource("AwsIotAuditTask", t.ID, nil)}
	s := signal.New(source, f, t.Ended, signal.Order{Time: t.Started},
		c.Status, strconv.FormatInt(c.NonCompliant, 10), strconv.FormatInt(c.Suppressed, 10), strconv.FormatInt(c.Total, 10))
	return s.NotAfter(time.UnixMilli(t.Ended)), true
}
