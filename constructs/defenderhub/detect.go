package defenderhub

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// DetectProps configure [Detect].
type DetectProps struct {
	// Engine judges the behaviors. AWS opens Device Defender Detect, which is
	// defender.Native, to no new customer since 2026-08-31.
	// Default: defender.None, the behaviors are checked for faults and not deployed.
	Engine defender.Engine
	// Behaviors state what is normal, at most 100. They make one security profile, which
	// defender.SelfManaged calls [DefaultProfile]. With defender.SelfManaged all names and
	// topic filters have to be known at synthesis, but for those of thing groups, and all
	// profiles together have at most 300 behaviors.
	// Default: nil, no profile besides Profiles.
	Behaviors []defender.Behavior
	// Targets are the things that Behaviors are watched on.
	// Default: nil, defender.AllThings.
	Targets []defender.Target
	// RetainedMetrics are kept for 14 days although no behavior uses them.
	// Default: nil, only the metrics of behaviors are kept.
	RetainedMetrics []defender.Metric
	// Profiles are further security profiles. A name, where one is given, is unique
	// among them; with defender.SelfManaged each needs one.
	// Default: nil, the profile of Behaviors alone.
	Profiles []defender.SecurityProfile
	// ExistingCustomMetrics are names of custom metrics that the account already has, so
	// that they are not created.
	// Default: nil, every custom metric that a behavior uses is created.
	ExistingCustomMetrics []string
	// Topic receives the alerts of defender.Native: a standard topic, encrypted with a
	// customer-managed key if at all. Where it is imported and encrypted, give its key as
	// EncryptionKey.
	// Default: nil, with defender.Native a new topic, encrypted with a customer-managed
	// key, TLS only.
	Topic awssns.ITopic
	// EncryptionKey encrypts the topic of defender.Native, or queues, stream, table and log
	// groups of defender.SelfManaged. Its policy must let IAM policies of this account use
	// it, as the CDK's default does; that of a key that is imported must also allow
	// CloudWatch Logs.
	// Default: nil. With defender.Native a new key with rotation, 1 USD a month (list
	// price): AWS services cannot publish through the key that AWS manages; within a
	// DefenderHub, the audit's. With defender.SelfManaged keys that AWS manages.
	EncryptionKey awskms.IKey
	// SelfManaged configures the engine defender.SelfManaged; the others do not read it.
	// Default: nil, a queue and two functions that cost nothing while nothing happens.
	SelfManaged *SelfManagedProps
}

func (p DetectProps) validate() error {
	var f faults
	f.under("Engine", p.Engine.Validate())
	own := defender.SecurityProfile{Behaviors: p.Behaviors, Targets: p.Targets, RetainedMetrics: p.RetainedMetrics}
	f.under("", resolvedProfile(own).Validate())
	f.under("", validateMetricNames(own))
	f.under("", validateReferences(own))
	names := map[string]bool{}
	for i, profile := range p.Profiles {
		field := "Profiles" + index(i)
		f.under(field, resolvedProfile(profile).Validate())
		f.under(field, validateMetricNames(profile))
		f.under(field, validateReferences(profile))
		if len(profile.Behaviors) == 0 && len(profile.RetainedMetrics) == 0 {
			f.add(field+".Behaviors", nil, "at least one behavior or retained metric, such as defender.DemoBehaviors()")
		}
		if profile.Name != "" && names[profile.Name] {
			f.add(field+".Name", profile.Name, "a name that no other profile has")
		}
		names[profile.Name] = true
	}
	f.under("", validateCustomMetrics(p))
	f.topic("Topic", p.Topic)
	f.key("EncryptionKey", p.EncryptionKey)
	f.under("SelfManaged", value(p.SelfManaged).validate())
	if p.Engine == defender.SelfManaged {
		f.under("", p.validateSelfManaged())
	}
	if p.Engine == defender.Native {
		f.under("", p.validateNative())
	}
	return f.err()
}

// The names of these exist once per account and Region.
const (
	customMetric    = "custom metric"
	securityProfile = "security profile"
	topicRule       = "rule"
)

// taken reports what another construct of the app makes already, or cannot notify.
func (p DetectProps) taken(scope constructs.Construct) error {
	var f faults
	if p.Engine == defender.Native {
		for _, m := range p.createdMetrics() {
			f.taken(scope, named(customMetric, m.Name), true, "ExistingCustomMetrics", nil, fmt.Sprintf("the custom metric %q here", m.Name))
		}
		for i, profile := range p.Profiles {
			f.taken(scope, named(securityProfile, profile.Name), true, "Profiles"+index(i)+".Name", profile.Name, "another name, or empty for a generated one")
		}
	}
	if p.Engine == defender.SelfManaged {
		s := value(p.SelfManaged)
		f.taken(scope, named(topicRule, s.ReportsRuleName), true, "SelfManaged.ReportsRuleName", s.ReportsRuleName, "another name, or empty for a generated one")
		f.alarmTopic(scope, "SelfManaged.Alarms.Topic", value(s.Alarms).Topic)
	}
	return f.err()
}

// maxProfilesOfTarget is a quota of AWS IoT Device Defender.
// https://docs.aws.amazon.com/general/latest/gr/iot_device_defender.html
const maxProfilesOfTarget = 5

// validateNative reports what Device Defender Detect would refuse of all profiles together.
func (p DetectProps) validateNative() error {
	var f faults
	profiles := p.profiles()
	if len(profiles) == 0 {
		f.add("Behaviors", nil, "at least one behavior, such as defender.DemoBehaviors(), or Engine: defender.None")
	}
	watched := map[defender.Target]int{}
	for i, profile := range profiles {
		targets := profile.Targets
		if len(targets) == 0 {
			targets = []defender.Target{defender.AllThings}
		}
		for _, t := range targets {
			if watched[t]++; watched[t] == maxProfilesOfTarget+1 {
				f.add(strings.TrimPrefix(p.profileField(i)+".Targets", "."), t.Resource(), "a target that at most %d security profiles watch: put their behaviors together, up to 100 in a profile", maxProfilesOfTarget)
			}
		}
	}
	return f.err()
}

// profiles are all security profiles, that of Behaviors first.
func (p DetectProps) profiles() []defender.SecurityProfile {
	var all []defender.SecurityProfile
	if len(p.Behaviors) > 0 || len(p.RetainedMetrics) > 0 {
		all = append(all, defender.SecurityProfile{
			Description: "Behaviors of defenderhub", Behaviors: p.Behaviors, Targets: p.Targets, RetainedMetrics: p.RetainedMetrics,
		})
	}
	return append(all, p.Profiles...)
}

// maxSeverities leaves room for the rest in an environment, which takes 4 KB.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const maxSeverities = 3000

// severities are those that behaviors ask for, by the behavior's name: the name of its
// profile is often known only at deployment.
func (p DetectProps) severities() (map[string]defender.Severity, error) {
	var f faults
	wanted := map[string]defender.Severity{}
	collect := func(field string, behaviors []defender.Behavior) {
		for i, b := range behaviors {
			if other, ok := wanted[b.Name]; ok && other != b.Severity {
				f.add(field+"Behaviors"+index(i)+".Severity", severityName(b.Severity), "%s, as another behavior of that name has, or another name", severityName(other))
			}
			wanted[b.Name] = b.Severity
		}
	}
	collect("", p.Behaviors)
	for i, profile := range p.Profiles {
		collect("Profiles"+index(i)+".", profile.Behaviors)
	}
	if n := len(contract.Severities{Behaviors: wanted}.String()); n > maxSeverities {
		f.add("", fmt.Sprintf("severities of behaviors that take %d characters with their names", n),
			"at most %d: leave out the severity that most have, and set it in Forwarder.Severities", maxSeverities)
	}
	return wanted, f.err()
}

func severityName(s defender.Severity) string { return or(s.String(), "SeverityDefault") }

// Detect watches the behavior of devices.
type Detect interface {
	constructs.Construct
	// Engine judges the behaviors.
	Engine() defender.Engine
	// Topic receives the alerts of defender.Native; nil with another engine and without
	// Topic.
	Topic() awssns.ITopic
	// Key encrypts the topic that was made; nil where none was.
	Key() awskms.IKey
	// AlertRole is what Detect publishes with; nil without defender.Native.
	AlertRole() awsiam.IRole
	// Profiles are the security profiles, that of Behaviors first; nil without
	// defender.Native.
	Profiles() []awscdk.CfnResource
	// ProfileNames are the names of the security profiles; nil without defender.Native.
	ProfileNames() []*string
	// CustomMetrics are the custom metrics that are created, by name.
	CustomMetrics() map[string]awscdk.CfnResource
	// SelfManaged are the parts of the engine defender.SelfManaged; nil with another engine.
	SelfManaged() *SelfManagedParts
	// ReportsRuleName is the name of the rule that brings device reports in; nil where no
	// rule of ours does.
	ReportsRuleName() *string
	// ReportTopic is what devices publish their reports to: the topic filter of
	// SelfManagedProps, or a topic of Basic Ingest; nil where ReportsRuleName is.
	ReportTopic() *string
}

type detect struct {
	constructs.Construct
	engine    defender.Engine
	topic     awssns.ITopic
	key       awskms.IKey
	alertRole awsiam.IRole
	profiles  []awscdk.CfnResource
	metrics   map[string]awscdk.CfnResource

	selfManaged *selfManaged
	reportTopic *string
}

func (d *detect) Engine() defender.Engine                      { return d.engine }
func (d *detect) Topic() awssns.ITopic                         { return d.topic }
func (d *detect) Key() awskms.IKey                             { return d.key }
func (d *detect) AlertRole() awsiam.IRole                      { return d.alertRole }
func (d *detect) Profiles() []awscdk.CfnResource               { return slices.Clone(d.profiles) }
func (d *detect) CustomMetrics() map[string]awscdk.CfnResource { return maps.Clone(d.metrics) }

func (d *detect) SelfManaged() *SelfManagedParts { return d.selfManaged.parts() }
func (d *detect) ReportTopic() *string           { return d.reportTopic }

func (d *detect) ReportsRuleName() *string {
	if d.selfManaged == nil {
		return nil
	}
	return d.selfManaged.reportsRule
}

func (d *detect) ProfileNames() []*string {
	var names []*string
	for _, p := range d.profiles {
		names = append(names, p.Ref())
	}
	return names
}

// NewDetect watches the behavior of devices with the engine that props choose. It panics
// with one error that lists every fault of props.
func NewDetect(scope constructs.Construct, id *string, props *DetectProps) Detect {
	d := &detect{}
	constructs.NewConstruct_Override(d, scope, id)
	p := value(props)
	must(d, errors.Join(p.validate(), p.validateForwarder(), p.taken(d)))
	d.engine, d.topic = p.Engine, p.Topic
	switch p.Engine {
	case defender.Native:
		d.deployNative(p)
	case defender.SelfManaged:
		must(d, p.compile())
		d.deploySelfManaged(p)
	}
	return d
}
