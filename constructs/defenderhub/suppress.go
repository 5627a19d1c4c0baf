package defenderhub

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// nagSuppression says why a rule of cdk-nag does not apply.
type nagSuppression struct {
	rule, reason string
	// findings are those that the reason covers, nil for the whole rule.
	findings []string
}

// suppressNag writes suppressions to the resources below scope whose type begins with
// typePrefix: as metadata of the template, which cdk-nag 2 reads, and as acknowledgments of
// the CDK, which cdk-nag 3 reads. It imports no cdk-nag, so that nobody who embeds this
// package has to.
func suppressNag(scope constructs.IConstruct, typePrefix string, suppressions ...nagSuppression) {
	var rules []any
	var acknowledgments []*awscdk.Acknowledgment
	for _, s := range suppressions {
		rule := map[string]any{"id": s.rule, "reason": s.reason}
		if s.findings != nil {
			rule["applies_to"] = s.findings
		}
		rules = append(rules, rule)
		acknowledgments = append(acknowledgments, s.acknowledgments()...)
	}
	for _, c := range *scope.Node().FindAll(constructs.ConstructOrder_PREORDER) {
		if !*awscdk.CfnResource_IsCfnResource(c) {
			continue
		}
		// A type assertion on a construct of another's making panics in Go.
		var r awscdk.CfnResource
		jsii.UnsafeCast(c, &r)
		if strings.HasPrefix(*r.CfnResourceType(), typePrefix) {
			r.AddMetadata(new("cdk_nag"), map[string]any{"rules_to_suppress": rules})
			awscdk.Validations_Of(r).Acknowledge(acknowledgments...)
		}
	}
}

// acknowledgments are what cdk-nag 3 wants: one for each finding of a rule that has several,
// because it knows no acknowledgment of all of them.
func (s nagSuppression) acknowledgments() []*awscdk.Acknowledgment {
	if s.findings == nil {
		return []*awscdk.Acknowledgment{{Id: new(s.rule), Reason: new(s.reason)}}
	}
	var all []*awscdk.Acknowledgment
	for _, finding := range s.findings {
		all = append(all, &awscdk.Acknowledgment{Id: new(s.rule + "[" + finding + "]"), Reason: new(s.reason)})
	}
	return all
}
