package providers

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

const (
	accountAuditConfiguration = "AWS::IoT::AccountAuditConfiguration"
	scheduledAudit            = "AWS::IoT::ScheduledAudit"

	scheduledAuditQuota = 5 // https://docs.aws.amazon.com/general/latest/gr/iot_device_defender.html
)

// checks are the audit checks: the CloudFormation property, and the name that the API
// and schedules use. CloudFormation spells the two policy checks differently.
var checks = map[string]string{
	"AuthenticatedCognitoRoleOverlyPermissiveCheck":         "AUTHENTICATED_COGNITO_ROLE_OVERLY_PERMISSIVE_CHECK",
	"CaCertificateExpiringCheck":                            "CA_CERTIFICATE_EXPIRING_CHECK",
	"CaCertificateKeyQualityCheck":                          "CA_CERTIFICATE_KEY_QUALITY_CHECK",
	"ConflictingClientIdsCheck":                             "CONFLICTING_CLIENT_IDS_CHECK",
	"DeviceCertificateAgeCheck":                             "DEVICE_CERTIFICATE_AGE_CHECK",
	"DeviceCertificateExpiringCheck":                        "DEVICE_CERTIFICATE_EXPIRING_CHECK",
	"DeviceCertificateKeyQualityCheck":                      "DEVICE_CERTIFICATE_KEY_QUALITY_CHECK",
	"DeviceCertificateSharedCheck":                          "DEVICE_CERTIFICATE_SHARED_CHECK",
	"IntermediateCaRevokedForActiveDeviceCertificatesCheck": "INTERMEDIATE_CA_REVOKED_FOR_ACTIVE_DEVICE_CERTIFICATES_CHECK",
	"IoTPolicyPotentialMisConfigurationCheck":               "IOT_POLICY_POTENTIAL_MISCONFIGURATION_CHECK",
	"IotPolicyOverlyPermissiveCheck":                        "IOT_POLICY_OVERLY_PERMISSIVE_CHECK",
	"IotRoleAliasAllowsAccessToUnusedServicesCheck":         "IOT_ROLE_ALIAS_ALLOWS_ACCESS_TO_UNUSED_SERVICES_CHECK",
	"IotRoleAliasOverlyPermissiveCheck":                     "IOT_ROLE_ALIAS_OVERLY_PERMISSIVE_CHECK",
	"LoggingDisabledCheck":                                  "LOGGING_DISABLED_CHECK",
	"RevokedCaCertificateStillActiveCheck":                  "REVOKED_CA_CERTIFICATE_STILL_ACTIVE_CHECK",
	"RevokedDeviceCertificateStillActiveCheck":              "REVOKED_DEVICE_CERTIFICATE_STILL_ACTIVE_CHECK",
	"UnauthenticatedCognitoRoleOverlyPermissiveCheck":       "UNAUTHENTICATED_COGNITO_ROLE_OVERLY_PERMISSIVE_CHECK",
}

// thresholds are the only two checks with a parameter.
var thresholds = map[string]string{
	"DeviceCertificateAgeCheck":      "CertAgeThresholdInDays",
	"DeviceCertificateExpiringCheck": "CertExpirationThresholdInDays",
}

func (a Account) audit() map[string]declared {
	perCheck := schema.Object{}
	for property := range checks {
		check := schema.Object{"Enabled": schema.Optional(schema.Bool)}
		if parameter, ok := thresholds[property]; ok {
			check["Configuration"] = schema.Optional(schema.Map(schema.Object{parameter: schema.Optional(days)}))
		}
		perCheck[property] = schema.Optional(schema.Map(check))
	}
	var names []string
	for _, name := range checks {
		names = append(names, name)
	}
	slices.Sort(names)
	return map[string]declared{
		accountAuditConfiguration: {
			properties: schema.Object{
				"AccountId":                schema.Required(schema.Text(12, 12)),
				"AuditCheckConfigurations": schema.Required(schema.Map(perCheck)),
				"RoleArn":                  schema.Required(schema.ARN("iam")),
				"AuditNotificationTargetConfigurations": schema.Optional(schema.Map(schema.Object{
					"Sns": schema.Optional(schema.Map(schema.Object{
						"Enabled": schema.Optional(schema.Bool), "RoleArn": schema.Optional(schema.ARN("iam")), "TargetArn": schema.Optional(schema.ARN("sns")),
					})),
				})),
			},
			create: a.configureAudit,
		},
		scheduledAudit: {
			properties: schema.Object{
				"ScheduledAuditName": schema.Optional(schema.Pattern(iotName, 1, 128)),
				"Frequency":          schema.Required(schema.Enum("DAILY", "WEEKLY", "BIWEEKLY", "MONTHLY")),
				"DayOfWeek":          schema.Optional(schema.Enum("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")),
				"DayOfMonth":         schema.Optional(schema.Pattern(`[1-9]|[12][0-9]|3[01]|LAST`, 1, 4)),
				"TargetCheckNames":   schema.Required(schema.Unique(schema.List(1, len(checks), schema.Enum(names...)))),
				"Tags":               schema.Optional(schema.Tags),
			},
			create: a.scheduleAudit,
		},
	}
}

// days is a threshold: text, as CloudFormation wants it, of a number of days.
func days(path string, value any) error {
	if _, ok := value.(string); !ok {
		return fmt.Errorf("%s: expected type: string", path)
	}
	return schema.Integer(30, 3652)(path, value)
}

func (a Account) configureAudit(_ context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	account := text(r, "AccountId")
	if account != r.AccountID {
		return cloudformation.Resource{}, fmt.Errorf("AccountId in the template (%s) doesn't match actual: %s.", account, r.AccountID) //nolint:staticcheck // AWS's words
	}
	if _, there := a.Registry.Find(accountAuditConfiguration, account); there {
		return cloudformation.Resource{}, errors.New("The AccountAuditConfiguration already exists. (HandlerErrorCode: AlreadyExists)") //nolint:staticcheck // AWS's words
	}
	if len(enabledChecks(r.ResourceProperties)) == 0 {
		return cloudformation.Resource{}, errors.New("the first audit configuration must enable at least one check (Service: Iot, Status Code: 400)")
	}
	return kept(account, nil, "no audit runs"), nil
}

// enabledChecks are the API names of the checks that a configuration enables.
func enabledChecks(properties map[string]any) []string {
	var enabled []string
	configurations, _ := properties["AuditCheckConfigurations"].(map[string]any)
	for property, value := range configurations {
		check, _ := value.(map[string]any)
		if on, _ := schema.Boolean(check["Enabled"]); on {
			enabled = append(enabled, checks[property])
		}
	}
	return enabled
}

func (a Account) scheduleAudit(_ context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	p := r.ResourceProperties
	_, week := p["DayOfWeek"]
	_, month := p["DayOfMonth"]
	frequency := text(r, "Frequency")
	if weekly := frequency == "WEEKLY" || frequency == "BIWEEKLY"; week != weekly || month != (frequency == "MONTHLY") {
		return cloudformation.Resource{}, fmt.Errorf("frequency %s: DayOfWeek goes with WEEKLY and BIWEEKLY, DayOfMonth with MONTHLY, and each is required there (Service: Iot, Status Code: 400)", frequency)
	}
	var enabled []string
	if c, ok := a.Registry.Find(accountAuditConfiguration, r.AccountID); ok {
		enabled = enabledChecks(c.Properties)
	}
	for _, name := range p["TargetCheckNames"].([]any) { // the schema has seen it
		if !slices.Contains(enabled, name.(string)) {
			return cloudformation.Resource{}, fmt.Errorf("check %s is not enabled in the account audit configuration, which must be there first (Service: Iot, Status Code: 400)", name)
		}
	}
	if n := len(a.Registry.Deployed(scheduledAudit)); n >= scheduledAuditQuota {
		return cloudformation.Resource{}, fmt.Errorf("the account has %d scheduled audits, the quota is %d (HandlerErrorCode: ServiceLimitExceeded)", n, scheduledAuditQuota)
	}
	name := named(r, "ScheduledAuditName", 128)
	if err := a.unique(r, name); err != nil {
		return cloudformation.Resource{}, err
	}
	return kept(name, map[string]any{"ScheduledAuditArn": r.ARN("iot", "scheduledaudit/"+name)}, "no audit runs"), nil
}
