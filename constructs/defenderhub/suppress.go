package defenderhub

import (
	"fmt"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// Suppression says why a rule of cdk-nag does not apply to a resource.
type Suppression struct {
	// Rule is the rule's ID, such as "AwsSolutions-IAM5". It is required.
	Rule string
	// Reason is required. It has at least 10 characters, the minimum of cdk-nag.
	Reason string
	// Findings limits the suppression to these findings of the rule, such as "Resource::*".
	// Default: empty, the whole rule.
	Findings []string
}

// Suppress adds suppressions to scope, if it is a resource, and to all resources below it. It
// keeps the suppressions of this package, which you would replace if you wrote the metadata
// yourself. It panics with one error that lists every fault of the suppressions.
func Suppress(scope constructs.IConstruct, suppressions ...Suppression) {
	var f faults
	var all []nagSuppression
	for i, s := range suppressions {
		if s.Rule == "" {
			f.add(index(i)+".Rule", nil, "the ID of a rule of cdk-nag, such as AwsSolutions-IAM5")
		}
		if len(s.Reason) < minReason {
			f.add(index(i)+".Reason", s.Reason, "at least %d characters: cdk-nag rejects shorter ones", minReason)
		}
		all = append(all, nagSuppression{rule: s.Rule, reason: s.Reason, findings: s.Findings})
	}
	if err := f.err(); err != nil {
		panic(fmt.Errorf("defenderhub: invalid suppressions of %s:\n%w", *scope.Node().Path(), err))
	}
	suppressNag(scope, "", all...)
}

// minReason is the minimum length of a reason in cdk-nag, in bytes.
const minReason = 10

// nagSuppression is a valid [Suppression].
type nagSuppression struct {
	rule, reason string
	findings     []string
}

// suppressNag writes suppressions to the resources below scope whose type begins with typePrefix:
// as template metadata for cdk-nag 2, and as CDK acknowledgments for cdk-nag 3. It does not
// import cdk-nag, so that embedders do not need it.
func suppressNag(scope constructs.IConstruct, typePrefix string, suppressions ...nagSuppression) {
	var rules []any
	var acknowledgments []*awscdk.Acknowledgment
	for _, s := range suppressions {
		rule := map[string]any{"id": s.rule, "reason": s.reason}
		if len(s.findings) > 0 {
			rule["applies_to"] = s.findings
		}
		rules = append(rules, rule)
		acknowledgments = append(acknowledgments, s.acknowledgments()...)
	}
	for _, c := range *scope.Node().FindAll(constructs.ConstructOrder_PREORDER) {
		if !*awscdk.CfnResource_IsCfnResource(c) {
			continue
		}
		// A type assertion panics for a construct made by other code.
		var r awscdk.CfnResource
		jsii.UnsafeCast(c, &r)
		if strings.HasPrefix(*r.CfnResourceType(), typePrefix) {
			r.AddMetadata(new("cdk_nag"), map[string]any{"rules_to_suppress": append(suppressed(r), rules...)})
			awscdk.Validations_Of(r).Acknowledge(acknowledgments...)
		}
	}
}

// suppressed returns the rules that a resource's metadata suppresses.
func suppressed(r awscdk.CfnResource) []any {
	metadata, _ := r.GetMetadata(new("cdk_nag")).(map[string]any)
	rules, _ := metadata["rules_to_suppress"].([]any)
	return rules
}

// acknowledgments returns one acknowledgment per finding for rules with several findings: cdk-nag
// 3 cannot acknowledge all of them at once.
func (s nagSuppression) acknowledgments() []*awscdk.Acknowledgment {
	if len(s.findings) == 0 {
		return []*awscdk.Acknowledgment{{Id: new(s.rule), Reason: new(s.reason)}}
	}
	var all []*awscdk.Acknowledgment
	for _, finding := range s.findings {
		all = append(all, &awscdk.Acknowledgment{Id: new(s.rule + "[" + finding + "]"), Reason: new(s.reason)})
	}
	return all
}
