// Package correlation defines rules that correlate the findings of several services about one
// device. A rule is data: write [Rule] values, or use those of [BuiltIn].
//
// docs/correlate.md describes how rules are applied to findings.
package correlation

import (
	"time"

	"github.com/defenderhub/defenderhub/defender"
)

// Rule correlates findings about one device. While open findings match all stages of the rule,
// the device has one composite finding. The matched findings are its parts.
//
// A finding is open while it is ACTIVE and its workflow status is neither SUPPRESSED nor RESOLVED.
type Rule struct {
	// Name is 1 to 64 of a-z 0-9 -, unique among the rules. It is part of the finding's ID.
	Name string
	// Title, Description and Remedy are texts for people, of at most 128, 512 and 512 characters.
	// The composite finding adds the device's name to its title and the stages to its description.
	// Default: the name, no description, and a general remedy.
	Title, Description, Remedy string
	// Stages are the 1 to 10 kinds of findings that the rule looks for. Findings must match all of
	// them. One finding counts for one stage only.
	Stages []Stage
	// InOrder requires that each stage begins no earlier than the stage before it. It tolerates
	// 2 minutes, because the times of AWS's lifecycle events are not exact.
	// Default: any order.
	InOrder bool
	// Window is how long a part counts after its last update, from 1 minute to 30 days. If it
	// passes without a new or updated part, the composite finding is archived.
	// Default: 24 hours.
	Window time.Duration
	// Severity is the minimum severity of the composite finding. A part with a higher severity
	// raises it. It never falls while the finding is active.
	// Default: HIGH.
	Severity defender.Severity
	// DistinctProducts is how many different services the parts must be from, at most 10. Findings
	// of Device Defender and of defenderhub count as one service.
	// Default: 0, any number.
	DistinctProducts int
	// Resources are at most 10 ASFF resource types, such as AwsEc2Instance. If set, the rule
	// correlates the findings about one resource of these types instead of one device.
	// Default: none, the rule is about devices.
	Resources []string
	// Spread correlates the same behavior, audit check or device event on many devices (a
	// campaign) instead of several findings about one device. Such a rule has one stage.
	// Default: the zero value, which correlates per device.
	Spread Spread
}

// Stage is one kind of finding that a rule looks for.
type Stage struct {
	// Name is 1 to 64 characters for people, such as "a new port". The composite finding's
	// description lists the stages by name.
	Name string
	// Match has 1 to 20 matchers. A finding that matches one of them matches the stage.
	Match []Matcher
	// AtLeast is how many different findings the stage needs, at most 100.
	// Default: 0, which means 1.
	AtLeast int
	// Shared matches findings about a policy, a role alias or the role of a role alias, and counts
	// them for the devices that use it. Only devices with a matching finding about themselves are
	// considered. A shared finding counts while it is open, without regard to the window.
	// Default: false, findings about the device itself.
	Shared bool
}

// Matcher matches findings. All fields that are set must match; one element of a list is enough.
// Matchers read products, IDs, types and product fields, never titles. A list has at most 100
// elements, and a text at most 256 printable characters.
//
// Findings of Security Hub's own controls match only if Products names "aws/securityhub".
type Matcher struct {
	// Products are the parts of ProductArn after "product/", such as "aws/guardduty". "default" is
	// the default product of an account, as which defenderhub imports findings.
	Products []string
	// Sources are defenderhub's sources of findings. AuditNotifications and DetectNotifications
	// also match the findings of Device Defender's own integration.
	Sources []defender.Source
	// Checks are audit checks. Check summaries never match.
	Checks []defender.Check
	// Behaviors are names of behaviors in any security profile.
	Behaviors []string
	// Metrics are the metrics of behaviors, and ExceptMetrics those that do not match.
	Metrics, ExceptMetrics []defender.Metric
	// Events are types of device events.
	Events []string
	// Reasons are reasons of disconnects, such as "DUPLICATE_CLIENTID", or reason codes of audit
	// checks.
	Reasons []string
	// Types are prefixes of the finding's Types, such as "TTPs/Command and Control".
	Types []string
	// Generators are prefixes of GeneratorId, such as "security-control/EC2.9".
	Generators []string
	// Severity is the minimum severity, as Security Hub shows it.
	// Default: SeverityDefault, which matches any.
	Severity defender.Severity
}

// Spread is how many devices must have a finding of the same behavior, check, type of device event,
// or reason of a disconnect or refused connection within the window. Behaviors with the same name are
// the same. Rejected reports and findings of other services are not counted. If both fields are set,
// the lower number of devices is enough.
type Spread struct {
	// Devices is a number of devices, 2 to 10,000.
	Devices int
	// Share is a share of CorrelateProps.FleetSize, above 0 and up to 1.
	Share float64
}

// Enabled reports whether a rule with this spread is about many devices.
func (s Spread) Enabled() bool { return s != Spread{} }

// The defaults of [Rule].
const (
	defaultWindow   = 24 * time.Hour
	defaultSeverity = defender.High
)

// WithDefaults returns the rule with its defaults for fields that are not set.
func (r Rule) WithDefaults() Rule {
	if r.Window == 0 {
		r.Window = defaultWindow
	}
	r.Severity = r.Severity.Or(defaultSeverity)
	if r.Title == "" {
		r.Title = r.Name
	}
	if r.Remedy == "" {
		r.Remedy = "Read the related findings, and decide whether they have one cause. Isolate a compromised device and rotate its certificate."
	}
	stages := make([]Stage, len(r.Stages))
	for i, s := range r.Stages {
		s.AtLeast = max(s.AtLeast, 1)
		stages[i] = s
	}
	r.Stages = stages
	return r
}
