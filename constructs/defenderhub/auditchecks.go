package defenderhub

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiot"

	"github.com/defenderhub/defenderhub/defender"
)

// The API takes no colon, although CloudFormation's schema allows one.
var scheduleName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)

// checkConfigurations are all 17 checks. A disabled check is written, never left out:
// CloudFormation disables what is left out as well, but nobody sees it in a template.
// The fields are found by the names in the one table of checks; a test compares them.
func checkConfigurations(p AuditProps) *awsiot.CfnAccountAuditConfiguration_AuditCheckConfigurationsProperty {
	checks := &awsiot.CfnAccountAuditConfiguration_AuditCheckConfigurationsProperty{}
	fields := reflect.ValueOf(checks).Elem()
	for _, c := range defender.Checks() {
		var check any = &awsiot.CfnAccountAuditConfiguration_AuditCheckConfigurationProperty{Enabled: !slices.Contains(p.Disabled, c)}
		if c == defender.DeviceCertificateAge { // the only one for which the CDK has a type of its own
			check = &awsiot.CfnAccountAuditConfiguration_DeviceCertAgeAuditCheckConfigurationProperty{Enabled: !slices.Contains(p.Disabled, c)}
		}
		fields.FieldByName(c.Info().Property).Set(reflect.ValueOf(check))
	}
	return checks
}

// addThresholds writes the parameters of the checks that have one, in whole days. They go
// past the CDK's types, which know only one of the two.
func addThresholds(configuration awscdk.CfnResource, p AuditProps) {
	for c, days := range map[defender.Check]int{
		defender.DeviceCertificateAge:      p.CertificateAgeDays,
		defender.DeviceCertificateExpiring: p.CertificateExpiringDays,
	} {
		row := c.Info()
		path := fmt.Sprintf("AuditCheckConfigurations.%s.Configuration.%s", row.Property, row.Threshold.Property)
		configuration.AddPropertyOverride(new(path), fmt.Sprint(or(days, row.Threshold.Default)))
	}
}
