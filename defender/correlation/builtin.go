package correlation

import (
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// BuiltIn returns all built-in rules. [Campaign] has its default spread.
func BuiltIn() []Rule {
	return []Rule{
		StolenIdentity(), CompromiseChain(), BlastRadius(), TamperAndSilence(), SilencedAfterAlarm(), Campaign(Spread{}), TwoProducts(),
	}
}

// StolenIdentity finds a device whose client ID or certificate is used by two clients, and that
// connects from an address outside its set. The second stage needs a behavior with the metric
// [defender.SourceIPAddress].
func StolenIdentity() Rule {
	return Rule{
		Name:        "stolen-identity",
		Title:       "Identity of a device may be stolen",
		Description: "Two clients use the device's client ID or certificate, and one connects from an address that is not in the device's set.",
		Remedy:      "Compare the addresses in the related findings. If one is not the device's, set the certificate INACTIVE, which disconnects its clients within minutes. Then issue a new certificate to the device.",
		Severity:    defender.Critical,
		Stages: []Stage{
			{Name: "an identity used twice", Match: []Matcher{
				{Sources: []defender.Source{defender.SecurityDisconnects}, Reasons: []string{"DUPLICATE_CLIENTID"}},
				{Checks: []defender.Check{defender.ConflictingClientIDs, defender.DeviceCertificateShared}},
			}},
			{Name: "an unknown address", Match: []Matcher{{Metrics: []defender.Metric{defender.SourceIPAddress}}}},
		},
	}
}

// CompromiseChain finds a device that is refused, then opens a port or connects to a new
// destination, then sends or receives more than usual: in this order, with the default window.
func CompromiseChain() Rule {
	return Rule{
		Name:        "compromise-chain",
		Title:       "Device behaves like a compromised one",
		Description: "The device was refused, then opened a port or connected to a new destination, then its traffic left the normal range.",
		Remedy:      "Isolate the device. Compare its firmware and its open ports with a healthy device, and rotate its certificate.",
		Severity:    defender.Critical,
		InOrder:     true,
		Stages: []Stage{
			{Name: "refusals", Match: []Matcher{
				{Metrics: []defender.Metric{defender.AuthorizationFailures}},
				{Sources: []defender.Source{defender.RefusedConnections}},
				{Sources: []defender.Source{defender.SecurityDisconnects}, Reasons: []string{"AUTH_ERROR", "FORBIDDEN_ACCESS"}},
			}},
			{Name: "a new port or destination", Match: []Matcher{{Metrics: []defender.Metric{
				defender.ListeningTCPPorts, defender.ListeningUDPPorts, defender.NumListeningTCPPorts, defender.NumListeningUDPPorts,
				defender.DestinationIPAddresses, defender.EstablishedTCPConnections,
			}}}},
			{Name: "traffic", Match: []Matcher{{Metrics: []defender.Metric{
				defender.AllBytesIn, defender.AllBytesOut, defender.AllPacketsIn, defender.AllPacketsOut,
				defender.MessagesSent, defender.MessagesReceived, defender.MessageByteSize,
			}}}},
		},
	}
}

// BlastRadius finds a device in alarm that uses an overly permissive policy or role alias.
func BlastRadius() Rule {
	return Rule{
		Name:        "blast-radius",
		Title:       "Device in alarm has far-reaching permissions",
		Description: "The device's policy or role alias allows more than the device needs, so an attacker on the device can reach other devices or services.",
		Remedy:      "Isolate the device first. Then restrict the policy to the device's own client ID and topics, and the role to the services that it uses.",
		Severity:    defender.Critical,
		Window:      7 * 24 * time.Hour,
		Stages: []Stage{
			{Name: "an alarm", Match: []Matcher{{Sources: []defender.Source{defender.BehaviorTransitions, defender.DetectNotifications}}}},
			{Name: "an overly permissive policy or role alias", Shared: true, Match: []Matcher{
				{Checks: []defender.Check{defender.IoTPolicyOverlyPermissive, defender.RoleAliasOverlyPermissive}},
				{Products: []string{"aws/access-analyzer"}, Severity: defender.Medium},
			}},
		},
	}
}

// silence returns the metrics that detect a device that no longer reports or connects.
func silence() []defender.Metric {
	return []defender.Metric{defender.DisconnectDuration, defender.CustomNumber(contract.MinutesSinceReport)}
}

// TamperAndSilence finds a device that was tampered with, or whose reports cannot be read, and
// that is silent.
func TamperAndSilence() Rule {
	return Rule{
		Name:        "tamper-and-silence",
		Title:       "Device was tampered with and is silent",
		Description: "The device reported tampering, or its reports became unreadable, and it no longer reports or connects.",
		Remedy:      "Inspect the device on site. Until then, set its certificate INACTIVE: its keys may have been read.",
		Severity:    defender.Critical,
		Stages: []Stage{
			{Name: "tampering", Match: []Matcher{
				{Events: []string{"tamper"}},
				{Metrics: []defender.Metric{defender.CustomNumber(contract.UnreadableReport)}},
				{Sources: []defender.Source{defender.RejectedReports}},
			}},
			{Name: "silence", Match: []Matcher{{Metrics: silence()}}},
		},
	}
}

// SilencedAfterAlarm finds a device that goes silent after another alarm: an attacker may have
// stopped its agent.
func SilencedAfterAlarm() Rule {
	return Rule{
		Name:        "silenced-after-alarm",
		Title:       "Device went silent after an alarm",
		Description: "After an alarm the device stopped reporting or stayed disconnected. An attacker may have stopped its agent.",
		Remedy:      "Find out whether the device was taken out of service. If not, treat it as compromised: isolate it, and read the alarms before the silence.",
		Severity:    defender.High,
		InOrder:     true,
		Stages: []Stage{
			{Name: "an alarm", Match: []Matcher{
				{Sources: []defender.Source{defender.BehaviorTransitions, defender.DetectNotifications}, ExceptMetrics: silence()},
				{Sources: []defender.Source{defender.DeviceEvents, defender.SecurityDisconnects}},
			}},
			{Name: "silence", Match: []Matcher{{Metrics: silence()}}},
		},
	}
}

// campaignDevices is the default number of devices for [Campaign].
const campaignDevices = 10

// Campaign finds the same behavior, audit check or device event, of MEDIUM severity or higher, on
// many devices within an hour. The zero Spread means 10 devices.
func Campaign(s Spread) Rule {
	if !s.Enabled() {
		s.Devices = campaignDevices
	}
	return Rule{
		Name:        "campaign",
		Title:       "Many devices have the same finding",
		Description: "The same finding on many devices at once has one cause: an attack, a faulty release, or a change in the cloud.",
		Remedy:      "Look for what the devices share: firmware, group, network, or a deployment shortly before. Stop the rollout, or isolate the group.",
		Severity:    defender.High,
		Window:      time.Hour,
		Spread:      s,
		Stages: []Stage{{Name: "the same finding", Match: []Matcher{{
			Sources:  []defender.Source{defender.BehaviorTransitions, defender.DetectNotifications, defender.AuditNotifications, defender.DeviceEvents},
			Severity: defender.Medium,
		}}}},
	}
}

// TwoProducts finds a device about which two services have findings of MEDIUM severity or higher.
// Values of thing attributes say which resources in other services belong to the device.
func TwoProducts() Rule {
	return Rule{
		Name:             "two-products",
		Title:            "Two services report the same device",
		Description:      "Independent services have findings about the device, or about the resources that belong to it.",
		Remedy:           "Read the related findings of both services. Isolate the device and the resource until you know what happened.",
		Severity:         defender.Critical,
		DistinctProducts: 2,
		Stages:           []Stage{{Name: "a finding", AtLeast: 2, Match: []Matcher{{Severity: defender.Medium}}}},
	}
}
