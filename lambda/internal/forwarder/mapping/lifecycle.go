package mapping

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/deviceevent"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/internal/leanjson"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// lifecycleEvent is what AWS IoT publishes about a connection. AWS IoT is the source of all of
// it, except as in [Mapper.notAWS].
// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
type lifecycleEvent struct {
	ClientID             string `json:"clientId"`
	ThingName            string `json:"thingName"`
	Timestamp            millis `json:"timestamp"`
	EventType            string `json:"eventType"`
	SessionIdentifier    string `json:"sessionIdentifier"`
	PrincipalIdentifier  string `json:"principalIdentifier"`
	IPAddress            string `json:"ipAddress"`
	VersionNumber        *int64 `json:"versionNumber"`
	DisconnectReason     string `json:"disconnectReason"`
	ConnectFailureReason string `json:"connectFailureReason"`
}

// disconnectRemedies say what to do, by disconnect reason.
var disconnectRemedies = map[string]string{
	"AUTH_ERROR":         "Check the client's certificate and policies: it tried something that is not allowed, or its credentials expired. If the device is not yours, deactivate the certificate.",
	"FORBIDDEN_ACCESS":   "The client used a topic that its policy does not allow. Check its firmware and its policy. If the device is not yours, deactivate the certificate.",
	"DUPLICATE_CLIENTID": "Compare address and principal of both connections. If they differ, look for cloned credentials, and give each device its own client ID, enforced by its policy. If both are one device's, its network is unstable: lengthen its keep-alive and its reconnect delay.",
}

// duplicateCauses are the two causes of DUPLICATE_CLIENTID, which the event does not distinguish.
const duplicateCauses = " Another connection took its client ID. Either two devices use one client ID, as with cloned credentials, or one device reconnected over an unstable network before AWS IoT noticed that its old connection was gone."

func (m Mapper) disconnect(e iotrule.Envelope) (signal.Signal, error) {
	l, err := decodeLifecycle(defender.SecurityDisconnects, e)
	if err != nil {
		return signal.Signal{}, err
	}
	if l.DisconnectReason == "" {
		return signal.Signal{}, errors.New("disconnect event has no disconnectReason")
	}
	f := m.connection(defender.SecurityDisconnects, e, l, l.DisconnectReason)
	f.Title = disconnectTitle(l.who(), l.DisconnectReason)
	f.Description = "AWS IoT ended the connection of " + l.whoLower() + " with reason " + l.DisconnectReason + "." + l.details() + errorActionNote(defender.SecurityDisconnects, e)
	if l.DisconnectReason == "DUPLICATE_CLIENTID" {
		f.Description += duplicateCauses
	}
	f.FindingProviderFields = unusual(m.disconnectSeverity(l.DisconnectReason))
	f.Remediation = disconnectRemedy(l.DisconnectReason)
	f.ProductFields["DisconnectReason"] = l.DisconnectReason
	f = m.notAWS(f, defender.SecurityDisconnects, e, l.ClientID, l.DisconnectReason)
	s := l.signal(defender.SecurityDisconnects, e, f)
	if by := publisher(e, l.ClientID); by != "" {
		s = m.forged(s, defender.SecurityDisconnects, by, e.Time)
	}
	return s, nil
}

func (m Mapper) refusedConnection(e iotrule.Envelope) (signal.Signal, error) {
	l, err := decodeLifecycle(defender.RefusedConnections, e)
	if err != nil {
		return signal.Signal{}, err
	}
	reason := l.ConnectFailureReason
	if reason == "" {
		reason = "UNKNOWN"
	}
	f := m.connection(defender.RefusedConnections, e, l, reason)
	f.Title = refusedTitle(l.who(), reason)
	f.Description = "AWS IoT refused to let " + l.whoLower() + " connect, or publish to its last-will topic (" + reason + ")." + l.details() + errorActionNote(defender.RefusedConnections, e)
	f.Remediation = refusedRemedy()
	f.ProductFields["ConnectFailureReason"] = reason
	f = m.notAWS(f, defender.RefusedConnections, e, l.ClientID, reason)
	s := l.signal(defender.RefusedConnections, e, f)
	by := publisher(e, l.ClientID)
	if reason != authorizationFailed { // AWS IoT has no other reason: a client may invent them about itself
		by = known(e.ClientID)
	}
	if by != "" {
		return m.forged(s, defender.RefusedConnections, by, e.Time), nil
	}
	s.Bound = &signal.Bound{
		Group: groupOf(defender.RefusedConnections, principalGroup(l)...),
		Ends:  true,
		Over:  func() signal.Signal { return m.inventedClients(e, l) },
	}
	return s, nil
}

// authorizationFailed is the only reason of a refused connection.
// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
const authorizationFailed = "AUTHORIZATION_FAILED"

// principalGroup returns the group that shares a limit of client IDs: a refused client chooses
// its ID. Refusals without a principal share one limit.
func principalGroup(l lifecycleEvent) []string { return []string{"principal", l.PrincipalIdentifier} }

// inventedClients returns the finding that refusals of one certificate over the limit share.
func (m Mapper) inventedClients(e iotrule.Envelope, l lifecycleEvent) signal.Signal {
	const source = defender.RefusedConnections
	principal := l.PrincipalIdentifier
	f := m.shared(source, principalGroup(l))
	f.Title = inventedTitle(principal)
	f.Description = f.Title + " Client IDs without a finding of their own share this one; the last was " + l.ClientID + ". It is archived when no more are refused for the quiet time."
	f.Remediation = inventedRemedy(principal)
	fields := pairs{"ClientId": l.ClientID}
	fields.set("Principal", principal)
	fields.set("SourceIp", l.IPAddress)
	f.ProductFields = fields
	other := pairs{}
	other.set("Principal", principal)
	id := principal
	if id == "" {
		id = "unknown principal"
	}
	f.Resources = []asff.Resource{m.here().client(id, other)}
	return m.over(source, f, e.Time)
}

func inventedTitle(principal string) string {
	who := "Principal " + principal + " was"
	if principal == "" {
		who = "Clients without a principal were" // one finding has all of them
	}
	return fmt.Sprintf("%s refused connections with more than %d client IDs.", who, deviceevent.MaxTypes)
}

func inventedRemedy(principal string) *asff.Remediation {
	if principal == "" {
		return remedy("These connections presented no certificate that AWS IoT accepts. If they are of your devices, check the custom authorizer and the policies. If not, a client tries many client IDs.", policiesURL)
	}
	return remedy("A client with this certificate tries many client IDs. If one device owns the certificate, deactivate it. If many devices share it, as for provisioning, check its policy.", policiesURL)
}

// disconnectSeverity returns the deployment's severity for the reason, else the source's.
func (m Mapper) disconnectSeverity(reason string) defender.Severity {
	return m.Severities.Disconnects[reason].Or(m.severity(defender.SecurityDisconnects))
}

func disconnectTitle(who, reason string) string { return who + " was disconnected: " + reason + "." }

func disconnectRemedy(reason string) *asff.Remediation {
	text := disconnectRemedies[reason]
	if text == "" {
		text = "Check the client's certificate, policies and firmware."
	}
	return remedy(text, lifecycleURL)
}

func refusedTitle(who, reason string) string {
	return who + " was refused a connection: " + reason + "."
}

func refusedRemedy() *asff.Remediation {
	return remedy("If the device is yours, allow iot:Connect for its client ID and iot:Publish for its last-will topic in the policy of its certificate. If it is not, deactivate the certificate.", policiesURL)
}

func decodeLifecycle(source defender.Source, e iotrule.Envelope) (lifecycleEvent, error) {
	var l lifecycleEvent
	if err := leanjson.Unmarshal(e.Payload, &l); err != nil {
		return l, fmt.Errorf("lifecycle event is not the JSON that AWS IoT publishes: %w", err)
	}
	if l.ClientID == "" {
		l.ClientID = topicClient(source, e.Topic)
	}
	if l.ClientID == "" {
		return l, errors.New("lifecycle event has no clientId")
	}
	if known(e.ClientID) != "" {
		l.ThingName = "" // a client may have published it, and name another client's thing
	}
	return l, nil
}

// topicClient returns the client ID at the end of a lifecycle event's topic, "" for other topics.
func topicClient(source defender.Source, topic string) string {
	client, ok := strings.CutPrefix(topic, strings.TrimSuffix(iotrule.Of(source).TopicFilter, "#"))
	if !ok {
		return ""
	}
	return client
}

// connection is the common part of findings about a connection.
func (m Mapper) connection(source defender.Source, e iotrule.Envelope, l lifecycleEvent, reason string) asff.Finding {
	p := m.here()
	f := m.finding(asff.FindingID(source, m.Region, l.ClientID, reason), ruleGenerator(source))
	f.FindingProviderFields = unusual(m.severity(source))
	f.SourceURL = p.deviceURL(l.ThingName)
	fields := pairs{"ClientId": l.ClientID}
	fields.set("ThingName", l.ThingName)
	fields.set("Principal", l.PrincipalIdentifier)
	fields.set("SourceIp", l.IPAddress)
	fields.set("SessionIdentifier", l.SessionIdentifier)
	fields.set("EventType", l.EventType)
	if l.VersionNumber != nil {
		fields.set("VersionNumber", strconv.FormatInt(*l.VersionNumber, 10))
	}
	envelopeFields(fields, e)
	if claim := topicClient(source, e.Topic); claim != "" && claim != l.ClientID {
		fields.set("TopicMismatch", claim)
	}
	f.ProductFields = fields
	if l.ThingName != "" {
		f.Resources = append(f.Resources, p.thing(l.ThingName))
	} else {
		other := pairs{"ClientId": l.ClientID}
		other.set("Principal", l.PrincipalIdentifier)
		f.Resources = append(f.Resources, p.client(l.ClientID, other))
	}
	return f
}

// signal orders by session and version number if the event has them, else by the time at which the
// rules engine saw it: the event's own time is approximate.
func (l lifecycleEvent) signal(source defender.Source, e iotrule.Envelope, f asff.Finding) signal.Signal {
	at, order := e.Time, signal.Order{Time: e.Time}
	own := e.Time
	if l.Timestamp > 0 {
		own = int64(l.Timestamp)
	}
	if l.SessionIdentifier != "" && l.VersionNumber != nil {
		order = signal.Order{Time: own, Session: l.SessionIdentifier, Version: *l.VersionNumber}
	}
	if e.RuleError != "" {
		at = own
	}
	return signal.New(source, f, at, order, l.PrincipalIdentifier, l.IPAddress)
}

func (l lifecycleEvent) who() string {
	if l.ThingName != "" {
		return "Registered thing " + l.ThingName
	}
	return "Client " + l.ClientID
}

func (l lifecycleEvent) whoLower() string {
	if l.ThingName != "" {
		return "registered thing " + l.ThingName + " (client ID " + l.ClientID + ")"
	}
	return "client " + l.ClientID
}

func (l lifecycleEvent) details() string {
	text := ""
	if l.PrincipalIdentifier != "" {
		text += " Principal: " + l.PrincipalIdentifier + "."
	}
	if l.IPAddress != "" {
		text += " Source address: " + l.IPAddress + "."
	}
	return text
}

// envelopeFields are the product fields from a rule's envelope.
func envelopeFields(fields pairs, e iotrule.Envelope) {
	fields.set("Topic", e.Topic)
	fields.set("RuleError", e.RuleError)
}

// errorActionNote says what is missing after a rule's error action.
func errorActionNote(source defender.Source, e iotrule.Envelope) string {
	switch {
	case e.RuleError == "":
		return ""
	case iotrule.Of(source).FromDevice:
		return " The rule's action failed, and its error action delivered this. Principal, source address and time are lost; the time shown is the queue's."
	}
	return " The rule's action failed, and its error action delivered this. The time at which the rule received the event is lost."
}
