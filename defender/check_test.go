package defender_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// documentedChecks is AWS's table of checks. The names lack _CHECK.
// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/device-defender-audit-checks.html
var documentedChecks = []struct {
	name     string
	severity defender.Severity
}{
	{"AUTHENTICATED_COGNITO_ROLE_OVERLY_PERMISSIVE", defender.Critical},
	{"CA_CERTIFICATE_EXPIRING", defender.Medium},
	{"CA_CERTIFICATE_KEY_QUALITY", defender.Critical},
	{"CONFLICTING_CLIENT_IDS", defender.High},
	{"DEVICE_CERTIFICATE_AGE", defender.Low},
	{"DEVICE_CERTIFICATE_EXPIRING", defender.Medium},
	{"DEVICE_CERTIFICATE_KEY_QUALITY", defender.Critical},
	{"DEVICE_CERTIFICATE_SHARED", defender.Critical},
	{"INTERMEDIATE_CA_REVOKED_FOR_ACTIVE_DEVICE_CERTIFICATES", defender.Critical},
	{"IOT_POLICY_OVERLY_PERMISSIVE", defender.Critical},
	{"IOT_POLICY_POTENTIAL_MISCONFIGURATION", defender.Medium},
	{"IOT_ROLE_ALIAS_ALLOWS_ACCESS_TO_UNUSED_SERVICES", defender.Medium},
	{"IOT_ROLE_ALIAS_OVERLY_PERMISSIVE", defender.Critical},
	{"LOGGING_DISABLED", defender.Low},
	{"REVOKED_CA_CERTIFICATE_STILL_ACTIVE", defender.Critical},
	{"REVOKED_DEVICE_CERTIFICATE_STILL_ACTIVE", defender.Medium},
	{"UNAUTHENTICATED_COGNITO_ROLE_OVERLY_PERMISSIVE", defender.Critical},
}

func TestChecksAreTheDocumentedOnes(t *testing.T) {
	if got, want := len(defender.Checks()), len(documentedChecks); got != want {
		t.Fatalf("%d checks, want %d", got, want)
	}
	for i, c := range defender.Checks() {
		want := documentedChecks[i]
		if c.String() != want.name+"_CHECK" || c.Severity() != want.severity {
			t.Errorf("check %d is %s, %s, want %s_CHECK, %s", i, c, c.Severity(), want.name, want.severity)
		}
	}
}

// The CloudFormation property is the API name in PascalCase, with one exception.
func TestCheckPropertiesFollowTheAPIName(t *testing.T) {
	exceptions := map[defender.Check]string{defender.IoTPolicyPotentialMisconfiguration: "IoTPolicyPotentialMisConfigurationCheck"}
	for _, c := range defender.Checks() {
		var want strings.Builder
		for word := range strings.SplitSeq(c.String(), "_") {
			want.WriteString(word[:1] + strings.ToLower(word[1:]))
		}
		property := want.String()
		if exception, ok := exceptions[c]; ok {
			property = exception
		}
		if got := c.Info().Property; got != property {
			t.Errorf("%s has the property %s, want %s", c, got, property)
		}
	}
	if got := defender.IoTPolicyOverlyPermissive.Info().Property; got != "IotPolicyOverlyPermissiveCheck" {
		t.Errorf("IoTPolicyOverlyPermissive has the property %s, want IotPolicyOverlyPermissiveCheck", got)
	}
}

func TestOnlyTwoChecksHaveAThreshold(t *testing.T) {
	want := map[defender.Check]iotapi.Threshold{
		defender.DeviceCertificateAge:      {APIKey: "CERT_AGE_THRESHOLD_IN_DAYS", Property: "CertAgeThresholdInDays", Min: 30, Max: 3652, Default: 365},
		defender.DeviceCertificateExpiring: {APIKey: "CERT_EXPIRATION_THRESHOLD_IN_DAYS", Property: "CertExpirationThresholdInDays", Min: 30, Max: 3652, Default: 30},
	}
	for _, c := range defender.Checks() {
		w, has := want[c]
		got := c.Info().Threshold
		if has != (got != nil) || has && *got != w {
			t.Errorf("%s has the threshold %v, want %v", c, got, w)
		}
	}
}

func TestUnusualBehaviorsAreThoseOfTheNativeIntegration(t *testing.T) {
	for _, c := range defender.Checks() {
		want := c == defender.ConflictingClientIDs || c == defender.DeviceCertificateShared
		if got := c.Info().UnusualBehavior; got != want {
			t.Errorf("%s: unusual behavior %t, want %t", c, got, want)
		}
	}
}

func TestRemediationFitsItsField(t *testing.T) {
	for _, c := range defender.Checks() {
		if n := utf8.RuneCountInString(c.Info().Remediation); n < 20 || n > 512 {
			t.Errorf("%s: %d characters of remediation, want 20 to 512", c, n)
		}
	}
}

func TestParseCheckReadsEveryName(t *testing.T) {
	valid := map[string]defender.Check{
		"REVOKED_CA_CERT_CHECK":                    defender.RevokedCACertificateStillActive,
		"REVOKED_DEVICE_CERT_CHECK":                defender.RevokedDeviceCertificateStillActive,
		"CA_CERT_APPROACHING_EXPIRATION_CHECK":     defender.CACertificateExpiring,
		"DEVICE_CERT_APPROACHING_EXPIRATION":       defender.DeviceCertificateExpiring,
		"DEVICE_CERT_APPROACHING_EXPIRATION_CHECK": defender.DeviceCertificateExpiring,
	}
	for _, c := range defender.Checks() {
		valid[c.String()] = c
		valid[strings.TrimSuffix(c.String(), "_CHECK")] = c
	}
	for name, want := range valid {
		if got, err := defender.ParseCheck(name); got != want || err != nil {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, want)
		}
	}
	for _, name := range []string{"", "_CHECK", "logging_disabled", "LOGGING", "LOGGING_DISABLED_CHECK_CHECK"} {
		if got, err := defender.ParseCheck(name); err == nil || got.Known() {
			t.Errorf("%q: got %v, want an error", name, got)
		}
	}
}

func ExampleParseCheck() {
	_, err := defender.ParseCheck("LOGGING")
	fmt.Println(err.Error()[:95] + "...")
	// Output: audit check "LOGGING", want one of AUTHENTICATED_COGNITO_ROLE_OVERLY_PERMISSIVE_CHECK, CA_CERTI...
}

func TestUnknownChecksHaveNoInfo(t *testing.T) {
	for _, c := range []defender.Check{-1, 0, 18} {
		if c.Known() || c.Info() != (iotapi.CheckInfo{}) {
			t.Errorf("%v: got %+v, want no information", c, c.Info())
		}
	}
}

func TestSeverities(t *testing.T) {
	labels := []string{"INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"}
	for i, label := range labels {
		want := defender.Severity(i + 1)
		for _, text := range []string{label, strings.ToLower(label)} {
			if got, err := defender.ParseSeverity(text); got != want || err != nil {
				t.Errorf("%s: parsed as %v, error %v, want %v", text, got, err, want)
			}
		}
		if want.String() != label || want.Or(defender.Low) != want {
			t.Errorf("%s: String returns %s, Or %s, want the same for both", label, want, want.Or(defender.Low))
		}
	}
	for _, text := range []string{"", "SEVERE", "LOW ", "5"} {
		if got, err := defender.ParseSeverity(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
	if got := defender.SeverityDefault.Or(defender.High); got != defender.High {
		t.Errorf("SeverityDefault.Or(High) is %v, want HIGH", got)
	}
	if got := defender.SeverityDefault.String() + defender.Severity(6).String() + defender.Severity(-1).String(); got != "Severity(6)Severity(-1)" {
		t.Errorf("unknown severities are written as %s, want an empty string for the default, and their numbers", got)
	}
}
