package mapping

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/leanjson"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// alert is an alarm notification of Device Defender Detect. Values and criteria stay objects: the
// notification's format for lists and ML is not documented.
type alert struct {
	EventTime millis `json:"violationEventTime"`
	StartTime millis `json:"violationStartTime"`
	ThingName string `json:"thingName"`
	Profile   string `json:"securityProfileName"`
	ID        string `json:"violationId"`
	EventType string `json:"violationEventType"`
	Behavior  struct {
		Name            string `json:"name"`
		Metric          string `json:"metric"`
		MetricDimension object `json:"metricDimension"`
		Criteria        struct {
			Operator  string      `json:"comparisonOperator"`
			Value     object      `json:"value"`
			Duration  json.Number `json:"durationSeconds"`
			ToAlarm   json.Number `json:"consecutiveDatapointsToAlarm"`
			ToClear   json.Number `json:"consecutiveDatapointsToClear"`
			Statistic object      `json:"statisticalThreshold"`
			ML        object      `json:"mlDetectionConfig"`
		} `json:"criteria"`
		SuppressAlerts bool `json:"suppressAlerts"`
	} `json:"behavior"`
	MetricValue   object `json:"metricValue"`
	Additional    object `json:"violationEventAdditionalInfo"`
	Verification  string `json:"verificationState"`
	VerifyComment string `json:"verificationStateDescription"`
}

// violation returns what a finding shows of the alert.
func (a alert) violation() violation {
	b, c := a.Behavior, a.Behavior.Criteria
	values := c.Value.members()
	v := violation{
		EventTime: a.EventTime, StartTime: a.StartTime, ThingName: a.ThingName, Profile: a.Profile, ID: a.ID, EventType: a.EventType,
		Measured: joined(a.MetricValue.members()), MeasuredConfidence: a.Additional.text("confidenceLevel"),
		Verification: a.Verification, VerifyComment: a.VerifyComment,
		Behavior: behavior{
			Name: b.Name, Metric: b.Metric, Kind: "STATIC", Operator: c.Operator, Value: joined(values), Values: values,
			Statistic: c.Statistic.text("statistic"), Confidence: c.ML.text("confidenceLevel"),
			Duration: c.Duration.String(), ToAlarm: c.ToAlarm.String(), ToClear: c.ToClear.String(),
			Dimension: b.MetricDimension.text("dimensionName"), TopicFilters: b.MetricDimension.text("topicFilters"), TopicOperator: b.MetricDimension.text("operator"),
			SuppressAlerts: b.SuppressAlerts,
		},
	}
	switch {
	case len(c.ML.members()) > 0:
		v.Behavior.Kind = machineLearning
	case len(c.Statistic.members()) > 0:
		v.Behavior.Kind = statistical
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
	// Values are the parts of Value by kind, such as count or cidrs.
	Values                                 []member
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
	if err := leanjson.Unmarshal(message, &a); err != nil {
		return signal.Signal{}, fmt.Errorf("alert is not the JSON that Device Defender Detect sends: %w", err)
	}
	v := a.violation()
	state, err := v.state()
	if err != nil {
		return signal.Signal{}, err
	}
	p := m.at(o)
	normal := v.Behavior.normal("its model")
	identity := append(make([]string, 0, 4), v.Profile, v.Behavior.Name, v.ThingName)
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
	return who + " is in alarm for " + kind + " behavior " + behavior + "."
}

// describe writes title and description in the words of AWS's own findings.
func (v violation) describe(f *asff.Finding, who, normal string) {
	kind := v.Behavior.Kind
	f.Title = alarmTitle(who, kind, v.Behavior.Name)
	measured := ""
	if v.Measured != "" {
		measured = " Measured: " + v.Measured + "."
	}
	f.Description = who + " violates " + kind + " behavior " + v.Behavior.Name + " of security profile " + v.Profile +
		". Violation was triggered because the device did not conform to " + normal + "." + measured
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
	f := make(pairs, 24) // about as many as an alert has
	f["BehaviorName"] = b.Name
	f["ThingName"] = v.ThingName
	f["SecurityProfileName"] = v.Profile
	f["BehaviorCriteriaType"] = b.Kind
	f["SuppressAlerts"] = strconv.FormatBool(b.SuppressAlerts)
	f["ViolationEventType"] = v.EventType
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
	for _, value := range b.Values {
		f.set(capital(value.name), value.text) // Count, Cidrs, Ports, Number, Numbers, Strings
	}
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

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
