package devicedefender_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/devicedefender"
)

// certificate creates an ACTIVE certificate that AWS IoT issues.
func (w *world) certificate() string {
	w.t.Helper()
	out := must[*iot.CreateKeysAndCertificateOutput](w.t)(w.CreateKeysAndCertificate(context.Background(), &iot.CreateKeysAndCertificateInput{SetAsActive: true}))
	return *out.CertificateId
}

func (w *world) setStatus(certificateID string, status types.CertificateStatus) {
	w.t.Helper()
	must[*iot.UpdateCertificateOutput](w.t)(w.UpdateCertificate(context.Background(), &iot.UpdateCertificateInput{CertificateId: &certificateID, NewStatus: status}))
}

// parameter sets the threshold of a check, in days.
func (w *world) parameter(check defender.Check, days string) {
	w.t.Helper()
	must[*iot.UpdateAccountAuditConfigurationOutput](w.t)(w.UpdateAccountAuditConfiguration(context.Background(), &iot.UpdateAccountAuditConfigurationInput{
		AuditCheckConfigurations: map[string]types.AuditCheckConfiguration{
			check.String(): {Enabled: true, Configuration: map[string]string{check.Info().Threshold.APIKey: days}},
		},
	}))
}

func TestOldCertificatesAreFound(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	old, revoked := w.certificate(), w.certificate()
	w.setStatus(revoked, types.CertificateStatusRevoked)
	for _, tt := range []struct {
		threshold string
		age       int // days
		found     bool
	}{
		{"", 0, false}, {"", 364, false}, {"", 365, true}, {"366", 365, false}, {"366", 366, true}, {"30", 400, true},
	} {
		w.step(start.AddDate(0, 0, tt.age).Sub(w.clock()))
		if tt.threshold != "" {
			w.parameter(defender.DeviceCertificateAge, tt.threshold)
		}
		status, counts, found := w.result(defender.DeviceCertificateAge)
		if want := []string{old + ":CERTIFICATE_PAST_AGE_THRESHOLD"}; tt.found && (counts != "1/1" || !slices.Equal(found, want)) || !tt.found && status != "COMPLETED_COMPLIANT" {
			t.Errorf("threshold %s, %d days old: %s %s %v", tt.threshold, tt.age, status, counts, found)
		}
	}
}

func TestExpiringCertificatesAreFound(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	end := time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
	id, revoked := w.certificate(), w.certificate()
	w.setStatus(revoked, types.CertificateStatusRevoked)
	for _, tt := range []struct {
		threshold string
		left      time.Duration
		code      string
	}{
		{"", 31 * 24 * time.Hour, ""},
		{"", 30 * 24 * time.Hour, "CERTIFICATE_APPROACHING_EXPIRATION"},
		{"60", 29 * 24 * time.Hour, "CERTIFICATE_APPROACHING_EXPIRATION"},
		{"60", 0, "CERTIFICATE_APPROACHING_EXPIRATION"},
		{"60", -time.Second, "CERTIFICATE_PAST_EXPIRATION"},
	} {
		w.step(end.Add(-tt.left).Sub(w.clock()))
		if tt.threshold != "" {
			w.parameter(defender.DeviceCertificateExpiring, tt.threshold)
		}
		task := w.audit(defender.DeviceCertificateExpiring)
		found := w.findings(task)
		if tt.code == "" {
			if len(found) != 0 {
				t.Errorf("%s left: found %v", tt.left, found)
			}
			continue
		}
		if len(found) != 1 || *found[0].ReasonForNonComplianceCode != tt.code || *found[0].NonCompliantResource.ResourceIdentifier.DeviceCertificateId != id ||
			found[0].NonCompliantResource.AdditionalInfo["EXPIRATION_TIME"] != fmt.Sprint(end.UnixMilli()) || found[0].Severity != types.AuditFindingSeverityMedium {
			t.Errorf("%s left: found %+v, want %s", tt.left, found, tt.code)
		}
	}
}

// Only certificates of other issuers can have weak keys or revoked issuers.
func TestCertificatesOfAWSIoTAreCompliant(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	w.certificate()
	for _, c := range []defender.Check{defender.DeviceCertificateKeyQuality, defender.IntermediateCARevoked, defender.RevokedDeviceCertificateStillActive} {
		if status, counts, _ := w.result(c); status != "COMPLETED_COMPLIANT" || counts != "0/1" {
			t.Errorf("%s: %s %s, want COMPLETED_COMPLIANT 0/1", c, status, counts)
		}
	}
}

func TestDisabledLoggingIsFound(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	if _, counts, found := w.result(defender.LoggingDisabled); counts != "1/1" || !slices.Equal(found, []string{account + ":LOGGING_DISABLED"}) {
		t.Errorf("%s %v, want 1/1 and LOGGING_DISABLED", counts, found)
	}
	_, err := w.SetV2LoggingOptions(t.Context(), &iot.SetV2LoggingOptionsInput{RoleArn: aws.String(auditRole), DefaultLogLevel: types.LogLevelWarn})
	wantCode(t, err, "NotImplementedException", "SetV2LoggingOptions")
}

// A check of resources that may exist but cannot be judged is never compliant.
func TestInconclusiveCheckFails(t *testing.T) {
	cognito := []defender.Check{defender.AuthenticatedCognitoRoleOverlyPermissive, defender.UnauthenticatedCognitoRoleOverlyPermissive}
	for _, tt := range []struct {
		name   string
		config devicedefender.Config
		checks []defender.Check
		want   string // in the message, "" for compliant
	}{
		{"no identity pool", devicedefender.Config{}, cognito, ""},
		{"no broker", devicedefender.Config{}, []defender.Check{defender.ConflictingClientIDs, defender.DeviceCertificateShared}, "no message broker"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.config)
			w.enable()
			for _, c := range tt.checks {
				d := w.describe(w.audit(c)).AuditDetails[c.String()]
				if tt.want == "" && d.CheckRunStatus != types.AuditCheckRunStatusCompletedCompliant ||
					tt.want != "" && (d.CheckRunStatus != types.AuditCheckRunStatusFailed || d.ErrorCode != nil || !strings.Contains(aws.ToString(d.Message), tt.want)) {
					t.Errorf("%s: %s %q, want the message %q", c, d.CheckRunStatus, aws.ToString(d.Message), tt.want)
				}
			}
		})
	}
}

// Checks of CA certificates, certificates of other issuers and role aliases are compliant because
// none can exist. When the local AWS IoT supports their registration, extend these checks.
func TestResourcesThatNoCheckReadsCannotBeCreated(t *testing.T) {
	w, ctx := newWorld(t, devicedefender.Config{}), context.Background()
	w.enable()
	_, err := w.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: aws.String("x")})
	wantCode(t, err, "NotImplementedException", "RegisterCACertificate")
	_, err = w.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: aws.String("x")})
	wantCode(t, err, "NotImplementedException", "RegisterCertificateWithoutCA")
	_, err = w.RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: aws.String("x")})
	wantCode(t, err, "NotImplementedException", "RegisterCertificate")
	_, err = w.CreateCertificateFromCsr(ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: aws.String("x")})
	wantCode(t, err, "NotImplementedException", "CreateCertificateFromCsr")
	_, err = w.CreateRoleAlias(ctx, &iot.CreateRoleAliasInput{RoleAlias: aws.String("a"), RoleArn: aws.String(auditRole)})
	wantCode(t, err, "NotImplementedException", "CreateRoleAlias")
	for _, c := range []defender.Check{
		defender.CACertificateExpiring, defender.CACertificateKeyQuality, defender.RevokedCACertificateStillActive,
		defender.RoleAliasOverlyPermissive, defender.RoleAliasAllowsAccessToUnusedServices,
	} {
		if status, counts, _ := w.result(c); status != "COMPLETED_COMPLIANT" || counts != "0/0" {
			t.Errorf("%s: %s %s, want COMPLETED_COMPLIANT 0/0", c, status, counts)
		}
	}
}
