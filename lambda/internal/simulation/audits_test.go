package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// audits is AWS IoT's audit. A task finds the resources that are non-compliant when it starts.
type audits struct {
	// failing has the non-compliant resources by check.
	failing map[string]map[string]bool
	// ever has the resources that were non-compliant at any time, by check.
	ever  map[string]map[string]bool
	tasks map[string]*auditTask
}

type auditTask struct {
	// expired counts page tokens that expired. AWS documents no token that expires at once. When
	// a third one does, the forwarder moves the audit to the dead-letter queue.
	expired            int
	id, kind, schedule string
	started            time.Time
	// found has the non-compliant resources by check. A check without an entry has failed.
	found    map[string][]string
	canceled bool
}

const (
	sharedCertificate = "DEVICE_CERTIFICATE_SHARED_CHECK"
	broadPolicy       = "IOT_POLICY_OVERLY_PERMISSIVE_CHECK"
)

// reasons are the reason codes by check.
var reasons = map[string]string{sharedCertificate: "CERTIFICATE_SHARED_BY_MULTIPLE_DEVICES", broadPolicy: "ALLOWS_BROAD_ACCESS_TO_IOT_DATA_PLANE_ACTIONS"}

// auditPage is how many findings a page has.
const auditPage = 3

func newAudits() *audits {
	return &audits{failing: map[string]map[string]bool{}, ever: map[string]map[string]bool{}, tasks: map[string]*auditTask{}}
}

// audit schedules changes of resources and scheduled audits.
func (w *world) audit(active time.Duration) {
	for range 5 + w.rng.IntN(30) {
		check, resource := pick(w.scheduler, []string{sharedCertificate, broadPolicy}), fmt.Sprintf("resource-%d", w.rng.IntN(9))
		fails := w.chance(0.6)
		w.after(w.between(0, active), func() {
			for _, set := range []map[string]map[string]bool{w.audits.failing, w.audits.ever} {
				if set[check] == nil {
					set[check] = map[string]bool{}
				}
			}
			delete(w.audits.failing[check], resource)
			if fails {
				w.audits.failing[check][resource], w.audits.ever[check][resource] = true, true
			}
		})
	}
	for range 1 + w.rng.IntN(4) {
		w.after(w.between(0, active), func() { w.startAudit("SCHEDULED_AUDIT_TASK", "daily") })
	}
}

// startAudit starts a task, which sends its notification when it ends. Tasks may overlap.
func (w *world) startAudit(kind, schedule string) *auditTask {
	t := &auditTask{
		id: fmt.Sprintf("%032x", len(w.audits.tasks)+1), kind: kind, schedule: schedule, started: time.Now(), found: map[string][]string{}, canceled: w.chance(0.1),
	}
	w.audits.tasks[t.id] = t
	w.model.signals++
	for _, check := range []string{sharedCertificate, broadPolicy} {
		if !w.chance(0.1) {
			t.found[check] = slices.Sorted(maps.Keys(w.audits.failing[check]))
		}
		w.state(t, check)
	}
	w.after(w.between(time.Second, 10*time.Minute), func() { w.auditQueue.send(t.notification(), nil) })
	return t
}

// state adds the results of a task about a check to the reference.
func (w *world) state(t *auditTask, check string) {
	at := t.started.UnixMilli()
	summary := []string{t.kind, t.schedule, check}
	if t.schedule == "" {
		summary = []string{t.kind, check}
	}
	found, ran := t.found[check]
	w.model.add(defender.AuditNotifications, statement{time: at, active: !t.canceled && (!ran || len(found) > 0)}, summary...)
	if t.canceled || !ran {
		return
	}
	for _, resource := range slices.Sorted(maps.Keys(w.audits.ever[check])) {
		parts := []string{"DEVICE_CERTIFICATE", resource, check, reasons[check]}
		if check == broadPolicy {
			parts = []string{"IOT_POLICY", resource, "1", check, reasons[check]}
		}
		w.model.add(defender.AuditNotifications, statement{time: at, active: slices.Contains(found, resource), skips: true}, parts...)
	}
}

// notification returns the message that Device Defender sends at the end of a task.
func (t *auditTask) notification() string {
	status := "COMPLETED"
	var details []any
	for _, check := range []string{sharedCertificate, broadPolicy} {
		found, ran := t.found[check]
		run := "COMPLETED_COMPLIANT"
		switch {
		case t.canceled:
			status, run = "CANCELED", "CANCELED"
		case !ran:
			run = "FAILED"
		case len(found) > 0:
			run = "COMPLETED_NON_COMPLIANT"
		}
		details = append(details, map[string]any{"checkName": check, "checkRunStatus": run, "nonCompliantResourcesCount": len(found), "totalResourcesCount": 9})
	}
	body := map[string]any{
		"accountId": account, "taskId": t.id, "taskStatus": status, "taskType": t.kind, "taskStartTime": t.started.UnixMilli(), "auditDetails": details,
	}
	if t.schedule != "" {
		body["scheduledAuditName"] = t.schedule
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // texts and numbers always marshal
	}
	return string(text)
}

// findings returns the findings of a task, as the API lists them.
func (t *auditTask) findings() []types.AuditFinding {
	var all []types.AuditFinding
	for _, check := range []string{sharedCertificate, broadPolicy} {
		for _, resource := range t.found[check] {
			f := types.AuditFinding{
				CheckName: aws.String(check), FindingId: aws.String(t.id + "-" + check + "-" + resource), TaskId: aws.String(t.id), FindingTime: aws.Time(t.started.Add(time.Second)),
				TaskStartTime: aws.Time(t.started), ReasonForNonComplianceCode: aws.String(reasons[check]), ReasonForNonCompliance: aws.String("It is so."),
				Severity: types.AuditFindingSeverityCritical,
				NonCompliantResource: &types.NonCompliantResource{
					ResourceType: types.ResourceTypeDeviceCertificate, ResourceIdentifier: &types.ResourceIdentifier{DeviceCertificateId: aws.String(resource)},
				},
			}
			if check == broadPolicy {
				f.NonCompliantResource = &types.NonCompliantResource{
					ResourceType:       types.ResourceTypeIotPolicy,
					ResourceIdentifier: &types.ResourceIdentifier{PolicyVersionIdentifier: &types.PolicyVersionIdentifier{PolicyName: aws.String(resource), PolicyVersionId: aws.String("1")}},
				}
			}
			all = append(all, f)
		}
	}
	return all
}

func (t things) ListAuditFindings(ctx context.Context, in *iot.ListAuditFindingsInput, _ ...func(*iot.Options)) (*iot.ListAuditFindingsOutput, error) {
	return ask(ctx, t.environment, "IoT", "ListAuditFindings", aws.ToString(in.TaskId)+" "+aws.ToString(in.NextToken), func() (*iot.ListAuditFindingsOutput, error) {
		task := t.world.audits.tasks[aws.ToString(in.TaskId)]
		if task == nil {
			return nil, &types.InvalidRequestException{Message: aws.String("no task")}
		}
		from := 0
		if in.NextToken != nil {
			if task.expired < 2 && t.world.faults.strikes(pageExpires, t.fn) {
				task.expired++
				return nil, &types.InvalidRequestException{Message: aws.String("the token has expired")}
			}
			_, text, _ := strings.Cut(*in.NextToken, " ")
			n, err := strconv.Atoi(text)
			if err != nil {
				return nil, &types.InvalidRequestException{Message: aws.String("no token")}
			}
			from = n
		}
		all := task.findings()
		out := &iot.ListAuditFindingsOutput{Findings: all[from:min(len(all), from+auditPage)]}
		if from+auditPage < len(all) {
			out.NextToken = aws.String(task.id + " " + strconv.Itoa(from+auditPage))
		}
		return out, nil
	})
}

func (t things) DescribeAccountAuditConfiguration(ctx context.Context, _ *iot.DescribeAccountAuditConfigurationInput, _ ...func(*iot.Options)) (*iot.DescribeAccountAuditConfigurationOutput, error) {
	return ask(ctx, t.environment, "IoT", "DescribeAccountAuditConfiguration", "", func() (*iot.DescribeAccountAuditConfigurationOutput, error) {
		return &iot.DescribeAccountAuditConfigurationOutput{AuditCheckConfigurations: map[string]types.AuditCheckConfiguration{
			sharedCertificate: {Enabled: true}, broadPolicy: {Enabled: true},
		}}, nil
	})
}

func (t things) ListRelatedResourcesForAuditFinding(ctx context.Context, in *iot.ListRelatedResourcesForAuditFindingInput, _ ...func(*iot.Options)) (*iot.ListRelatedResourcesForAuditFindingOutput, error) {
	return ask(ctx, t.environment, "IoT", "ListRelatedResourcesForAuditFinding", aws.ToString(in.FindingId), func() (*iot.ListRelatedResourcesForAuditFindingOutput, error) {
		return &iot.ListRelatedResourcesForAuditFindingOutput{}, nil
	})
}

func (t things) StartOnDemandAuditTask(ctx context.Context, in *iot.StartOnDemandAuditTaskInput, _ ...func(*iot.Options)) (*iot.StartOnDemandAuditTaskOutput, error) {
	return ask(ctx, t.environment, "IoT", "StartOnDemandAuditTask", strings.Join(in.TargetCheckNames, " "), func() (*iot.StartOnDemandAuditTaskOutput, error) {
		return &iot.StartOnDemandAuditTaskOutput{TaskId: aws.String(t.world.startAudit("ON_DEMAND_AUDIT_TASK", "").id)}, nil
	})
}

// customResource asks CloudFormation's function for an audit, as a deployment does. A deployment
// fails if the function does.
func (w *world) customResource(trigger int) {
	event, err := json.Marshal(cfn.Event{
		RequestType: cfn.RequestUpdate, RequestID: fmt.Sprint(trigger), ResourceType: contract.StartAuditResourceType, LogicalResourceID: "StartAudit", PhysicalResourceID: "start-audit",
		ResourceProperties: map[string]any{contract.StartAuditChecks: []string{sharedCertificate, broadPolicy}, contract.StartAuditTrigger: fmt.Sprint(trigger)},
	})
	if err != nil {
		panic(err)
	}
	w.invoke(w.resources, event, func(value any, err error, failed bool) {
		if err != nil && !errors.Is(err, errCrashed) && !failed {
			w.counts["failed custom resources"]++
		}
	})
}
