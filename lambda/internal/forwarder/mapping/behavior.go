package mapping

import (
	"cmp"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine/transition"
	"github.com/defenderhub/defenderhub/internal/iotapi"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// future is how far a transition's time may be ahead of the queue's. Some of the times are from
// lifecycle events, whose precision is 2 minutes.
// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
const future = 5 * time.Minute

// removed explains in a description why a finding ended although nothing cleared it.
const removed = " The behavior was removed or is no longer judged, so it is not known whether the device conforms."

// Removed returns the ended finding of a behavior that is no longer judged.
func Removed(f asff.Finding) asff.Finding {
	f.RecordState = asff.Archived
	return f.Noted(removed)
}

// Transition returns the signal of a transition of the self-managed engine. The finding looks
// like Detect's, except where that names a security profile of the account, because there is
// none. GeneratorId has only the profile's name, and SourceUrl links to the thing.
//
// An alarm of a behavior that is not live ends the finding, and is ordered after signals of the
// same time from when it was live.
func (m Mapper) Transition(message []byte, o Origin) (signal.Signal, error) {
	const source = defender.BehaviorTransitions
	var t transition.Message
	if err := json.Unmarshal(message, &t); err != nil {
		return signal.Signal{}, err
	}
	v := violationOf(t)
	state, err := v.state()
	if err != nil {
		return signal.Signal{}, err
	}
	p := m.here()
	normal := v.Behavior.normal("the fleet's statistical baseline")
	f := m.finding(asff.FindingID(source, m.Region, v.Profile, v.Behavior.Name, t.ClientID), ruleGenerator(source)+"/"+v.Profile)
	f.RecordState = state
	f.FindingProviderFields = unusual(m.behaviorSeverity(v.Profile, v.Behavior.Name, t.Transition.Behavior.Severity))
	v.describe(&f, who(t.Registered, v.ThingName), normal)
	f.Remediation = remedy(behaviorRemedy(v.Behavior.Metric), detectURL)
	f.ProductFields = v.fields()
	if t.ClientID != v.ThingName {
		f.ProductFields["ClientId"] = t.ClientID
	}
	thing := device(p, t, v.ThingName)
	f.Resources = []asff.Resource{thing}
	f.SourceURL = p.deviceURL("")
	if thing.Type == thingType {
		f.SourceURL = p.deviceURL(v.ThingName)
	}
	order := signal.Order{Time: min(int64(v.EventTime), o.Sent.Add(future).UnixMilli())}
	if state == asff.Active && !m.Live.Has(v.Profile, v.Behavior.Name) {
		f = Removed(f)
		order.Time++
	}
	s := signal.New(source, f, int64(v.EventTime), order, v.ID, normal)
	// The queue's time limits only the displayed time. Used as order, it would put a retry, which
	// is sent later, after newer signals.
	order = s.Order
	s = s.NotAfter(o.Sent)
	s.Order = order
	s.Profile, s.Behavior = v.Profile, v.Behavior.Name
	return s, nil
}

// violationOf returns what a finding shows of a transition.
func violationOf(m transition.Message) violation {
	t := m.Transition
	v := violation{
		EventTime: millis(t.Time), StartTime: millis(t.StartTime), ThingName: cmp.Or(m.Thing, m.ClientID), Profile: t.Profile,
		ID: t.ViolationID, EventType: string(t.Change), EndReason: string(t.EndReason), RenamedTo: t.RenamedTo, Behavior: behaviorOf(t.Behavior),
	}
	_, v.Measured = valueText(t.Value)
	if t.Sampled != nil {
		v.Sampled = t.Sampled.String()
	}
	if t.Additional != nil {
		v.MeasuredConfidence = string(t.Additional.ConfidenceLevel)
	}
	return v
}

func behaviorOf(b defender.Behavior) behavior {
	c := b.Criteria
	field, value := valueText(c.Value())
	shown := behavior{
		Name: b.Name, Metric: c.Metric().Name, Kind: c.Type(), Operator: string(c.Operator()), Value: value, Values: []member{{field, value}},
		Statistic: string(c.Statistic()), Confidence: string(c.Confidence()),
		ToAlarm: strconv.Itoa(b.DatapointsToAlarm()), ToClear: strconv.Itoa(b.DatapointsToClear()), SuppressAlerts: b.SuppressAlerts,
	}
	if w := c.Window(); w != 0 {
		shown.Duration = strconv.Itoa(int(w))
	}
	if d := b.Dimension; d != nil {
		shown.TopicFilters, shown.TopicOperator = strings.Join(d.TopicFilters, ","), "IN"
		if d.NotIn {
			shown.TopicOperator = "NOT_IN"
		}
	}
	return shown
}

// valueText returns the name of a value's product field and its text, as for alarms of Detect; ""
// for no value.
func valueText(v iotapi.Value) (field, text string) {
	switch v.Kind() {
	case iotapi.CountValue:
		text = showNumber(*v.Count)
	case iotapi.CIDRsValue:
		text = strings.Join(v.CIDRs, ",")
	case iotapi.PortsValue:
		text = showList(v.Ports)
	case iotapi.NumberValue:
		text = showNumber(*v.Number)
	case iotapi.NumbersValue:
		text = showList(v.Numbers)
	case iotapi.StringsValue:
		text = strings.Join(v.Strings, ",")
	}
	return capital(v.Kind().String()), text
}

func showList[E any](list []E) string {
	parts := make([]string, len(list))
	for i, e := range list {
		parts[i] = showNumber(e)
	}
	return strings.Join(parts, ",")
}

func showNumber(n any) string {
	text, _ := json.Marshal(n) // the numbers of a behavior are finite
	return string(text)
}

// who returns the device's name for a title.
func who(registered *bool, name string) string {
	switch {
	case registered == nil:
		return "Thing " + name
	case *registered:
		return "Registered thing " + name
	}
	return "Unregistered thing " + name
}

// device returns a registered thing as in AWS's own findings. AWS does not document how
// unregistered devices look there, so they are shown as clients.
func device(p place, t transition.Message, name string) asff.Resource {
	if t.Registered != nil && *t.Registered {
		r := p.thing(name)
		r.Details.Other["IsRegisteredThing"] = "true"
		return r
	}
	other := pairs{"ClientId": t.ClientID}
	if t.Registered != nil {
		other["IsRegisteredThing"] = "false"
	}
	return p.client(name, other)
}

// behaviorSeverity returns the severity of a behavior's findings. For a live behavior it is the
// one deployed last; a transition in flight may have an older one.
func (m Mapper) behaviorSeverity(profile, behavior string, own defender.Severity) defender.Severity {
	if m.Live.Has(profile, behavior) {
		own = m.Live.Severity(profile, behavior)
	}
	return m.Severities.Behaviors[behavior].Or(own).Or(m.severity(defender.BehaviorTransitions))
}

func behaviorRemedy(metric string) string {
	switch metric {
	case contract.MinutesSinceReport:
		return "Find out why the device's agent is silent. Check that it still runs, is allowed to publish, and was not stopped by an attacker. If the device is out of service, delete its certificate and its thing: the finding then ends within a day."
	case contract.UnreadableReport:
		return "Compare the device's report with the documented format. If its earlier reports were readable, the firmware may have been tampered with."
	}
	return violationRemedy
}
