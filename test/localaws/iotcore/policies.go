package iotcore

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore/policy"
)

// maxPolicyVersions is the most versions that a policy can have
// (CreatePolicyVersion).
const maxPolicyVersions = 5

var policyNameForm = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)

type iotPolicy struct {
	name, arn      string
	created        time.Time
	modified       time.Time
	versions       map[int]*policyVersion
	defaultVersion int
	lastVersion    int
	targets        map[string]bool // ARNs of certificates and thing groups
}

type policyVersion struct {
	text     string
	document *policy.Document
	created  time.Time
}

func (p *iotPolicy) current() *policyVersion { return p.versions[p.defaultVersion] }

// Policy is a policy as it is in effect.
type Policy struct {
	Name, ARN string
	VersionID string // the default version
	Text      string
	Document  *policy.Document
	Targets   []string // ARNs of the certificates and thing groups it is attached to
}

// Policies returns all policies in their default versions, by name.
func (s *Service) Policies() []Policy {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Policy
	for _, name := range slices.Sorted(maps.Keys(s.policies)) {
		p := s.policies[name]
		out = append(out, Policy{
			Name: p.name, ARN: p.arn, VersionID: strconv.Itoa(p.defaultVersion),
			Text: p.current().text, Document: p.current().document, Targets: slices.Sorted(maps.Keys(p.targets)),
		})
	}
	return out
}

// parsePolicy turns the two kinds of failure into answers of the service.
func parsePolicy(text string) (*policy.Document, error) {
	doc, err := policy.Parse(text)
	var unsupported *policy.UnsupportedError
	if errors.As(err, &unsupported) {
		return nil, errUnknownHere.new("%v", err)
	}
	if err != nil {
		return nil, errMalformedPolicy.new("%v", err)
	}
	return doc, nil
}

// CreatePolicyInput is the operation's input.
type CreatePolicyInput struct {
	PolicyName     string `uri:"policyName"`
	PolicyDocument string `json:"policyDocument"`
	Tags           []Tag  `json:"tags"`
}

// CreatePolicyOutput is the operation's output.
type CreatePolicyOutput struct {
	PolicyName      string `json:"policyName"`
	PolicyARN       string `json:"policyArn"`
	PolicyDocument  string `json:"policyDocument"`
	PolicyVersionID string `json:"policyVersionId"`
}

// CreatePolicy creates a policy with one version, which is the default.
func (s *Service) CreatePolicy(in *CreatePolicyInput) (*CreatePolicyOutput, error) {
	if !policyNameForm.MatchString(in.PolicyName) {
		return nil, errInvalidRequest.new("policyName is %q, want 1 to 128 of A-Z a-z 0-9 _ + = , . @ -", in.PolicyName)
	}
	doc, err := parsePolicy(in.PolicyDocument)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, exists := s.policies[in.PolicyName]; exists {
		err := errAlreadyExists.new("Policy cannot be created - name already exists (name=%s)", p.name)
		err.ResourceARN, err.ResourceID = p.arn, p.name
		return nil, err
	}
	now := s.now()
	p := &iotPolicy{
		name: in.PolicyName, arn: s.ARN("policy/" + in.PolicyName), created: now, modified: now,
		versions:       map[int]*policyVersion{1: {text: in.PolicyDocument, document: doc, created: now}},
		defaultVersion: 1, lastVersion: 1, targets: map[string]bool{},
	}
	s.policies[p.name] = p
	s.setTags(p.arn, in.Tags)
	return &CreatePolicyOutput{PolicyName: p.name, PolicyARN: p.arn, PolicyDocument: in.PolicyDocument, PolicyVersionID: "1"}, nil
}

// policy needs the lock.
func (s *Service) policy(name string) (*iotPolicy, error) {
	p, ok := s.policies[name]
	if !ok {
		return nil, errNotFound.new("Policy not found (name=%s)", name)
	}
	return p, nil
}

// PolicyInput names a policy.
type PolicyInput struct {
	PolicyName string `uri:"policyName"`
}

// GetPolicyOutput is the operation's output.
type GetPolicyOutput struct {
	PolicyName       string    `json:"policyName"`
	PolicyARN        string    `json:"policyArn"`
	PolicyDocument   string    `json:"policyDocument"`
	DefaultVersionID string    `json:"defaultVersionId"`
	CreationDate     Timestamp `json:"creationDate"`
	LastModifiedDate Timestamp `json:"lastModifiedDate"`
}

// GetPolicy tells of a policy and its default version.
func (s *Service) GetPolicy(in *PolicyInput) (*GetPolicyOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, err := s.policy(in.PolicyName)
	if err != nil {
		return nil, err
	}
	return &GetPolicyOutput{
		PolicyName: p.name, PolicyARN: p.arn, PolicyDocument: p.current().text, DefaultVersionID: strconv.Itoa(p.defaultVersion),
		CreationDate: Timestamp(p.created), LastModifiedDate: Timestamp(p.modified),
	}, nil
}

// ListedPolicy names a policy in lists.
type ListedPolicy struct {
	PolicyName string `json:"policyName"`
	PolicyARN  string `json:"policyArn"`
}

// ListPoliciesOutput is the output of the operations that list policies.
type ListPoliciesOutput struct {
	Policies   []ListedPolicy `json:"policies"`
	NextMarker string         `json:"nextMarker,omitempty"`
}

// ListPolicies lists policies by creation date, newest first unless the input
// asks for the other order.
func (s *Service) ListPolicies(in *MarkerInput) (*ListPoliciesOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return listPolicies(in, slices.Collect(maps.Values(s.policies)))
}

func listPolicies(in *MarkerInput, policies []*iotPolicy) (*ListPoliciesOutput, error) {
	order := func(p *iotPolicy) string { return fmt.Sprintf("%020d %s", p.created.UnixNano(), p.name) }
	slices.SortFunc(policies, func(a, b *iotPolicy) int { return strings.Compare(order(a), order(b)) })
	indexes, next, err := in.page(len(policies), func(i int) string { return order(policies[i]) })
	if err != nil {
		return nil, err
	}
	out := &ListPoliciesOutput{Policies: []ListedPolicy{}, NextMarker: next}
	for _, i := range indexes {
		out.Policies = append(out.Policies, ListedPolicy{policies[i].name, policies[i].arn})
	}
	return out, nil
}

// DeletePolicy removes a policy that is attached to nothing and has no version
// besides its default.
func (s *Service) DeletePolicy(in *PolicyInput) (*struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.policy(in.PolicyName)
	if err != nil {
		return nil, err
	}
	if len(p.targets) > 0 {
		return nil, errDeleteConflict.new("The policy cannot be deleted as the policy is attached to one or more principals (name=%s)", p.name)
	}
	if len(p.versions) > 1 {
		return nil, errDeleteConflict.new("Cannot delete the policy because it has one or more policy versions attached to it (name=%s)", p.name)
	}
	delete(s.tags, p.arn)
	delete(s.policies, p.name)
	return nil, nil
}

// CreatePolicyVersionInput is the operation's input.
type CreatePolicyVersionInput struct {
	PolicyName     string `uri:"policyName"`
	PolicyDocument string `json:"policyDocument"`
	SetAsDefault   bool   `query:"setAsDefault"`
}

// CreatePolicyVersionOutput is the operation's output.
type CreatePolicyVersionOutput struct {
	PolicyARN        string `json:"policyArn"`
	PolicyDocument   string `json:"policyDocument"`
	PolicyVersionID  string `json:"policyVersionId"`
	IsDefaultVersion bool   `json:"isDefaultVersion"`
}

// CreatePolicyVersion adds a version, of which a policy has at most five.
func (s *Service) CreatePolicyVersion(in *CreatePolicyVersionInput) (*CreatePolicyVersionOutput, error) {
	doc, err := parsePolicy(in.PolicyDocument)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.policy(in.PolicyName)
	if err != nil {
		return nil, err
	}
	if len(p.versions) >= maxPolicyVersions {
		return nil, errVersionsLimit.new("The policy %s already has the maximum number of versions (%d)", p.name, maxPolicyVersions)
	}
	now := s.now()
	p.lastVersion++
	p.versions[p.lastVersion] = &policyVersion{text: in.PolicyDocument, document: doc, created: now}
	p.modified = now
	if in.SetAsDefault {
		p.defaultVersion = p.lastVersion
	}
	return &CreatePolicyVersionOutput{
		PolicyARN: p.arn, PolicyDocument: in.PolicyDocument, PolicyVersionID: strconv.Itoa(p.lastVersion), IsDefaultVersion: in.SetAsDefault,
	}, nil
}

// PolicyVersionInput names a version of a policy.
type PolicyVersionInput struct {
	PolicyName      string `uri:"policyName"`
	PolicyVersionID string `uri:"policyVersionId"`
}

// version needs the lock.
func (s *Service) version(in *PolicyVersionInput) (*iotPolicy, int, error) {
	p, err := s.policy(in.PolicyName)
	if err != nil {
		return nil, 0, err
	}
	n, err := strconv.Atoi(in.PolicyVersionID)
	if err != nil || p.versions[n] == nil {
		return nil, 0, errNotFound.new("Policy version not found (name=%s, version=%s)", p.name, in.PolicyVersionID)
	}
	return p, n, nil
}

// GetPolicyVersionOutput is the operation's output.
type GetPolicyVersionOutput struct {
	PolicyARN        string    `json:"policyArn"`
	PolicyName       string    `json:"policyName"`
	PolicyDocument   string    `json:"policyDocument"`
	PolicyVersionID  string    `json:"policyVersionId"`
	IsDefaultVersion bool      `json:"isDefaultVersion"`
	CreationDate     Timestamp `json:"creationDate"`
	LastModifiedDate Timestamp `json:"lastModifiedDate"`
}

// GetPolicyVersion tells of one version of a policy.
func (s *Service) GetPolicyVersion(in *PolicyVersionInput) (*GetPolicyVersionOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, n, err := s.version(in)
	if err != nil {
		return nil, err
	}
	v := p.versions[n]
	return &GetPolicyVersionOutput{
		PolicyARN: p.arn, PolicyName: p.name, PolicyDocument: v.text, PolicyVersionID: in.PolicyVersionID,
		IsDefaultVersion: n == p.defaultVersion, CreationDate: Timestamp(v.created), LastModifiedDate: Timestamp(v.created),
	}, nil
}

// ListedPolicyVersion is an element of ListPolicyVersionsOutput.
type ListedPolicyVersion struct {
	VersionID        string    `json:"versionId"`
	IsDefaultVersion bool      `json:"isDefaultVersion"`
	CreateDate       Timestamp `json:"createDate"`
}

// ListPolicyVersionsOutput is the operation's output.
type ListPolicyVersionsOutput struct {
	PolicyVersions []ListedPolicyVersion `json:"policyVersions"`
}

// ListPolicyVersions lists the versions of a policy, newest first.
func (s *Service) ListPolicyVersions(in *PolicyInput) (*ListPolicyVersionsOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, err := s.policy(in.PolicyName)
	if err != nil {
		return nil, err
	}
	out := &ListPolicyVersionsOutput{PolicyVersions: []ListedPolicyVersion{}}
	numbers := slices.Sorted(maps.Keys(p.versions))
	slices.Reverse(numbers)
	for _, n := range numbers {
		out.PolicyVersions = append(out.PolicyVersions, ListedPolicyVersion{
			VersionID: strconv.Itoa(n), IsDefaultVersion: n == p.defaultVersion, CreateDate: Timestamp(p.versions[n].created),
		})
	}
	return out, nil
}

// DeletePolicyVersion removes a version that is not the default.
func (s *Service) DeletePolicyVersion(in *PolicyVersionInput) (*struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, n, err := s.version(in)
	if err != nil {
		return nil, err
	}
	if n == p.defaultVersion {
		return nil, errDeleteConflict.new("Cannot delete the default version of a policy (name=%s, version=%d)", p.name, n)
	}
	delete(p.versions, n)
	return nil, nil
}

// SetDefaultPolicyVersion puts a version into effect.
func (s *Service) SetDefaultPolicyVersion(in *PolicyVersionInput) (*struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, n, err := s.version(in)
	if err != nil {
		return nil, err
	}
	p.defaultVersion = n
	p.modified = s.now()
	return nil, nil
}
