package iotcore

import (
	"cmp"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore/policy"
)

// maxPolicyVersions is the maximum number of versions of a policy (CreatePolicyVersion).
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
	tags           []types.Tag
}

type policyVersion struct {
	text     string
	document *policy.Document
	created  time.Time
}

func (p *iotPolicy) current() *policyVersion { return p.versions[p.defaultVersion] }

// Policy is a policy in its default version.
type Policy struct {
	Name      string
	VersionID string
	Document  *policy.Document
}

// Policies returns all policies in their default versions, by name.
func (s *Service) Policies() []Policy {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Policy
	for _, name := range slices.Sorted(maps.Keys(s.policies)) {
		p := s.policies[name]
		out = append(out, Policy{p.name, strconv.Itoa(p.defaultVersion), p.current().document})
	}
	return out
}

// newVersion parses a policy document. Its errors are those of the API.
func (s *Service) newVersion(text *string) (*policyVersion, error) {
	doc, err := policy.Parse(aws.ToString(text))
	if errors.As(err, new(*policy.UnsupportedError)) {
		return nil, errUnknownHere.new("%v", err)
	}
	if err != nil {
		return nil, errMalformedPolicy.new("%v", err)
	}
	return &policyVersion{text: *text, document: doc, created: s.now()}, nil
}

func (s *Service) createPolicy(in *iot.CreatePolicyInput) (*iot.CreatePolicyOutput, error) {
	name := *in.PolicyName
	if !policyNameForm.MatchString(name) {
		return nil, errInvalidRequest.new("policyName is %q, want 1 to 128 of A-Z a-z 0-9 _ + = , . @ -", name)
	}
	version, err := s.newVersion(in.PolicyDocument)
	if err != nil {
		return nil, err
	}
	if p, exists := s.policies[name]; exists {
		return nil, errAlreadyExists.of(p.name, p.arn, "Policy cannot be created - name already exists (name=%s)", p.name)
	}
	p := &iotPolicy{
		name: name, arn: s.ARN("policy/" + name), created: version.created, modified: version.created,
		versions: map[int]*policyVersion{1: version}, defaultVersion: 1, lastVersion: 1, targets: map[string]bool{}, tags: in.Tags,
	}
	s.policies[name] = p
	return &iot.CreatePolicyOutput{PolicyName: &p.name, PolicyArn: &p.arn, PolicyDocument: &version.text, PolicyVersionId: aws.String("1")}, nil
}

// listTags returns the tags of a policy. Other resources have no tags here.
func (s *Service) listTags(in *iot.ListTagsForResourceInput) (*iot.ListTagsForResourceOutput, error) {
	_, name, ok := strings.Cut(*in.ResourceArn, ":policy/")
	if !ok {
		return nil, errUnknownHere.new("the local AWS IoT supports tags of policies only, not of %s", *in.ResourceArn)
	}
	p, err := s.policy(name)
	if err != nil {
		return nil, err
	}
	return &iot.ListTagsForResourceOutput{Tags: p.tags}, nil
}

func (s *Service) policy(name string) (*iotPolicy, error) {
	return find(s.policies, name, errNotFound, "Policy not found (name=%s)")
}

func (s *Service) getPolicy(in *iot.GetPolicyInput) (*iot.GetPolicyOutput, error) {
	p, err := s.policy(*in.PolicyName)
	if err != nil {
		return nil, err
	}
	return &iot.GetPolicyOutput{
		PolicyName: &p.name, PolicyArn: &p.arn, PolicyDocument: &p.current().text, DefaultVersionId: aws.String(strconv.Itoa(p.defaultVersion)),
		CreationDate: aws.Time(p.created), LastModifiedDate: aws.Time(p.modified),
	}, nil
}

// listPolicies lists policies by creation date, by default the newest first.
func (s *Service) listPolicies(in *iot.ListPoliciesInput) (*iot.ListPoliciesOutput, error) {
	all := slices.SortedFunc(maps.Values(s.policies), func(a, b *iotPolicy) int {
		return cmp.Or(a.created.Compare(b.created), strings.Compare(a.name, b.name))
	})
	if !in.AscendingOrder {
		slices.Reverse(all)
	}
	page, next, err := Page(all, in.Marker, in.PageSize, DefaultPage)
	out := &iot.ListPoliciesOutput{NextMarker: next}
	for _, p := range page {
		out.Policies = append(out.Policies, types.Policy{PolicyName: &p.name, PolicyArn: &p.arn})
	}
	return out, err
}

// deletePolicy deletes a policy that is not attached and has only its default version.
func (s *Service) deletePolicy(in *iot.DeletePolicyInput) error {
	p, err := s.policy(*in.PolicyName)
	switch {
	case err != nil:
		return err
	case len(p.targets) > 0:
		return errDeleteConflict.new("The policy cannot be deleted as the policy is attached to one or more principals (name=%s)", p.name)
	case len(p.versions) > 1:
		return errDeleteConflict.new("Cannot delete the policy because it has one or more policy versions attached to it (name=%s)", p.name)
	}
	delete(s.policies, p.name)
	return nil
}

func (s *Service) createPolicyVersion(in *iot.CreatePolicyVersionInput) (*iot.CreatePolicyVersionOutput, error) {
	version, err := s.newVersion(in.PolicyDocument)
	if err != nil {
		return nil, err
	}
	p, err := s.policy(*in.PolicyName)
	if err != nil {
		return nil, err
	}
	if len(p.versions) >= maxPolicyVersions {
		return nil, errVersionsLimit.new("The policy %s already has the maximum number of versions (%d)", p.name, maxPolicyVersions)
	}
	p.lastVersion++
	p.versions[p.lastVersion] = version
	p.modified = version.created
	if in.SetAsDefault {
		p.defaultVersion = p.lastVersion
	}
	return &iot.CreatePolicyVersionOutput{
		PolicyArn: &p.arn, PolicyDocument: &version.text, PolicyVersionId: aws.String(strconv.Itoa(p.lastVersion)), IsDefaultVersion: in.SetAsDefault,
	}, nil
}

func (s *Service) deletePolicyVersion(in *iot.DeletePolicyVersionInput) error {
	p, err := s.policy(*in.PolicyName)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(*in.PolicyVersionId)
	switch {
	case err != nil || p.versions[n] == nil:
		return errNotFound.new("Policy version not found (name=%s, version=%s)", p.name, *in.PolicyVersionId)
	case n == p.defaultVersion:
		return errDeleteConflict.new("Cannot delete the default version of a policy (name=%s, version=%d)", p.name, n)
	}
	delete(p.versions, n)
	return nil
}

// EffectivePolicies returns the policies of a connection with a certificate and a thing: those that
// are attached to the certificate, to the thing's groups, and to the parents of those groups.
// Either may be empty.
func (s *Service) EffectivePolicies(certificateID, thingName string) []*policy.Document {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []*policy.Document
	for _, p := range s.effective(s.ARN("cert/"+certificateID), thingName) {
		out = append(out, p.current().document)
	}
	return out
}

// effective returns the effective policies, sorted by name. It needs the lock.
func (s *Service) effective(principal, thingName string) []*iotPolicy {
	targets := []string{principal}
	for _, g := range s.groupsOf(thingName) {
		for _, above := range s.lineage(g) {
			targets = append(targets, above.arn)
		}
	}
	var out []*iotPolicy
	for _, name := range slices.Sorted(maps.Keys(s.policies)) {
		p := s.policies[name]
		if slices.ContainsFunc(targets, func(target string) bool { return p.targets[target] }) {
			out = append(out, p)
		}
	}
	return out
}

// getEffectivePolicies lists the effective policies of a principal and a thing.
func (s *Service) getEffectivePolicies(in *iot.GetEffectivePoliciesInput) (*iot.GetEffectivePoliciesOutput, error) {
	if err := s.checkTarget(aws.ToString(in.Principal)); err != nil {
		return nil, err
	}
	out := &iot.GetEffectivePoliciesOutput{}
	for _, p := range s.effective(*in.Principal, aws.ToString(in.ThingName)) {
		out.EffectivePolicies = append(out.EffectivePolicies, types.EffectivePolicy{
			PolicyName: aws.String(p.name), PolicyArn: aws.String(s.ARN("policy/" + p.name)), PolicyDocument: aws.String(p.current().text),
		})
	}
	return out, nil
}

// checkTarget accepts the ARN of a certificate or a thing group. It needs the lock.
func (s *Service) checkTarget(target string) error {
	if name, ok := strings.CutPrefix(target, s.ARN("thinggroup/")); ok {
		_, err := s.group(name)
		return err
	}
	if !strings.HasPrefix(target, "arn:") && strings.Contains(target, ":") {
		return errUnknownHere.new("Amazon Cognito identities (%s) are not supported by the local AWS IoT", target)
	}
	if !strings.HasPrefix(target, s.ARN("cert/")) {
		return errInvalidRequest.new("The given target %q is neither a certificate nor a thing group of this account and Region", target)
	}
	_, err := s.certificateByARN(&target)
	return err
}

func (s *Service) attachPolicy(in *iot.AttachPolicyInput) error {
	p, err := s.policy(*in.PolicyName)
	if err == nil {
		err = s.checkTarget(aws.ToString(in.Target))
	}
	if err == nil {
		p.targets[*in.Target] = true
	}
	return err
}

// detachPolicy detaches a policy. It succeeds if the policy is not attached.
func (s *Service) detachPolicy(in *iot.DetachPolicyInput) error {
	p, err := s.policy(*in.PolicyName)
	if err != nil {
		return errInvalidRequest.new("Policy not found (name=%s)", *in.PolicyName)
	}
	if err = s.checkTarget(aws.ToString(in.Target)); err == nil {
		delete(p.targets, *in.Target)
	}
	return err
}
