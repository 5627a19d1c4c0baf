package mapping

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/iotapi"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// violation is an alert of Device Defender Detect, or a transition of the self-managed
// engine. Values and criteria stay open maps: how lists and ML look in a notification is
// not documented.
type violation struct {
	EventTime   millis         `json:"violationEventTime"`
	StartTime   millis         `json:"violationStartTime"`
	ThingName   string         `json:"thingName"`
	Profile     string         `json:"securityProfileName"`
	ID          string         `json:"violationId"`
	EventType   string         `json:"violationEventType"`
	Behavior    behavior       `json:"behavior"`
	MetricValue map[string]any `json:"metricValue"`
	// Sampled is told by the self-managed engine alone.
	Sampled       *iotapi.Partial `json:"sampled"`
	Additional    map[string]any  `json:"violationEventAdditionalInfo"`
	Verification  string          `json:"verificationState"`
	VerifyComment string          `json:"verificationStateDescription"`
	// EndReason and RenamedTo come from the self-managed engine alone.
	EndReason string `json:"endReason"`
	RenamedTo string `json:"renamedTo"`
}

type behavior struct {
	Name            string         `json:"name"`
	Metric          string         `json:"metric"`
	MetricDimension map[string]any `json:"metricDimension"`
	Criteria        criteria       `json:"criteria"`
	SuppressAlerts  bool           `json:"suppressAlerts"`
	Severity        string         `json:"severity"`
}

type criteria struct {
	Operator  string         `json:"comparisonOperator"`
	Value     map[string]any `json:"value"`
	Duration  json.Number    `json:"durationSeconds"`
	ToAlarm   json.Number    `json:"consecutiveDatapointsToAlarm"`
	ToClear   json.Number    `json:"consecutiveDatapointsToClear"`
	Statistic map[string]any `json:"statisticalThreshold"`
	ML        map[string]any `json:"mlDetectionConfig"`
}

// kind is the criteria type in the words of the AWS IoT API.
func (c criteria) kind() string {
	switch {
	case len(c.ML) > 0:
		return "MACHINE_LEARNING"
	case len(c.Statistic) > 0:
		return "STATISTICAL"
	}
	return "STATIC"
}

// normal is what a healthy device does. learned is what says so where no value does.
func (b behavior) normal(learned string) string {
	c := b.Criteria
	text := b.Metric + " " + c.Operator + " "
	switch c.kind() {
	case "MACHINE_LEARNING":
		text = b.Metric + " as " + learned + " expects (confidence " + show(c.ML["confidenceLevel"]) + ")"
	case "STATISTICAL":
		text += show(c.Statistic["statistic"])
	default:
		text += showValue(c.Value)
	}
	if filters := show(b.MetricDimension["topicFilters"]); filters != "" {
		text += " on topics " + show(b.MetricDimension["operator"]) + " " + filters
	}
	return text
}

// endings say in a description why an alarm is over.
var endings = map[string]string{
	"alarm-cleared":     " The alarm was cleared: the device conforms again.",
	"alarm-invalidated": " The alarm was invalidated: there is no recent data of the device.",
}

// retired say in a description why the registry ended an alarm, by the transition's endReason.
var retired = map[string]string{
	"thing-deleted":  " The alarm was ended: the AWS IoT registry no longer has the thing.",
	"thing-renamed":  " The alarm was ended: the device is thing %s now.",
	"left-targets":   " The alarm was ended: the thing is no longer among the targets of the security profile.",
	"not-registered": " The alarm was ended: the client ID is no thing in the AWS IoT registry, and nothing was heard of it for too long.",
}

// ending says why an alarm is over, "" while it is open.
func (v violation) ending() string {
	switch text := retired[v.EndReason]; {
	case v.EventType == "in-alarm":
		return ""
	case v.EndReason == "thing-renamed":
		return fmt.Sprintf(text, v.RenamedTo)
	case text != "":
		return text
	}
	return endings[v.EventType]
}

// Detect makes the signal of an alert.
//
// The finding's identity is profile, behavior and thing, not AWS's violationId: a thing
// that breaks the same behavior again has the same problem again, and what an analyst
// wrote about it is still there. The violation's own id is in the product fields. What
// comes from another account is told from this account's by that account.
func (m Mapper) Detect(message []byte, o Origin) (signal.Signal, error) {
	const source = defender.DetectNotifications
	var v violation
	if err := json.Unmarshal(message, &v); err != nil {
		return signal.Signal{}, fmt.Errorf("alert is not the JSON that Device Defender Detect sends: %w", err)
	}
	state, err := v.state()
	if err != nil {
		return signal.Signal{}, err
	}
	p := m.at(o)
	normal := v.Behavior.normal("its model")
	identity := []string{v.Profile, v.Behavior.Name, v.ThingName}
	if p.account != m.Account {
		identity = append(identity, p.account)
	}
	f := m.finding(asff.FindingID(source, p.region, identity...), p.arn("securityprofile/"+v.Profile))
	f.RecordState = state
	f.FindingProviderFields = unusual(m.Severities.Behaviors[v.Behavior.Name].Or(m.severity(source)))
	v.tell(&f, "Registered thing "+v.ThingName, normal)
	f.Remediation = remedy(violationRemedy, detectURL)
	f.SourceURL = p.profileURL(v.Profile)
	f.ProductFields = v.fields()
	f.Resources = []asff.Resource{p.thing(v.ThingName)}
	at := int64(v.EventTime)
	if at == 0 {
		at = o.Sent.UnixMilli()
	}
	return signal.New(source, f, at, signal.Order{Time: at}, v.ID, normal, v.Verification).NotAfter(o.Sent), nil
}

const violationRemedy = "Find out whether the device is compromised, misbehaves, or the behavior is too strict. Isolate a compromised device and rotate its certificate."

func alarmTitle(who, kind, behavior string) string {
	return fmt.Sprintf("%s is in alarm for %s behavior %s.", who, kind, behavior)
}

// tell writes title and description in the words of AWS's own findings.
func (v violation) tell(f *asff.Finding, who, normal string) {
	kind := v.Behavior.Criteria.kind()
	f.Title = alarmTitle(who, kind, v.Behavior.Name)
	f.Description = fmt.Sprintf("%s violates %s behavior %s of security profile %s. Violation was triggered because the device did not conform to %s.",
		who, kind, v.Behavior.Name, v.Profile, normal)
	if measured := showValue(v.MetricValue); measured != "" {
		f.Description += " Measured: " + measured + "."
	}
	*f = f.Noted(v.ending())
}

// state also reports what no finding can do without.
func (v violation) state() (asff.RecordState, error) {
	if v.ThingName == "" || v.Profile == "" || v.Behavior.Name == "" {
		return "", errors.New("alert lacks thingName, securityProfileName or behavior.name")
	}
	switch v.EventType {
	case "in-alarm":
		return asff.Active, nil
	case "alarm-cleared", "alarm-invalidated":
		return asff.Archived, nil
	}
	return "", fmt.Errorf("violationEventType %q, want in-alarm, alarm-cleared or alarm-invalidated", v.EventType)
}

func (v violation) fields() pairs {
	c := v.Behavior.Criteria
	f := pairs{
		"BehaviorName":         v.Behavior.Name,
		"ThingName":            v.ThingName,
		"SecurityProfileName":  v.Profile,
		"BehaviorCriteriaType": c.kind(),
		"SuppressAlerts":       fmt.Sprint(v.Behavior.SuppressAlerts),
		"ViolationEventType":   v.EventType,
	}
	f.set("EndReason", v.EndReason)
	f.set("MetricName", v.Behavior.Metric)
	f.set("ViolationId", v.ID)
	start := v.StartTime
	if v.EventTime > 0 {
		f.set("ViolationEventTime", v.EventTime.String())
		if start == 0 && v.EventType == "in-alarm" {
			start = v.EventTime
		}
	}
	if start > 0 {
		f.set("ViolationStartTime", start.String())
	}
	f.set("ComparisonOperator", c.Operator)
	f.set("DurationSeconds", c.Duration.String())
	f.set("ConsecutiveDatapointsToAlarm", c.ToAlarm.String())
	f.set("ConsecutiveDatapointsToClear", c.ToClear.String())
	for kind, value := range c.Value { // Count, Cidrs, Ports, Number, Numbers, Strings
		f.set(capital(kind), show(value))
	}
	f.set("Statistic", show(c.Statistic["statistic"]))
	f.set("ConfidenceLevel", show(c.ML["confidenceLevel"]))
	f.set("MeasuredConfidenceLevel", show(v.Additional["confidenceLevel"]))
	f.set("MetricDimension", show(v.Behavior.MetricDimension["dimensionName"]))
	f.set("MetricDimensionTopicFilters", show(v.Behavior.MetricDimension["topicFilters"]))
	f.set("MetricDimensionOperator", show(v.Behavior.MetricDimension["operator"]))
	f.set("MetricValue", showValue(v.MetricValue))
	if v.Sampled != nil {
		f.set("Sampled", v.Sampled.String())
	}
	f.set("VerificationState", v.Verification)
	f.set("VerificationStateDescription", v.VerifyComment)
	return f
}

// showValue is the value in a map with one key that names its kind.
func showValue(value map[string]any) string {
	var parts []string
	for _, kind := range sortedKeys(value) {
		parts = append(parts, show(value[kind]))
	}
	return strings.Join(parts, " ")
}

// show is a JSON value for people: numbers as written, lists with commas.
func show(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = show(e)
		}
		return strings.Join(parts, ",")
	}
	text, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return string(text)
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
