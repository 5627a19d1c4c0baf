package defenderhub

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/defender"
)

// DetectProps configure [Detect]. Native and SelfManaged are the engines that can judge the
// behaviors. Set at most one of them.
type DetectProps struct {
	// Behaviors describe normal behavior, at most 100. They form one security profile, whose name
	// with SelfManaged is [DefaultProfile]. With SelfManaged, all names and topic filters except
	// the names of thing groups must be known at synthesis, and all profiles together have at most
	// 300 behaviors. Behaviors without an engine are an error.
	// Default: nil, only the behaviors of Profiles.
	Behaviors []defender.Behavior
	// Targets are the things to which Behaviors apply.
	// Default: nil, defender.AllThings.
	Targets []defender.Target
	// Profiles are more security profiles, with unique names. SelfManaged requires a name for each.
	// Default: nil, only the profile of Behaviors.
	Profiles []defender.SecurityProfile
	// Forwarder imports the alarms into Security Hub. Its ForwarderProps.Detects must contain these
	// props, so that it knows the behaviors and their severities. A DefenderHub sets both.
	// Default: nil, alarms of Native go only to its topic. SelfManaged requires a Forwarder.
	Forwarder Forwarder
	// EncryptionKey encrypts the topic of Native, or queues, stream, table and log groups of
	// SelfManaged. Its policy must let IAM policies of this account use it, as the CDK's default
	// does. The policy of an imported key must also allow CloudWatch Logs.
	// Default: nil. With SelfManaged, AWS managed keys. With Native, the audit's key within a
	// DefenderHub, else a new key with rotation (1 USD a month, list price), because AWS services
	// cannot publish with an AWS managed key.
	EncryptionKey awskms.IKey
	// Native lets AWS IoT Device Defender Detect judge the behaviors. Use it only in an account
	// that used Detect before: AWS closed Detect to new customers on 2026-08-31.
	// Default: nil, Detect is not used.
	Native *NativeProps
	// SelfManaged lets IoT rules and Lambda functions of this account judge the behaviors,
	// without Detect. docs/detect.md says what that costs.
	// Default: nil, the self-managed engine is not used.
	SelfManaged *SelfManagedProps
}

// NativeProps configure AWS IoT Device Defender Detect. The zero value creates a new topic.
type NativeProps struct {
	// RetainedMetrics are metrics that AWS keeps for 14 days although no behavior uses them.
	// Default: nil, AWS keeps only the metrics of behaviors.
	RetainedMetrics []defender.Metric
	// ExistingCustomMetrics are names of custom metrics that the account already has.
	// Default: nil, the construct creates each custom metric that a behavior uses.
	ExistingCustomMetrics []string
	// Topic receives the alarms. It must be a standard topic, unencrypted or encrypted with a
	// customer-managed key. If it is imported and encrypted, pass its key as
	// DetectProps.EncryptionKey.
	// Default: nil, a new topic, encrypted with a customer-managed key, TLS only.
	Topic awssns.ITopic
	// Verification copies the verification states that analysts set in Security Hub to Detect.
	// Default: nil, the states stay in Security Hub.
	Verification *VerificationProps
}

func (p DetectProps) validate() error {
	var f faults
	if p.Native != nil {
		if p.SelfManaged != nil {
			f.coded(CodeTwoEngines, "SelfManaged", "set", "nothing here: "+oneEngine, defender.Alternative{Field: "Native", Value: "nil"})
		}
	}
	own := defender.SecurityProfile{Behaviors: p.Behaviors, Targets: p.Targets}
	f.under("", resolvedProfile(own).Validate())
	f.under("", validateMetricNames(own))
	f.under("", validateReferences(own))
	retained := defender.SecurityProfile{RetainedMetrics: value(p.Native).RetainedMetrics}
	f.under("Native", resolvedProfile(retained).Validate())
	f.under("Native", validateMetricNames(retained))
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
	f.topic("Native.Topic", value(p.Native).Topic)
	f.under("Native.Verification", value(value(p.Native).Verification).validate())
	f.key("EncryptionKey", p.EncryptionKey)
	f.under("SelfManaged", value(p.SelfManaged).validate())
	if p.SelfManaged != nil && p.Native == nil {
		f.under("", p.validateSelfManaged())
	}
	if p.Native != nil {
		f.under("", p.validateNative())
	}
	if p.Native == nil && p.SelfManaged == nil {
		f.under("", p.validateNoEngine())
	}
	return f.err()
}

// validateNoEngine reports behaviors that no engine would judge.
func (p DetectProps) validateNoEngine() error {
	var f faults
	const want = "an engine that judges them: set Native in an account that has Device Defender Detect, else SelfManaged"
	alternatives := []defender.Alternative{{Field: "Native"}, {Field: "SelfManaged"}}
	switch {
	case len(p.Behaviors) > 0:
		f.coded(CodeUnjudged, "Behaviors", fmt.Sprintf("%d behaviors", len(p.Behaviors)), want, alternatives...)
	case len(p.Profiles) > 0:
		f.coded(CodeUnjudged, "Profiles", fmt.Sprintf("%d profiles", len(p.Profiles)), want, alternatives...)
	}
	return f.err()
}

// oneEngine explains what to do if both engines are set.
const oneEngine = "Native is set as well, and one engine judges the behaviors. " +
	"Leave out Native to use no Device Defender Detect, or SelfManaged in an account that has Detect"

// The kinds of named resources that exist once per account and Region.
const (
	customMetric    = "custom metric"
	securityProfile = "security profile"
	topicRule       = "rule"
)

// taken reports every named resource that another construct of the app already creates.
func (p DetectProps) taken(scope constructs.Construct) error {
	var f faults
	if p.Native != nil {
		f.under("Native.Verification", alarmTopicFault(scope, value(p.Native.Verification).AlarmTopic))
		for _, m := range p.createdMetrics() {
			f.taken(scope, named(customMetric, m.Name), true, "Native.ExistingCustomMetrics", nil, fmt.Sprintf("the custom metric %q here", m.Name))
		}
		for i, profile := range p.Profiles {
			f.taken(scope, named(securityProfile, profile.Name), true, "Profiles"+index(i)+".Name", profile.Name, "another name, or empty for a generated one")
		}
	}
	if s := p.SelfManaged; s != nil {
		f.taken(scope, named(topicRule, s.ReportsRuleName), true, "SelfManaged.ReportsRuleName", s.ReportsRuleName, "another name, or empty for a generated one")
		f.alarmTopic(scope, "SelfManaged.AlarmTopic", s.AlarmTopic)
	}
	return f.err()
}

// Quotas of AWS IoT Device Defender: the security profiles of a target, and the dimensions and custom
// metrics of an account.
// https://docs.aws.amazon.com/general/latest/gr/iot_device_defender.html
const (
	maxProfilesOfTarget = 5
	maxDimensions       = 10
	maxCustomMetrics    = 100
)

// validateNative reports what Device Defender Detect would reject in the profiles as a whole.
func (p DetectProps) validateNative() error {
	var f faults
	profiles := p.profiles()
	if len(profiles) == 0 {
		f.coded(CodeNoBehaviors, "Behaviors", nil, "at least one behavior, such as defender.DemoBehaviors(), or no engine: leave out Native",
			defender.Alternative{Field: "Native", Value: "nil"})
	}
	watched := map[defender.Target]int{}
	dimensions, metrics := map[string]bool{}, map[string]bool{}
	for i, profile := range profiles {
		for n, b := range profile.Behaviors {
			if b.Dimension == nil {
				continue
			}
			known := len(dimensions)
			dimensions[strings.Join(b.Dimension.TopicFilters, "\n")] = true
			if known == maxDimensions && len(dimensions) > known {
				f.add(strings.TrimPrefix(p.profileField(i)+".Behaviors"+index(n)+".Dimension", "."), strings.Join(b.Dimension.TopicFilters, ", "),
					"at most %d different lists of topic filters in all profiles: an account has no more dimensions", maxDimensions)
			}
		}
		for _, name := range customNames(profile) {
			metrics[name] = true
		}
		targets := profile.Targets
		if len(targets) == 0 {
			targets = []defender.Target{defender.AllThings}
		}
		for _, t := range targets {
			if watched[t]++; watched[t] == maxProfilesOfTarget+1 {
				f.add(strings.TrimPrefix(p.profileField(i)+".Targets", "."), t.Resource(), "at most %d security profiles for this target: combine their behaviors, up to 100 in a profile", maxProfilesOfTarget)
			}
		}
	}
	if len(metrics) > maxCustomMetrics {
		f.add("Behaviors", fmt.Sprintf("%d custom metrics", len(metrics)), "at most %d in all profiles: an account has no more", maxCustomMetrics)
	}
	return f.err()
}

// profiles returns all security profiles. The profile of Behaviors is the first.
func (p DetectProps) profiles() []defender.SecurityProfile {
	var all []defender.SecurityProfile
	retained := value(p.Native).RetainedMetrics
	if len(p.Behaviors) > 0 || len(retained) > 0 {
		all = append(all, defender.SecurityProfile{
			Description: "Behaviors of defenderhub", Behaviors: p.Behaviors, Targets: p.Targets, RetainedMetrics: retained,
		})
	}
	return append(all, p.Profiles...)
}

// severities returns the severities of behaviors by name alone, because the profile's name is
// often known only at deployment.
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
	return wanted, f.err()
}

func severityName(s defender.Severity) string { return or(s.String(), "SeverityDefault") }

// Detect judges the behavior of devices.
type Detect interface {
	constructs.Construct
	// Native is AWS IoT Device Defender Detect; nil if it is not the engine.
	Native() NativeDetect
	// SelfManaged is the self-managed engine; nil if it is not the engine.
	SelfManaged() SelfManagedDetect
}

type detect struct {
	constructs.Construct
	native      *nativeDetect
	selfManaged *selfManaged
}

func (d *detect) Native() NativeDetect {
	if d.native == nil {
		return nil
	}
	return d.native
}

func (d *detect) SelfManaged() SelfManagedDetect {
	if d.selfManaged == nil {
		return nil
	}
	return d.selfManaged
}

// NewDetect deploys the engine that is set in props. It panics with one error that lists every
// fault of props.
func NewDetect(scope constructs.Construct, id *string, props *DetectProps) Detect {
	d := &detect{}
	constructs.NewConstruct_Override(d, scope, id)
	p := value(props)
	must(d, errors.Join(p.validate(), p.validateForwarder(d), p.taken(d)))
	if p.Forwarder != nil {
		take(d, p.alarmsOf())
	}
	if p.Native != nil {
		d.native = newNative(d, p)
		if p.Forwarder != nil {
			p.Forwarder.subscribeAlarms(d.native.topic)
		}
	}
	if p.SelfManaged != nil {
		must(d, p.compile())
		d.selfManaged = newSelfManaged(d, p)
	}
	return d
}
