package defenderhub

import (
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// DefenderHubProps configure a [DefenderHub]. The zero value deploys Device Defender's
// audit with a daily schedule, its subscription in Security Hub, and the forwarder for
// the security events of AWS IoT Core.
type DefenderHubProps struct {
	// Subscriptions enable Device Defender's own integration.
	// Default: nil, the subscriptions of the audit and, with Detect.Native, of Detect, in an
	// account where Security Hub CSPM is enabled already.
	Subscriptions *ProductSubscriptionsProps
	// Audit configures the account's audits.
	// Default: nil, all 17 checks are enabled, and all except defender.IntermediateCARevoked are
	// audited daily.
	Audit *AuditProps
	// Detect describes normal behavior of devices, and selects the engine that judges it.
	// Default: nil, no behavior and no engine.
	Detect *DetectProps
	// Rules select security events of AWS IoT Core.
	// Default: nil, the events of all rule sources in Forward.
	Rules *RulesProps
	// Forwarder configures the functions that import events as findings.
	// Default: nil, a Go function for arm64 and six alarms.
	Forwarder *ForwarderProps
	// Forward are the sources that the forwarder sends to Security Hub. A source that Device
	// Defender's own integration sends is an error: set the product's subscription to
	// Off first.
	//
	// Default: nil, the rule sources, the alarms of Detect.SelfManaged, and the notifications of
	// audit and Detect if their subscription is off. Results of an Existing audit configuration
	// also need Audit.Topic.
	Forward []defender.Source
	// NoForwarder leaves out the forwarder: only Device Defender's own integration sends findings.
	// In a deployed stack it deletes the forwarder and its ledger. The findings that the forwarder
	// imported stay unchanged until Security Hub deletes them after 90 days.
	NoForwarder bool
	// Correlate finds incidents: findings of several services that belong to one device, or of many
	// devices. It needs the forwarder.
	// Default: nil, findings are not correlated.
	Correlate *CorrelateProps
	// Notify sends a message when a finding begins, gets worse or ends. With Correlate, one message
	// per incident replaces those of its parts.
	// Default: nil, no messages.
	Notify *NotifyProps
	// Dashboard shows all parts in a CloudWatch dashboard and their findings in insights of
	// Security Hub. CloudWatch charges 3 USD a month for a dashboard beyond the first three, and
	// 0.30 USD for each of up to seven more metrics (list prices).
	// https://aws.amazon.com/cloudwatch/pricing/
	// Default: nil, no dashboard and no insights.
	Dashboard *DashboardProps
	// EncryptionKey encrypts the queues, topics, log groups and the ledger. Its policy must let
	// IAM policies of this account use it, as the CDK's default does. The policy of an imported
	// key must also allow CloudWatch Logs, and Amazon SNS if notifications are forwarded: a
	// warning at synthesis prints the statements.
	//
	// Change the key only while queues and streams are empty: waiting messages need the old key,
	// which the functions may no longer use.
	// Default: nil, AWS managed keys. The topics of Device Defender share one new customer-managed
	// key (1 USD a month, list price), because AWS services cannot publish with an AWS managed key.
	EncryptionKey awskms.IKey
	// Function configures the Lambda functions of all parts. The Function of a part replaces it as a
	// whole for that part.
	// Default: nil, the zero value of FunctionProps.
	Function *FunctionProps
	// AlarmTopic is notified when an alarm goes off and when it returns to OK. It must be a standard
	// topic, unencrypted or encrypted with a customer-managed key. The AlarmTopic of a part replaces
	// it for that part.
	//
	// The construct allows CloudWatch to use the topic's key. It also extends an existing topic
	// policy, such as that of EnforceSSL or AddToResourcePolicy. A policy that you add later, and
	// the policies of an imported topic or key, must allow cloudwatch.amazonaws.com to publish:
	// notes and warnings at synthesis print the statements.
	// Default: nil, the alarms notify nobody.
	AlarmTopic awssns.ITopic
}

// DefenderHub sends the findings of AWS IoT Device Defender and the security events of AWS IoT
// Core to AWS Security Hub.
type DefenderHub interface {
	constructs.Construct
	// Subscriptions enable Device Defender's own integration.
	Subscriptions() ProductSubscriptions
	// Audit has the configuration and the schedule of the account's audits.
	Audit() Audit
	// Detect judges the behavior of devices.
	Detect() Detect
	// Rules select security events of AWS IoT Core; nil if no rule source is forwarded.
	Rules() Rules
	// Forwarder imports events as findings; nil if nothing is forwarded.
	Forwarder() Forwarder
	// Correlate finds incidents; nil without DefenderHubProps.Correlate.
	Correlate() Correlate
	// Notify sends messages; nil without DefenderHubProps.Notify.
	Notify() Notify
	// Queue receives the messages of all sources except audits; nil if nothing is forwarded.
	Queue() awssqs.IQueue
	// DeadLetterQueue has the messages that could not be imported; nil if nothing is forwarded.
	DeadLetterQueue() awssqs.IQueue
	// Dashboard shows the parts; nil if DefenderHubProps.Dashboard is.
	Dashboard() Dashboard
	// Sources returns the sources that the forwarder imports; empty with NoForwarder.
	Sources() []defender.Source
}

type hub struct {
	constructs.Construct
	subscriptions ProductSubscriptions
	audit         Audit
	detect        Detect
	rules         Rules
	forwarder     Forwarder
	correlate     Correlate
	notify        Notify
	dashboard     Dashboard
	sources       []defender.Source
}

func (h *hub) Subscriptions() ProductSubscriptions { return h.subscriptions }
func (h *hub) Audit() Audit                        { return h.audit }
func (h *hub) Detect() Detect                      { return h.detect }
func (h *hub) Rules() Rules                        { return h.rules }
func (h *hub) Forwarder() Forwarder                { return h.forwarder }
func (h *hub) Correlate() Correlate                { return h.correlate }
func (h *hub) Notify() Notify                      { return h.notify }
func (h *hub) Dashboard() Dashboard                { return h.dashboard }
func (h *hub) Sources() []defender.Source          { return slices.Clone(h.sources) }

func (h *hub) Queue() awssqs.IQueue {
	if h.forwarder == nil {
		return nil
	}
	return h.forwarder.Queue()
}

func (h *hub) DeadLetterQueue() awssqs.IQueue {
	if h.forwarder == nil {
		return nil
	}
	return h.forwarder.DeadLetterQueue()
}

// NewDefenderHub deploys Device Defender, its subscriptions in Security Hub, and the
// forwarder. It panics with one error that lists every fault of props.
func NewDefenderHub(scope constructs.Construct, id *string, props *DefenderHubProps) DefenderHub {
	h := &hub{}
	constructs.NewConstruct_Override(h, scope, id)
	plan, err := newHubPlan(props)
	must(h, err)
	// AlarmTopic is reported once, at the field where the caller wrote it.
	own := value(props)
	var f faults
	f.under("Subscriptions", plan.subscriptions.taken(h))
	f.under("Audit", plan.audit.taken(h))
	if slices.Contains(plan.forward, defender.AuditNotifications) {
		f.auditTopic(h, "Audit.Topic", plan.audit.Topic)
	}
	f.under("Detect", value(own.Detect).taken(h))
	f.under("Rules", alarmTopicFault(h, value(own.Rules).AlarmTopic))
	f.under("Forwarder", alarmTopicFault(h, value(own.Forwarder).AlarmTopic))
	f.under("Correlate", value(own.Correlate).taken(h))
	f.under("Notify", value(own.Notify).topicsElsewhere(h))
	f.under("Dashboard", value(own.Dashboard).taken(h))
	f.alarmTopic(h, "AlarmTopic", own.AlarmTopic)
	must(h, f.err())

	h.sources = plan.forward
	h.subscriptions = NewProductSubscriptions(h, new("Subscriptions"), &plan.subscriptions)
	h.audit = NewAudit(h, new("Audit"), &plan.audit)
	if len(plan.forward) > 0 {
		h.forward(plan)
	}
	h.orderAudit()
	if plan.detect.Native != nil && plan.detect.Native.Topic == nil {
		plan.detect.EncryptionKey = orKey(plan.detect.EncryptionKey, h.audit.Key())
	}
	h.detect = NewDetect(h, new("Detect"), &plan.detect)
	if plan.correlate != nil {
		plan.correlate.Forwarder = h.forwarder
		h.correlate = NewCorrelate(h, new("Correlate"), plan.correlate)
	}
	if plan.notify != nil {
		h.notify = NewNotify(h, new("Notify"), plan.notify)
	}
	if plan.dashboard != nil {
		h.show(*plan.dashboard)
	}
	return h
}

// show creates the dashboard of all parts.
func (h *hub) show(p DashboardProps) {
	p.Rules, p.Forwarder, p.Sources, p.Detect, p.Correlate, p.Notify = h.rules, h.forwarder, h.sources, h.detect, h.correlate, h.notify
	h.dashboard = NewDashboard(h, new("Dashboard"), &p)
	if on := h.subscriptions.SecurityHub(); on != nil {
		for _, insight := range h.dashboard.Insights() {
			insight.AddResourceDependency(on, nil)
		}
	}
}

// forward creates the forwarder and connects the sources to it.
func (h *hub) forward(plan *hubPlan) {
	if slices.Contains(plan.forward, defender.AuditNotifications) {
		plan.forwarder.AuditTopic = h.audit.Topic()
	}
	h.forwarder = NewForwarder(h, new("Forwarder"), &plan.forwarder)
	if len(plan.forwarder.Detects) > 0 {
		plan.detect.Forwarder = h.forwarder
	}
	if len(plan.rules.Sources) > 0 {
		plan.rules.Queue = h.forwarder.Queue()
		plan.rules.ErrorQueue = h.forwarder.ErrorQueue()
		h.rules = NewRules(h, new("Rules"), &plan.rules)
	}
}

// orderAudit starts the audit of a deployment after the subscriptions to its findings exist.
// Otherwise the findings of a fast audit would be lost.
func (h *hub) orderAudit() {
	start := h.audit.Start()
	if start == nil {
		return
	}
	if subscription := h.subscriptions.Audit(); subscription != nil {
		start.Node().AddDependency(subscription)
	}
	if h.forwarder != nil && h.forwarder.AuditSubscription() != nil {
		start.Node().AddDependency(h.forwarder.AuditSubscription())
	}
}

// hubPlan is a completed copy of the props of each part.
type hubPlan struct {
	subscriptions ProductSubscriptionsProps
	audit         AuditProps
	detect        DetectProps
	rules         RulesProps
	forwarder     ForwarderProps
	correlate     *CorrelateProps // nil for none
	notify        *NotifyProps    // nil for none
	dashboard     *DashboardProps
	forward       []defender.Source
}

func newHubPlan(props *DefenderHubProps) (*hubPlan, error) {
	p := value(props)
	plan := &hubPlan{
		subscriptions: value(p.Subscriptions), audit: value(p.Audit), detect: value(p.Detect),
		rules: value(p.Rules), forwarder: value(p.Forwarder), correlate: copied(p.Correlate), notify: copied(p.Notify), dashboard: p.Dashboard,
	}
	var f faults
	f.key("EncryptionKey", p.EncryptionKey)
	f.under("Function", value(p.Function).validate())
	f.topic("AlarmTopic", p.AlarmTopic)
	f.under("Subscriptions", plan.subscriptions.validate())
	f.under("Audit", plan.audit.validate())
	f.under("Detect", plan.detect.validate())
	f.under("Rules", plan.rules.validate())
	f.under("Forwarder", plan.forwarder.validate())
	f.under("Correlate", value(plan.correlate).validate())
	f.under("Notify", value(plan.notify).validate())
	f.under("Dashboard", value(p.Dashboard).validate())
	f.under("", plan.validateConnected())

	if plan.detect.Native == nil {
		plan.subscriptions.Detect = Off
	}
	if len(p.Forward) == 0 && !p.NoForwarder && plan.subscriptions.Audit == Off && !plan.notifiesOfAudits() {
		f.coded(CodeLostAudits, "Subscriptions.Audit", plan.subscriptions.Audit.String(), lostAudits,
			defender.Alternative{Field: "Audit.Topic"}, defender.Alternative{Field: "Forward"}, defender.Alternative{Field: "NoForwarder", Value: "true"})
	}
	if p.NoForwarder {
		if len(p.Forward) > 0 {
			f.coded(CodeNothingForwarded, "Forward", fmt.Sprint(p.Forward), "nothing here: NoForwarder is set as well, leave out one of them",
				defender.Alternative{Field: "NoForwarder", Value: "false"})
		}
		if plan.correlate != nil {
			f.coded(CodeNoForwarder, "Correlate", "set", "a forwarder, which imports the composite findings: leave out NoForwarder",
				defender.Alternative{Field: "NoForwarder", Value: "false"}, defender.Alternative{Field: "Correlate", Value: "nil"})
		}
	} else {
		plan.forward = plan.sources(p.Forward)
	}
	f.under("", plan.validateForward())
	plan.forwarder.withoutEvents = !slices.Contains(plan.forward, defender.DeviceEvents)
	if plan.detect.SelfManaged != nil && !plan.forwarder.withoutEvents {
		f.under("", validateDistinct("Detect.SelfManaged.ReportTopic", value(plan.detect.SelfManaged).ReportTopic, "Rules.EventTopic", or(plan.rules.EventTopic, iotrule.DefaultEventTopic)))
	}
	if slices.Contains(plan.forward, defender.DetectNotifications) {
		_, err := plan.detect.severities()
		f.under("Detect", err)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	plan.complete(p)
	if len(plan.forward) > 0 {
		if err := defender.Under("Forwarder", plan.forwarder.validateEnvironment()); err != nil {
			return nil, err
		}
	}
	return plan, plan.compile()
}

// validateConnected reports props that the hub itself sets.
func (plan *hubPlan) validateConnected() error {
	var f faults
	shown := value(plan.dashboard)
	f.connected("Rules.Sources", plan.rules.Sources, "Forward chooses the sources")
	f.connected("Rules.Queue", plan.rules.Queue, "DefenderHub connects the rules to the forwarder's queue; use NewRules for another queue")
	f.connected("Rules.ErrorQueue", plan.rules.ErrorQueue, "DefenderHub connects the rules to the forwarder's queue; use NewRules for another queue")
	f.connected("Rules.EncryptionKey", plan.rules.EncryptionKey, "set EncryptionKey of DefenderHubProps or of Forwarder: the queues are the forwarder's")
	f.connected("Detect.Forwarder", plan.detect.Forwarder, "DefenderHub connects its own; use NewDetect for another")
	f.connected("Forwarder.Detects", plan.forwarder.Detects, "set Detect")
	f.connected("Forwarder.Correlate", plan.forwarder.Correlate, "set Correlate")
	f.connected("Notify.Correlate", value(plan.notify).Correlate, "set Correlate")
	f.connected("Correlate.Forwarder", value(plan.correlate).Forwarder, "DefenderHub connects its own; use NewCorrelate for another")
	f.connected("Forwarder.AuditTopic", plan.forwarder.AuditTopic, "set Audit.Topic")
	f.connected("Forwarder.DetectTopic", plan.forwarder.DetectTopic, "set Detect.Native.Topic")
	f.connected("Dashboard.Rules", shown.Rules, "DefenderHub shows its own; use NewDashboard for another")
	f.connected("Dashboard.Forwarder", shown.Forwarder, "DefenderHub shows its own; use NewDashboard for another")
	f.connected("Dashboard.Sources", shown.Sources, "Forward chooses the sources")
	f.connected("Dashboard.Detect", shown.Detect, "DefenderHub shows its own; use NewDashboard for another")
	f.connected("Dashboard.Correlate", shown.Correlate, "DefenderHub shows its own; use NewDashboard for another")
	f.connected("Dashboard.Notify", shown.Notify, "DefenderHub shows its own; use NewDashboard for another")
	f.connected("Forwarder.EventTopic", plan.forwarder.EventTopic, "set Rules.EventTopic")
	return f.err()
}

// sources returns the caller's sources, or the default.
func (plan *hubPlan) sources(named []defender.Source) []defender.Source {
	if len(named) > 0 {
		return slices.Clone(named)
	}
	forward := iotrule.Sources()
	if plan.subscriptions.Audit == Off && plan.notifiesOfAudits() {
		forward = append(forward, defender.AuditNotifications)
	}
	if plan.subscriptions.Detect == Off && plan.detect.Native != nil {
		forward = append(forward, defender.DetectNotifications)
	}
	if plan.detect.SelfManaged != nil {
		forward = append(forward, defender.BehaviorTransitions)
	}
	return forward
}

// lostAudits explains what to do if nothing would import the findings of audits.
const lostAudits = "Create or Existing, or Audit.Topic set to the topic of the existing audit configuration: otherwise nothing imports the findings of audits. " +
	"If you want that, name the other sources in Forward, or set NoForwarder"

// notifiesOfAudits reports whether the app knows the topic of audit results.
func (plan *hubPlan) notifiesOfAudits() bool {
	return plan.audit.Configuration == Create || plan.audit.Topic != nil
}

// validateForward reports sources whose findings would arrive twice or not at all.
func (plan *hubPlan) validateForward() error {
	var f faults
	f.sources("Forward", plan.forward)
	for i, s := range plan.forward {
		field, subscription, subscribed := "Forward"+index(i), Off, ""
		switch s {
		case defender.AuditNotifications:
			subscription, subscribed = plan.subscriptions.Audit, "Subscriptions.Audit"
			if !plan.notifiesOfAudits() {
				f.coded(CodeNoAuditTopic, field, s.String(), "Audit.Topic as well: the topic to which the existing audit configuration sends its results",
					defender.Alternative{Field: "Audit.Topic"})
			}
		case defender.DetectNotifications:
			subscription, subscribed = plan.subscriptions.Detect, "Subscriptions.Detect"
			if plan.detect.Native == nil {
				f.coded(CodeNoEngine, field, s.String(), "another source, or set Detect.Native: only it sends these notifications", defender.Alternative{Field: "Detect.Native"})
			}
		case defender.BehaviorTransitions:
			if plan.detect.SelfManaged == nil {
				f.coded(CodeNoEngine, field, s.String(), "another source, or set Detect.SelfManaged: only it sends these alarms", defender.Alternative{Field: "Detect.SelfManaged"})
			}
		case defender.CorrelatedFindings:
			f.add(field, s.String(), "other sources only: Correlate adds this one")
		}
		if subscription != Off {
			f.coded(CodeSentAlready, field, s.String(), "no source that Device Defender's own integration sends already: leave it out, or set the product's subscription to Off",
				defender.Alternative{Field: subscribed, Value: "Off"})
		}
	}
	if plan.detect.SelfManaged != nil && !slices.Contains(plan.forward, defender.BehaviorTransitions) {
		if len(plan.forward) == 0 {
			f.coded(CodeNoTransitions, "Forward", nil, "a forwarder, which imports the alarms of Detect.SelfManaged: leave out NoForwarder",
				defender.Alternative{Field: "NoForwarder", Value: "false"}, defender.Alternative{Field: "Detect.SelfManaged", Value: "nil"})
		} else {
			f.coded(CodeNoTransitions, "Forward", fmt.Sprint(plan.forward), "defender.BehaviorTransitions as well: without it the alarms of Detect.SelfManaged are lost",
				defender.Alternative{Field: "Detect.SelfManaged", Value: "nil"})
		}
	}
	return f.err()
}

// complete sets the props of parts that depend on other parts.
func (plan *hubPlan) complete(p DefenderHubProps) {
	key := p.EncryptionKey
	plan.audit.EncryptionKey = orKey(plan.audit.EncryptionKey, key)
	plan.detect.EncryptionKey = orKey(plan.detect.EncryptionKey, key)
	plan.forwarder.EncryptionKey = orKey(plan.forwarder.EncryptionKey, key)
	plan.rules.EncryptionKey = plan.forwarder.EncryptionKey
	plan.rules.AlarmTopic = orTopic(plan.rules.AlarmTopic, p.AlarmTopic)
	if plan.audit.Function == nil && p.Function != nil {
		function := *p.Function
		function.LogLevel = 0 // AuditProps rejects it
		plan.audit.Function = &function
	}
	plan.forwarder.Function = orProps(plan.forwarder.Function, p.Function)
	plan.forwarder.AlarmTopic = orTopic(plan.forwarder.AlarmTopic, p.AlarmTopic)
	if plan.detect.SelfManaged != nil {
		s := *plan.detect.SelfManaged
		s.Function, s.AlarmTopic = orProps(s.Function, p.Function), orTopic(s.AlarmTopic, p.AlarmTopic)
		plan.detect.SelfManaged = &s
	}
	if slices.Contains(plan.forward, defender.DetectNotifications) || slices.Contains(plan.forward, defender.BehaviorTransitions) {
		plan.forwarder.Detects = []*DetectProps{&plan.detect}
	}
	if c := plan.correlate; c != nil {
		c.EncryptionKey, c.Function, c.AlarmTopic = orKey(c.EncryptionKey, key), orProps(c.Function, p.Function), orTopic(c.AlarmTopic, p.AlarmTopic)
		plan.forwarder.Correlate = c
	}
	if n := plan.notify; n != nil {
		n.EncryptionKey, n.Function, n.AlarmTopic = orKey(n.EncryptionKey, key), orProps(n.Function, p.Function), orTopic(n.AlarmTopic, p.AlarmTopic)
		n.Correlate = plan.correlate
	}
	plan.forwarder.DetailedMetrics = plan.forwarder.DetailedMetrics || p.Dashboard != nil
	if native := plan.detect.Native; native != nil && native.Verification != nil {
		n, v := *native, *native.Verification
		v.EncryptionKey, v.Function, v.AlarmTopic = orKey(v.EncryptionKey, key), orProps(v.Function, p.Function), orTopic(v.AlarmTopic, p.AlarmTopic)
		n.Verification = &v
		plan.detect.Native = &n
	}
	plan.forwarder.EventTopic = plan.rules.EventTopic
	plan.rules.Sources = slices.DeleteFunc(slices.Clone(plan.forward), func(s defender.Source) bool { return !iotrule.Sends(s) })
}

// compile builds the functions that the plan needs. It first builds all functions of one
// architecture with one go command, which is faster.
func (plan *hubPlan) compile() error {
	missing := map[Architecture][]string{}
	verification := value(plan.detect.Native).Verification
	for _, c := range []struct {
		needed bool
		arch   Architecture
		name   string
	}{
		{plan.forwarder.compiles() && len(plan.forward) > 0, value(plan.forwarder.Function).Architecture, forwarderFunction},
		{plan.audit.compiles(), value(plan.audit.Function).Architecture, auditResourceFunction},
		{plan.detect.compiles(), value(value(plan.detect.SelfManaged).Function).Architecture, evaluatorFunction},
		{verification != nil && verification.compiles(), value(value(verification).Function).Architecture, verificationFunction},
		{plan.correlate.compiles(), value(value(plan.correlate).Function).Architecture, correlatorFunction},
		{plan.notify.compiles(), value(value(plan.notify).Function).Architecture, notifierFunction},
	} {
		if c.needed {
			missing[c.arch] = append(missing[c.arch], c.name)
		}
	}
	for arch, names := range missing {
		compileAll(arch, names...)
	}
	var forwarder, correlator, notifier, verifier error
	if verification != nil {
		verifier = verification.compile()
	}
	if len(plan.forward) > 0 {
		forwarder = plan.forwarder.compile()
	}
	if plan.correlate != nil {
		correlator = plan.correlate.compile()
	}
	if plan.notify != nil {
		notifier = plan.notify.compile()
	}
	return errors.Join(
		defender.Under("Forwarder", forwarder),
		defender.Under("Audit", plan.audit.compile()),
		defender.Under("Detect", plan.detect.compile()),
		defender.Under("Detect.Native.Verification", verifier),
		defender.Under("Correlate", correlator),
		defender.Under("Notify", notifier))
}
