package defenderhub

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
)

// A single is what an account and Region has one of.
type single string

const (
	auditConfiguration single = "defenderhub:audit-configuration"
	auditSubscription  single = "defenderhub:audit-subscription"
	detectSubscription single = "defenderhub:detect-subscription"
	securityHub        single = "defenderhub:security-hub"
)

// taken reports a single that another construct of the stack makes already, where
// CloudFormation would fail in the middle of a deployment. Other stacks are not seen.
func (f *faults) taken(scope constructs.Construct, s single, wanted bool, field string, value any, want string) {
	if wanted && outermost(scope).Node().TryFindChild(new(string(s))) != nil {
		f.add(field, value, "%s: an account and Region has one, and another construct of this stack makes it", want)
	}
}

// take marks a single as made.
func take(scope constructs.Construct, s single) {
	constructs.NewConstruct(outermost(scope), new(string(s)))
}

// outermost is the stack of scope, or the one that its nested stack belongs to.
func outermost(scope constructs.Construct) awscdk.Stack {
	stack := awscdk.Stack_Of(scope)
	for parent := stack.NestedStackParent(); parent != nil; parent = stack.NestedStackParent() {
		stack = parent
	}
	return stack
}
