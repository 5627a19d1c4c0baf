package defender

import (
	"fmt"
	"strings"

	"github.com/defenderhub/defenderhub/internal/iotapi"
)

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

// check is a row of the table of checks.
type check struct {
	iotapi.CheckInfo
	// severity is the severity of the check's findings that arrive without one.
	severity Severity
}

var checks = [...]check{
	AuthenticatedCognitoRoleOverlyPermissive: {severity: Critical, CheckInfo: iotapi.CheckInfo{
		APIName: "AUTHENTICATED_COGNITO_ROLE_OVERLY_PERMISSIVE_CHECK", Property: "AuthenticatedCognitoRoleOverlyPermissiveCheck", Identifier: "cognitoIdentityPoolId",
		Remediation: "Limit the role that the identity pool gives to authenticated users to the AWS IoT actions and resources that they need."}},
	CACertificateExpiring: {severity: Medium, CheckInfo: iotapi.CheckInfo{
		APIName: "CA_CERTIFICATE_EXPIRING_CHECK", Property: "CaCertificateExpiringCheck", Identifier: "caCertificateId", OldName: "CA_CERT_APPROACHING_EXPIRATION_CHECK",
		Remediation: "Register a new CA certificate, issue device certificates from it, and deactivate the expiring one when no device needs it anymore."}},
	CACertificateKeyQuality: {severity: Critical, CheckInfo: iotapi.CheckInfo{
		APIName: "CA_CERTIFICATE_KEY_QUALITY_CHECK", Property: "CaCertificateKeyQualityCheck", Identifier: "caCertificateId",
		Remediation: "Deactivate the CA certificate, register one with a strong key, and replace the device certificates that the weak one signed."}},
	ConflictingClientIDs: {severity: High, CheckInfo: iotapi.CheckInfo{
		APIName: "CONFLICTING_CLIENT_IDS_CHECK", Property: "ConflictingClientIdsCheck", Identifier: "clientId", UnusualBehavior: true,
		Remediation: "Give each device its own client ID, preferably its thing name (the policy variable ${iot:Connection.Thing.ThingName} enforces that), and look for cloned devices."}},
	DeviceCertificateAge: {severity: Low, CheckInfo: iotapi.CheckInfo{
		APIName: "DEVICE_CERTIFICATE_AGE_CHECK", Property: "DeviceCertificateAgeCheck", Identifier: "deviceCertificateId",
		Threshold:   &iotapi.Threshold{APIKey: "CERT_AGE_THRESHOLD_IN_DAYS", Property: "CertAgeThresholdInDays", Min: 30, Max: 3652, Default: 365},
		Remediation: "Provision a new certificate, move the device to it, then deactivate the old one."}},
	DeviceCertificateExpiring: {severity: Medium, CheckInfo: iotapi.CheckInfo{
		APIName: "DEVICE_CERTIFICATE_EXPIRING_CHECK", Property: "DeviceCertificateExpiringCheck", Identifier: "deviceCertificateId", OldName: "DEVICE_CERT_APPROACHING_EXPIRATION_CHECK",
		Threshold:   &iotapi.Threshold{APIKey: "CERT_EXPIRATION_THRESHOLD_IN_DAYS", Property: "CertExpirationThresholdInDays", Min: 30, Max: 3652, Default: 30},
		Remediation: "Provision a new certificate before the old one expires, move the device to it, then deactivate the old one."}},
	DeviceCertificateKeyQuality: {severity: Critical, CheckInfo: iotapi.CheckInfo{
		APIName: "DEVICE_CERTIFICATE_KEY_QUALITY_CHECK", Property: "DeviceCertificateKeyQualityCheck", Identifier: "deviceCertificateId",
		Remediation: "Provision a certificate with a strong key, move the device to it, then deactivate and revoke the weak one."}},
	DeviceCertificateShared: {severity: Critical, CheckInfo: iotapi.CheckInfo{
		APIName: "DEVICE_CERTIFICATE_SHARED_CHECK", Property: "DeviceCertificateSharedCheck", Identifier: "deviceCertificateId", UnusualBehavior: true,
		Remediation: "Find out which client ID belongs to the real device, give each device its own certificate, then revoke the shared one."}},
	IntermediateCARevoked: {severity: Critical, CheckInfo: iotapi.CheckInfo{
		APIName: "INTERMEDIATE_CA_REVOKED_FOR_ACTIVE_DEVICE_CERTIFICATES_CHECK", Property: "IntermediateCaRevokedForActiveDeviceCertificatesCheck", OptIn: true,
		Remediation: "Find the active device certificates that the revoked intermediate CA issued, replace them, then deactivate them."}},
	IoTPolicyOverlyPermissive: {severity: Critical, CheckInfo: iotapi.CheckInfo{
		APIName: "IOT_POLICY_OVERLY_PERMISSIVE_CHECK", Property: "IotPolicyOverlyPermissiveCheck", Identifier: "policyVersionIdentifier",
		Remediation: "Create a policy version that allows each device only its own client ID and topics, with policy variables such as ${iot:Connection.Thing.ThingName}, and make it the default."}},
	IoTPolicyPotentialMisconfiguration: {severity: Medium, CheckInfo: iotapi.CheckInfo{
		APIName: "IOT_POLICY_POTENTIAL_MISCONFIGURATION_CHECK", Property: "IoTPolicyPotentialMisConfigurationCheck", Identifier: "policyVersionIdentifier",
		Remediation: "Replace MQTT wildcards in the policy's deny statements with IAM wildcards (* and ?), and test with a client that the topics are denied."}},
	RoleAliasAllowsAccessToUnusedServices: {severity: Medium, CheckInfo: iotapi.CheckInfo{
		APIName: "IOT_ROLE_ALIAS_ALLOWS_ACCESS_TO_UNUSED_SERVICES_CHECK", Property: "IotRoleAliasAllowsAccessToUnusedServicesCheck", Identifier: "roleAliasArn",
		Remediation: "Remove the permissions for services that no device used in the last year from the role of the role alias."}},
	RoleAliasOverlyPermissive: {severity: Critical, CheckInfo: iotapi.CheckInfo{
		APIName: "IOT_ROLE_ALIAS_OVERLY_PERMISSIVE_CHECK", Property: "IotRoleAliasOverlyPermissiveCheck", Identifier: "roleAliasArn",
		Remediation: "Limit the role of the role alias to the actions and resources that devices need. Use ${credentials-iot:ThingName} in its policies."}},
	LoggingDisabled: {severity: Low, CheckInfo: iotapi.CheckInfo{
		APIName: "LOGGING_DISABLED_CHECK", Property: "LoggingDisabledCheck", Identifier: "account",
		Remediation: "Turn on AWS IoT logging (SetV2LoggingOptions) with level WARN, INFO or DEBUG."}},
	RevokedCACertificateStillActive: {severity: Critical, CheckInfo: iotapi.CheckInfo{
		APIName: "REVOKED_CA_CERTIFICATE_STILL_ACTIVE_CHECK", Property: "RevokedCaCertificateStillActiveCheck", Identifier: "caCertificateId", OldName: "REVOKED_CA_CERT_CHECK",
		Remediation: "Deactivate the CA certificate in AWS IoT, find out why its issuer revoked it, and replace the device certificates that it signed."}},
	RevokedDeviceCertificateStillActive: {severity: Medium, CheckInfo: iotapi.CheckInfo{
		APIName: "REVOKED_DEVICE_CERTIFICATE_STILL_ACTIVE_CHECK", Property: "RevokedDeviceCertificateStillActiveCheck", Identifier: "deviceCertificateId", OldName: "REVOKED_DEVICE_CERT_CHECK",
		Remediation: "Deactivate the certificate in AWS IoT, find out why its issuer revoked it, and provision a new one if the device is not compromised."}},
	UnauthenticatedCognitoRoleOverlyPermissive: {severity: Critical, CheckInfo: iotapi.CheckInfo{
		APIName: "UNAUTHENTICATED_COGNITO_ROLE_OVERLY_PERMISSIVE_CHECK", Property: "UnauthenticatedCognitoRoleOverlyPermissiveCheck", Identifier: "cognitoIdentityPoolId",
		Remediation: "Limit the role that the identity pool gives to guests, or turn off unauthenticated access."}},
}

// Checks returns all 17 checks in the order of their API names.
func Checks() []Check {
	all := make([]Check, 0, len(checks)-1)
	for i := range checks[1:] {
		all = append(all, Check(i+1))
	}
	return all
}

// Known reports whether c is one of the checks.
func (c Check) Known() bool { return c > 0 && int(c) < len(checks) }

// Info returns the check's names, threshold and remediation, and the zero value for an unknown
// check.
func (c Check) Info() iotapi.CheckInfo {
	if !c.Known() {
		return iotapi.CheckInfo{}
	}
	return checks[c].CheckInfo
}

// Severity returns the severity of the check's findings that arrive without one, and
// SeverityDefault for an unknown check.
func (c Check) Severity() Severity {
	if !c.Known() {
		return SeverityDefault
	}
	return checks[c].severity
}

// String returns the API name.
func (c Check) String() string {
	if !c.Known() {
		return fmt.Sprintf("Check(%d)", int(c))
	}
	return checks[c].APIName
}

// ParseCheck parses an API name. The suffix _CHECK is optional. The older names in some AWS pages
// are accepted.
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
