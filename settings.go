package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// config holds the parsed settings.
type config struct {
	stack string
	// alarmTopic is the ARN of the topic that alarms notify, "" for none.
	alarmTopic string
	engine     engine
	// selfManaged configures the self-managed engine. hub points to it if that engine is selected.
	selfManaged defenderhub.SelfManagedProps
	// networks are the networks from which devices may connect. Empty means any.
	networks []netip.Prefix
	// correlate reports whether to find incidents. Values of the attributes name other resources
	// of a device.
	correlate  bool
	attributes []string
	// notify reports whether to send messages about findings, configured by notifyProps.
	notify      bool
	notifyProps defenderhub.NotifyProps
	// demo reports whether to add the policy that allows everything.
	demo bool
	// unread are the keys that have no effect with the selected engine.
	unread []string
	hub    defenderhub.DefenderHubProps
}

// engine is the setting that selects the judge of behaviors.
type engine string

const (
	noEngine          engine = "none"
	nativeEngine      engine = "native"
	selfManagedEngine engine = "self-managed"
)

// engines lists all engines, in the order of error texts.
var engines = []engine{noEngine, nativeEngine, selfManagedEngine}

func (e engine) String() string { return string(e) }

// prefix distinguishes our settings from the CDK's own keys in the context.
const prefix = "defenderhub:"

// setting is one key of the context.
type setting struct {
	// allowed describes the allowed values in errors.
	allowed string
	set     func(c *config, value string) error
}

// Descriptions of values that several settings allow.
var (
	checkNames  = "any of " + strings.Join(names(defender.Checks()), ", ") + ", separated by commas"
	topicFilter = "an MQTT topic filter of at most 256 bytes and 7 slashes, + and # each alone in a level, # in the last"
)

var settings = map[string]setting{
	"stack":     {"1 to 128 of A-Z a-z 0-9 -, the first a letter", setStack},
	"engine":    {oneOf(names(engines)...), setEngine},
	"profile":   {"none, demo, starter, or demo,starter", setProfile},
	"transport": {oneOf(names(defenderhub.Transports())...), setTransport},
	"report-topic": {"basic-ingest or " + topicFilter, func(c *config, v string) error {
		if v == "basic-ingest" {
			return nil
		}
		c.selfManaged.ReportTopic = v
		return iotrule.ValidateReportTopic(v)
	}},
	"reports-rule": {"1 to 128 of A-Z a-z 0-9 _", func(c *config, v string) error {
		c.selfManaged.ReportsRuleName = v
		return iotrule.ValidateName(v)
	}},
	"report-interval": {"whole seconds from 10s to 1h, such as 60s", func(c *config, v string) error {
		if v == "5m" {
			return nil
		}
		return duration(v, &c.selfManaged.ReportInterval, time.Second, 10*time.Second, time.Hour)
	}},
	"confirm-first-traffic": {"true or false", func(c *config, v string) error {
		return boolean(v, &c.selfManaged.ConfirmFirstTraffic)
	}},
	"known-networks": {"CIDRs such as 10.0.0.0/8, separated by commas", func(c *config, v string) (err error) {
		if c.networks, err = list(v, netip.ParsePrefix); err != nil {
			return err
		}
		return defender.SecurityProfile{Behaviors: []defender.Behavior{c.knownNetworks()}}.Validate()
	}},
	"reports-every":  {"off, or whole minutes from 5m to 24h, such as 15m", setReportsEvery},
	"audit-schedule": {"daily, weekly:SUN to weekly:SAT, biweekly:SUN to biweekly:SAT, monthly:1 to monthly:31, or monthly:LAST", setSchedule},
	"audit-configuration": {oneOf("create", "existing"), func(c *config, v string) error {
		var existing bool
		err := choose(v, &existing, "create", "existing")
		if existing {
			c.hub.Audit.Configuration = defenderhub.Existing
		}
		return err
	}},
	"audit-except": {checkNames, func(c *config, v string) (err error) {
		c.hub.Audit.Except, err = list(v, defender.ParseCheck)
		return err
	}},
	"audit-disabled": {checkNames, func(c *config, v string) (err error) {
		c.hub.Audit.Disabled, err = list(v, defender.ParseCheck)
		return err
	}},
	"audit-on-deploy": {"true or false", func(c *config, v string) error {
		return boolean(v, &c.hub.Audit.RunOnDeploy)
	}},
	"audit-subscription": {oneOf("create", "existing", "off"), func(c *config, v string) error {
		return subscription(v, &c.hub.Subscriptions.Audit)
	}},
	"detect-subscription": {oneOf("create", "existing", "off"), func(c *config, v string) error {
		return subscription(v, &c.hub.Subscriptions.Detect)
	}},
	"enable-security-hub": {"true or false", func(c *config, v string) error {
		return boolean(v, &c.hub.Subscriptions.EnableSecurityHub)
	}},
	"forward": {"none, or any of " + strings.Join(names(forwarded()), ", ") + ", separated by commas", setForward},
	"event-topic": {topicFilter + ", none that begins with $", func(c *config, v string) error {
		c.hub.Rules.EventTopic = v
		return iotrule.ValidateEventTopic(v)
	}},
	"client-pattern": {"a regular expression with one capture, the thing's name", func(c *config, v string) error {
		c.hub.Forwarder.ClientPattern = v
		_, err := contract.ParseClientPattern(v)
		return err
	}},
	"correlate": {"true or false", func(c *config, v string) error { return boolean(v, &c.correlate) }},
	"correlate-attributes": {"names of thing attributes, separated by commas", func(c *config, v string) (err error) {
		c.attributes, err = list(v, func(name string) (string, error) { return name, nil })
		return err
	}},
	"notify": {"true or false", func(c *config, v string) error { return boolean(v, &c.notify) }},
	"notify-emails": {"addresses such as security@example.com, separated by commas", func(c *config, v string) (err error) {
		c.notifyProps.Emails, err = list(v, func(address string) (string, error) { return address, nil })
		return err
	}},
	"notify-slack": {"WORKSPACE/CHANNEL, the IDs of a Slack workspace and of a channel, such as T0123ABCD/C0123ABCD", func(c *config, v string) error {
		workspace, channel, found := strings.Cut(v, "/")
		c.notifyProps.Slack = &defenderhub.SlackProps{WorkspaceID: workspace, ChannelID: channel}
		if !found {
			return errNotAllowed
		}
		return nil
	}},
	"notify-hold": {"whole seconds from 1s to 15m, such as 5m", func(c *config, v string) error {
		return duration(v, &c.notifyProps.Hold, time.Second, time.Second, 15*time.Minute)
	}},
	"notify-severity": {oneOf(severityNames()...), func(c *config, v string) error {
		s, err := defender.ParseSeverity(v)
		c.notifyProps.Filters = []defenderhub.NotifyFilter{{Severity: s}}
		return err
	}},
	"alarm-topic":  {"the ARN of an Amazon SNS topic that is not FIFO: CloudWatch cannot publish to those", setAlarmTopic},
	"architecture": {oneOf("arm64", "amd64"), setArchitecture},
	"dashboard": {"true or false", func(c *config, v string) error {
		var shown bool
		err := boolean(v, &shown)
		if shown {
			c.hub.Dashboard = &defenderhub.DashboardProps{}
		}
		return err
	}},
	"demo": {"true or false", func(c *config, v string) error {
		return boolean(v, &c.demo)
	}},
}

// ofSelfManaged are the settings that only the self-managed engine reads, each with its default.
// With another engine, any other value causes a warning. It is no error, so that cdk.json may
// keep these settings while -c changes the engine.
var ofSelfManaged = map[string]string{"transport": "sqs", "report-topic": "basic-ingest", "reports-rule": "", "reports-every": "off", "report-interval": "5m", "confirm-first-traffic": "false"}

// readConfig parses the settings in the CDK context. Its error lists all unknown keys and invalid
// values.
func readConfig(context map[string]any) (*config, error) {
	c := &config{stack: "DefenderHub", engine: noEngine, hub: defenderhub.DefenderHubProps{
		Subscriptions: &defenderhub.ProductSubscriptionsProps{},
		Audit:         &defenderhub.AuditProps{},
		Detect:        &defenderhub.DetectProps{},
		Rules:         &defenderhub.RulesProps{},
		Forwarder:     &defenderhub.ForwarderProps{},
		Function:      &defenderhub.FunctionProps{},
	}}
	var faults []error
	for _, key := range slices.Sorted(maps.Keys(context)) {
		if !strings.HasPrefix(strings.ToLower(key), "defenderhub") {
			continue
		}
		name, _ := strings.CutPrefix(key, prefix)
		s, known := settings[name]
		if !known {
			faults = append(faults, fmt.Errorf("%s: unknown setting, want %s and one of %s", key, prefix, strings.Join(slices.Sorted(maps.Keys(settings)), ", ")))
			continue
		}
		value, err := text(context[key])
		if err == nil {
			err = s.set(c, value)
		}
		if err != nil {
			allowed := s.allowed
			for _, f := range defender.FieldErrors(err) {
				allowed = f.Want + "; allowed is " + s.allowed
			}
			faults = append(faults, fmt.Errorf("%s: %q, want %s", key, fmt.Sprint(context[key]), allowed))
		}
		if none, ok := ofSelfManaged[name]; ok && value != none {
			c.unread = append(c.unread, key)
		}
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("defenderhub: invalid context (cdk.json, or -c KEY=VALUE):\n%w", errors.Join(faults...))
	}
	switch c.engine {
	case noEngine:
		c.hub.Detect.Behaviors = nil // no engine would judge the profile, which cdk.json may set
	case nativeEngine:
		c.hub.Detect.Native = &defenderhub.NativeProps{}
	case selfManagedEngine:
		c.hub.Detect.SelfManaged = &c.selfManaged
		c.unread = nil
	}
	return c, c.complete()
}

func (c *config) knownNetworks() defender.Behavior {
	return defender.Behavior{Name: "known-networks", Criteria: defender.SourceIPAddress.InCIDRs(c.networks...), Severity: defender.High}
}

// complete sets the props that depend on several settings, and reports settings that need another
// one.
func (c *config) complete() error {
	var faults []error
	if len(c.networks) > 0 {
		if c.engine == noEngine {
			faults = append(faults, &defender.FieldError{Field: prefix + "known-networks", Value: fmt.Sprint(c.networks), Want: prefix + "engine native or self-managed as well"})
		}
		c.hub.Detect.Behaviors = append(c.hub.Detect.Behaviors, c.knownNetworks())
	}
	if c.correlate {
		c.hub.Correlate = &defenderhub.CorrelateProps{Attributes: c.attributes}
	} else if len(c.attributes) > 0 {
		faults = append(faults, &defender.FieldError{Field: prefix + "correlate-attributes", Value: strings.Join(c.attributes, ","), Want: prefix + "correlate true as well"})
	}
	if c.notify {
		c.hub.Notify = &c.notifyProps
	} else {
		for _, s := range []struct {
			key string
			set bool
		}{{"notify-emails", c.notifyProps.Emails != nil}, {"notify-hold", c.notifyProps.Hold != 0}, {"notify-severity", c.notifyProps.Filters != nil}, {"notify-slack", c.notifyProps.Slack != nil}} {
			if s.set {
				faults = append(faults, &defender.FieldError{Field: prefix + s.key, Value: "set", Want: prefix + "notify true as well"})
			}
		}
	}
	if len(faults) > 0 {
		return conflict(faults...)
	}
	return nil
}

// severityNames returns the severity labels of the ASFF, least first.
func severityNames() []string {
	var all []string
	for s := defender.Informational; s <= defender.Critical; s++ {
		all = append(all, s.String())
	}
	return all
}

// text converts a value of the context to the text that -c would pass, because cdk.json may hold
// Booleans and lists.
func text(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case []any:
		var parts []string
		for _, item := range v {
			part, ok := item.(string)
			if !ok {
				return "", errors.New("a list of strings")
			}
			parts = append(parts, part)
		}
		return strings.Join(parts, ","), nil
	}
	return "", errors.New("a string, true or false, or a list of strings")
}

// stackName matches the names that CloudFormation allows.
// https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cfn-using-console-create-stack-parameters.html
var stackName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,127}$`)

func setStack(c *config, v string) error {
	c.stack = v
	if !stackName.MatchString(v) {
		return errNotAllowed
	}
	return nil
}

// topicARN matches ARNs of standard Amazon SNS topics. FIFO topics have the suffix .fifo.
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsns.html
var topicARN = regexp.MustCompile(`^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$`)

func setAlarmTopic(c *config, v string) error {
	c.alarmTopic = v
	if !topicARN.MatchString(v) {
		return errNotAllowed
	}
	return nil
}

func setEngine(c *config, v string) error {
	c.engine = engine(v)
	if !slices.Contains(engines, c.engine) {
		return errNotAllowed
	}
	return nil
}

// profiles are the ready-made sets of behaviors, by name.
var profiles = map[string]func() []defender.Behavior{
	"demo":    defender.DemoBehaviors,
	"starter": defender.StarterBehaviors,
}

func setProfile(c *config, v string) error {
	c.hub.Detect.Behaviors = nil
	if v == "none" {
		return nil
	}
	chosen, err := list(v, func(name string) (func() []defender.Behavior, error) {
		if profiles[name] == nil {
			return nil, errNotAllowed
		}
		return profiles[name], nil
	})
	for _, behaviors := range chosen {
		c.hub.Detect.Behaviors = append(c.hub.Detect.Behaviors, behaviors()...)
	}
	return err
}

func setTransport(c *config, v string) error {
	for _, t := range defenderhub.Transports() {
		if t.String() == v {
			c.selfManaged.Transport = t
			return nil
		}
	}
	return errNotAllowed
}

func setReportsEvery(c *config, v string) error {
	if v == "off" {
		return nil
	}
	return duration(v, &c.selfManaged.ReportsEvery, time.Minute, 5*time.Minute, 24*time.Hour)
}

// duration parses a multiple of unit between least and most, both included.
func duration(v string, to *time.Duration, unit, least, most time.Duration) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < least || d > most || d%unit != 0 {
		return errNotAllowed
	}
	*to = d
	return nil
}

func setSchedule(c *config, v string) (err error) {
	c.hub.Audit.Schedule, err = defender.ParseSchedule(v)
	return err
}

func setForward(c *config, v string) (err error) {
	if v == "none" {
		c.hub.NoForwarder = true
		return nil
	}
	c.hub.Forward, err = list(v, func(name string) (defender.Source, error) {
		s, err := defender.ParseSource(name)
		if err == nil && !slices.Contains(forwarded(), s) {
			err = errNotAllowed
		}
		return s, err
	})
	return err
}

func setArchitecture(c *config, v string) error {
	var amd64 bool
	if err := choose(v, &amd64, "arm64", "amd64"); err != nil {
		return err
	}
	if amd64 {
		c.hub.Function.Architecture = defenderhub.AMD64
	}
	return nil
}

// errNotAllowed marks an invalid value. readConfig adds the key, the value and the allowed values.
var errNotAllowed = errors.New("not allowed")

func subscription(v string, to *defenderhub.Provision) error {
	known := map[string]defenderhub.Provision{
		"create": defenderhub.Create, "existing": defenderhub.Existing, "off": defenderhub.Off,
	}
	s, ok := known[v]
	if !ok {
		return errNotAllowed
	}
	*to = s
	return nil
}

func boolean(v string, to *bool) error { return choose(v, to, "false", "true") }

func choose(v string, to *bool, no, yes string) error {
	*to = v == yes
	if v != yes && v != no {
		return errNotAllowed
	}
	return nil
}

// list parses each item of a list that is separated by commas. It skips empty items. A list without
// items is an error: as a prop it would mean the default, which may be all items.
func list[T any](v string, parse func(string) (T, error)) ([]T, error) {
	var items []T
	for name := range strings.SplitSeq(v, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		item, err := parse(name)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	if len(items) == 0 {
		return nil, errNotAllowed
	}
	return items, nil
}

// forwarded returns the sources that the setting forward may name. The setting correlate controls
// the remaining one.
func forwarded() []defender.Source {
	return slices.DeleteFunc(defender.Sources(), func(s defender.Source) bool { return s == defender.CorrelatedFindings })
}

func names[T fmt.Stringer](values []T) []string {
	var all []string
	for _, v := range values {
		all = append(all, v.String())
	}
	return all
}

func oneOf(values ...string) string {
	return strings.Join(values[:len(values)-1], ", ") + " or " + values[len(values)-1]
}
