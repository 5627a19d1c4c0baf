package mapping

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/deviceevent"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// deviceEvent: who the device is comes from what AWS IoT authenticated. The topic and
// everything in the payload are the sender's choice.
func (m Mapper) deviceEvent(e iotrule.Envelope) (signal.Signal, error) {
	const source = defender.DeviceEvents
	event, err := deviceevent.Decode(e.Payload)
	if err != nil {
		return signal.Signal{}, err
	}
	p := m.here()
	who, identity := sender(e)
	f := m.finding(asff.FindingID(source, m.Region, append(identity, event.Type)...), ruleGenerator(source))
	f.FindingProviderFields = m.eventFields(event.Type, event.Severity)
	f.Title = eventTitle(who, event.Type)
	f.Description = event.Description
	if f.Description == "" {
		f.Description = fmt.Sprintf("%s reports the security event %s.", who, event.Type)
	}
	fields := pairs{"EventType": event.Type}
	fields.set("ThingName", e.Thing)
	fields.set("ClientId", known(e.ClientID))
	fields.set("Principal", e.Principal)
	fields.set("SourceIp", e.SourceIP)
	envelopeFields(fields, e)
	if event.Time > 0 {
		fields.set("DeviceTime", strconv.FormatInt(event.Time, 10))
	}
	for key, value := range event.Details {
		fields["Detail/"+key] = value
	}
	switch claim := topicfilter.Claim(m.EventTopic, e.Topic); {
	case claim == "" || claim == e.ClientID || claim == e.Thing:
	case known(e.ClientID) == "":
		f = f.Noted(fmt.Sprintf(" The topic names %s, which nothing proves: the sender has no client id.", claim))
	default:
		fields.set("TopicMismatch", claim)
		f = f.Noted(fmt.Sprintf(" The topic names another sender: %s.", claim))
	}
	f = f.Noted(errorActionNote(source, e))
	f.ProductFields = fields
	f.Remediation = eventRemedy()
	f.SourceURL = p.deviceURL("")
	other := pairs{}
	other.set("ClientId", known(e.ClientID))
	other.set("Principal", e.Principal)
	other.set("SourceIp", e.SourceIP)
	f.Resources = []asff.Resource{p.client(identity[len(identity)-1], other)}
	if event.State == deviceevent.Cleared {
		f.RecordState = asff.Archived
	}
	s := signal.New(source, f, e.Time, signal.Order{Time: e.Time}, substance(event)...)
	set, listed := m.Severities.Events[event.Type]
	s.Inherits = event.State == deviceevent.Cleared && event.Severity == "" && set == defender.SeverityDefault
	switch {
	case listed:
		return s, nil // there are no more than the deployment lists
	case len(m.Severities.Events) > 0:
		s.Bound = &signal.Bound{Over: m.otherEvents(e, event, " reports events of types that the deployment does not list.")}
	default:
		s.Bound = &signal.Bound{
			Group: groupOf(source, m.senderGroup(e)...),
			Over:  m.otherEvents(e, event, fmt.Sprintf(" reports more than %d types of events.", deviceevent.MaxTypes)),
		}
	}
	return s, nil
}

// senderGroup is who shares the limit of types. A topic is the sender's choice: all senders
// that nothing else identifies share one.
func (m Mapper) senderGroup(e iotrule.Envelope) []string {
	if _, identity := sender(e); identity[0] != "topic" {
		return identity
	}
	return []string{"topic"}
}

// otherEvents is the finding that a sender's events share that are not findings of their own;
// nil for an event that says that one is over, which says nothing about the others.
func (m Mapper) otherEvents(e iotrule.Envelope, event deviceevent.Event, what string) *signal.Signal {
	if event.State == deviceevent.Cleared {
		return nil
	}
	const source = defender.DeviceEvents
	who, identity := sender(e)
	if identity[0] == "topic" {
		who = "An unidentified sender"
	}
	f := m.shared(source, m.senderGroup(e))
	f.Title = who + what
	f.Description = f.Title + " Those that have no finding of their own share this one; the last was " + event.Type +
		". The device chooses type and severity, so this one has the severity of the source. It ends when no more such events come for the quiet time."
	f.Remediation = remedy("Look at the device: it may be taken over, or its firmware makes up types. List the types that you expect in the prop Forwarder.EventTypes.", policiesURL)
	fields := pairs{"EventType": event.Type}
	fields.set("ThingName", e.Thing)
	fields.set("ClientId", known(e.ClientID))
	fields.set("Principal", e.Principal)
	fields.set("SourceIp", e.SourceIP)
	f.ProductFields = fields
	other := pairs{}
	other.set("ClientId", known(e.ClientID))
	other.set("Principal", e.Principal)
	f.Resources = []asff.Resource{m.here().client(identity[len(identity)-1], other)}
	return m.over(source, f, e.Time)
}

// eventFields have the severity that the deployment lists for the type, else the one that the
// device named, else that of the source.
func (m Mapper) eventFields(kind, named string) asff.FindingProviderFields {
	own, _ := defender.ParseSeverity(named) // one that is not named counts as none
	fields := unusual(m.Severities.Events[kind].Or(own).Or(m.severity(defender.DeviceEvents)))
	fields.Severity.Original = named
	return fields
}

func eventTitle(who, kind string) string { return who + " reports " + kind + "." }

func eventRemedy() *asff.Remediation {
	return remedy("Look at the device and at what it reports. If the report is right and the device can no longer be trusted, deactivate its certificate.", policiesURL)
}

// sender is who sent the message, for people and for the finding's id: the thing of which it
// is a further connection; the client id; the principal for what was not published by MQTT;
// the topic where none is known.
func sender(e iotrule.Envelope) (who string, identity []string) {
	switch {
	case e.Thing != "":
		return "Device " + e.Thing, []string{e.Thing}
	case known(e.ClientID) != "":
		return "Device " + e.ClientID, []string{e.ClientID}
	case e.Principal != "":
		return "Principal " + e.Principal, []string{"principal", e.Principal}
	}
	return "An unidentified sender on " + e.Topic, []string{"topic", e.Topic}
}

// known is "" for what IoT SQL says where there is no MQTT client.
func known(clientID string) string {
	if clientID == iotrule.NotMQTT {
		return ""
	}
	return clientID
}

// publisher is the client that published what AWS IoT alone should about a client or
// thing; "" where AWS IoT did. Basic Ingest takes a client's message to any rule that its
// policy names, whatever the rule's FROM, and on a topic of the client's choice. clientid()
// is "n/a" for what AWS publishes, or perhaps the client's own (unverified); a client that
// publishes over HTTPS, or whose id is "n/a", is not told from AWS.
func publisher(e iotrule.Envelope, about string) string {
	if e.ClientID == about {
		return ""
	}
	return known(e.ClientID)
}

// notAWS marks a finding of what a client published as if it were AWS IoT, and keeps it
// apart from AWS's own by its id.
func (m Mapper) notAWS(f asff.Finding, source defender.Source, e iotrule.Envelope, identity ...string) asff.Finding {
	by := publisher(e, identity[0])
	if by == "" {
		return f
	}
	f.ID = asff.FindingID(source, m.Region, append(identity, by)...)
	f.ProductFields["PublishedBy"] = by
	return f.Noted(" Client " + by + " published this, as AWS IoT alone should: it may be false.")
}

// groupOf names a group of findings of a source that share a limit.
func groupOf(source defender.Source, parts ...string) string {
	return asff.FindingID(source, "", parts...)
}

// sharedField marks a finding that a group's signals share.
const sharedField = "SharedFinding"

// shared is the frame of the finding that a group's signals share beyond its limit. No part of
// an id has a #, so that it is no other finding's.
func (m Mapper) shared(source defender.Source, group []string) asff.Finding {
	f := m.finding(asff.FindingID(source, m.Region, group...)+"#more", ruleGenerator(source))
	f.FindingProviderFields = unusual(m.severity(source))
	f.SourceURL = m.here().deviceURL("")
	return f
}

// over is the signal of a finding that many share: no event ends it.
func (m Mapper) over(source defender.Source, f asff.Finding, at int64) *signal.Signal {
	f.ProductFields[sharedField] = "true"
	s := signal.New(source, f, at, signal.Order{Time: at})
	s.Quiet = true
	return &s
}

// forged limits the findings of events that one client publishes as if it were AWS IoT, about
// clients and things that it invents.
func (m Mapper) forged(s signal.Signal, source defender.Source, by string, at int64) signal.Signal {
	f := m.shared(source, []string{"publisher", by})
	f.Title = fmt.Sprintf("Client %s publishes more than %d different events as if it were AWS IoT.", by, deviceevent.MaxTypes)
	f.Description = f.Title + " They may be false. Those that have no finding of their own share this one. It ends when no more come for the quiet time."
	f.Remediation = remedy("No policy of a device should allow $aws/rules/*. Remove that from the client's policy, and look at the client: it may be taken over.", policiesURL)
	f.ProductFields = map[string]string{"PublishedBy": by}
	f.Resources = []asff.Resource{m.here().client(by, pairs{"ClientId": by})}
	s.Bound = &signal.Bound{Group: groupOf(source, "publisher", by), Over: m.over(source, f, at)}
	return s
}

// substance of an event: what the device says, without its clock.
func substance(e deviceevent.Event) []string {
	all := []string{e.Description}
	for _, key := range slices.Sorted(maps.Keys(e.Details)) {
		all = append(all, key, e.Details[key])
	}
	return all
}
