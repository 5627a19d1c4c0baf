package devicedefender

import (
	"fmt"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// maxInline is how many related resources a finding itself carries.
const maxInline = 10

// finding is what a check found about one resource.
type finding struct {
	order      string
	id         string
	task       *task
	check      defender.Check
	time       time.Time
	issue      issue
	suppressed bool
}

// newFinding needs the lock.
func (s *Service) newFinding(t *task, check defender.Check, i issue, at time.Time) *finding {
	s.findingsMade++
	f := &finding{
		order: fmt.Sprintf("%012d", s.findingsMade), id: newID(), task: t, check: check, time: at, issue: i,
		suppressed: s.suppressed(check, i.resource.ResourceIdentifier, at),
	}
	s.findings = append(s.findings, f)
	return f
}

// AuditFinding is how the API tells of a finding.
type AuditFinding struct {
	FindingID                  string            `json:"findingId"`
	TaskID                     string            `json:"taskId"`
	CheckName                  string            `json:"checkName"`
	TaskStartTime              iotcore.Timestamp `json:"taskStartTime"`
	FindingTime                iotcore.Timestamp `json:"findingTime"`
	Severity                   string            `json:"severity"`
	NonCompliantResource       Resource          `json:"nonCompliantResource"`
	RelatedResources           []Resource        `json:"relatedResources"` // at most 10
	ReasonForNonCompliance     string            `json:"reasonForNonCompliance"`
	ReasonForNonComplianceCode string            `json:"reasonForNonComplianceCode"`
	IsSuppressed               bool              `json:"isSuppressed"`
}

func (f *finding) told() AuditFinding {
	related := append([]Resource{}, f.issue.related...)
	return AuditFinding{
		FindingID: f.id, TaskID: f.task.id, CheckName: f.check.String(),
		TaskStartTime: iotcore.Timestamp(f.task.started), FindingTime: iotcore.Timestamp(f.time),
		Severity: f.check.Severity().String(), NonCompliantResource: f.issue.resource,
		RelatedResources:       related[:min(len(related), maxInline)],
		ReasonForNonCompliance: f.issue.reason, ReasonForNonComplianceCode: f.issue.code, IsSuppressed: f.suppressed,
	}
}

// ListAuditFindingsInput is the operation's input. ListSuppressedFindings true lists
// only suppressed findings, false only unsuppressed ones, nil both.
type ListAuditFindingsInput struct {
	TaskID                 string              `json:"taskId"`
	CheckName              string              `json:"checkName"`
	ResourceIdentifier     *ResourceIdentifier `json:"resourceIdentifier"`
	StartTime              *Seconds            `json:"startTime"`
	EndTime                *Seconds            `json:"endTime"`
	ListSuppressedFindings *bool               `json:"listSuppressedFindings"`
	Paging
}

// ListAuditFindingsOutput is the operation's output.
type ListAuditFindingsOutput struct {
	Findings  []AuditFinding `json:"findings"`
	NextToken string         `json:"nextToken,omitempty"`
}

// ListAuditFindings lists the findings of a task, or those of a period, oldest first.
func (s *Service) ListAuditFindings(in *ListAuditFindingsInput) (*ListAuditFindingsOutput, error) {
	wanted, err := in.filter()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*finding
	for _, f := range s.findings {
		if wanted(f) {
			all = append(all, f)
		}
	}
	found, next, err := page(in.Paging, all, false, func(f *finding) string { return f.order })
	if err != nil {
		return nil, err
	}
	out := &ListAuditFindingsOutput{Findings: make([]AuditFinding, 0, len(found)), NextToken: next}
	for _, f := range found {
		out.Findings = append(out.Findings, f.told())
	}
	return out, nil
}

func (in *ListAuditFindingsInput) filter() (func(*finding) bool, error) {
	period := in.StartTime != nil && in.EndTime != nil
	switch {
	case (in.StartTime != nil) != (in.EndTime != nil):
		return nil, invalidRequest("startTime and endTime go together")
	case (in.TaskID != "") == period:
		return nil, invalidRequest("want either taskId, or startTime and endTime")
	case period && in.EndTime.Before(in.StartTime.Time):
		return nil, invalidRequest("endTime is before startTime")
	}
	var check defender.Check
	if in.CheckName != "" {
		var err error
		if check, err = anyCheck(in.CheckName); err != nil {
			return nil, err
		}
	}
	resource := ""
	if in.ResourceIdentifier != nil {
		if _, err := in.ResourceIdentifier.field(); err != nil {
			return nil, err
		}
		resource = in.ResourceIdentifier.key()
	}
	return func(f *finding) bool {
		return (in.TaskID == "" || f.task.id == in.TaskID) &&
			(!period || !f.time.Before(in.StartTime.Time) && !f.time.Truncate(time.Millisecond).After(in.EndTime.Time)) &&
			(in.CheckName == "" || f.check == check) &&
			(resource == "" || f.issue.resource.ResourceIdentifier.key() == resource) &&
			(in.ListSuppressedFindings == nil || f.suppressed == *in.ListSuppressedFindings)
	}, nil
}

// finding needs the lock.
func (s *Service) finding(id string) (*finding, error) {
	for _, f := range s.findings {
		if f.id == id {
			return f, nil
		}
	}
	return nil, notFound("The audit finding %s does not exist", id)
}

// DescribeAuditFindingInput is the operation's input.
type DescribeAuditFindingInput struct {
	FindingID string `uri:"findingId"`
}

// DescribeAuditFindingOutput is the operation's output.
type DescribeAuditFindingOutput struct {
	Finding AuditFinding `json:"finding"`
}

// DescribeAuditFinding tells of a finding.
func (s *Service) DescribeAuditFinding(in *DescribeAuditFindingInput) (*DescribeAuditFindingOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.finding(in.FindingID)
	if err != nil {
		return nil, err
	}
	return &DescribeAuditFindingOutput{Finding: f.told()}, nil
}

// ListRelatedResourcesForAuditFindingInput is the operation's input.
type ListRelatedResourcesForAuditFindingInput struct {
	FindingID string `query:"findingId"`
	Paging
}

// ListRelatedResourcesForAuditFindingOutput is the operation's output.
type ListRelatedResourcesForAuditFindingOutput struct {
	RelatedResources []Resource `json:"relatedResources"`
	NextToken        string     `json:"nextToken,omitempty"`
}

// ListRelatedResourcesForAuditFinding lists all related resources of a finding.
func (s *Service) ListRelatedResourcesForAuditFinding(in *ListRelatedResourcesForAuditFindingInput) (*ListRelatedResourcesForAuditFindingOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.finding(in.FindingID)
	if err != nil {
		return nil, err
	}
	type numbered struct {
		resource Resource
		order    string
	}
	var all []numbered
	for i, r := range f.issue.related {
		all = append(all, numbered{r, fmt.Sprintf("%08d", i)})
	}
	found, next, err := page(in.Paging, all, false, func(n numbered) string { return n.order })
	if err != nil {
		return nil, err
	}
	out := &ListRelatedResourcesForAuditFindingOutput{RelatedResources: []Resource{}, NextToken: next}
	for _, n := range found {
		out.RelatedResources = append(out.RelatedResources, n.resource)
	}
	return out, nil
}
