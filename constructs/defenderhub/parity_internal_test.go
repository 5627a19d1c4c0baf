package defenderhub

import (
	"reflect"
	"slices"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsiot"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// The tests of this file need no Node.js: they read the CDK's Go types.

func fieldNames(v any) []string {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return names
}

func TestChecksAreThoseOfCloudFormation(t *testing.T) {
	var ours []string
	for _, c := range defender.Checks() {
		ours = append(ours, c.Info().Property)
	}
	slices.Sort(ours)
	if theirs := fieldNames(awsiot.CfnAccountAuditConfiguration_AuditCheckConfigurationsProperty{}); !slices.Equal(ours, theirs) {
		t.Errorf("ours %v, CloudFormation's %v", ours, theirs)
	}
}

func TestThresholdOfCertificateAgeIsThatOfCloudFormation(t *testing.T) {
	theirs := fieldNames(awsiot.CfnAccountAuditConfiguration_CertAgeCheckCustomConfigurationProperty{})
	if ours := []string{defender.DeviceCertificateAge.Info().Threshold.Property}; !slices.Equal(ours, theirs) {
		t.Errorf("ours %v, CloudFormation's %v", ours, theirs)
	}
}

func TestValuesAreThoseOfCloudFormation(t *testing.T) {
	ours := map[string]string{ // field of iotapi.Value: property of CloudFormation
		"Count": "Count", "CIDRs": "Cidrs", "Ports": "Ports", "Number": "Number", "Numbers": "Numbers", "Strings": "Strings",
	}
	var values, properties []string
	for value, property := range ours {
		values, properties = append(values, value), append(properties, property)
	}
	slices.Sort(values)
	slices.Sort(properties)
	if got := fieldNames(iotapi.Value{}); !slices.Equal(got, values) {
		t.Errorf("fields of iotapi.Value: %v, want %v", got, values)
	}
	if got := fieldNames(awsiot.CfnSecurityProfile_MetricValueProperty{}); !slices.Equal(got, properties) {
		t.Errorf("properties of CloudFormation: %v, want %v", got, properties)
	}
}

// TestEveryPropertyOfCloudFormationIsKnown fails if the CDK adds a property. Decide then whether a
// construct should have a prop for it.
func TestEveryPropertyOfCloudFormationIsKnown(t *testing.T) {
	for _, c := range []struct {
		of   any
		want []string
	}{
		{awsiot.CfnAccountAuditConfigurationProps{}, []string{"AccountId", "AuditCheckConfigurations", "AuditNotificationTargetConfigurations", "RoleArn"}},
		{awsiot.CfnScheduledAuditProps{}, []string{"DayOfMonth", "DayOfWeek", "Frequency", "ScheduledAuditName", "Tags", "TargetCheckNames"}},
		{awsiot.CfnSecurityProfile_BehaviorProperty{}, []string{"Criteria", "ExportMetric", "Metric", "MetricDimension", "Name", "SuppressAlerts"}},
		{awsiot.CfnSecurityProfile_BehaviorCriteriaProperty{}, []string{"ComparisonOperator", "ConsecutiveDatapointsToAlarm", "ConsecutiveDatapointsToClear", "DurationSeconds", "MlDetectionConfig", "StatisticalThreshold", "Value"}},
		{awsiot.CfnSecurityProfileProps{}, []string{"AdditionalMetricsToRetainV2", "AlertTargets", "Behaviors", "MetricsExportConfig", "SecurityProfileDescription", "SecurityProfileName", "Tags", "TargetArns"}},
		{awsiot.CfnTopicRule_TopicRulePayloadProperty{}, []string{"Actions", "AwsIotSqlVersion", "Description", "ErrorAction", "RuleDisabled", "Sql"}},
	} {
		if got := fieldNames(c.of); !slices.Equal(got, c.want) {
			t.Errorf("%T: got %v, want %v", c.of, got, c.want)
		}
	}
}
