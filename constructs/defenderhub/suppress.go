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
// typePrefix. It writes cdk-nag's metadata without importing it, so that nobody who
// embeds this package has to.
func suppressNag(scope constructs.IConstruct, typePrefix string, suppressions ...nagSuppression) {
	var rules []any
	for _, s := range suppressions {
		rule := map[string]any{"id": s.rule, "reason": s.reason}
		if s.findings != nil {
			rule["applies_to"] = s.findings
		}
		rules = append(rules, rule)
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
		}
	}
}
