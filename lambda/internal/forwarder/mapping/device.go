package mapping

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/deviceevent"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// deviceEvent identifies the device by what AWS IoT authenticated. The sender chooses the topic
// and the payload.
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
		f.Description = who + " reports the security event " + event.Type + "."
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
		f = f.Noted(" The topic names " + claim + ", but the sender has no client ID that proves it.")
	default:
		fields.set("TopicMismatch", claim)
		f = f.Noted(" The topic names another sender: " + claim + ".")
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
		return s, nil // the deployment's list limits the types
	case len(m.Severities.Events) > 0:
		s.Bound = &signal.Bound{Over: m.overEvents(e, event, s)}
	default:
		s.Bound = &signal.Bound{
			Group: groupOf(source, m.senderGroup(e)...),
			Over:  m.overEvents(e, event, s),
		}
	}
	return s, nil
}

func unidentified(e iotrule.Envelope) bool {
	return e.Thing == "" && known(e.ClientID) == "" && e.Principal == ""
}

// senderGroup returns the group that shares a limit of types. The sender chooses the topic, so
// all senders without another identity share one group.
func (m Mapper) senderGroup(e iotrule.Envelope) []string {
	if unidentified(e) {
		return []string{"topic", ""} // no client ID gives two parts
	}
	_, identity := sender(e)
	return identity
}

// otherEventsTitle returns the title of the finding that a sender's events over the limit share.
func (m Mapper) otherEventsTitle(e iotrule.Envelope) string {
	who, _ := sender(e)
	if unidentified(e) {
		who = "An unidentified sender"
	}
	if len(m.Severities.Events) > 0 {
		return who + " reports event types that the deployment does not list."
	}
	return fmt.Sprintf("%s reports more than %d event types.", who, deviceevent.MaxTypes)
}

func otherEventsRemedy() *asff.Remediation {
	return remedy("Check the device: it may be compromised, or its firmware may invent event types. List the types that you expect in the prop Forwarder.EventTypes.", policiesURL)
}

// overEvents returns [Mapper.otherEvents]. A cleared event does not clear the others, but a finding
// of its own that the type got before the deployment's list, or before there was a limit.
func (m Mapper) overEvents(e iotrule.Envelope, event deviceevent.Event, s signal.Signal) func() signal.Signal {
	if event.State == deviceevent.Cleared {
		end := s
		end.EndsOnly = true
		return func() signal.Signal { return end }
	}
	return func() signal.Signal { return m.otherEvents(e, event) }
}

// otherEvents returns the finding that a sender's events over the limit share.
func (m Mapper) otherEvents(e iotrule.Envelope, event deviceevent.Event) signal.Signal {
	const source = defender.DeviceEvents
	_, identity := sender(e)
	f := m.shared(source, m.senderGroup(e))
	f.Title = m.otherEventsTitle(e)
	f.Description = f.Title + " Event types without a finding of their own share this one; the last was " + event.Type +
		". The device chooses type and severity, so this finding has the severity of the source. It is archived when no such event arrives for the quiet time."
	f.Remediation = otherEventsRemedy()
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

// eventFields uses the severity that the deployment lists for the type, else the device's, else
// the source's.
func (m Mapper) eventFields(kind, named string) asff.FindingProviderFields {
	own := defender.SeverityDefault
	if named != "" {
		own, _ = defender.ParseSeverity(named) // an unknown severity counts as none
	}
	fields := unusual(m.Severities.Events[kind].Or(own).Or(m.severity(defender.DeviceEvents)))
	fields.Severity.Original = named
	return fields
}

func eventTitle(who, kind string) string { return who + " reports " + kind + "." }

func eventRemedy() *asff.Remediation {
	return remedy("Check the device and its report. If the report is right and the device can no longer be trusted, deactivate its certificate.", policiesURL)
}

// sender returns who sent the message, for people and for the finding's ID. It is, in this order:
// the thing whose additional connection it is, the client ID, the principal (if not published by
// MQTT), or the topic.
func sender(e iotrule.Envelope) (who string, identity []string) {
	switch {
	case e.Thing != "":
		return "Device " + e.Thing, []string{e.Thing}
	case known(e.ClientID) != "":
		return "Device " + e.ClientID, []string{e.ClientID}
	case e.Principal != "":
		id := principalID(e.Principal)
		return "Principal " + id, []string{"principal", id}
	}
	return "An unidentified sender on " + e.Topic, []string{"topic", e.Topic}
}

// inSession matches the principal of a role's session. The IDs of roles begin with AROA.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
var inSession = regexp.MustCompile(`^(AROA[0-9A-Za-z]+):(.*)$`)

// principalID returns the role of a role's session: a program has many sessions, one after the
// other. A session with the name of a certificate is that of a device with a role alias
// (unverified), so it is a principal of its own.
func principalID(principal string) string {
	if m := inSession.FindStringSubmatch(principal); m != nil && !certificate.IsID(m[2]) {
		return m[1]
	}
	return principal
}

// known returns "" for IoT SQL's placeholder for messages without an MQTT client.
func known(clientID string) string {
	if clientID == iotrule.NotMQTT {
		return ""
	}
	return clientID
}

// publisher returns the client that forged a message of AWS IoT, or "" if AWS IoT published it.
// Basic Ingest takes a client's message to any rule that its policy allows, whatever the rule's
// FROM, and on any topic.
//
// clientid() is "n/a" for AWS's messages, or perhaps the client's own ID (unverified). A client
// that publishes over HTTPS, or whose ID is "n/a", looks like AWS.
func publisher(e iotrule.Envelope, about string) string {
	if e.ClientID == about {
		return ""
	}
	return known(e.ClientID)
}

// notAWS marks a finding of a message that a client published in the name of AWS IoT, and gives
// it an ID of its own.
func (m Mapper) notAWS(f asff.Finding, source defender.Source, e iotrule.Envelope, identity ...string) asff.Finding {
	by := publisher(e, identity[0])
	if by == "" {
		return f
	}
	f.ID = asff.FindingID(source, m.Region, append(identity, by)...)
	f.ProductFields["PublishedBy"] = by
	return f.Noted(" Client " + by + " published this, which only AWS IoT should do: it may be false.")
}

// groupOf names a group of a source's findings that share a limit.
func groupOf(source defender.Source, parts ...string) string {
	return asff.FindingID(source, "", parts...)
}

// shared returns the finding that a group's signals over the limit share. Its ID is unique,
// because no escaped part of an ID has a #.
func (m Mapper) shared(source defender.Source, group []string) asff.Finding {
	f := m.finding(asff.FindingID(source, m.Region, group...)+"#more", ruleGenerator(source))
	f.FindingProviderFields = unusual(m.severity(source))
	f.SourceURL = m.here().deviceURL("")
	return f
}

// over returns the signal of a shared finding: no event ends it.
func (m Mapper) over(source defender.Source, f asff.Finding, at int64) signal.Signal {
	f.ProductFields[signal.SharedField] = "true"
	s := signal.New(source, f, at, signal.Order{Time: at})
	s.Quiet = true
	return s
}

// forged limits the findings of events that one client publishes in the name of AWS IoT, about
// invented clients and things.
func (m Mapper) forged(s signal.Signal, source defender.Source, by string, at int64) signal.Signal {
	s.Bound = &signal.Bound{Group: groupOf(source, "publisher", by), Ends: true, Over: func() signal.Signal {
		f := m.shared(source, []string{"publisher", by})
		f.Title = forgedTitle(by)
		f.Description = f.Title + " They may be false. Events without a finding of their own share this one. It is archived when no more arrive for the quiet time."
		f.Remediation = forgedRemedy()
		f.ProductFields = map[string]string{"PublishedBy": by}
		f.Resources = []asff.Resource{m.here().client(by, pairs{"ClientId": by})}
		return m.over(source, f, at)
	}}
	return s
}

func forgedTitle(by string) string {
	return fmt.Sprintf("Client %s publishes more than %d different events in the name of AWS IoT.", by, deviceevent.MaxTypes)
}

func forgedRemedy() *asff.Remediation {
	return remedy("A device's policy should not allow $aws/rules/*. Remove it from the client's policy, and check the client: it may be compromised.", policiesURL)
}

// substance returns the content of an event without the device's clock.
func substance(e deviceevent.Event) []string {
	all := append(make([]string, 0, 1+2*len(e.Details)), e.Description)
	for _, key := range e.DetailKeys() {
		all = append(all, key, e.Details[key])
	}
	return all
}
