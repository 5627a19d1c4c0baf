package iotcore

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Limits of topic rules (AWS General Reference, AWS IoT Core rules engine
// limits and quotas).
const (
	maxRules          = 1000
	maxRuleActions    = 10
	maxRulePayload    = 128 << 10 // bytes: SQL, description and actions together
	defaultSQLVersion = "2015-10-08"
)

var (
	ruleNameForm = regexp.MustCompile(`^[a-zA-Z0-9_]{1,128}$`)
	sqlVersions  = []string{defaultSQLVersion, "2016-03-23", "beta"}
	fromClause   = regexp.MustCompile(`(?is)\bFROM\s+'([^']*)'`)
	ruleActions  = []string{"sqs", "sns", "lambda", "republish", "kinesis"}
)

// TopicRule is a topic rule as it is in effect.
type TopicRule struct {
	Name    string
	ARN     string
	Created time.Time
	types.TopicRulePayload
}

// TopicRules returns all topic rules, by name.
func (s *Service) TopicRules() []TopicRule {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.allRules()
}

func (s *Service) allRules() []TopicRule {
	var out []TopicRule
	for _, name := range slices.Sorted(maps.Keys(s.rules)) {
		out = append(out, *s.rules[name])
	}
	return out
}

func (s *Service) createTopicRule(in *iot.CreateTopicRuleInput) error {
	name := *in.RuleName
	if !ruleNameForm.MatchString(name) {
		return errInvalidRequest.new("ruleName is %q, want 1 to 128 of a-z A-Z 0-9 _", name)
	}
	if err := s.checkRule(name, in.TopicRulePayload); err != nil {
		return err
	}
	if r, exists := s.rules[name]; exists {
		return errAlreadyExists.of(r.Name, r.ARN, "Rule %s already exists.", name)
	}
	if len(s.rules) >= maxRules {
		return errInvalidRequest.new("The account has %d topic rules, which is the limit", maxRules)
	}
	s.rules[name] = &TopicRule{Name: name, ARN: s.ARN("rule/" + name), Created: s.now(), TopicRulePayload: *in.TopicRulePayload}
	return nil
}

// checkRule validates a rule, and sets its default SQL version.
func (s *Service) checkRule(name string, p *types.TopicRulePayload) error {
	if p == nil || aws.ToString(p.Sql) == "" {
		return errInvalidRequest.new("sql is missing")
	}
	if p.AwsIotSqlVersion == nil {
		p.AwsIotSqlVersion = aws.String(defaultSQLVersion)
	}
	if !slices.Contains(sqlVersions, *p.AwsIotSqlVersion) {
		return errInvalidRequest.new("awsIotSqlVersion is %q, want one of %v", *p.AwsIotSqlVersion, sqlVersions)
	}
	if len(p.Actions) > maxRuleActions {
		return errInvalidRequest.new("The rule has %d actions, at most %d are allowed", len(p.Actions), maxRuleActions)
	}
	if text, err := json.Marshal(JSON(p)); err != nil || len(text) > maxRulePayload {
		return errInvalidRequest.new("The rule is larger than %d bytes", maxRulePayload)
	}
	actions := p.Actions
	if p.ErrorAction != nil {
		actions = append(slices.Clone(actions), *p.ErrorAction)
	}
	for _, a := range actions {
		if err := checkAction(a); err != nil {
			return err
		}
	}
	if s.validateRule != nil {
		if err := s.validateRule(name, *p); err != nil {
			return errSQLParse.new("%v", err)
		}
	}
	return nil
}

// checkAction refuses actions that the local AWS IoT does not support.
func checkAction(a types.Action) error {
	kinds := slices.Sorted(maps.Keys(JSON(a).(map[string]any)))
	for _, kind := range kinds {
		if !slices.Contains(ruleActions, kind) {
			return errUnknownHere.new("the rule action %q is not supported by the local AWS IoT, only %s", kind, strings.Join(ruleActions, ", "))
		}
	}
	switch {
	case len(kinds) != 1:
		return errInvalidRequest.new("An action must have exactly one kind, it has %d", len(kinds))
	case a.Sqs != nil && strings.HasSuffix(aws.ToString(a.Sqs.QueueUrl), ".fifo"):
		return errInvalidRequest.new("The SQS action does not support FIFO queues: %s", *a.Sqs.QueueUrl)
	case a.Sns != nil && a.Sns.MessageFormat != "" && a.Sns.MessageFormat != types.MessageFormatRaw && a.Sns.MessageFormat != types.MessageFormatJson:
		return errInvalidRequest.new("messageFormat is %q, want RAW or JSON", a.Sns.MessageFormat)
	case a.Republish != nil && (aws.ToInt32(a.Republish.Qos) < 0 || aws.ToInt32(a.Republish.Qos) > 1):
		return errInvalidRequest.new("qos is %d, want 0 or 1", *a.Republish.Qos)
	}
	return nil
}

// rule returns "access denied" for a rule that does not exist, as AWS does: nobody can find out
// which rules exist.
func (s *Service) rule(name string) (*TopicRule, error) {
	return find(s.rules, name, errUnauthorized, "Access to topic rule '%s' was denied")
}

func (s *Service) replaceTopicRule(in *iot.ReplaceTopicRuleInput) error {
	if err := s.checkRule(*in.RuleName, in.TopicRulePayload); err != nil {
		return err
	}
	return s.changeRule(*in.RuleName, func(r *TopicRule) { r.TopicRulePayload = *in.TopicRulePayload })
}

// changeRule replaces a rule by a changed copy, because other goroutines may be reading the rule.
func (s *Service) changeRule(name string, change func(*TopicRule)) error {
	old, err := s.rule(name)
	if err != nil {
		return err
	}
	changed := *old
	change(&changed)
	s.rules[name] = &changed
	return nil
}

func (s *Service) getTopicRule(in *iot.GetTopicRuleInput) (*iot.GetTopicRuleOutput, error) {
	r, err := s.rule(*in.RuleName)
	if err != nil {
		return nil, err
	}
	return &iot.GetTopicRuleOutput{RuleArn: &r.ARN, Rule: &types.TopicRule{
		RuleName: &r.Name, CreatedAt: &r.Created, Sql: r.Sql, Description: r.Description, Actions: r.Actions, ErrorAction: r.ErrorAction,
		AwsIotSqlVersion: r.AwsIotSqlVersion, RuleDisabled: aws.Bool(aws.ToBool(r.RuleDisabled)),
	}}, nil
}

func (s *Service) listTopicRules(in *iot.ListTopicRulesInput) (out *iot.ListTopicRulesOutput, err error) {
	var all []types.TopicRuleListItem
	for _, r := range s.allRules() {
		disabled := aws.ToBool(r.RuleDisabled)
		if in.RuleDisabled != nil && *in.RuleDisabled != disabled {
			continue
		}
		listed := types.TopicRuleListItem{RuleArn: &r.ARN, RuleName: &r.Name, CreatedAt: &r.Created, RuleDisabled: &disabled}
		if from := fromClause.FindStringSubmatch(*r.Sql); from != nil {
			listed.TopicPattern = &from[1]
		}
		all = append(all, listed)
	}
	if in.MaxResults != nil {
		in.MaxResults = aws.Int32(min(*in.MaxResults, DefaultPage)) // AWS allows 10,000; a page may be shorter
	}
	out = &iot.ListTopicRulesOutput{}
	out.Rules, out.NextToken, err = Page(all, in.NextToken, in.MaxResults, DefaultPage)
	return out, err
}

func (s *Service) deleteTopicRule(in *iot.DeleteTopicRuleInput) error {
	r, err := s.rule(*in.RuleName)
	if err == nil {
		delete(s.rules, r.Name)
	}
	return err
}
