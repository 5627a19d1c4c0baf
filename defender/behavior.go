package defender

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/defenderhub/defenderhub/internal/iotapi"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
)

const nameRule = "1 to 128 of A-Z a-z 0-9 : _ -"

var nameForm = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)

func validName(s string) bool { return nameForm.MatchString(s) }

// Dimension limits a behavior to messages on some topics.
// https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-iot-dimension.html
type Dimension struct {
	// TopicFilters are 1 to 5 MQTT topic filters, each of at most 256 bytes and 7 slashes. They may
	// contain the wildcards + and # and ${iot:ClientId}.
	TopicFilters []string
	// NotIn inverts the dimension: messages on all other topics count.
	NotIn bool
}

func (d *Dimension) validate(m iotapi.MetricInfo) error {
	if d == nil {
		return nil
	}
	var faults []error
	if m.Name != "" && !m.Dimensional {
		faults = append(faults, invalid("", m.Name, "no dimension for this metric: AWS allows one for aws:message-byte-size, aws:num-messages-sent, aws:num-messages-received, aws:num-authorization-failures and aws:source-ip-address"))
	}
	if n := len(d.TopicFilters); n < 1 || n > 5 {
		faults = append(faults, invalid("TopicFilters", n, "1 to 5 topic filters"))
	}
	for i, f := range d.TopicFilters {
		if want := topicfilter.Fault(f); want != "" {
			faults = append(faults, invalid(fmt.Sprintf("TopicFilters[%d]", i), orMissing(f), "%s", want))
		}
	}
	return errors.Join(append(faults, Under("TopicFilters", eachOnce(d.TopicFilters)))...)
}

// Behavior describes normal behavior of a device. Each datapoint that violates it counts toward
// an alarm.
// https://docs.aws.amazon.com/iot/latest/apireference/API_Behavior.html
// https://docs.aws.amazon.com/iot/latest/apireference/API_BehaviorCriteria.html
type Behavior struct {
	// Name is 1 to 128 of A-Z a-z 0-9 : _ - and unique in its profile.
	Name string
	// Criteria is the metric and its normal values.
	Criteria Criteria
	// ToAlarm and ToClear are how many consecutive datapoints raise and clear the alarm, 1 to 10.
	// Default: 0, which means 1.
	ToAlarm, ToClear int
	// Dimension limits the behavior to some topics. Only the metrics of messages, authorization
	// failures and source addresses allow one.
	// Default: nil, all topics.
	Dimension *Dimension
	// SuppressAlerts stops SNS alerts about violations. AWS still records the violations. The
	// self-managed engine sends no SNS alerts.
	SuppressAlerts bool
	// Severity is the severity of the findings that defenderhub imports. It has no effect on
	// findings of Device Defender's own integration, which are MEDIUM in AWS's sample.
	// Default: MEDIUM.
	Severity Severity
}

// DatapointsToAlarm returns ToAlarm with its default.
func (b Behavior) DatapointsToAlarm() int { return max(b.ToAlarm, 1) }

// DatapointsToClear returns ToClear with its default.
func (b Behavior) DatapointsToClear() int { return max(b.ToClear, 1) }

// Validate reports every fault of the behavior.
func (b Behavior) Validate() error {
	var faults []error
	if !validName(b.Name) {
		faults = append(faults, invalid("Name", orMissing(b.Name), nameRule))
	}
	faults = append(faults, Under("Criteria", b.Criteria.Validate()))
	for _, n := range []struct {
		field string
		value int
	}{{"ToAlarm", b.ToAlarm}, {"ToClear", b.ToClear}} {
		if n.value < 0 || n.value > 10 {
			faults = append(faults, invalid(n.field, n.value, "1 to 10 datapoints, or 0 for the default of 1"))
		}
	}
	if b.Severity < SeverityDefault || b.Severity > Critical {
		faults = append(faults, invalid("Severity", int(b.Severity), "SeverityDefault, Informational, Low, Medium, High or Critical"))
	}
	return errors.Join(append(faults, Under("Dimension", b.Dimension.validate(b.Criteria.metric)))...)
}

// validateBehaviors reports every fault of a profile's behaviors. A profile has at most 100
// behaviors with distinct names, and their values have at most 1000 set elements in total.
// https://docs.aws.amazon.com/general/latest/gr/iot_device_defender.html
func validateBehaviors(behaviors []Behavior) error {
	var faults []error
	if n := len(behaviors); n > 100 {
		faults = append(faults, invalid("", fmt.Sprintf("%d behaviors", n), "at most 100 in a security profile: split them over several"))
	}
	elements, seen, types := 0, map[string]bool{}, map[string]string{}
	for i, b := range behaviors {
		at := fmt.Sprintf("[%d]", i)
		faults = append(faults, Under(at, b.Validate()))
		if b.Name != "" && seen[b.Name] {
			faults = append(faults, invalid(at+".Name", b.Name, "a name that no other behavior of the profile has"))
		}
		seen[b.Name] = true
		elements += b.Criteria.value.Elements()
		m := b.Criteria.metric
		if t := m.CustomMetricType(); t != "" {
			if other, ok := types[m.Name]; ok && other != t {
				faults = append(faults, invalid(at+".Criteria", fmt.Sprintf("custom metric %s as %s", m.Name, t), "one type for each custom metric: another behavior has it as %s", other))
			}
			types[m.Name] = t
		}
	}
	if elements > 1000 {
		faults = append(faults, invalid("", fmt.Sprintf("%d elements of sets", elements), "at most 1000 in a security profile: split the behaviors over several"))
	}
	return errors.Join(faults...)
}

// DemoBehaviors returns the behavior of the walk-through: a healthy device sends messages of less
// than 8 bytes. Most real devices violate it. One datapoint raises the alarm, and one clears it.
func DemoBehaviors() []Behavior {
	return []Behavior{{Name: "small-messages", Criteria: MessageByteSize.LessThan(8), ToAlarm: 1, ToClear: 1}}
}

// StarterBehaviors returns behaviors that suit most fleets: in five minutes fewer than 5
// disconnects, fewer than 5 authorization failures and less than 100 MB sent (2.7 Mbit/s), and no
// telnet port. The last two need device reports.
//
// Traffic raises the alarm only at the second consecutive datapoint, because the first report of
// AWS's agents after a restart has the counters since boot. See docs/detect.md.
func StarterBehaviors() []Behavior {
	return []Behavior{
		{Name: "few-disconnects", Criteria: Disconnects.LessThan(5, Window5m)},
		{Name: "few-refusals", Criteria: AuthorizationFailures.LessThan(5, Window5m)},
		{Name: "no-telnet", Criteria: ListeningTCPPorts.NotInPorts(23, 2323), Severity: High},
		{Name: "little-traffic", Criteria: AllBytesOut.LessThan(100_000_000, Window5m), ToAlarm: 2},
	}
}
