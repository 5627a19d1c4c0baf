package iotcore

import (
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"

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

// detachPolicy undoes AttachPolicy. Detaching what is not attached succeeds.
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

// listAttachedPolicies lists the policies of a certificate or thing group, with
// Recursive also those of the groups above.
func (s *Service) listAttachedPolicies(in *iot.ListAttachedPoliciesInput) (*iot.ListAttachedPoliciesOutput, error) {
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
