package defenderhub

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiot"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// NativeDetect has the resources of AWS IoT Device Defender Detect.
type NativeDetect interface {
	// Topic receives the alarms.
	Topic() awssns.ITopic
	// Key encrypts the new topic; nil if NativeProps.Topic is set.
	Key() awskms.IKey
	// AlertRole lets Detect publish to the topic.
	AlertRole() awsiam.IRole
	// Profiles are the security profiles. The profile of DetectProps.Behaviors is the first.
	Profiles() []awscdk.CfnResource
	// ProfileNames are the names of the security profiles.
	ProfileNames() []*string
	// Verification copies verification states to Detect; nil without NativeProps.Verification.
	Verification() Verification
	// CustomMetrics are the new custom metrics, by name.
	CustomMetrics() map[string]awscdk.CfnResource
}

type nativeDetect struct {
	scope     *detect
	topic     awssns.ITopic
	key       awskms.IKey
	alertRole awsiam.IRole
	profiles  []awscdk.CfnResource
	metrics   map[string]awscdk.CfnResource

	verification Verification
}

func (d *nativeDetect) Topic() awssns.ITopic           { return d.topic }
func (d *nativeDetect) Key() awskms.IKey               { return d.key }
func (d *nativeDetect) AlertRole() awsiam.IRole        { return d.alertRole }
func (d *nativeDetect) Verification() Verification     { return d.verification }
func (d *nativeDetect) Profiles() []awscdk.CfnResource { return slices.Clone(d.profiles) }

func (d *nativeDetect) CustomMetrics() map[string]awscdk.CfnResource { return maps.Clone(d.metrics) }

func (d *nativeDetect) ProfileNames() []*string {
	var names []*string
	for _, p := range d.profiles {
		names = append(names, p.Ref())
	}
	return names
}

// newNative creates everything for AWS IoT Device Defender Detect: topic, role, custom metrics,
// dimensions and security profiles.
func newNative(scope *detect, p DetectProps) *nativeDetect {
	d := &nativeDetect{scope: scope, topic: p.Native.Topic}
	if d.topic == nil {
		d.topic, d.key = newAlertTopic(scope, p.EncryptionKey, "Alerts of Device Defender Detect", awscdk.RemovalPolicy_DESTROY)
	}
	d.alertRole = publisherRole(scope, "AlertRole", "securityprofile/*", "Lets Device Defender Detect publish alerts", d.topic, orKey(p.EncryptionKey, d.key))
	d.metrics = d.customMetrics(p)
	dimensions := map[string]awsiot.CfnDimension{}
	for i, profile := range p.profiles() {
		d.profiles = append(d.profiles, d.profile(profileID(p, i, profile), profile, dimensions))
	}
	if p.Native.Verification != nil {
		d.verification = NewVerification(scope, new("Verification"), p.Native.Verification)
	}
	return d
}

// profileID returns the construct ID of a profile. With a name it does not depend on the other
// profiles, so that adding or removing one replaces no other.
func profileID(p DetectProps, i int, profile defender.SecurityProfile) string {
	first := len(p.profiles()) - len(p.Profiles)
	switch {
	case i < first:
		return "Profile"
	case profile.Name != "" && !unresolved(profile.Name):
		return "Profile-" + profile.Name
	}
	return fmt.Sprintf("Profile%d", i-first)
}

func (d *nativeDetect) profile(id string, profile defender.SecurityProfile, dimensions map[string]awsiot.CfnDimension) awscdk.CfnResource {
	targets := profile.Targets
	if len(targets) == 0 {
		targets = []defender.Target{defender.AllThings}
	}
	var targetARNs []*string
	for _, t := range targets {
		targetARNs = append(targetARNs, new(arn("iot", t.Resource())))
	}
	var behaviors []any
	for _, b := range profile.Behaviors {
		behaviors = append(behaviors, d.behavior(b, dimensions))
	}
	props := &awsiot.CfnSecurityProfileProps{
		SecurityProfileName:        orNil(profile.Name),
		SecurityProfileDescription: orNil(profile.Description),
		TargetArns:                 &targetARNs,
		AlertTargets: map[string]any{
			"SNS": &awsiot.CfnSecurityProfile_AlertTargetProperty{
				AlertTargetArn: d.topic.TopicArn(), RoleArn: d.alertRole.RoleArn(),
			},
		},
	}
	if behaviors != nil {
		props.Behaviors = &behaviors
	}
	var retained []any
	for _, m := range profile.RetainedMetrics {
		retained = append(retained, &awsiot.CfnSecurityProfile_MetricToRetainProperty{Metric: new(m.Info().Name)})
	}
	if retained != nil {
		props.AdditionalMetricsToRetainV2 = &retained
	}
	take(d.scope, named(securityProfile, profile.Name))
	r := awsiot.NewCfnSecurityProfile(d.scope, new(id), props)
	for _, name := range customNames(profile) {
		if metric := d.metrics[name]; metric != nil {
			r.AddResourceDependency(metric, nil)
		}
	}
	return r
}

func (d *nativeDetect) behavior(b defender.Behavior, dimensions map[string]awsiot.CfnDimension) *awsiot.CfnSecurityProfile_BehaviorProperty {
	c := b.Criteria
	criteria := &awsiot.CfnSecurityProfile_BehaviorCriteriaProperty{
		ConsecutiveDatapointsToAlarm: new(float64(b.DatapointsToAlarm())),
		ConsecutiveDatapointsToClear: new(float64(b.DatapointsToClear())),
		ComparisonOperator:           orNil(string(c.Operator())),
	}
	if w := c.Window(); w != 0 {
		criteria.DurationSeconds = new(float64(w))
	}
	switch {
	case c.Confidence() != "":
		criteria.MlDetectionConfig = &awsiot.CfnSecurityProfile_MachineLearningDetectionConfigProperty{ConfidenceLevel: new(string(c.Confidence()))}
	case c.Statistic() != "":
		criteria.StatisticalThreshold = &awsiot.CfnSecurityProfile_StatisticalThresholdProperty{Statistic: new(string(c.Statistic()))}
	default:
		criteria.Value = metricValue(c.Value())
	}
	out := &awsiot.CfnSecurityProfile_BehaviorProperty{Name: new(b.Name), Metric: new(c.Metric().Name), Criteria: criteria}
	if b.SuppressAlerts {
		out.SuppressAlerts = true
	}
	if b.Dimension != nil {
		operator := "IN"
		if b.Dimension.NotIn {
			operator = "NOT_IN"
		}
		out.MetricDimension = &awsiot.CfnSecurityProfile_MetricDimensionProperty{
			DimensionName: d.dimension(b.Dimension.TopicFilters, dimensions).Ref(), Operator: new(operator),
		}
	}
	return out
}

// dimension returns the dimension for a list of topic filters. Behaviors with the same list share
// it, because an account has only ten dimensions.
// https://docs.aws.amazon.com/general/latest/gr/iot_device_defender.html
func (d *nativeDetect) dimension(filters []string, dimensions map[string]awsiot.CfnDimension) awsiot.CfnDimension {
	key := strings.Join(filters, "\n")
	if known, ok := dimensions[key]; ok {
		return known
	}
	id := "Dimension-" + digest(key)
	if unresolved(key) { // a token's text differs in each synthesis
		id = fmt.Sprintf("Dimension%d", len(dimensions))
	}
	made := awsiot.NewCfnDimension(d.scope, new(id), &awsiot.CfnDimensionProps{
		Type: new("TOPIC_FILTER"), StringValues: texts(filters),
	})
	dimensions[key] = made
	return made
}

// customMetrics creates the custom metrics of createdMetrics.
func (d *nativeDetect) customMetrics(p DetectProps) map[string]awscdk.CfnResource {
	made := map[string]awscdk.CfnResource{}
	for _, m := range p.createdMetrics() {
		take(d.scope, named(customMetric, m.Name))
		made[m.Name] = awsiot.NewCfnCustomMetric(d.scope, new("Metric-"+m.Name), &awsiot.CfnCustomMetricProps{
			MetricName: new(m.Name), MetricType: new(m.CustomMetricType()),
		})
	}
	return made
}

// createdMetrics returns the custom metrics that profiles use, except the existing ones.
func (p DetectProps) createdMetrics() []iotapi.MetricInfo {
	var created []iotapi.MetricInfo
	seen := map[string]bool{}
	for _, profile := range p.profiles() {
		for _, m := range customMetricsOf(profile) {
			if !seen[m.Name] && !slices.Contains(value(p.Native).ExistingCustomMetrics, m.Name) {
				created = append(created, m)
			}
			seen[m.Name] = true
		}
	}
	return created
}

// metricValue converts a value for CloudFormation, where a count is a string.
func metricValue(v iotapi.Value) *awsiot.CfnSecurityProfile_MetricValueProperty {
	out := &awsiot.CfnSecurityProfile_MetricValueProperty{Number: v.Number}
	switch v.Kind() {
	case iotapi.CountValue:
		out.Count = new(strconv.FormatInt(*v.Count, 10))
	case iotapi.CIDRsValue:
		out.Cidrs = texts(v.CIDRs)
	case iotapi.PortsValue:
		out.Ports = numbers(v.Ports)
	case iotapi.NumbersValue:
		out.Numbers = numbers(v.Numbers)
	case iotapi.StringsValue:
		out.Strings = texts(v.Strings)
	}
	return out
}

func numbers[T uint16 | float64](list []T) *[]*float64 {
	out := make([]*float64, len(list))
	for i, n := range list {
		out[i] = new(float64(n))
	}
	return &out
}
