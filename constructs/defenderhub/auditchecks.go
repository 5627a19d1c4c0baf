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

// The API does not allow a colon, although CloudFormation's schema does.
var scheduleName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)

// checkConfigurations returns all 17 checks. Disabled checks are written too: CloudFormation
// would also disable omitted ones, but nobody would see that in a template. The fields are found
// by their names in the table of checks, which a test compares.
func checkConfigurations(p AuditProps) *awsiot.CfnAccountAuditConfiguration_AuditCheckConfigurationsProperty {
	checks := &awsiot.CfnAccountAuditConfiguration_AuditCheckConfigurationsProperty{}
	fields := reflect.ValueOf(checks).Elem()
	for _, c := range defender.Checks() {
		var check any = &awsiot.CfnAccountAuditConfiguration_AuditCheckConfigurationProperty{Enabled: !slices.Contains(p.Disabled, c)}
		if c == defender.DeviceCertificateAge { // the only check with its own CDK type
			check = &awsiot.CfnAccountAuditConfiguration_DeviceCertAgeAuditCheckConfigurationProperty{Enabled: !slices.Contains(p.Disabled, c)}
		}
		fields.FieldByName(c.Info().Property).Set(reflect.ValueOf(check))
	}
	return checks
}

// addThresholds writes the parameters of the checks that have one, in whole days. It bypasses the
// CDK's types, which have only one of the two.
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
