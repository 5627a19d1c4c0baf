package mapping

import (
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// Restate returns an active finding with the severity, types, title and remedy that the deployed
// program writes. It derives them from the finding's source, product fields and resources, and
// keeps everything else. profile and behavior are those of a finding of the self-managed engine.
//
// Restate must not change a finding that was just mapped: a change of a source's findings must be
// made here too.
func (m Mapper) Restate(source defender.Source, profile, behavior string, f asff.Finding) asff.Finding {
	fields, related := f.ProductFields, f.FindingProviderFields.RelatedFindings
	provider := &f.FindingProviderFields
	if fields[signal.SharedField] != "" {
		*provider = unusual(m.severity(source))
		provider.RelatedFindings = related
		f.Title, f.Remediation = m.sharedTexts(source, fields)
		return f.Fit()
	}
	title := ""
	switch source {
	case defender.RejectedReports:
		title, f.Remediation = rejectedTitle(fields["ThingName"], fields["ErrorCode"]), rejectedRemedy()
		*provider = unusual(m.severity(source))
	case defender.SecurityDisconnects:
		reason := fields["DisconnectReason"]
		title, f.Remediation = disconnectTitle(connected(fields), reason), disconnectRemedy(reason)
		*provider = unusual(m.disconnectSeverity(reason))
	case defender.RefusedConnections:
		title, f.Remediation = refusedTitle(connected(fields), fields["ConnectFailureReason"]), refusedRemedy()
		*provider = unusual(m.severity(source))
	case defender.DeviceEvents:
		who, _ := sender(iotrule.Envelope{Thing: fields["ThingName"], ClientID: fields["ClientId"], Principal: fields["Principal"], Topic: fields["Topic"]})
		title, f.Remediation = eventTitle(who, fields["EventType"]), eventRemedy()
		*provider = m.eventFields(fields["EventType"], provider.Severity.Original)
	case defender.AuditNotifications:
		check := fields["CheckName"]
		switch fields["ReportType"] {
		case "CheckSummary":
			title = summaryTitle(check, fields["CheckRunStatus"], fields["NonComopliantResourcesCount"])
		default:
			title = auditTitle(check, fields["ReasonForNonComplianceCode"])
		}
		f.Remediation = auditRemedy(check)
		*provider = m.auditFields(check, provider.Severity.Original)
	case defender.DetectNotifications:
		title = alarmTitle("Registered thing "+fields["ThingName"], fields["BehaviorCriteriaType"], fields["BehaviorName"])
		f.Remediation = remedy(violationRemedy, detectURL)
		*provider = unusual(m.Severities.Behaviors[fields["BehaviorName"]].Or(m.severity(source)))
	case defender.BehaviorTransitions:
		title = alarmTitle(shown(f), fields["BehaviorCriteriaType"], fields["BehaviorName"])
		f.Remediation = remedy(behaviorRemedy(fields["MetricName"]), detectURL)
		*provider = unusual(m.behaviorSeverity(profile, behavior, defender.SeverityDefault))
	default:
		return f
	}
	provider.RelatedFindings = related
	f.Title = title
	return f.Fit()
}

// sharedTexts returns the title and remedy of a shared finding.
func (m Mapper) sharedTexts(source defender.Source, fields map[string]string) (string, *asff.Remediation) {
	switch by := fields["PublishedBy"]; {
	case by != "":
		return forgedTitle(by), forgedRemedy()
	case source == defender.RefusedConnections:
		return inventedTitle(fields["Principal"]), inventedRemedy(fields["Principal"])
	}
	return m.otherEventsTitle(iotrule.Envelope{Thing: fields["ThingName"], ClientID: fields["ClientId"], Principal: fields["Principal"]}), otherEventsRemedy()
}

// connected returns who a lifecycle event is about.
func connected(fields map[string]string) string {
	return lifecycleEvent{ThingName: fields["ThingName"], ClientID: fields["ClientId"]}.who()
}

// shown returns the device's name in the title of a finding of the self-managed engine, from its
// resource.
func shown(f asff.Finding) string {
	var registered *bool
	if len(f.Resources) > 0 {
		r := f.Resources[0]
		switch {
		case r.Type == thingType:
			registered = new(true)
		case r.Details != nil && r.Details.Other["IsRegisteredThing"] != "":
			registered = new(false)
		}
	}
	return who(registered, f.ProductFields["ThingName"])
}
