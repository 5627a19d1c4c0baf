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

// scheduleName matches the names that the API allows. CloudFormation's schema also allows a colon,
// which the API rejects.
var scheduleName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)

// checkConfigurations returns the configurations of the enabled checks. CloudFormation disables the
// others, and a Region that does not support a check rejects its name. Reflection finds the fields
// by their names in the table of checks, which a test compares with the CDK.
func checkConfigurations(p AuditProps) *awsiot.CfnAccountAuditConfiguration_AuditCheckConfigurationsProperty {
	checks := &awsiot.CfnAccountAuditConfiguration_AuditCheckConfigurationsProperty{}
	fields := reflect.ValueOf(checks).Elem()
	for _, c := range p.enabled() {
		var check any = &awsiot.CfnAccountAuditConfiguration_AuditCheckConfigurationProperty{Enabled: true}
		if c == defender.DeviceCertificateAge { // the only check with its own CDK type
			check = &awsiot.CfnAccountAuditConfiguration_DeviceCertAgeAuditCheckConfigurationProperty{Enabled: true}
		}
		fields.FieldByName(c.Info().Property).Set(reflect.ValueOf(check))
	}
	return checks
}

// addThresholds writes the thresholds of the two checks that have one, in days, if they are enabled.
// It overrides properties because the CDK's types have only one of the two.
func addThresholds(configuration awscdk.CfnResource, p AuditProps) {
	for c, days := range map[defender.Check]int{
		defender.DeviceCertificateAge:      p.CertificateAgeDays,
		defender.DeviceCertificateExpiring: p.CertificateExpiringDays,
	} {
		if slices.Contains(p.Disabled, c) {
			continue
		}
		row := c.Info()
		path := fmt.Sprintf("AuditCheckConfigurations.%s.Configuration.%s", row.Property, row.Threshold.Property)
		configuration.AddPropertyOverride(new(path), fmt.Sprint(or(days, row.Threshold.Default)))
	}
}
