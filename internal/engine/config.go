package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// Config is the evaluator's configuration, which the constructs write to a file.
type Config struct {
	Profiles []ProfileConfig `json:"profiles"`
	// ReportsEvery is the interval of [ReportsEvery] in minutes, for the targets of all
	// profiles; 0 disables the behavior.
	ReportsEvery int `json:"reportsEvery,omitempty"`
	// ReportsSeverity is the severity of silent agents and of unreadable reports.
	ReportsSeverity string `json:"reportsSeverity,omitempty"`
	// Reports is true if an IoT rule sends device reports.
	Reports bool `json:"reports,omitempty"`
	// ReportTopic is the topic filter of device reports, "" for Basic Ingest. With a topic
	// filter the evaluator answers messages that it cannot parse.
	ReportTopic string `json:"reportTopic,omitempty"`
	// BatchSeconds is the transport's batching window.
	BatchSeconds int `json:"batchSeconds"`
	// ReportSeconds is how often devices report. Default: [MinReportInterval], for 0.
	ReportSeconds int `json:"reportSeconds,omitempty"`
	// ConfirmTraffic is [Traffic.Confirm].
	ConfirmTraffic bool `json:"confirmTraffic,omitempty"`
	// MinDatapoints is [History.MinDatapoints].
	MinDatapoints int64 `json:"minDatapoints,omitempty"`
	// ClientPattern is a pattern for [contract.ParseClientPattern]; "" for its default.
	ClientPattern string `json:"clientPattern,omitempty"`
	// MembershipMinutes is how long the registry's answer about a thing is cached.
	MembershipMinutes int `json:"membershipMinutes"`
	// UnregisteredMinutes is how long after its last datapoint an alarm about missing signals ends,
	// for a client ID that is not a thing. Default: 0, [DefaultUnregisteredLifetime].
	UnregisteredMinutes int `json:"unregisteredMinutes,omitempty"`
}

// DefaultUnregisteredLifetime is how long the alarm of a client ID that is not a thing stays open
// after its last datapoint. The registry cannot show that such a device was removed.
const DefaultUnregisteredLifetime = 14 * 24 * time.Hour

// UnregisteredLifetime is [Config.UnregisteredMinutes], or the default.
func (c Config) UnregisteredLifetime() time.Duration {
	if c.UnregisteredMinutes == 0 {
		return DefaultUnregisteredLifetime
	}
	return time.Duration(c.UnregisteredMinutes) * time.Minute
}

// ReportInterval is [Config.ReportSeconds], or the default.
func (c Config) ReportInterval() time.Duration {
	return cmp.Or(time.Duration(c.ReportSeconds)*time.Second, MinReportInterval)
}

// ProfileConfig is a security profile.
type ProfileConfig struct {
	Name      string              `json:"name"`
	Behaviors []defender.Behavior `json:"behaviors"`
	// Targets are resources as [defender.Target.Resource] returns them; a thing group is
	// "thinggroup/" and its position in [contract.EnvThingGroups]. Empty: all things.
	Targets []string `json:"targets,omitempty"`
}

// AgentProfile is the profile of the behaviors about device reports themselves.
const AgentProfile = "device-agent"

// The behaviors about device reports themselves, which the user does not write.
const (
	SilentAgent       = "reports-regularly"
	UnreadableReports = "reports-readable"
)

// Compile compiles all behaviors, and reports all faults at once.
func (c Config) Compile() ([]Compiled, error) {
	var all []Compiled
	var faults []error
	for i, p := range c.Profiles {
		if p.Name == AgentProfile || slices.IndexFunc(c.Profiles, func(o ProfileConfig) bool { return o.Name == p.Name }) < i {
			faults = append(faults, fmt.Errorf("security profile %s, want a name that no other has and that is not %s", p.Name, AgentProfile))
		}
		compiled, err := Compile(p.Name, p.Behaviors)
		faults = append(faults, err)
		for _, b := range compiled {
			all = append(all, Traffic{Interval: c.ReportInterval(), Confirm: c.ConfirmTraffic}.of(b))
		}
	}
	severity := defender.SeverityDefault
	if c.ReportsSeverity != "" {
		var err error
		severity, err = defender.ParseSeverity(c.ReportsSeverity)
		faults = append(faults, err)
	}
	if c.ReportsEvery > 0 {
		all = append(all, ReportsEvery(AgentProfile, SilentAgent, time.Duration(c.ReportsEvery)*time.Minute, severity))
	}
	if c.Reports {
		all = append(all, ReadableReports(AgentProfile, UnreadableReports, severity))
	}
	if n := len(all); n > contract.MaxLiveBehaviors {
		faults = append(faults, fmt.Errorf("%d behaviors, want at most %d in all profiles together", n, contract.MaxLiveBehaviors))
	}
	return all, errors.Join(faults...)
}

// Targets returns the targets of a profile, nil for all things. The behaviors about device
// reports have the targets of all profiles.
func (c Config) Targets(profile string) []string {
	if profile != AgentProfile {
		for _, p := range c.Profiles {
			if p.Name == profile && !slices.Contains(p.Targets, defender.AllThings.Resource()) {
				return p.Targets
			}
		}
		return nil
	}
	var all []string
	for _, p := range c.Profiles {
		targets := c.Targets(p.Name)
		if targets == nil {
			return nil
		}
		all = append(all, targets...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Live returns the behaviors that findings may be about.
func (c Config) Live() (contract.LiveBehaviors, error) {
	all, err := c.Compile()
	live := contract.LiveBehaviors{}
	for _, b := range all {
		live.Add(b.Profile, b.Behavior.Name, b.Behavior.Severity)
	}
	return live, err
}

// NeedsReports reports whether some behavior needs device reports.
func NeedsReports(behaviors []Compiled) bool {
	return slices.ContainsFunc(behaviors, func(c Compiled) bool {
		return c.Behavior.Criteria.Metric().Side != iotapi.CloudSide
	})
}
