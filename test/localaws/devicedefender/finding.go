package devicedefender

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// maxInline is the largest number of related resources in a finding itself.
const maxInline = 10

// standardPage is the default size of a page.
const standardPage = 25

type finding struct {
	id         string
	task       *task
	check      defender.Check
	time       time.Time
	issue      issue
	suppressed bool
}

func (s *Service) newFinding(t *task, check defender.Check, i issue, at time.Time) *finding {
	f := &finding{
		id: iotcore.NewID(), task: t, check: check, time: at, issue: i,
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

// listFindingsInput has a ListSuppressedFindings that is nil if the request does not have it. true
// lists only suppressed findings, false only unsuppressed ones, nil both.
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
	page, next, err := iotcore.Page(all, in.NextToken, in.MaxResults, standardPage)
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
		return nil, iotcore.InvalidRequest("startTime and endTime must be set together")
	case (in.TaskId != nil) == period:
		return nil, iotcore.InvalidRequest("want either taskId, or startTime and endTime")
	case period && in.EndTime.Before(*in.StartTime):
		return nil, iotcore.InvalidRequest("endTime is before startTime")
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

// checkAndResource returns the check and resource by which a list is filtered; 0 and "" mean all.
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
		out = &iot.ListRelatedResourcesForAuditFindingOutput{}
		out.RelatedResources, out.NextToken, err = iotcore.Page(f.issue.related, in.NextToken, in.MaxResults, standardPage)
		return out, err
	}
	return nil, iotcore.NotFound("The audit finding %s does not exist", aws.ToString(in.FindingId))
}

func fields(r *types.ResourceIdentifier) map[string]any {
	if r == nil {
		return nil
	}
	return iotcore.JSON(r).(map[string]any)
}

// key returns a text that is equal for equal identifiers only.
func key(r *types.ResourceIdentifier) string {
	text, err := json.Marshal(fields(r))
	if err != nil {
		panic(err) // strings only
	}
	return string(text)
}

var (
	certificateIDForm = regexp.MustCompile(`^(0x)?[a-fA-F0-9]+$`)
	accountForm       = regexp.MustCompile(`^[0-9]{12}$`)
)

// fieldOf returns the API's name of the field that is set, and validates the identifier by the
// patterns of the API model.
func fieldOf(r *types.ResourceIdentifier) (string, error) {
	set := slices.Sorted(maps.Keys(fields(r)))
	if len(set) != 1 {
		return "", iotcore.InvalidRequest("resourceIdentifier has %d identifiers [%s], want one", len(set), strings.Join(set, ", "))
	}
	for name, id := range map[string]*string{"deviceCertificateId": r.DeviceCertificateId, "caCertificateId": r.CaCertificateId} {
		if id != nil && (len(*id) != 64 || !certificateIDForm.MatchString(*id)) {
			return "", iotcore.InvalidRequest("%s is %q, want 64 hex digits", name, *id)
		}
	}
	if r.Account != nil && !accountForm.MatchString(*r.Account) {
		return "", iotcore.InvalidRequest("account is %q, want 12 digits", *r.Account)
	}
	if p := r.PolicyVersionIdentifier; p != nil && (p.PolicyName == nil || p.PolicyVersionId == nil) {
		return "", iotcore.InvalidRequest("policyVersionIdentifier needs policyName and policyVersionId")
	}
	return set[0], nil
}

// display returns the resource as descriptions name it: a policy is NAME:VERSION.
func display(r *types.ResourceIdentifier) string { return strings.Join(segments(r), ":") }

// segments are the parts of the identifier in the id of a native finding.
func segments(r *types.ResourceIdentifier) []string {
	if p := r.PolicyVersionIdentifier; p != nil {
		return []string{aws.ToString(p.PolicyName), aws.ToString(p.PolicyVersionId)}
	}
	for _, value := range fields(r) {
		if text, ok := value.(string); ok {
			return []string{text}
		}
	}
	return nil
}

const maxSuppressionDescription = 1000 // characters

var (
	requestTokenForm = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
	descriptionForm  = regexp.MustCompile(`^[[:graph:] ]*$`)
)

// suppression suppresses the findings of a check about one resource.
type suppression struct {
	types.AuditSuppression
	token string
}

// suppressionOf returns the check of a suppression and its key in Service.suppressions. It refuses
// an identifier of another kind than the check's findings have.
func suppressionOf(name *string, r *types.ResourceIdentifier) (defender.Check, string, error) {
	if name == nil {
		return 0, "", iotcore.InvalidRequest("checkName is missing")
	}
	check, err := checkNamed(*name)
	if err != nil {
		return 0, "", err
	}
	field, err := fieldOf(r)
	if err != nil {
		return 0, "", err
	}
	if want := auditChecks[check].identifier; field != want {
		return 0, "", iotcore.InvalidRequest("a suppression of %s needs the resource identifier %s, not %s", check, want, field)
	}
	return check, suppressionKey(check, r), nil
}

func suppressionKey(check defender.Check, r *types.ResourceIdentifier) string {
	return check.String() + " " + key(r)
}

func (s *suppression) expired(at time.Time) bool {
	return s.ExpirationDate != nil && !at.Before(*s.ExpirationDate)
}

func (s *Service) suppressed(check defender.Check, r *types.ResourceIdentifier, at time.Time) bool {
	found, ok := s.suppressions[suppressionKey(check, r)]
	return ok && !found.expired(at)
}

// change sets a suppression's expiration and its description. It keeps a value whose argument is
// nil.
func (s *suppression) change(expires *time.Time, indefinitely *bool, description *string, now time.Time) error {
	forever := aws.ToBool(indefinitely)
	switch {
	case forever && expires != nil:
		return iotcore.InvalidRequest("want either expirationDate or suppressIndefinitely")
	case forever:
		s.ExpirationDate = nil
	case expires != nil:
		if !expires.After(now) {
			return iotcore.InvalidRequest("expirationDate is %s, which is in the past", expires.Format(time.RFC3339))
		}
		s.ExpirationDate = expires
	}
	s.SuppressIndefinitely = aws.Bool(s.ExpirationDate == nil)
	if description != nil {
		if n := utf8.RuneCountInString(*description); n > maxSuppressionDescription || !descriptionForm.MatchString(*description) {
			return iotcore.InvalidRequest("description has %d characters, want at most %d printable ones", n, maxSuppressionDescription)
		}
		s.Description = description
	}
	return nil
}

// createAuditSuppression suppresses the findings of a check about a resource. Audits still list
// them, as suppressed.
func (s *Service) createAuditSuppression(in *iot.CreateAuditSuppressionInput) error {
	check, key, err := suppressionOf(in.CheckName, in.ResourceIdentifier)
	if err != nil {
		return err
	}
	token := aws.ToString(in.ClientRequestToken)
	if !requestTokenForm.MatchString(token) {
		return iotcore.InvalidRequest("clientRequestToken is %q, want 1 to 64 of A-Z a-z 0-9 _ -", token)
	}
	if in.ExpirationDate == nil && !aws.ToBool(in.SuppressIndefinitely) {
		return iotcore.InvalidRequest("want expirationDate or suppressIndefinitely")
	}
	if !s.configuration.checks[check].enabled {
		return iotcore.InvalidRequest("The check %s is not enabled for this account", check)
	}
	s.dropExpired()
	for _, have := range s.suppressions {
		if have.token == token {
			return iotcore.AlreadyExists("", "", "A suppression was created with the clientRequestToken %s already", token)
		}
	}
	if _, exists := s.suppressions[key]; exists {
		return iotcore.AlreadyExists("", "", "A suppression of %s for %s exists already", check, display(in.ResourceIdentifier))
	}
	made := &suppression{types.AuditSuppression{CheckName: in.CheckName, ResourceIdentifier: in.ResourceIdentifier}, token}
	if err := made.change(in.ExpirationDate, in.SuppressIndefinitely, in.Description, s.config.Now()); err != nil {
		return err
	}
	s.suppressions[key] = made
	return nil
}

func (s *Service) dropExpired() {
	now := s.config.Now()
	maps.DeleteFunc(s.suppressions, func(_ string, have *suppression) bool { return have.expired(now) })
}

func (s *Service) existing(name *string, r *types.ResourceIdentifier) (*suppression, error) {
	check, key, err := suppressionOf(name, r)
	if err != nil {
		return nil, err
	}
	s.dropExpired()
	have, ok := s.suppressions[key]
	if !ok {
		return nil, iotcore.NotFound("There is no suppression of %s for %s", check, display(r))
	}
	return have, nil
}

func (s *Service) updateAuditSuppression(in *iot.UpdateAuditSuppressionInput) error {
	have, err := s.existing(in.CheckName, in.ResourceIdentifier)
	if err != nil {
		return err
	}
	next := *have
	if err := next.change(in.ExpirationDate, in.SuppressIndefinitely, in.Description, s.config.Now()); err != nil {
		return err
	}
	*have = next
	return nil
}

func (s *Service) describeAuditSuppression(in *iot.DescribeAuditSuppressionInput) (*types.AuditSuppression, error) {
	have, err := s.existing(in.CheckName, in.ResourceIdentifier)
	if err != nil {
		return nil, err
	}
	described := have.AuditSuppression
	return &described, nil
}

// deleteAuditSuppression deletes a suppression. It succeeds if there is none, because the API
// model has no error for that.
func (s *Service) deleteAuditSuppression(in *iot.DeleteAuditSuppressionInput) error {
	_, key, err := suppressionOf(in.CheckName, in.ResourceIdentifier)
	if err != nil {
		return err
	}
	delete(s.suppressions, key)
	return nil
}
