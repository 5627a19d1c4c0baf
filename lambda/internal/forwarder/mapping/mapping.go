// Package mapping maps the messages of the sources to signals and their findings. Titles, types,
// product fields and resources are those of AWS's own integration, so that filters and insights
// for one work for the other.
//
// A finding's ID identifies the problem and the thing, never a time. docs/findings.md has a table
// of identity, severity, order and end for each source.
package mapping

import (
	"fmt"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// Mapper maps messages to findings for one account and Region.
type Mapper struct {
	// Account, Partition and Region are those into which findings are imported.
	Account, Partition, Region string
	// EventTopic is the topic filter of device events.
	EventTopic string
	// Severities are those that the deployment changes.
	Severities contract.Severities
	// Live are the behaviors that the self-managed engine judges.
	Live contract.LiveBehaviors
	// Rules are the deployed correlation rules.
	Rules correlation.LiveRules
}

// Origin is where a source's message is from. Account and Region differ from the Mapper's if a
// topic of another account or Region feeds the queue.
type Origin struct {
	Account, Region string
	// Sent is when the message was sent, by AWS's clock.
	Sent time.Time
}

// Rule returns the signal of a message that an IoT rule wrote. An error means that retrying is
// useless.
func (m Mapper) Rule(source defender.Source, e iotrule.Envelope, sent time.Time) (signal.Signal, error) {
	if e.Time <= 0 {
		e.Time = sent.UnixMilli()
	}
	s, err := m.rule(source, e)
	return s.NotAfter(sent), err
}

func (m Mapper) rule(source defender.Source, e iotrule.Envelope) (signal.Signal, error) {
	switch source {
	case defender.RejectedReports:
		return m.rejectedReport(e)
	case defender.SecurityDisconnects:
		return m.disconnect(e)
	case defender.RefusedConnections:
		return m.refusedConnection(e)
	case defender.DeviceEvents:
		return m.deviceEvent(e)
	}
	return signal.Signal{}, fmt.Errorf("source %s does not come from a rule", source)
}

// finding returns the fields that all findings have.
func (m Mapper) finding(id, generator string) asff.Finding {
	return asff.Finding{
		ID:           id,
		ProductARN:   asff.DefaultProductARN(m.Partition, m.Region, m.Account),
		GeneratorID:  generator,
		AWSAccountID: m.Account,
		RecordState:  asff.Active,
	}
}

// severity returns the severity of a source's findings.
func (m Mapper) severity(source defender.Source) defender.Severity {
	return m.Severities.Sources[source].Or(source.Severity())
}

// unusualTypes is shared by findings, which never write to it.
var unusualTypes = []string{asff.TypeUnusualBehaviors}

func unusual(severity defender.Severity) asff.FindingProviderFields {
	return asff.FindingProviderFields{Severity: asff.FindingSeverity{Label: severity.String()}, Types: unusualTypes}
}

// ruleGenerator is the GeneratorId of findings whose source is a rule.
func ruleGenerator(source defender.Source) string { return "defenderhub/" + source.String() }

// place is the location of a resource.
type place struct{ partition, account, region string }

func (m Mapper) here() place { return place{m.Partition, m.Account, m.Region} }

func (m Mapper) at(o Origin) place {
	p := m.here()
	if o.Account != "" {
		p.account = o.Account
	}
	if o.Region != "" {
		p.region = o.Region
	}
	return p
}

func (p place) resource(kind, id string, other map[string]string) asff.Resource {
	r := asff.Resource{Type: kind, ID: id, Partition: p.partition, Region: p.region}
	if len(other) > 0 {
		r.Details = &asff.ResourceDetails{Other: other}
	}
	return r
}

// thingType is the ASFF type of a registered thing.
const thingType = "AwsIotRegisteredThing"

// thing returns the resource of a thing, as AWS's own findings show it.
func (p place) thing(name string) asff.Resource {
	return p.resource(thingType, name, map[string]string{
		"SourceUrl": p.thingURL(name),
		"ThingArn":  p.arn("thing/" + name),
	})
}

// client returns the resource of a client that is not known to be a thing. AWS has no ASFF type
// for clients.
func (p place) client(id string, other map[string]string) asff.Resource {
	return p.resource("Other", id, other)
}

func (p place) arn(resource string) string {
	return "arn:" + p.partition + ":iot:" + p.region + ":" + p.account + ":" + resource
}

// pairs are product fields; set leaves out empty values.
type pairs map[string]string

func (p pairs) set(key, value string) {
	if value != "" {
		p[key] = value
	}
}
