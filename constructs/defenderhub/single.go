package defenderhub

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// single is a resource that exists once per account and Region.
type single string

const (
	auditConfiguration single = "audit-configuration"
	auditSubscription  single = "audit-subscription"
	detectSubscription single = "detect-subscription"
	securityHub        single = "security-hub"
)

// named returns the single for a resource whose name the user chose, "" if the name is empty or
// known only at deployment.
func named(kind, name string) single {
	if name == "" || unresolved(name) {
		return ""
	}
	return single(kind + " " + name)
}

// taken reports a single that another construct of the app already creates, in the same stack or
// in another one with the same account and Region. Otherwise the deployment would fail halfway.
// Stacks with an unknown account or Region are not compared.
func (f *faults) taken(scope constructs.Construct, s single, wanted bool, field string, value any, want string) {
	if !wanted || s == "" {
		return
	}
	if owner := s.owner(scope); owner != "" {
		f.add(field, value, "%s: it exists once per account and Region, and %s creates it", want, owner)
	}
}

// owner returns the path of the construct that took a single, "" for none.
func (s single) owner(scope constructs.Construct) string {
	for _, id := range s.marks(scope) {
		if mark := scope.Node().Root().Node().TryFindChild(&id); mark != nil {
			return fmt.Sprint(mark.Node().GetContext(new(ownerKey)))
		}
	}
	return ""
}

// take records that scope creates a single.
func take(scope constructs.Construct, s single) {
	if s == "" {
		return
	}
	var app constructs.Construct
	jsii.UnsafeCast(scope.Node().Root(), &app)
	for _, id := range s.marks(scope) {
		mark := constructs.NewConstruct(app, &id)
		mark.Node().SetContext(new(ownerKey), *scope.Node().Path())
	}
}

const ownerKey = "defenderhub:owner"

// marks returns the IDs of the app's child constructs that record a single: one for the stack of
// scope and, if known, one for its account and Region.
func (s single) marks(scope constructs.Construct) []string {
	stack := outermost(scope)
	marks := []string{fmt.Sprintf("defenderhub:%s of %s", s, *stack.Node().Path())}
	if account, region := *stack.Account(), *stack.Region(); !unresolved(account) && !unresolved(region) {
		marks = append(marks, fmt.Sprintf("defenderhub:%s in %s %s", s, account, region))
	}
	return marks
}

// outermost returns the stack of scope, or the parent of its nested stack.
func outermost(scope constructs.Construct) awscdk.Stack {
	stack := awscdk.Stack_Of(scope)
	for parent := stack.NestedStackParent(); parent != nil; parent = stack.NestedStackParent() {
		stack = parent
	}
	return stack
}
