package devicedefender

import (
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// maxInline is how many related resources a finding itself carries.
const maxInline = 10

// standardPage is the size of a page that asks for none.
const standardPage = 25

// finding is what a check found about one resource.
type finding struct {
	number     int
	id         string
	task       *task
	check      defender.Check
	time       time.Time
	issue      issue
	suppressed bool
}

func (f *finding) order() string { return fmt.Sprintf("%012d", f.number) }

func (s *Service) newFinding(t *task, check defender.Check, i issue, at time.Time) *finding {
	s.findingsMade++
	f := &finding{
		number: s.findingsMade, id: newID(), task: t, check: check, time: at, issue: i,
		suppressed: s.suppressed(check, i.resource.ResourceIdentifier, at),
	}
	s.findings = append(s.findings, f)
	return f
}

func (f *finding) described() types.AuditFinding {
	return types.AuditFinding{
		FindingId: &f.id, TaskId: &f.task.id, CheckName: aws.String(f.check.String()), TaskStartTime: &f.task.started, FindingTime: &f.time,
		Severity: types.AuditFindingSeverity(f.check.Severity().String()), NonCompliantResource: &f.issue.resource,
		RelatedResources:       append([]types.RelatedResource{}, f.issue.related[:min(len(f.issue.related), maxInline)]...),
		ReasonForNonCompliance: &f.issue.reason, ReasonForNonComplianceCode: &f.issue.code, IsSuppressed: &f.suppressed,
	}
}

// listFindingsInput has a ListSuppressedFindings that can be left out: true lists only
// suppressed findings, false only unsuppressed ones, nil both.
type listFindingsInput struct {
	iot.ListAuditFindingsInput
	ListSuppressedFindings *bool
}

// listAuditFindings lists the findings of a task, or those of a period, oldest first.
func (s *Service) listAuditFindings(in *listFindingsInput) (*iot.ListAuditFindingsOutput, error) {
	wanted, err := in.filter()
	if err != nil {
		return nil, err
	}
	var all []*finding
	for _, f := range s.findings {
		if wanted(f) {
			all = append(all, f)
		}
	}
	page, next, err := iotcore.Page(all, (*finding).order, in.NextToken, in.MaxResults, standardPage)
	out := &iot.ListAuditFindingsOutput{NextToken: next}
	for _, f := range page {
		out.Findings = append(out.Findings, f.described())
	}
	return out, err
}

func (in *listFindingsInput) filter() (func(*finding) bool, error) {
	period := in.StartTime != nil && in.EndTime != nil
	switch {
	case (in.StartTime != nil) != (in.EndTime != nil):
		return nil, invalidRequest("startTime and endTime go together")
	case (in.TaskId != nil) == period:
		return nil, invalidRequest("want either taskId, or startTime and endTime")
	case period && in.EndTime.Before(*in.StartTime):
		return nil, invalidRequest("endTime is before startTime")
	}
	check, resource, err := checkAndResource(in.CheckName, in.ResourceIdentifier)
	if err != nil {
		return nil, err
	}
	return func(f *finding) bool {
		return (in.TaskId == nil || f.task.id == *in.TaskId) &&
			(!period || !f.time.Before(*in.StartTime) && !f.time.Truncate(time.Millisecond).After(*in.EndTime)) &&
			(check == 0 || f.check == check) &&
			(resource == "" || key(f.issue.resource.ResourceIdentifier) == resource) &&
			(in.ListSuppressedFindings == nil || f.suppressed == *in.ListSuppressedFindings)
	}, nil
}

// checkAndResource reads what lists are filtered by; 0 and "" stand for all.
func checkAndResource(name *string, r *types.ResourceIdentifier) (check defender.Check, resource string, err error) {
	if name != nil {
		if check, err = checkNamed(*name); err != nil {
			return 0, "", err
		}
	}
	if r != nil {
		if _, err = fieldOf(r); err != nil {
			return 0, "", err
		}
		resource = key(r)
	}
	return check, resource, nil
}

func (s *Service) listRelatedResources(in *iot.ListRelatedResourcesForAuditFindingInput) (out *iot.ListRelatedResourcesForAuditFindingOutput, err error) {
	for _, f := range s.findings {
		if f.id != aws.ToString(in.FindingId) {
			continue
		}
		numbers := make([]int, len(f.issue.related))
		for i := range numbers {
			numbers[i] = i
		}
		page, next, err := iotcore.Page(numbers, func(i int) string { return fmt.Sprintf("%08d", i) }, in.NextToken, in.MaxResults, standardPage)
		out := &iot.ListRelatedResourcesForAuditFindingOutput{NextToken: next}
		for _, i := range page {
			out.RelatedResources = append(out.RelatedResources, f.issue.related[i])
		}
		return out, err
	}
	return nil, notFound("The audit finding %s does not exist", aws.ToString(in.FindingId))
}
