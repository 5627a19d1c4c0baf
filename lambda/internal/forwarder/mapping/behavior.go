package mapping

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// transition is the message of package transition. It is decoded here into what an alert
// of Detect is decoded into: the evaluator's own types bring its sketches along.
type transition struct {
	Thing      string    `json:"thing"`
	ClientID   string    `json:"clientId"`
	Registered *bool     `json:"registered"`
	Violation  violation `json:"transition"`
}

// future is how far a transition's time may be ahead of the queue's: lifecycle events,
// from which some times come, are good to 2 minutes.
// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
const future = 5 * time.Minute

// removed says in a description why a finding is over that nobody cleared.
const removed = " The behavior was removed or is no longer judged: whether the device conforms is not known."

// Removed is the finding of a behavior that is no longer judged.
func Removed(f asff.Finding) asff.Finding {
	f.RecordState = asff.Archived
	return f.Noted(removed)
}

// Transition makes the signal of a transition of the self-managed engine. The finding
// looks like one of Detect, but for what would name a security profile of the account:
// there is none, so that GeneratorId has the profile's name alone and SourceUrl leads to
// the thing.
//
// An alarm of a behavior that is not live ends the finding, and comes after what was said
// at the same time while it was live.
func (m Mapper) Transition(message []byte, o Origin) (signal.Signal, error) {
	const source = defender.BehaviorTransitions
	var t transition
	if err := json.Unmarshal(message, &t); err != nil {
		return signal.Signal{}, fmt.Errorf("transition is not the JSON that the evaluator sends: %w", err)
	}
	v := t.Violation
	if t.ClientID == "" || v.EventTime == 0 {
		return signal.Signal{}, errors.New("transition lacks clientId or violationEventTime")
	}
	v.ThingName = t.Thing
	if t.Thing == "" {
		v.ThingName = t.ClientID
	}
	state, err := v.state()
	if err != nil {
		return signal.Signal{}, err
	}
	p := m.here()
	normal := v.Behavior.normal("the fleet's statistical baseline")
	f := m.finding(asff.FindingID(source, m.Region, v.Profile, v.Behavior.Name, t.ClientID), ruleGenerator(source)+"/"+v.Profile)
	f.RecordState = state
	own, _ := defender.ParseSeverity(v.Behavior.Severity) // an unknown one counts as none
	f.FindingProviderFields = unusual(m.behaviorSeverity(v.Profile, v.Behavior.Name, own))
	v.tell(&f, t.who(v.ThingName), normal)
	f.Remediation = remedy(behaviorRemedy(v.Behavior.Metric), detectURL)
	f.ProductFields = v.fields()
	if t.ClientID != v.ThingName {
		f.ProductFields["ClientId"] = t.ClientID
	}
	thing := t.resource(p, v.ThingName)
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
	// The queue's time bounds what is shown. As an order it would let a repetition, which is
	// sent later, come after what it came before.
	order = s.Order
	s = s.NotAfter(o.Sent)
	s.Order = order
	s.Profile, s.Behavior = v.Profile, v.Behavior.Name
	return s, nil
}

// who is the device as a title names it.
func (t transition) who(name string) string {
	switch {
	case t.Registered == nil:
		return "Thing " + name
	case *t.Registered:
		return "Registered thing " + name
	}
	return "Unregistered thing " + name
}

// resource is that of AWS's own findings for a thing that is registered. How they show
// one that is not, AWS does not document: it is shown as a client.
func (t transition) resource(p place, name string) asff.Resource {
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

// behaviorSeverity is that of a behavior's findings. A live behavior's is the one that was
// deployed last: a transition that is still on its way may have an older one.
func (m Mapper) behaviorSeverity(profile, behavior string, own defender.Severity) defender.Severity {
	if m.Live.Has(profile, behavior) {
		own = m.Live.Severity(profile, behavior)
	}
	return m.Severities.Behaviors[behavior].Or(own).Or(m.severity(defender.BehaviorTransitions))
}

func behaviorRemedy(metric string) string {
	switch metric {
	case contract.MinutesSinceReport:
		return "Find out why the device's agent is silent: whether it still runs, may publish, and was not stopped by somebody. If the device is out of service, delete its certificate and its thing: the finding then ends within a day."
	case contract.UnreadableReport:
		return "Compare the device's report with the documented format. Reports that were fine before and cannot be read now can mean tampered firmware."
	}
	return violationRemedy
}
