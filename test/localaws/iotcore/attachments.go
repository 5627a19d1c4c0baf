package iotcore

import (
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

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
	targets := []string{principal}
	for _, g := range s.groupsOf(thingName) {
		for _, above := range s.lineage(g) {
			targets = append(targets, above.arn)
		}
	}
	return s.attachedTo(targets)
}

// attachedTo returns the policies attached to any of the targets, by name. It
// needs the lock.
func (s *Service) attachedTo(targets []string) []*iotPolicy {
	var out []*iotPolicy
	for _, name := range slices.Sorted(maps.Keys(s.policies)) {
		p := s.policies[name]
		if slices.ContainsFunc(targets, func(target string) bool { return p.targets[target] }) {
			out = append(out, p)
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
	_, err := s.certificateByARN(&target)
	return err
}

// AttachPolicy attaches a policy to a certificate or a thing group.
func (s *Service) AttachPolicy(in *iot.AttachPolicyInput) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.policy(*in.PolicyName)
	if err == nil {
		err = s.checkTarget(aws.ToString(in.Target))
	}
	if err == nil {
		p.targets[*in.Target] = true
	}
	return err
}

// DetachPolicy undoes AttachPolicy. Detaching what is not attached succeeds.
func (s *Service) DetachPolicy(in *iot.DetachPolicyInput) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.policy(*in.PolicyName)
	if err != nil {
		return errInvalidRequest.new("Policy not found (name=%s)", *in.PolicyName)
	}
	if err = s.checkTarget(aws.ToString(in.Target)); err == nil {
		delete(p.targets, *in.Target)
	}
	return err
}

// ListAttachedPolicies lists the policies of a certificate or thing group, with
// Recursive also those of the groups above.
func (s *Service) ListAttachedPolicies(in *iot.ListAttachedPoliciesInput) (*iot.ListAttachedPoliciesOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.checkTarget(*in.Target); err != nil {
		return nil, err
	}
	targets := []string{*in.Target}
	if name, ok := strings.CutPrefix(*in.Target, s.ARN("thinggroup/")); ok && in.Recursive {
		for _, above := range s.lineage(s.groups[name]) {
			targets = append(targets, above.arn)
		}
	}
	policies, next, err := pageOfPolicies(s.attachedTo(targets), false, in.Marker, in.PageSize)
	return &iot.ListAttachedPoliciesOutput{Policies: policies, NextMarker: next}, err
}

// ListTargetsForPolicy lists the certificates and thing groups that a policy is
// attached to.
func (s *Service) ListTargetsForPolicy(in *iot.ListTargetsForPolicyInput) (out *iot.ListTargetsForPolicyOutput, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, err := s.policy(*in.PolicyName)
	if err != nil {
		return nil, err
	}
	out = &iot.ListTargetsForPolicyOutput{}
	out.Targets, out.NextMarker, err = Page(slices.Sorted(maps.Keys(p.targets)), itself, in.Marker, in.PageSize, DefaultPage)
	return out, err
}

// GetEffectivePolicies lists the policies that decide what a principal may do
// when it connects as a thing.
func (s *Service) GetEffectivePolicies(in *iot.GetEffectivePoliciesInput) (*iot.GetEffectivePoliciesOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if in.Principal != nil {
		if err := s.checkTarget(*in.Principal); err != nil {
			return nil, err
		}
	}
	if in.ThingName != nil {
		if _, err := s.thing(*in.ThingName); err != nil {
			return nil, err
		}
	}
	out := &iot.GetEffectivePoliciesOutput{}
	for _, p := range s.effective(aws.ToString(in.Principal), aws.ToString(in.ThingName)) {
		out.EffectivePolicies = append(out.EffectivePolicies, types.EffectivePolicy{PolicyName: &p.name, PolicyArn: &p.arn, PolicyDocument: &p.current().text})
	}
	return out, nil
}
