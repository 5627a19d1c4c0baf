package devicedefender_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
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

// issuer is a certificate authority that AWS IoT does not know.
type issuer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newIssuer(t *testing.T, name string) issuer {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: start.AddDate(-10, 0, 0), NotAfter: start.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))
	return issuer{must[*x509.Certificate](t)(x509.ParseCertificate(der)), key}
}

// issue signs a device certificate and registers it with AWS IoT as ACTIVE.
func (w *world) issue(ca issuer, public any, change func(*x509.Certificate)) string {
	w.t.Helper()
	if public == nil {
		public = &must[*ecdsa.PrivateKey](w.t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).PublicKey
	}
	template := &x509.Certificate{
		SerialNumber: must[*big.Int](w.t)(rand.Int(rand.Reader, big.NewInt(1<<62))), Subject: pkix.Name{CommonName: "device"},
		NotBefore: start.AddDate(-1, 0, 0), NotAfter: start.AddDate(5, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(template)
	}
	der := must[[]byte](w.t)(x509.CreateCertificate(rand.Reader, template, ca.certificate, public, ca.key))
	out := must[*iot.RegisterCertificateWithoutCAOutput](w.t)(w.RegisterCertificateWithoutCA(context.Background(), &iot.RegisterCertificateWithoutCAInput{
		CertificatePem: aws.String(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))), Status: types.CertificateStatusActive,
	}))
	return *out.CertificateId
}

// certificate makes an ACTIVE certificate of AWS IoT itself.
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
	end := start.AddDate(0, 0, 100)
	id := w.issue(newIssuer(t, "CA"), nil, func(c *x509.Certificate) { c.NotAfter = end })
	w.certificate() // to the end of 2049
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

// infineonModulus has the structure of a modulus of the Infineon library: a power of
// 65537 modulo the product of the first primes.
func infineonModulus() *big.Int {
	product := big.NewInt(1)
	for p := int64(2); p < 170; p++ {
		if big.NewInt(p).ProbablyPrime(20) {
			product.Mul(product, big.NewInt(p))
		}
	}
	modulus := new(big.Int).Exp(big.NewInt(65537), big.NewInt(123456789), product)
	high := new(big.Int).Lsh(big.NewInt(1), 2047)
	high.Div(high, product)
	return modulus.Add(modulus, high.Mul(high.Add(high, big.NewInt(2)), product))
}

func TestVulnerableKeysAreFound(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	sound := w.certificate()
	if status, counts, _ := w.result(defender.DeviceCertificateKeyQuality); status != "COMPLETED_COMPLIANT" || counts != "0/1" {
		t.Errorf("certificate of AWS IoT: %s %s", status, counts)
	}
	ca := newIssuer(t, "CA")
	weak := w.issue(ca, &rsa.PublicKey{N: infineonModulus(), E: 65537}, nil)
	_, counts, found := w.result(defender.DeviceCertificateKeyQuality)
	if counts != "1/2" || !slices.Equal(found, []string{weak + ":CERTIFICATE_KEY_VULNERABILITY_CVE-2017-15361"}) {
		t.Errorf("%s %v", counts, found)
	}
	foreign := w.issue(ca, nil, nil)
	d := w.describe(w.audit(defender.DeviceCertificateKeyQuality)).AuditDetails["DEVICE_CERTIFICATE_KEY_QUALITY_CHECK"]
	if d.CheckRunStatus != types.AuditCheckRunStatusFailed || !strings.Contains(*d.Message, foreign) || !strings.Contains(*d.Message, weak) || strings.Contains(*d.Message, sound) {
		t.Errorf("a key that cannot be judged: %s %s", d.CheckRunStatus, aws.ToString(d.Message))
	}
}

func TestIntermediateCAsOfUnknownChainsFailTheCheck(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	w.certificate()
	if status, _, _ := w.result(defender.IntermediateCARevoked); status != "COMPLETED_COMPLIANT" {
		t.Errorf("certificate of AWS IoT: %s", status)
	}
	id := w.issue(newIssuer(t, "Intermediate"), nil, nil)
	d := w.describe(w.audit(defender.IntermediateCARevoked)).AuditDetails[defender.IntermediateCARevoked.String()]
	if d.CheckRunStatus != types.AuditCheckRunStatusFailed || !strings.Contains(*d.Message, id) {
		t.Errorf("certificate of an unknown issuer: %s %s", d.CheckRunStatus, aws.ToString(d.Message))
	}
}

func TestCertificatesOnTheirIssuersRevocationListAreFound(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	ca := newIssuer(t, "CA")
	var list []byte
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if list == nil {
			http.Error(rw, "down", http.StatusServiceUnavailable)
			return
		}
		rw.Write(list)
	}))
	defer server.Close()
	revoke := func(by issuer, serials ...int64) []byte {
		template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: start, NextUpdate: start.AddDate(0, 1, 0)}
		for _, s := range serials {
			template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: start})
		}
		return must[[]byte](t)(x509.CreateRevocationList(rand.Reader, template, by.certificate, by.key))
	}
	var ids []string
	for serial := range int64(2) {
		ids = append(ids, w.issue(ca, nil, func(c *x509.Certificate) {
			c.SerialNumber, c.CRLDistributionPoints = big.NewInt(serial+100), []string{server.URL + "/crl"}
		}))
	}
	w.certificate() // has no list
	failedWith := func(text string) {
		t.Helper()
		d := w.describe(w.audit(defender.RevokedDeviceCertificateStillActive)).AuditDetails[defender.RevokedDeviceCertificateStillActive.String()]
		if d.CheckRunStatus != types.AuditCheckRunStatusFailed || !strings.Contains(*d.Message, text) {
			t.Errorf("%s %s, want FAILED and %q", d.CheckRunStatus, aws.ToString(d.Message), text)
		}
	}
	failedWith("503")
	list = []byte("no list")
	failedWith("read the revocation list")
	list = revoke(newIssuer(t, "Somebody else"), 101)
	failedWith("Somebody else")

	list = revoke(ca)
	if status, counts, _ := w.result(defender.RevokedDeviceCertificateStillActive); status != "COMPLETED_COMPLIANT" || counts != "0/3" {
		t.Errorf("nothing revoked: %s %s", status, counts)
	}
	list = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: revoke(ca, 101)})
	if _, counts, found := w.result(defender.RevokedDeviceCertificateStillActive); counts != "1/3" || !slices.Equal(found, []string{ids[1] + ":CERTIFICATE_REVOKED_BY_ISSUER"}) {
		t.Errorf("one revoked: %s %v", counts, found)
	}
	w.setStatus(ids[1], types.CertificateStatusInactive)
	if status, counts, _ := w.result(defender.RevokedDeviceCertificateStillActive); status != "COMPLETED_COMPLIANT" || counts != "0/2" {
		t.Errorf("deactivated: %s %s", status, counts)
	}
}

func TestDisabledLoggingIsFound(t *testing.T) {
	w, ctx := newWorld(t, devicedefender.Config{}), context.Background()
	w.enable()
	set := func(in *iot.SetV2LoggingOptionsInput) {
		must[*iot.SetV2LoggingOptionsOutput](t)(w.SetV2LoggingOptions(ctx, in))
	}
	for _, tt := range []struct {
		name string
		set  *iot.SetV2LoggingOptionsInput
		on   bool
	}{
		{"never set", nil, false},
		{"on", &iot.SetV2LoggingOptionsInput{RoleArn: aws.String(auditRole), DefaultLogLevel: types.LogLevelWarn}, true},
		{"level DISABLED", &iot.SetV2LoggingOptionsInput{DefaultLogLevel: types.LogLevelDisabled}, false},
		{"on again", &iot.SetV2LoggingOptionsInput{DefaultLogLevel: types.LogLevelError}, true},
		{"all disabled", &iot.SetV2LoggingOptionsInput{DisableAllLogs: true}, false},
	} {
		if tt.set != nil {
			set(tt.set)
		}
		_, counts, found := w.result(defender.LoggingDisabled)
		if tt.on && counts != "0/1" || !tt.on && (counts != "1/1" || !slices.Equal(found, []string{account + ":LOGGING_DISABLED"})) {
			t.Errorf("%s: %s %v", tt.name, counts, found)
		}
	}
}

// What can exist in the account and cannot be judged is never compliant.
func TestWhatCannotBeJudgedFails(t *testing.T) {
	cognito := []defender.Check{defender.AuthenticatedCognitoRoleOverlyPermissive, defender.UnauthenticatedCognitoRoleOverlyPermissive}
	for _, tt := range []struct {
		name   string
		config devicedefender.Config
		checks []defender.Check
		want   string // in the message, "" for compliant
	}{
		{"unknown whether there are identity pools", devicedefender.Config{}, cognito, "does not know"},
		{"an identity pool", devicedefender.Config{IdentityPools: func(context.Context) (int, error) { return 1, nil }}, cognito, "cannot evaluate"},
		{"identity pools cannot be counted", devicedefender.Config{IdentityPools: func(context.Context) (int, error) { return 0, errors.New("out of order") }}, cognito, "out of order"},
		{"no identity pool", devicedefender.Config{IdentityPools: func(context.Context) (int, error) { return 0, nil }}, cognito, ""},
		{"no broker", devicedefender.Config{}, []defender.Check{defender.ConflictingClientIDs, defender.DeviceCertificateShared}, "no message broker"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.config)
			w.enable()
			for _, c := range tt.checks {
				d := w.describe(w.audit(c)).AuditDetails[c.String()]
				if tt.want == "" && d.CheckRunStatus != types.AuditCheckRunStatusCompletedCompliant ||
					tt.want != "" && (d.CheckRunStatus != types.AuditCheckRunStatusFailed || d.ErrorCode != nil || !strings.Contains(aws.ToString(d.Message), tt.want)) {
					t.Errorf("%s: %s %s", c, d.CheckRunStatus, aws.ToString(d.Message))
				}
			}
		})
	}
}

// Checks on CA certificates and role aliases are compliant because there cannot be any.
// Whoever teaches the local AWS IoT to register them has to extend these checks.
func TestNobodyCanRegisterWhatNoCheckLooksAt(t *testing.T) {
	w, ctx := newWorld(t, devicedefender.Config{}), context.Background()
	w.enable()
	_, err := w.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: aws.String("x")})
	wantCode(t, err, "NotImplementedException", "RegisterCACertificate")
	_, err = w.CreateRoleAlias(ctx, &iot.CreateRoleAliasInput{RoleAlias: aws.String("a"), RoleArn: aws.String(auditRole)})
	wantCode(t, err, "NotImplementedException", "CreateRoleAlias")
	for _, c := range []defender.Check{
		defender.CACertificateExpiring, defender.CACertificateKeyQuality, defender.RevokedCACertificateStillActive,
		defender.RoleAliasOverlyPermissive, defender.RoleAliasAllowsAccessToUnusedServices,
	} {
		if status, counts, _ := w.result(c); status != "COMPLETED_COMPLIANT" || counts != "0/0" {
			t.Errorf("%s: %s %s", c, status, counts)
		}
	}
}
