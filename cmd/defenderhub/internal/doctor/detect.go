package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/assembly"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
)

// tryPrefix is the prefix of the name of the security profile that --try creates.
const tryPrefix = "defenderhub-doctor-"

// detect finds out whether the account can use Detect. AWS closed it to new customers on 2026-08-31,
// and no API says whether an account is a new customer.
func detect(ctx context.Context, e *exam) ([]line, error) {
	profiles, err := e.profiles(ctx)
	if err != nil {
		return nil, err
	}
	native := e.resources("AWS::IoT::SecurityProfile")
	switch {
	case len(profiles) > 0:
		return []line{{Status: ok, Finding: "Detect works here: the account has " + count(len(profiles), "security profile")}}, nil
	case e.try && (e.stacks == nil || slices.ContainsFunc(native, e.deploysHere)):
		return e.tryProfile(ctx)
	case len(native) > 0:
		how := "defenderhub doctor --try"
		if e.try {
			how += " with credentials of the stack's account and Region"
		}
		return []line{{unknown, "", notKnown, how + "; if it is closed: " + otherEngine}}, nil
	}
	return []line{{Status: note, Finding: "not known: the account has no security profile, and the template needs none"}}, nil
}

const (
	notKnown    = "the account has no security profile, so whether Detect is open to it is not known: AWS closed Detect to new customers on 2026-08-31"
	otherEngine = "defenderhub:engine=self-managed in cdk.json, or Detect.SelfManaged instead of Detect.Native"
)

// deploysHere reports whether the resource's stack may go to the account and Region of the credentials.
func (e *exam) deploysHere(r assembly.Resource) bool {
	t := e.stackOf(r)
	return (t.Account == "" || t.Account == e.identity.AccountID) && (t.Region == "" || t.Region == e.region)
}

func (e *exam) profiles(ctx context.Context) ([]string, error) {
	var all []string
	for pages := iot.NewListSecurityProfilesPaginator(e.iot, &iot.ListSecurityProfilesInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range page.SecurityProfileIdentifiers {
			all = append(all, aws.ToString(p.Name))
		}
	}
	return all, nil
}

// tryProfile creates a security profile that is attached to nothing, and deletes it.
func (e *exam) tryProfile(ctx context.Context) ([]line, error) {
	name := tryPrefix + strings.ToLower(rand.Text()[:8])
	if err := e.Confirm("create the security profile "+name+", which is attached to nothing", "delete it again"); err != nil {
		return nil, err
	}
	_, err := e.iot.CreateSecurityProfile(ctx, &iot.CreateSecurityProfileInput{SecurityProfileName: &name, Tags: []types.Tag{{Key: aws.String("defenderhub:command"), Value: aws.String("doctor")}}})
	var exists *types.ResourceAlreadyExistsException
	var refused smithy.APIError
	denial := cli.DenialOf(err)
	switch {
	case errors.As(err, &exists):
		err = nil // the SDK repeated a request whose response was lost
	// Other texts of denied access may mean that Detect is closed: AWS does not document its error.
	case denial != nil && denial.Other == "":
		return []line{{unknown, "", notKnown, "if it is closed: " + otherEngine}}, err
	case errors.As(err, &refused) && !retry.NewStandard().IsErrorRetryable(err):
		return []line{{fix, "", "a security profile could not be created, and AWS closed Detect to new customers on 2026-08-31: " + cli.Explain(err), otherEngine}}, nil
	}
	// Without a response, for example after Ctrl-C, the profile may exist too.
	e.Undo("the security profile "+name, func(ctx context.Context) error {
		_, err := e.iot.DeleteSecurityProfile(ctx, &iot.DeleteSecurityProfileInput{SecurityProfileName: &name})
		return err
	})
	if err := errors.Join(err, e.Close()); err != nil {
		return nil, err
	}
	return []line{{Status: ok, Finding: "Detect works here: the security profile " + name + ", attached to nothing, was created and deleted"}}, nil
}

// named lists the types whose names are unique per account and Region, with the property of the name
// and the fix for a name that is in use.
var named = []struct{ kind, property, fix string }{
	{"AWS::IoT::SecurityProfile", "SecurityProfileName", "another Name in Detect.Profiles"},
	{"AWS::IoT::ScheduledAudit", "ScheduledAuditName", "another Audit.ScheduleName, or none"},
	{"AWS::IoT::CustomMetric", "MetricName", "name it in Detect.Native.ExistingCustomMetrics"},
	{"AWS::IoT::Dimension", "Name", "another name"},
	{"AWS::IoT::TopicRule", "RuleName", "another defenderhub:reports-rule in cdk.json (Detect.SelfManaged.ReportsRuleName), or none"},
}

// names reports names of the template that are in use in the account.
func names(ctx context.Context, e *exam) ([]line, error) {
	lists := map[string]func(context.Context) ([]string, error){
		"AWS::IoT::SecurityProfile": e.profiles,
		"AWS::IoT::ScheduledAudit": func(ctx context.Context) (all []string, err error) {
			for pages := iot.NewListScheduledAuditsPaginator(e.iot, &iot.ListScheduledAuditsInput{}); pages.HasMorePages(); {
				page, err := pages.NextPage(ctx)
				if err != nil {
					return nil, err
				}
				for _, a := range page.ScheduledAudits {
					all = append(all, aws.ToString(a.ScheduledAuditName))
				}
			}
			return all, nil
		},
		"AWS::IoT::CustomMetric": func(ctx context.Context) (all []string, err error) {
			for pages := iot.NewListCustomMetricsPaginator(e.iot, &iot.ListCustomMetricsInput{}); pages.HasMorePages(); {
				page, err := pages.NextPage(ctx)
				if err != nil {
					return nil, err
				}
				all = append(all, page.MetricNames...)
			}
			return all, nil
		},
		"AWS::IoT::Dimension": func(ctx context.Context) (all []string, err error) {
			for pages := iot.NewListDimensionsPaginator(e.iot, &iot.ListDimensionsInput{}); pages.HasMorePages(); {
				page, err := pages.NextPage(ctx)
				if err != nil {
					return nil, err
				}
				all = append(all, page.DimensionNames...)
			}
			return all, nil
		},
		"AWS::IoT::TopicRule": func(ctx context.Context) (all []string, err error) {
			for pages := iot.NewListTopicRulesPaginator(e.iot, &iot.ListTopicRulesInput{}); pages.HasMorePages(); {
				page, err := pages.NextPage(ctx)
				if err != nil {
					return nil, err
				}
				for _, r := range page.Rules {
					all = append(all, aws.ToString(r.RuleName))
				}
			}
			return all, nil
		},
	}
	var lines []line
	given := 0
	for _, n := range named {
		var fixed []assembly.Resource
		for _, r := range e.resources(n.kind) {
			if r.Text(n.property) != "" && !e.owns(ctx, r) {
				fixed = append(fixed, r)
			}
		}
		if len(fixed) == 0 {
			continue // the account's list does not matter
		}
		taken, err := lists[n.kind](ctx)
		if err != nil {
			return lines, err
		}
		for _, r := range fixed {
			given++
			if name := r.Text(n.property); slices.Contains(taken, name) {
				lines = append(lines, line{fix, "", fmt.Sprintf("the name %s of %s is in use in this account and Region (ResourceAlreadyExistsException)", name, r.Path()), n.fix})
			}
		}
	}
	if len(lines) == 0 {
		lines = append(lines, line{Status: ok, Finding: fmt.Sprintf("%d names are given, and none is in use", given)})
	}
	return lines, nil
}

// ruleRoles reports rules that do not depend on the policy of their role. AWS IoT rejects a rule
// whose role is too new, so a rule must wait for that policy.
func ruleRoles(_ context.Context, e *exam) ([]line, error) {
	var lines []line
	rules := e.resources("AWS::IoT::TopicRule")
	for _, r := range rules {
		var waits []string
		assembly.Walk(r.DependsOn, func(id string) { waits = append(waits, id) })
		if !slices.ContainsFunc(e.stackOf(r).Resources, func(p assembly.Resource) bool {
			return (p.Type == "AWS::IAM::Policy" || p.Type == "AWS::IAM::ManagedPolicy") && slices.Contains(waits, p.LogicalID)
		}) && !e.owns(context.Background(), r) && refersToRole(r) {
			lines = append(lines, line{fix, "", r.Path() + " does not wait for the policy of its role: AWS IoT (iot.amazonaws.com) is unable to assume role",
				"deploy again if the deployment fails with this text; in your own rules, AddDependency on the role's policy"})
		}
	}
	if len(lines) == 0 && len(rules) > 0 {
		lines = append(lines, line{Status: ok, Finding: fmt.Sprintf("all %d rules wait for the policies of their roles", len(rules))})
	}
	return lines, nil
}

// refersToRole reports whether the template creates the rule's role.
func refersToRole(r assembly.Resource) bool {
	found := false
	var look func(any)
	look = func(value any) {
		switch v := value.(type) {
		case map[string]any:
			if _, made := v["RoleArn"].(map[string]any); made {
				found = true
			}
			for _, item := range v {
				look(item)
			}
		case []any:
			for _, item := range v {
				look(item)
			}
		}
	}
	look(r.Properties)
	return found
}

func (e *exam) stackOf(r assembly.Resource) assembly.Template {
	for _, t := range e.stacks {
		if t.Stack == r.Stack {
			return t
		}
	}
	return assembly.Template{}
}
