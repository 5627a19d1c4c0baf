package defender

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Severity is how grave a finding is, by the labels that Device Defender and the
// ASFF share. The zero value leaves the choice to the context.
type Severity int

const (
	// SeverityDefault is the severity that the check, behavior or source has by itself.
	SeverityDefault Severity = iota
	Informational
	Low
	Medium
	High
	Critical
)

var severityLabels = []string{"", "INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"}

// String returns the ASFF label, "" for SeverityDefault.
func (s Severity) String() string {
	if s < 0 || int(s) >= len(severityLabels) {
		return fmt.Sprintf("Severity(%d)", int(s))
	}
	return severityLabels[s]
}

// Or returns s, or other where s is SeverityDefault.
func (s Severity) Or(other Severity) Severity {
	if s == SeverityDefault {
		return other
	}
	return s
}

// ParseSeverity reads an ASFF label, in any case.
func ParseSeverity(label string) (Severity, error) {
	if i := slices.Index(severityLabels, strings.ToUpper(label)); i > 0 {
		return Severity(i), nil
	}
	return SeverityDefault, fmt.Errorf("severity %q, want one of %s", label, strings.Join(severityLabels[1:], ", "))
}

// Check is one of the audit checks of AWS IoT Device Defender.
type Check int

// The 17 audit checks.
// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/device-defender-audit-checks.html
const (
	AuthenticatedCognitoRoleOverlyPermissive Check = iota + 1
	CACertificateExpiring
	CACertificateKeyQuality
	ConflictingClientIDs
	DeviceCertificateAge
	DeviceCertificateExpiring
	DeviceCertificateKeyQuality
	DeviceCertificateShared
	IntermediateCARevoked
	IoTPolicyOverlyPermissive
	IoTPolicyPotentialMisconfiguration
	RoleAliasAllowsAccessToUnusedServices
	RoleAliasOverlyPermissive
	LoggingDisabled
	RevokedCACertificateStillActive
	RevokedDeviceCertificateStillActive
	UnauthenticatedCognitoRoleOverlyPermissive
)

// CheckInfo is the row of the check table.
type CheckInfo struct {
	// APIName is the name in the AWS IoT API, in notifications and in findings.
	APIName string
	// Property is the property of AWS::IoT::AccountAuditConfiguration's
	// AuditCheckConfigurations.
	Property string
	// OldName is what some AWS tables still call the check. Read, never sent.
	OldName string
	// Severity is the fallback for a finding that carries none.
	Severity Severity
	// UnusualBehavior tells that Device Defender files the check's findings under
	// "Unusual Behaviors"; the others stand under vulnerabilities.
	UnusualBehavior bool
	// OptIn keeps the check out of the default schedule. It can be added by name.
	OptIn bool
	// Threshold is the check's only parameter, nil for most checks.
	Threshold *Threshold
	// Remediation tells an operator what to do about a finding, at most 512 characters.
	Remediation string
}

// Threshold is the parameter of a check, in whole days.
type Threshold struct {
	// APIKey is its key in the AWS IoT API, Property its name in CloudFormation.
	// Both take the number as a string.
	APIKey, Property  string
	Min, Max, Default int
}

var checks = [...]CheckInfo{
	AuthenticatedCognitoRoleOverlyPermissive: {
		APIName: "AUTHENTICATED_COGNITO_ROLE_OVERLY_PERMISSIVE_CHECK", Property: "AuthenticatedCognitoRoleOverlyPermissiveCheck", Severity: Critical,
		Remediation: "Narrow the role that the identity pool gives to authenticated users to the AWS IoT actions and resources that its users need.",
	},
	CACertificateExpiring: {
		APIName: "CA_CERTIFICATE_EXPIRING_CHECK", Property: "CaCertificateExpiringCheck", OldName: "CA_CERT_APPROACHING_EXPIRATION_CHECK", Severity: Medium,
		Remediation: "Register a new CA certificate, issue device certificates from it, and deactivate the expiring one when no device needs it any more.",
	},
	CACertificateKeyQuality: {
		APIName: "CA_CERTIFICATE_KEY_QUALITY_CHECK", Property: "CaCertificateKeyQualityCheck", Severity: Critical,
		Remediation: "Deactivate the CA certificate, register one with a strong key, and replace the device certificates that the weak one signed.",
	},
	ConflictingClientIDs: {
		APIName: "CONFLICTING_CLIENT_IDS_CHECK", Property: "ConflictingClientIdsCheck", Severity: High, UnusualBehavior: true,
		Remediation: "Give each device a client id of its own (best: its thing name, enforced by ${iot:Connection.Thing.ThingName} in the policy) and look for cloned devices.",
	},
	DeviceCertificateAge: {
		APIName: "DEVICE_CERTIFICATE_AGE_CHECK", Property: "DeviceCertificateAgeCheck", Severity: Low,
		Threshold:   &Threshold{APIKey: "CERT_AGE_THRESHOLD_IN_DAYS", Property: "CertAgeThresholdInDays", Min: 30, Max: 3652, Default: 365},
		Remediation: "Provision a new certificate, move the device to it, then deactivate the old one.",
	},
	DeviceCertificateExpiring: {
		APIName: "DEVICE_CERTIFICATE_EXPIRING_CHECK", Property: "DeviceCertificateExpiringCheck", OldName: "DEVICE_CERT_APPROACHING_EXPIRATION_CHECK", Severity: Medium,
		Threshold:   &Threshold{APIKey: "CERT_EXPIRATION_THRESHOLD_IN_DAYS", Property: "CertExpirationThresholdInDays", Min: 30, Max: 3652, Default: 30},
		Remediation: "Provision a new certificate before the old one expires, move the device to it, then deactivate the old one.",
	},
	DeviceCertificateKeyQuality: {
		APIName: "DEVICE_CERTIFICATE_KEY_QUALITY_CHECK", Property: "DeviceCertificateKeyQualityCheck", Severity: Critical,
		Remediation: "Provision a certificate with a strong key, move the device to it, then deactivate and revoke the weak one.",
	},
	DeviceCertificateShared: {
		APIName: "DEVICE_CERTIFICATE_SHARED_CHECK", Property: "DeviceCertificateSharedCheck", Severity: Critical, UnusualBehavior: true,
		Remediation: "Find out which of the client ids is the real device, give each device a certificate of its own, then revoke the shared one.",
	},
	IntermediateCARevoked: {
		APIName: "INTERMEDIATE_CA_REVOKED_FOR_ACTIVE_DEVICE_CERTIFICATES_CHECK", Property: "IntermediateCaRevokedForActiveDeviceCertificatesCheck", Severity: Critical, OptIn: true,
		Remediation: "Find the active device certificates that the revoked intermediate CA issued, replace them, then deactivate them.",
	},
	IoTPolicyOverlyPermissive: {
		APIName: "IOT_POLICY_OVERLY_PERMISSIVE_CHECK", Property: "IotPolicyOverlyPermissiveCheck", Severity: Critical,
		Remediation: "Create a policy version that allows each device only its own client id and topics, with policy variables such as ${iot:Connection.Thing.ThingName}, and make it the default.",
	},
	IoTPolicyPotentialMisconfiguration: {
		APIName: "IOT_POLICY_POTENTIAL_MISCONFIGURATION_CHECK", Property: "IoTPolicyPotentialMisConfigurationCheck", Severity: Medium,
		Remediation: "Replace MQTT wildcards in the policy's deny statements by IAM wildcards (* and ?), and test with a client that the denied topics stay closed.",
	},
	RoleAliasAllowsAccessToUnusedServices: {
		APIName: "IOT_ROLE_ALIAS_ALLOWS_ACCESS_TO_UNUSED_SERVICES_CHECK", Property: "IotRoleAliasAllowsAccessToUnusedServicesCheck", Severity: Medium,
		Remediation: "Remove the services that no device used in the last year from the role behind the role alias.",
	},
	RoleAliasOverlyPermissive: {
		APIName: "IOT_ROLE_ALIAS_OVERLY_PERMISSIVE_CHECK", Property: "IotRoleAliasOverlyPermissiveCheck", Severity: Critical,
		Remediation: "Narrow the role behind the role alias to the actions and resources that devices need; use ${credentials-iot:ThingName} in its policies.",
	},
	LoggingDisabled: {
		APIName: "LOGGING_DISABLED_CHECK", Property: "LoggingDisabledCheck", Severity: Low,
		Remediation: "Turn on AWS IoT logging (SetV2LoggingOptions) at level WARN or finer.",
	},
	RevokedCACertificateStillActive: {
		APIName: "REVOKED_CA_CERTIFICATE_STILL_ACTIVE_CHECK", Property: "RevokedCaCertificateStillActiveCheck", OldName: "REVOKED_CA_CERT_CHECK", Severity: Critical,
		Remediation: "Deactivate the CA certificate in AWS IoT, find out why its issuer revoked it, and replace the device certificates that it signed.",
	},
	RevokedDeviceCertificateStillActive: {
		APIName: "REVOKED_DEVICE_CERTIFICATE_STILL_ACTIVE_CHECK", Property: "RevokedDeviceCertificateStillActiveCheck", OldName: "REVOKED_DEVICE_CERT_CHECK", Severity: Medium,
		Remediation: "Deactivate the certificate in AWS IoT, find out why its issuer revoked it, and provision a new one if the device is sound.",
	},
	UnauthenticatedCognitoRoleOverlyPermissive: {
		APIName: "UNAUTHENTICATED_COGNITO_ROLE_OVERLY_PERMISSIVE_CHECK", Property: "UnauthenticatedCognitoRoleOverlyPermissiveCheck", Severity: Critical,
		Remediation: "Narrow the role that the identity pool gives to guests, or turn unauthenticated access off.",
	},
}

// Checks returns all 17 checks in the order of their API names.
func Checks() []Check {
	all := make([]Check, 0, len(checks)-1)
	for i := range checks[1:] {
		all = append(all, Check(i+1))
	}
	return all
}

// DefaultScheduledChecks returns the checks of a schedule for which the user named
// none: all but those that a schedule was reported to refuse.
func DefaultScheduledChecks() []Check {
	return slices.DeleteFunc(Checks(), func(c Check) bool { return c.Info().OptIn })
}

// Known reports whether c is one of the checks.
func (c Check) Known() bool { return c > 0 && int(c) < len(checks) }

// Info returns c's row, the zero CheckInfo for an unknown check.
func (c Check) Info() CheckInfo {
	if !c.Known() {
		return CheckInfo{}
	}
	return checks[c]
}

// String returns the API name.
func (c Check) String() string {
	if !c.Known() {
		return fmt.Sprintf("Check(%d)", int(c))
	}
	return checks[c].APIName
}

// ParseCheck reads an API name; the suffix _CHECK may be missing, and the older
// names of some AWS tables are understood.
func ParseCheck(name string) (Check, error) {
	full := name
	if !strings.HasSuffix(full, "_CHECK") {
		full += "_CHECK"
	}
	for _, c := range Checks() {
		if row := c.Info(); row.APIName == full || row.OldName == full {
			return c, nil
		}
	}
	return 0, fmt.Errorf("audit check %q, want one of %s", name, strings.Join(checkNames(), ", "))
}

func checkNames() []string {
	var names []string
	for _, c := range Checks() {
		names = append(names, c.String())
	}
	return names
}

// ValidateChecks reports unknown and repeated checks of a list, by index.
func ValidateChecks(list []Check) error {
	var faults []error
	for i, c := range list {
		field := fmt.Sprintf("[%d]", i)
		if !c.Known() {
			faults = append(faults, invalid(field, c.String(), "one of the checks of package defender, such as defender.LoggingDisabled"))
		} else if slices.Index(list, c) < i {
			faults = append(faults, invalid(field, c.String(), "each check once"))
		}
	}
	return errors.Join(faults...)
}

// Validate reports whether days lies within the threshold; 0 stands for the default.
func (t *Threshold) Validate(field string, days int) error {
	if days != 0 && (days < t.Min || days > t.Max) {
		return invalid(field, days, "%d to %d days, or 0 for the default of %d", t.Min, t.Max, t.Default)
	}
	return nil
}
