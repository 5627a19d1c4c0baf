package defenderhub

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
)

// maxGroupNames is the maximum total length of the names of thing groups, in bytes. The names are in
// the functions' environment, which has at most 4 KB.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const maxGroupNames = 2500

func validateReportTopic(filter string) error {
	if unresolved(filter) {
		return &defender.FieldError{Value: deployTime, Want: "a string that is known at synthesis: the behaviors are deployed in a file"}
	}
	if strings.HasPrefix(filter, "$aws/rules/") {
		return &defender.FieldError{Value: filter, Want: "a topic outside Basic Ingest, or leave ReportTopic empty to use Basic Ingest"}
	}
	return iotrule.ValidateReportTopic(filter)
}

// validateDistinct reports a topic filter of device reports that shares topics with the filter of
// device events, or whose answers would arrive as events. eventTopic may be known only at
// deployment. Other validations report invalid filters. reports and events are the filters' fields.
func validateDistinct(reports, reportTopic, events, eventTopic string) error {
	if reportTopic == "" || unresolved(eventTopic) || validateReportTopic(reportTopic) != nil || iotrule.ValidateEventTopic(eventTopic) != nil {
		return nil
	}
	for _, topic := range []string{reportTopic, answersTo(reportTopic)} {
		if topic != "" && topicfilter.Overlap(topic, eventTopic) {
			return &defender.FieldError{Field: reports, Value: reportTopic, Code: CodeSharedTopic, Alternatives: []defender.Alternative{{Field: events, Value: eventTopic}}, Want: fmt.Sprintf(
				"a topic filter that shares no topic with Rules.EventTopic, which is %s: each message on %s would also arrive as a device event and become a dead letter", eventTopic, topic)}
		}
	}
	return nil
}

// validateSelfManaged reports props that the self-managed engine does not support.
func (p DetectProps) validateSelfManaged() error {
	var f faults
	names := map[string]bool{engine.AgentProfile: true}
	total := 0
	for i, profile := range p.profiles() {
		total += len(profile.Behaviors)
		var g faults
		g.under("", validateKnown(profile))
		g.under("Behaviors", engine.Support(resolvedProfile(profile).Behaviors))
		g.connected("RetainedMetrics", profile.RetainedMetrics, "the self-managed engine keeps no metrics; leave them out, or set Native instead of SelfManaged")
		name := p.profileName(i, profile)
		switch {
		case name == "":
			g.add("Name", nil, "a name: with the self-managed engine it is part of the finding ID")
		case names[name] && (name == engine.AgentProfile || name == DefaultProfile):
			g.add("Name", name, "another name: defenderhub uses this one itself")
		}
		names[name] = true
		f.under(p.profileField(i), g.err())
	}
	s := value(p.SelfManaged)
	config, groups := p.evaluation()
	if total == 0 && s.ReportsEvery == 0 {
		f.coded(CodeNoBehaviors, "Behaviors", nil, "at least one behavior, such as defender.DemoBehaviors(), or SelfManaged.ReportsEvery, or no engine: leave out SelfManaged",
			defender.Alternative{Field: "SelfManaged.ReportsEvery"}, defender.Alternative{Field: "SelfManaged", Value: "nil"})
	}
	if err := f.err(); err != nil {
		return err
	}
	if !config.Reports && total > 0 {
		const instead = "nothing here, because no behavior uses device reports: add one, such as those of defender.StarterBehaviors(), or set SelfManaged.ReportsEvery"
		for _, unused := range []struct {
			field string
			set   bool
		}{
			{"ReportTopic", s.ReportTopic != ""}, {"ReportsRuleName", s.ReportsRuleName != ""}, {"ReportsSeverity", s.ReportsSeverity != defender.SeverityDefault},
		} {
			if unused.set {
				f.coded(CodeNoReports, "SelfManaged."+unused.field, "set", instead,
					defender.Alternative{Field: "Behaviors"}, defender.Alternative{Field: "SelfManaged.ReportsEvery"})
			}
		}
	}
	if all, err := config.Compile(); err != nil && len(all) > contract.MaxLiveBehaviors {
		f.add("Behaviors", fmt.Sprintf("%d behaviors", len(all)), "at most %d in all profiles together, including those about missing or unreadable reports", contract.MaxLiveBehaviors)
	}
	if names := strings.Join(groups, ","); len(names) > maxGroupNames && !unresolved(names) {
		f.add("Targets", fmt.Sprintf("thing groups with names of %d characters", len(names)), "at most %d characters together", maxGroupNames)
	}
	return f.err()
}

// validateForwarder reports a forwarder that is missing, or that does not know the behaviors.
func (p DetectProps) validateForwarder(scope constructs.Construct) error {
	var f faults
	switch {
	case p.Native != nil && p.SelfManaged != nil:
	case p.Forwarder == nil:
		if p.SelfManaged != nil {
			f.add("Forwarder", nil, "the result of NewForwarder with these props in Detects: it imports the alarms. NewDefenderHub connects its own forwarder")
		}
	case p.Native == nil && p.SelfManaged == nil:
		f.add("Forwarder", "set", "nothing here without an engine: set Native or SelfManaged")
	default:
		if p.SelfManaged != nil {
			if topic := p.Forwarder.agreement().eventTopic; topic != "" {
				f.under("", validateDistinct("SelfManaged.ReportTopic", p.SelfManaged.ReportTopic, "Rules.EventTopic", topic))
			}
		}
		if !slices.ContainsFunc(p.Forwarder.agreement().detects, p.judged().equal) {
			f.add("Forwarder", *p.Forwarder.Node().Path(), "a Forwarder with these props in Detects: otherwise it does not know the behaviors and their severities")
		}
		if owner := p.alarmsOf().owner(scope); owner != "" {
			f.add("Forwarder", *p.Forwarder.Node().Path(), "a Forwarder to which no other Detect sends alarms of the same behaviors: %s does", owner)
		}
	}
	return f.err()
}

// alarmsOf returns the single for sending the alarms of these behaviors to the forwarder.
func (p DetectProps) alarmsOf() single {
	j := p.judged()
	return single(fmt.Sprintf("alarms %t %s of %s", j.selfManaged, digest(fmt.Sprint(j.severities)), *p.Forwarder.Node().Path()))
}

// live returns what the forwarder must know about the behaviors of the self-managed engine, nil with
// another engine.
func (p DetectProps) live() contract.LiveBehaviors {
	if p.SelfManaged == nil {
		return nil
	}
	config, _ := p.evaluation()
	live, _ := config.Live()
	return live
}

// compiles reports whether synthesis must compile the evaluator.
func (p DetectProps) compiles() bool {
	return p.SelfManaged != nil && value(p.SelfManaged).compiles()
}

// compile sets the evaluator's executable in a copy of SelfManaged.
func (p *DetectProps) compile() error {
	if p.SelfManaged == nil {
		return nil
	}
	s := value(p.SelfManaged)
	p.SelfManaged = &s
	return defender.Under("SelfManaged", s.compile())
}

// validateKnown reports values that must be known at synthesis, because they are deployed in a
// file.
func validateKnown(profile defender.SecurityProfile) error {
	var f faults
	known := func(field, text string) {
		if unresolved(text) {
			f.add(field, deployTime, "a string that is known at synthesis: with the self-managed engine the behaviors are deployed in a file")
		}
	}
	known("Name", profile.Name)
	for i, b := range profile.Behaviors {
		at := "Behaviors" + index(i)
		known(at+".Name", b.Name)
		if !lostToken(b.Criteria) && !knownValue(b.Criteria.Value()) {
			f.add(at+".Criteria", deployTime, "values that are known at synthesis: with the self-managed engine the behaviors are deployed in a file")
		}
		if b.Dimension == nil {
			continue
		}
		for j, filter := range b.Dimension.TopicFilters {
			known(at+".Dimension.TopicFilters"+index(j), filter)
		}
	}
	return f.err()
}

// profileField returns the path of the profile at i, "" for the profile that Behaviors form.
func (p DetectProps) profileField(i int) string {
	if i -= len(p.profiles()) - len(p.Profiles); i >= 0 {
		return "Profiles" + index(i)
	}
	return ""
}

// profileName returns the name of the profile at i.
func (p DetectProps) profileName(i int, profile defender.SecurityProfile) string {
	if p.profileField(i) == "" {
		return DefaultProfile
	}
	return profile.Name
}

// evaluation returns the evaluator's configuration, and the names of the thing groups to which it
// refers by index.
func (p DetectProps) evaluation() (engine.Config, []string) {
	s := value(p.SelfManaged)
	c := engine.Config{
		ReportsEvery:      int(s.ReportsEvery / time.Minute),
		ReportSeconds:     int(s.ReportInterval / time.Second),
		ConfirmTraffic:    s.ConfirmFirstTraffic,
		ReportTopic:       s.ReportTopic,
		BatchSeconds:      int(or(s.BatchWindow, defaultEvaluatorBatchWindow) / time.Second),
		MinDatapoints:     int64(s.MinDatapoints),
		MembershipMinutes: int(or(s.MembershipAge, defaultMembershipAge) / time.Minute),

		UnregisteredMinutes: int(s.UnregisteredLifetime / time.Minute),
	}
	if s.ReportsSeverity != defender.SeverityDefault {
		c.ReportsSeverity = s.ReportsSeverity.String()
	}
	var groups []string
	for i, profile := range p.profiles() {
		if len(profile.Behaviors) == 0 {
			continue
		}
		made := engine.ProfileConfig{Name: p.profileName(i, profile), Behaviors: profile.Behaviors}
		for _, t := range profile.Targets {
			resource := t.Resource()
			if group := t.Group(); group != "" {
				at := slices.Index(groups, group)
				if at < 0 {
					at = len(groups)
					groups = append(groups, group)
				}
				resource = fmt.Sprintf("thinggroup/%d", at)
			}
			made.Targets = append(made.Targets, resource)
		}
		c.Profiles = append(c.Profiles, made)
	}
	all, _ := c.Compile()
	c.Reports = engine.NeedsReports(all)
	return c, groups
}
