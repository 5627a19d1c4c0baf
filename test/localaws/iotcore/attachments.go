package iotcore

import (
	"maps"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore/policy"
)

// EffectivePolicies returns the policies that decide what a certificate may do
// while its connection belongs to a thing: those attached to the certificate, to
// the thing's groups and to the groups above them. Either may be empty.
func (s *Service) EffectivePolicies(certificateID, thingName string) []*policy.Document {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []*policy.Document
	for _, p := range s.effective(s.ARN("cert/"+certificateID), thingName) {
		out = append(out, p.current().document)
	}
	return out
}

// effective needs the lock.
func (s *Service) effective(principal, thingName string) []*iotPolicy {
	targets := map[string]bool{principal: true}
	for _, g := range s.groupsOf(thingName) {
		for _, above := range s.lineage(g) {
			targets[above.arn] = true
		}
	}
	return s.attachedTo(targets)
}

// attachedTo returns the policies attached to any of the targets, by name. It
// needs the lock.
func (s *Service) attachedTo(targets map[string]bool) []*iotPolicy {
	var out []*iotPolicy
	for _, name := range slices.Sorted(maps.Keys(s.policies)) {
		for target := range s.policies[name].targets {
			if targets[target] {
				out = append(out, s.policies[name])
				break
			}
		}
	}
	return out
}

// checkTarget accepts the ARN of a certificate or a thing group. It needs the lock.
func (s *Service) checkTarget(target string) error {
	if name, ok := strings.CutPrefix(target, s.ARN("thinggroup/")); ok {
		_, err := s.group(name)
		return err
	}
	if !strings.HasPrefix(target, "arn:") && strings.Contains(target, ":") {
		return errUnknownHere.new("Amazon Cognito identities (%s) are not known to the local AWS IoT", target)
	}
	if !strings.HasPrefix(target, s.ARN("cert/")) {
		return errInvalidRequest.new("The given target %q is neither a certificate nor a thing group of this account and Region", target)
	}
	_, err := s.certificateByARN(target)
	return err
}

// PolicyTargetInput is the input of AttachPolicy and DetachPolicy.
type PolicyTargetInput struct {
	PolicyName string `uri:"policyName"`
	Target     string `json:"target"`
}

// AttachPolicy attaches a policy to a certificate or a thing group.
func (s *Service) AttachPolicy(in *PolicyTargetInput) (*struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.policy(in.PolicyName)
	if err != nil {
		return nil, err
	}
	if err := s.checkTarget(in.Target); err != nil {
		return nil, err
	}
	p.targets[in.Target] = true
	return nil, nil
}

// DetachPolicy undoes AttachPolicy. Detaching what is not attached succeeds.
func (s *Service) DetachPolicy(in *PolicyTargetInput) (*struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.policy(in.PolicyName)
	if err != nil {
		return nil, errInvalidRequest.new("Policy not found (name=%s)", in.PolicyName)
	}
	if err := s.checkTarget(in.Target); err != nil {
		return nil, err
	}
	delete(p.targets, in.Target)
	return nil, nil
}

// PrincipalPolicyInput is the input of AttachPrincipalPolicy and DetachPrincipalPolicy.
type PrincipalPolicyInput struct {
	PolicyName string `uri:"policyName"`
	Principal  string `header:"x-amzn-iot-principal"`
}

// AttachPrincipalPolicy is the older AttachPolicy; it takes certificates only.
func (s *Service) AttachPrincipalPolicy(in *PrincipalPolicyInput) (*struct{}, error) {
	return s.withCertificate(in, (*Service).AttachPolicy)
}

// DetachPrincipalPolicy is the older DetachPolicy; it takes certificates only.
func (s *Service) DetachPrincipalPolicy(in *PrincipalPolicyInput) (*struct{}, error) {
	return s.withCertificate(in, (*Service).DetachPolicy)
}

func (s *Service) withCertificate(in *PrincipalPolicyInput, do func(*Service, *PolicyTargetInput) (*struct{}, error)) (*struct{}, error) {
	s.mu.RLock()
	_, err := s.certificateByARN(in.Principal)
	s.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	return do(s, &PolicyTargetInput{PolicyName: in.PolicyName, Target: in.Principal})
}

// ListAttachedPoliciesInput is the operation's input.
type ListAttachedPoliciesInput struct {
	Target    string `uri:"target"`
	Recursive bool   `query:"recursive"`
	PageSize  int    `query:"pageSize"`
	Marker    string `query:"marker"`
}

// ListAttachedPolicies lists the policies of a certificate or thing group, with
// Recursive also those of the groups above.
func (s *Service) ListAttachedPolicies(in *ListAttachedPoliciesInput) (*ListPoliciesOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.checkTarget(in.Target); err != nil {
		return nil, err
	}
	targets := map[string]bool{in.Target: true}
	if name, ok := strings.CutPrefix(in.Target, s.ARN("thinggroup/")); ok && in.Recursive {
		for _, above := range s.lineage(s.groups[name]) {
			targets[above.arn] = true
		}
	}
	return listPolicies(&MarkerInput{PageSize: in.PageSize, Marker: in.Marker}, s.attachedTo(targets))
}

// ListPrincipalPoliciesInput is the operation's input.
type ListPrincipalPoliciesInput struct {
	MarkerInput
	Principal string `header:"x-amzn-iot-principal"`
}

// ListPrincipalPolicies is the older ListAttachedPolicies; it takes certificates only.
func (s *Service) ListPrincipalPolicies(in *ListPrincipalPoliciesInput) (*ListPoliciesOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if _, err := s.certificateByARN(in.Principal); err != nil {
		return nil, err
	}
	return listPolicies(&in.MarkerInput, s.attachedTo(map[string]bool{in.Principal: true}))
}

// ListTargetsForPolicyInput is the operation's input.
type ListTargetsForPolicyInput struct {
	PolicyName string `uri:"policyName"`
	PageSize   int    `query:"pageSize"`
	Marker     string `query:"marker"`
}

// ListTargetsForPolicyOutput is the operation's output.
type ListTargetsForPolicyOutput struct {
	Targets    []string `json:"targets"`
	NextMarker string   `json:"nextMarker,omitempty"`
}

// ListTargetsForPolicy lists the certificates and thing groups that a policy is
// attached to.
func (s *Service) ListTargetsForPolicy(in *ListTargetsForPolicyInput) (*ListTargetsForPolicyOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	targets, next, err := s.targetsOf(in.PolicyName, MarkerInput{PageSize: in.PageSize, Marker: in.Marker, Ascending: true})
	if err != nil {
		return nil, err
	}
	return &ListTargetsForPolicyOutput{Targets: targets, NextMarker: next}, nil
}

func (s *Service) targetsOf(policyName string, paging MarkerInput) ([]string, string, error) {
	p, err := s.policy(policyName)
	if err != nil {
		return nil, "", err
	}
	targets := slices.Sorted(maps.Keys(p.targets))
	indexes, next, err := paging.page(len(targets), func(i int) string { return targets[i] })
	if err != nil {
		return nil, "", err
	}
	return pick(targets, indexes), next, nil
}

// ListPolicyPrincipalsInput is the operation's input.
type ListPolicyPrincipalsInput struct {
	MarkerInput
	PolicyName string `header:"x-amzn-iot-policy"`
}

// ListPolicyPrincipalsOutput is the operation's output.
type ListPolicyPrincipalsOutput struct {
	Principals []string `json:"principals"`
	NextMarker string   `json:"nextMarker,omitempty"`
}

// ListPolicyPrincipals is the older ListTargetsForPolicy.
func (s *Service) ListPolicyPrincipals(in *ListPolicyPrincipalsInput) (*ListPolicyPrincipalsOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	principals, next, err := s.targetsOf(in.PolicyName, in.MarkerInput)
	if err != nil {
		return nil, err
	}
	return &ListPolicyPrincipalsOutput{Principals: principals, NextMarker: next}, nil
}

// GetEffectivePoliciesInput is the operation's input.
type GetEffectivePoliciesInput struct {
	Principal             string `json:"principal"`
	CognitoIdentityPoolID string `json:"cognitoIdentityPoolId"`
	ThingName             string `query:"thingName"`
}

// EffectivePolicy is an element of GetEffectivePoliciesOutput.
type EffectivePolicy struct {
	PolicyName     string `json:"policyName"`
	PolicyARN      string `json:"policyArn"`
	PolicyDocument string `json:"policyDocument"`
}

// GetEffectivePoliciesOutput is the operation's output.
type GetEffectivePoliciesOutput struct {
	EffectivePolicies []EffectivePolicy `json:"effectivePolicies"`
}

// GetEffectivePolicies lists the policies that decide what a principal may do
// when it connects as a thing.
func (s *Service) GetEffectivePolicies(in *GetEffectivePoliciesInput) (*GetEffectivePoliciesOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if in.CognitoIdentityPoolID != "" {
		return nil, errUnknownHere.new("Amazon Cognito identity pools (%s) are not known to the local AWS IoT", in.CognitoIdentityPoolID)
	}
	if in.Principal != "" {
		if err := s.checkTarget(in.Principal); err != nil {
			return nil, err
		}
	}
	if in.ThingName != "" {
		if _, err := s.thing(in.ThingName); err != nil {
			return nil, err
		}
	}
	out := &GetEffectivePoliciesOutput{EffectivePolicies: []EffectivePolicy{}}
	for _, p := range s.effective(in.Principal, in.ThingName) {
		out.EffectivePolicies = append(out.EffectivePolicies, EffectivePolicy{p.name, p.arn, p.current().text})
	}
	return out, nil
}
