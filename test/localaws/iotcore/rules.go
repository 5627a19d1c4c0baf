package iotcore

import (
	"encoding/json"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"time"
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
)

// TopicRule is a topic rule as it is in effect.
type TopicRule struct {
	Name    string
	ARN     string
	Created time.Time
	TopicRulePayload
}

// TopicRulePayload is what a topic rule does.
type TopicRulePayload struct {
	SQL          string       `json:"sql"`
	Description  string       `json:"description,omitempty"`
	Actions      []RuleAction `json:"actions"`
	RuleDisabled bool         `json:"ruleDisabled"`
	SQLVersion   string       `json:"awsIotSqlVersion,omitempty"`
	ErrorAction  *RuleAction  `json:"errorAction,omitempty"`
}

// TopicRules returns all topic rules, by name.
func (s *Service) TopicRules() []TopicRule {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []TopicRule
	for _, name := range slices.Sorted(maps.Keys(s.rules)) {
		out = append(out, *s.rules[name])
	}
	return out
}

// TopicRulePayloadInput is the input of CreateTopicRule and ReplaceTopicRule.
type TopicRulePayloadInput struct {
	RuleName string           `uri:"ruleName"`
	Payload  TopicRulePayload `payload:"json"`
	Tags     string           `header:"x-amz-tagging"` // key1=value1&key2=value2
}

// CreateTopicRule creates a topic rule.
func (s *Service) CreateTopicRule(in *TopicRulePayloadInput) (*struct{}, error) {
	if !ruleNameForm.MatchString(in.RuleName) {
		return nil, errInvalidRequest.new("ruleName is %q, want 1 to 128 of a-z A-Z 0-9 _", in.RuleName)
	}
	if err := s.checkRule(in.RuleName, &in.Payload); err != nil {
		return nil, err
	}
	tags, err := url.ParseQuery(in.Tags)
	if err != nil {
		return nil, errInvalidRequest.new("tags are not of the form key1=value1&key2=value2: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, exists := s.rules[in.RuleName]; exists {
		err := errAlreadyExists.new("Rule %s already exists.", in.RuleName)
		err.ResourceARN, err.ResourceID = r.ARN, r.Name
		return nil, err
	}
	if len(s.rules) >= maxRules {
		return nil, errInvalidRequest.new("The account has %d topic rules, which is the limit", maxRules)
	}
	rule := &TopicRule{Name: in.RuleName, ARN: s.ARN("rule/" + in.RuleName), Created: s.now(), TopicRulePayload: in.Payload}
	s.rules[rule.Name] = rule
	for k := range tags {
		s.setTags(rule.ARN, []Tag{{k, tags.Get(k)}})
	}
	return nil, nil
}

// checkRule sets the default SQL version, too.
func (s *Service) checkRule(name string, p *TopicRulePayload) error {
	if p.SQLVersion == "" {
		p.SQLVersion = defaultSQLVersion
	}
	if !slices.Contains(sqlVersions, p.SQLVersion) {
		return errInvalidRequest.new("awsIotSqlVersion is %q, want one of %v", p.SQLVersion, sqlVersions)
	}
	if len(p.Actions) > maxRuleActions {
		return errInvalidRequest.new("The rule has %d actions, at most %d are allowed", len(p.Actions), maxRuleActions)
	}
	if text, err := json.Marshal(p); err != nil || len(text) > maxRulePayload {
		return errInvalidRequest.new("The rule is larger than %d bytes", maxRulePayload)
	}
	if p.SQL == "" {
		return errInvalidRequest.new("sql is missing")
	}
	for _, a := range p.Actions {
		if err := a.check(); err != nil {
			return err
		}
	}
	if p.ErrorAction != nil {
		if err := p.ErrorAction.check(); err != nil {
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

// rule needs the lock. AWS has no "not found" for rules: it denies access, so
// that nobody learns which rules exist.
func (s *Service) rule(name string) (*TopicRule, error) {
	r, ok := s.rules[name]
	if !ok {
		return nil, errUnauthorized.new("Access to topic rule '%s' was denied", name)
	}
	return r, nil
}

// ReplaceTopicRule replaces all of a topic rule but its name.
func (s *Service) ReplaceTopicRule(in *TopicRulePayloadInput) (*struct{}, error) {
	if err := s.checkRule(in.RuleName, &in.Payload); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.rule(in.RuleName)
	if err != nil {
		return nil, err
	}
	replaced := *old
	replaced.TopicRulePayload = in.Payload
	s.rules[in.RuleName] = &replaced
	return nil, nil
}

// RuleInput names a topic rule.
type RuleInput struct {
	RuleName string `uri:"ruleName"`
}

// RuleDescription is how GetTopicRule tells of a rule.
type RuleDescription struct {
	RuleName  string    `json:"ruleName"`
	CreatedAt Timestamp `json:"createdAt"`
	TopicRulePayload
}

// GetTopicRuleOutput is the operation's output.
type GetTopicRuleOutput struct {
	RuleARN string          `json:"ruleArn"`
	Rule    RuleDescription `json:"rule"`
}

// GetTopicRule tells of a topic rule.
func (s *Service) GetTopicRule(in *RuleInput) (*GetTopicRuleOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, err := s.rule(in.RuleName)
	if err != nil {
		return nil, err
	}
	return &GetTopicRuleOutput{RuleARN: r.ARN, Rule: RuleDescription{r.Name, Timestamp(r.Created), r.TopicRulePayload}}, nil
}

// ListTopicRulesInput is the operation's input. Default: 250 rules a page.
type ListTopicRulesInput struct {
	TokenInput
	Topic        string `query:"topic"`
	RuleDisabled *bool  `query:"ruleDisabled"`
}

// ListedRule is an element of ListTopicRulesOutput.
type ListedRule struct {
	RuleARN      string    `json:"ruleArn"`
	RuleName     string    `json:"ruleName"`
	TopicPattern string    `json:"topicPattern,omitempty"`
	CreatedAt    Timestamp `json:"createdAt"`
	RuleDisabled bool      `json:"ruleDisabled"`
}

// ListTopicRulesOutput is the operation's output.
type ListTopicRulesOutput struct {
	Rules     []ListedRule `json:"rules"`
	NextToken string       `json:"nextToken,omitempty"`
}

// ListTopicRules lists topic rules by name.
func (s *Service) ListTopicRules(in *ListTopicRulesInput) (*ListTopicRulesOutput, error) {
	if in.Topic != "" {
		return nil, errUnknownHere.new("the filter topic of ListTopicRules is not known to the local AWS IoT")
	}
	var all []ListedRule
	for _, r := range s.TopicRules() {
		if in.RuleDisabled != nil && *in.RuleDisabled != r.RuleDisabled {
			continue
		}
		listed := ListedRule{RuleARN: r.ARN, RuleName: r.Name, CreatedAt: Timestamp(r.Created), RuleDisabled: r.RuleDisabled}
		if from := fromClause.FindStringSubmatch(r.SQL); from != nil {
			listed.TopicPattern = from[1]
		}
		all = append(all, listed)
	}
	in.MaxResults = min(in.MaxResults, maxPage) // AWS allows 10,000; a shorter page is legal
	indexes, next, err := in.page(len(all), func(i int) string { return all[i].RuleName })
	if err != nil {
		return nil, err
	}
	return &ListTopicRulesOutput{Rules: pick(all, indexes), NextToken: next}, nil
}

// DeleteTopicRule removes a topic rule.
func (s *Service) DeleteTopicRule(in *RuleInput) (*struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.rule(in.RuleName)
	if err != nil {
		return nil, err
	}
	delete(s.tags, r.ARN)
	delete(s.rules, in.RuleName)
	return nil, nil
}

// EnableTopicRule lets a rule run.
func (s *Service) EnableTopicRule(in *RuleInput) (*struct{}, error) {
	return s.setRuleDisabled(in.RuleName, false)
}

// DisableTopicRule stops a rule from running.
func (s *Service) DisableTopicRule(in *RuleInput) (*struct{}, error) {
	return s.setRuleDisabled(in.RuleName, true)
}

func (s *Service) setRuleDisabled(name string, disabled bool) (*struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.rule(name)
	if err != nil {
		return nil, err
	}
	changed := *old
	changed.RuleDisabled = disabled
	s.rules[name] = &changed
	return nil, nil
}
