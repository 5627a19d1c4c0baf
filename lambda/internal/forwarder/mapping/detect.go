package mapping

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// alert is an alarm notification of Device Defender Detect. Values and criteria stay maps: the
// notification's format for lists and ML is not documented.
type alert struct {
	EventTime millis `json:"violationEventTime"`
	StartTime millis `json:"violationStartTime"`
	ThingName string `json:"thingName"`
	Profile   string `json:"securityProfileName"`
	ID        string `json:"violationId"`
	EventType string `json:"violationEventType"`
	Behavior  struct {
		Name            string         `json:"name"`
		Metric          string         `json:"metric"`
		MetricDimension map[string]any `json:"metricDimension"`
		Criteria        struct {
			Operator  string         `json:"comparisonOperator"`
			Value     map[string]any `json:"value"`
			Duration  json.Number    `json:"durationSeconds"`
			ToAlarm   json.Number    `json:"consecutiveDatapointsToAlarm"`
			ToClear   json.Number    `json:"consecutiveDatapointsToClear"`
			Statistic map[string]any `json:"statisticalThreshold"`
			ML        map[string]any `json:"mlDetectionConfig"`
		} `json:"criteria"`
		SuppressAlerts bool `json:"suppressAlerts"`
	} `json:"behavior"`
	MetricValue   map[string]any `json:"metricValue"`
	Additional    map[string]any `json:"violationEventAdditionalInfo"`
	Verification  string         `json:"verificationState"`
	VerifyComment string         `json:"verificationStateDescription"`
}

// violation returns what a finding shows of the alert.
func (a alert) violation() violation {
	b, c := a.Behavior, a.Behavior.Criteria
	v := violation{
		EventTime: a.EventTime, StartTime: a.StartTime, ThingName: a.ThingName, Profile: a.Profile, ID: a.ID, EventType: a.EventType,
		Measured: showValue(a.MetricValue), MeasuredConfidence: show(a.Additional["confidenceLevel"]),
		Verification: a.Verification, VerifyComment: a.VerifyComment,
		Behavior: behavior{
			Name: b.Name, Metric: b.Metric, Kind: "STATIC", Operator: c.Operator, Value: showValue(c.Value), Values: pairs{},
			Statistic: show(c.Statistic["statistic"]), Confidence: show(c.ML["confidenceLevel"]),
			Duration: c.Duration.String(), ToAlarm: c.ToAlarm.String(), ToClear: c.ToClear.String(),
			Dimension: show(b.MetricDimension["dimensionName"]), TopicFilters: show(b.MetricDimension["topicFilters"]), TopicOperator: show(b.MetricDimension["operator"]),
			SuppressAlerts: b.SuppressAlerts,
		},
	}
	switch {
	case len(c.ML) > 0:
		v.Behavior.Kind = machineLearning
	case len(c.Statistic) > 0:
		v.Behavior.Kind = statistical
	}
	for kind, value := range c.Value { // Count, Cidrs, Ports, Number, Numbers, Strings
		v.Behavior.Values.set(capital(kind), show(value))
	}
	return v
}

// Types of criteria as the AWS IoT API names them.
const machineLearning, statistical = "MACHINE_LEARNING", "STATISTICAL"

// violation is what a finding shows of an alarm of Detect, or of a transition of the self-managed
// engine. A text that the source lacks is "".
type violation struct {
	EventTime, StartTime          millis
	ThingName, Profile, ID        string
	EventType                     string
	Behavior                      behavior
	Measured, MeasuredConfidence  string
	Sampled, EndReason, RenamedTo string
	Verification, VerifyComment   string
}

// behavior is a behavior as a finding shows it.
type behavior struct {
	Name, Metric string
	// Kind is the type of the criteria.
	Kind                                   string
	Operator, Value, Statistic, Confidence string
	// Values has Value by the name of its product field.
	Values                                 pairs
	Duration, ToAlarm, ToClear             string
	Dimension, TopicFilters, TopicOperator string
	SuppressAlerts                         bool
}

// normal describes the behavior of a healthy device. learned describes it if there is no static
// value.
func (b behavior) normal(learned string) string {
	text := b.Metric + " " + b.Operator + " "
	switch b.Kind {
	case machineLearning:
		text = b.Metric + " as " + learned + " expects (confidence " + b.Confidence + ")"
	case statistical:
		text += b.Statistic
	default:
		text += b.Value
	}
	if b.TopicFilters != "" {
		text += " on topics " + b.TopicOperator + " " + b.TopicFilters
	}
	return text
}

// endings explain in a description why an alarm ended.
var endings = map[string]string{
	"alarm-cleared":     " The alarm was cleared: the device conforms again.",
	"alarm-invalidated": " The alarm was invalidated: there is no recent data from the device.",
}

// retired explain in a description why the registry ended an alarm, by the transition's
// endReason.
var retired = map[string]string{
	"thing-deleted":  " The alarm was ended: the AWS IoT registry no longer has the thing.",
	"thing-renamed":  " The alarm was ended: the device is now thing %s.",
	"left-targets":   " The alarm was ended: the thing is no longer among the targets of the security profile.",
	"not-registered": " The alarm was ended: no thing in the AWS IoT registry has the client ID, and the client has sent nothing for too long.",
}

// ending says why an alarm ended, "" while it is open.
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

// Detect returns the signal of an alarm notification.
//
// The finding's identity is profile, behavior and thing, not AWS's violationId, which is in the
// product fields. So a thing that violates the same behavior again has the same finding, with the
// analyst's notes. Notifications of another account have that account in the finding's ID.
func (m Mapper) Detect(message []byte, o Origin) (signal.Signal, error) {
	const source = defender.DetectNotifications
	var a alert
	if err := json.Unmarshal(message, &a); err != nil {
		return signal.Signal{}, fmt.Errorf("alert is not the JSON that Device Defender Detect sends: %w", err)
	}
	v := a.violation()
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
	v.describe(&f, "Registered thing "+v.ThingName, normal)
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

const violationRemedy = "Find out whether the device is compromised or misbehaves, or whether the behavior is too strict. Isolate a compromised device and rotate its certificate."

func alarmTitle(who, kind, behavior string) string {
	return fmt.Sprintf("%s is in alarm for %s behavior %s.", who, kind, behavior)
}

// describe writes title and description in the words of AWS's own findings.
func (v violation) describe(f *asff.Finding, who, normal string) {
	kind := v.Behavior.Kind
	f.Title = alarmTitle(who, kind, v.Behavior.Name)
	f.Description = fmt.Sprintf("%s violates %s behavior %s of security profile %s. Violation was triggered because the device did not conform to %s.",
		who, kind, v.Behavior.Name, v.Profile, normal)
	if v.Measured != "" {
		f.Description += " Measured: " + v.Measured + "."
	}
	*f = f.Noted(v.ending())
}

// state also validates the fields that every finding needs.
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
	b := v.Behavior
	f := pairs{
		"BehaviorName":         b.Name,
		"ThingName":            v.ThingName,
		"SecurityProfileName":  v.Profile,
		"BehaviorCriteriaType": b.Kind,
		"SuppressAlerts":       fmt.Sprint(b.SuppressAlerts),
		"ViolationEventType":   v.EventType,
	}
	f.set("EndReason", v.EndReason)
	f.set("MetricName", b.Metric)
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
	f.set("ComparisonOperator", b.Operator)
	f.set("DurationSeconds", b.Duration)
	f.set("ConsecutiveDatapointsToAlarm", b.ToAlarm)
	f.set("ConsecutiveDatapointsToClear", b.ToClear)
	maps.Copy(f, b.Values)
	f.set("Statistic", b.Statistic)
	f.set("ConfidenceLevel", b.Confidence)
	f.set("MeasuredConfidenceLevel", v.MeasuredConfidence)
	f.set("MetricDimension", b.Dimension)
	f.set("MetricDimensionTopicFilters", b.TopicFilters)
	f.set("MetricDimensionOperator", b.TopicOperator)
	f.set("MetricValue", v.Measured)
	f.set("Sampled", v.Sampled)
	f.set("VerificationState", v.Verification)
	f.set("VerificationStateDescription", v.VerifyComment)
	return f
}

// showValue formats the value of a map whose only key is its kind.
func showValue(value map[string]any) string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(value)) {
		parts = append(parts, show(value[kind]))
	}
	return strings.Join(parts, " ")
}

// show formats a JSON value for people: numbers as written, lists with commas.
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
