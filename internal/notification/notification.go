// Package notification holds what the construct Notify and the notifier's function agree on: the
// file with the settings, which findings a filter lets through, and the event pattern that follows
// from the filters.
package notification

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/findingevent"
)

// File is the file with the [Config], beside the notifier's executable: environment variables are
// limited to 4 KB.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const File = "notify.json"

// Config is the content of the settings' file, with all defaults.
type Config struct {
	// Filters let findings through: one that matches is enough.
	Filters []Filter `json:"filters"`
	// PerMinute is the maximum number of messages in a minute, and separately that of messages
	// about CRITICAL findings.
	PerMinute int `json:"perMinute"`
	// DigestBelow is the severity below which changes go into a digest; "" for no digest.
	DigestBelow correlation.Label `json:"digestBelow,omitempty"`
	// Remind is the lowest severity in the daily reminder; "" for no reminder.
	Remind correlation.Label `json:"remind,omitempty"`
	// HoldSeconds is how long a new finding waits for an incident that may contain it.
	HoldSeconds int `json:"holdSeconds,omitempty"`
	// Rules are those of the correlation; none without incidents.
	Rules []correlation.Rule `json:"rules,omitempty"`
	// MembershipMinutes is how long a thing's groups are cached.
	MembershipMinutes int `json:"membershipMinutes"`
}

// Hold returns HoldSeconds.
func (c Config) Hold() time.Duration { return time.Duration(c.HoldSeconds) * time.Second }

// MembershipAge returns MembershipMinutes.
func (c Config) MembershipAge() time.Duration {
	return time.Duration(c.MembershipMinutes) * time.Minute
}

// ReadFile reads a settings' file.
func ReadFile(file string) (Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Config{}, fmt.Errorf("the settings of the notifier: %w", err)
	}
	var c Config
	if err := json.Unmarshal(text, &c); err != nil {
		return Config{}, fmt.Errorf("the settings of the notifier in %s: %w", file, err)
	}
	return c, nil
}

// Filter matches findings. All fields that are set must match; one element of a list is enough.
type Filter struct {
	// Severity is the lowest severity.
	Severity correlation.Label `json:"severity"`
	// Products are as [findingevent.Event.Product] returns them. Without products and sources, the
	// filter matches the findings of defenderhub and of Device Defender.
	Products []string `json:"products,omitempty"`
	// Sources, Checks and Behaviors are names.
	Sources   []string `json:"sources,omitempty"`
	Checks    []string `json:"checks,omitempty"`
	Behaviors []string `json:"behaviors,omitempty"`
	// ThingGroups are names of thing groups. The device must be in one of them, or in a group below
	// it.
	ThingGroups []string `json:"thingGroups,omitempty"`
}

// Concerns reports whether the filter is about findings like e, whatever their severity and their
// device. Every filter is about incidents, and none about the summary of a check that only counts
// findings: those findings have messages of their own.
func (f Filter) Concerns(e findingevent.Event) bool {
	switch {
	case correlation.IsComposite(e):
		return true
	case e.ProductFields["ReportType"] == "CheckSummary" && e.ProductFields["CheckRunStatus"] == "COMPLETED_NON_COMPLIANT":
		return false
	}
	_, ofDevices := e.DeviceSource()
	rule := correlation.Rule{Stages: []correlation.Stage{{Match: []correlation.Matcher{{
		Products: f.Products, Sources: f.Sources, Checks: f.Checks, Behaviors: f.Behaviors,
	}}}}}
	return (ofDevices || len(f.Products) > 0) && len(rule.Match(e)) > 0
}

// Severe reports whether the finding is severe enough. An unknown severity is.
func (f Filter) Severe(s defender.Severity) bool {
	return s == defender.SeverityDefault || s >= defender.Severity(f.Severity)
}

// maxPattern is the maximum length of an event pattern, in characters.
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
const maxPattern = 2048

type object = map[string]any

// Pattern returns the event pattern of Amazon EventBridge for the findings that the filters can
// let through, and for the end of such findings. Account and Region may be "", which means any. If the
// pattern would be longer than EventBridge allows, it has no checks and behaviors, then only
// products, then any product instead of those that filters name: the notifier filters again.
func Pattern(filters []Filter, account, region string) map[string]any {
	var pattern object
	for coarse := range 4 {
		pattern = patternOf(filters, account, region, coarse)
		text, _ := json.Marshal(pattern) // cannot fail for strings
		if len(text) <= maxPattern {
			break
		}
	}
	return pattern
}

// patternOf returns the pattern with all conditions for coarse 0, without checks and behaviors for 1,
// with products only for 2, and with any product for 3.
func patternOf(filters []Filter, account, region string, coarse int) object {
	findings := object{}
	if account != "" {
		findings["AwsAccountId"] = []any{account}
	}
	if region != "" {
		findings["Region"] = []any{region}
	}
	detail := object{"findings": findings}
	least := defender.Critical
	byText := map[string]object{}
	for _, f := range filters {
		least = min(least, defender.Severity(f.Severity))
		for _, i := range f.identities(coarse) {
			text, _ := json.Marshal(i)
			byText[string(text)] = i
		}
	}
	var all []any
	for _, text := range slices.Sorted(maps.Keys(byText)) {
		all = append(all, byText[text])
	}
	if len(all) == 1 {
		maps.Copy(findings, all[0].(object))
	} else {
		findings["$or"] = all
	}
	if least > defender.Informational {
		var labels []any
		for s := least; s <= defender.Critical; s++ {
			labels = append(labels, s.String())
		}
		// The end of a finding arrives whatever its severity is by then.
		detail["$or"] = []any{
			object{"findings": object{"Severity": object{"Label": labels}}},
			object{"findings": object{"RecordState": []any{"ARCHIVED"}}},
			object{"findings": object{"Workflow": object{"Status": []any{"SUPPRESSED", "RESOLVED"}}}},
		}
	}
	return object{"source": []any{findingevent.Source}, "detail-type": []any{findingevent.DetailType}, "detail": detail}
}

// identities returns conditions on product, ID and product fields. One of them must match.
func (f Filter) identities(coarse int) []object {
	var all []object
	switch {
	case coarse == 3 && len(f.Products) > 0:
		// Findings of Security Hub's own controls are by far the most: leave them out if possible.
		all = []object{{"ProductArn": []any{object{"anything-but": object{"suffix": ":product/" + controls}}}}}
		if slices.Contains(f.Products, controls) {
			all = append(all, product(controls))
		}
	case coarse >= 2 && len(f.Products) == 0, len(f.Products) == 0 && len(f.Sources) == 0:
		all = []object{own("defenderhub/"), product(findingevent.AuditProduct, findingevent.DetectProduct)}
	case len(f.Sources) > 0:
		for _, s := range f.Sources {
			all = append(all, own("defenderhub/"+s+"/"))
			switch s {
			case defender.AuditNotifications.String():
				all = append(all, product(findingevent.AuditProduct))
			case defender.DetectNotifications.String():
				all = append(all, product(findingevent.DetectProduct))
			}
		}
	default:
		all = []object{product(f.Products...)}
	}
	fields := object{}
	if len(f.Checks) > 0 {
		fields["CheckName"] = correlation.CheckNames(f.Checks)
	}
	if len(f.Behaviors) > 0 {
		fields["BehaviorName"] = f.Behaviors
	}
	if coarse == 0 && len(fields) > 0 {
		for _, a := range all {
			a["ProductFields"] = fields
		}
	}
	return append(all, own(correlatedID))
}

// controls is the product of Security Hub's own controls.
const controls = "aws/securityhub"

// correlatedID begins the IDs of incidents.
var correlatedID = "defenderhub/" + defender.CorrelatedFindings.String() + "/"

// own is the condition that a finding is one of defenderhub's, with this beginning of its ID.
func own(prefix string) object {
	return object{"ProductArn": []any{object{"suffix": "/" + findingevent.DefaultProduct}}, "Id": []any{object{"prefix": prefix}}}
}

func product(names ...string) object {
	var arns []any
	for _, name := range names {
		if name == findingevent.DefaultProduct {
			arns = append(arns, object{"suffix": "/" + name})
		} else {
			arns = append(arns, object{"suffix": ":product/" + name})
		}
	}
	return object{"ProductArn": arns}
}
