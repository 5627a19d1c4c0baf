package iotcore

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// The statuses that UpdateCertificate accepts. Only ACTIVE certificates may connect.
const (
	Active   = types.CertificateStatusActive
	Inactive = types.CertificateStatusInactive
	Revoked  = types.CertificateStatusRevoked
)

// Certificate is a registered device certificate.
type Certificate struct {
	ID           string // SHA-256 of the DER encoding, in hex
	ARN          string
	X509         *x509.Certificate
	Status       types.CertificateStatus
	Created      time.Time
	LastModified time.Time
	version      int32
}

// CertificateID returns the ID that AWS IoT gives to a certificate.
func CertificateID(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// Certificate returns the registered certificate with an ID.
func (s *Service) Certificate(id string) (Certificate, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c, ok := s.certificates[id]
	if !ok {
		return Certificate{}, false
	}
	return *c, true
}

// Certificates returns all registered certificates, oldest first.
func (s *Service) Certificates() []Certificate {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.allCertificates()
}

func (s *Service) allCertificates() []Certificate {
	var out []Certificate
	for _, c := range s.certificates {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Certificate) int { return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID)) })
	return out
}

// OnCertificateStatus registers f, which is called after each change of a certificate's status. After
// a certificate's deletion, status is empty.
func (s *Service) OnCertificateStatus(f func(certificateID string, status types.CertificateStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onStatus = append(s.onStatus, f)
}

// notifyStatus must be called without the lock, because listeners may call the service.
func (s *Service) notifyStatus(id string, status types.CertificateStatus) {
	s.mu.RLock()
	listeners := slices.Clone(s.onStatus)
	s.mu.RUnlock()
	for _, f := range listeners {
		f(id, status)
	}
}

// createKeysAndCertificate creates a key pair and its certificate, which is INACTIVE by default.
func (s *Service) createKeysAndCertificate(in *iot.CreateKeysAndCertificateInput) (*iot.CreateKeysAndCertificateOutput, error) {
	x, keys, err := s.ca.issueDevice(s.now())
	if err != nil {
		return nil, errInternal.new("issue a certificate: %v", err)
	}
	id, now := CertificateID(x), s.now()
	c := &Certificate{ID: id, ARN: s.ARN("cert/" + id), X509: x, Status: Inactive, Created: now, LastModified: now, version: 1}
	if in.SetAsActive {
		c.Status = Active
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certificates[id] = c
	return &iot.CreateKeysAndCertificateOutput{
		CertificateArn: &c.ARN, CertificateId: &c.ID, CertificatePem: aws.String(pemText("CERTIFICATE", x.Raw)), KeyPair: keys,
	}, nil
}

// updateCertificate changes a certificate's status. A revoked certificate stays revoked (unverified:
// AWS says only that INACTIVE can be undone).
func (s *Service) updateCertificate(in *iot.UpdateCertificateInput) error {
	changed, err := s.setStatus(*in.CertificateId, in.NewStatus)
	if changed {
		s.notifyStatus(*in.CertificateId, in.NewStatus)
	}
	return err
}

func (s *Service) setStatus(id string, status types.CertificateStatus) (changed bool, err error) {
	if status != Active && status != Inactive && status != Revoked {
		return false, errInvalidRequest.new("The certificate status %q cannot be set; want ACTIVE, INACTIVE or REVOKED", status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.certificate(id)
	switch {
	case err != nil || c.Status == status:
		return false, err
	case c.Status == Revoked:
		return false, errCertificateState.new("The certificate is revoked and cannot become %s (id=%s)", status, c.ID)
	}
	c.Status, c.LastModified = status, s.now()
	c.version++
	return true, nil
}

func (s *Service) certificate(id string) (*Certificate, error) {
	return find(s.certificates, id, errNotFound, "The certificate given in certificateId does not exist (id=%s)")
}

func (s *Service) describeCertificate(in *iot.DescribeCertificateInput) (*iot.DescribeCertificateOutput, error) {
	c, err := s.certificate(*in.CertificateId)
	if err != nil {
		return nil, err
	}
	return &iot.DescribeCertificateOutput{CertificateDescription: &types.CertificateDescription{
		CertificateArn: &c.ARN, CertificateId: &c.ID, Status: c.Status, CertificatePem: aws.String(pemText("CERTIFICATE", c.X509.Raw)),
		OwnedBy: &s.account, CreationDate: aws.Time(c.Created), LastModifiedDate: aws.Time(c.LastModified), CustomerVersion: aws.Int32(c.version),
		CertificateMode: types.CertificateModeDefault, Validity: &types.CertificateValidity{NotBefore: &c.X509.NotBefore, NotAfter: &c.X509.NotAfter},
	}}, nil
}

// listCertificates lists certificates by creation date, by default the newest first.
func (s *Service) listCertificates(in *iot.ListCertificatesInput) (*iot.ListCertificatesOutput, error) {
	all := s.allCertificates()
	if !in.AscendingOrder {
		slices.Reverse(all)
	}
	page, next, err := Page(all, in.Marker, in.PageSize, DefaultPage)
	out := &iot.ListCertificatesOutput{NextMarker: next}
	for _, c := range page {
		out.Certificates = append(out.Certificates, types.Certificate{
			CertificateArn: &c.ARN, CertificateId: &c.ID, Status: c.Status, CertificateMode: types.CertificateModeDefault, CreationDate: &c.Created,
		})
	}
	return out, err
}

// deleteCertificate deletes a certificate that is not ACTIVE and is attached to no thing. It must
// have no policies either, unless ForceDelete is set.
func (s *Service) deleteCertificate(in *iot.DeleteCertificateInput) error {
	err := s.removeCertificate(*in.CertificateId, in.ForceDelete)
	if err == nil {
		s.notifyStatus(*in.CertificateId, "")
	}
	return err
}

func (s *Service) removeCertificate(id string, force bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.certificate(id)
	if err != nil {
		return err
	}
	if c.Status == Active {
		return errCertificateState.new("Certificate must be deactivated before deletion. (id=%s)", c.ID)
	}
	for _, t := range s.things {
		if t.principals[c.ARN] != "" {
			return errDeleteConflict.new("Things must be detached before deletion (arn=%s)", c.ARN)
		}
	}
	for _, p := range s.policies {
		if p.targets[c.ARN] && !force {
			return errDeleteConflict.new("Certificate policies must be detached before deletion (arn=%s)", c.ARN)
		}
	}
	for _, p := range s.policies {
		delete(p.targets, c.ARN)
	}
	delete(s.certificates, c.ID)
	return nil
}

// CA is the certificate authority of the local AWS IoT. It signs device certificates and the
// broker's server certificate.
type CA struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newCA() (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &CA{key: key}
	ca.certificate, err = ca.sign(&key.PublicKey, x509.Certificate{
		Subject: pkix.Name{CommonName: "Local AWS IoT Root CA", Organization: []string{"defenderhub"}},
		IsCA:    true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	})
	return ca, err
}

// sign issues a certificate for a public key. As in AWS IoT, it is valid to the end of 2049. The
// first certificate is the authority's own.
func (ca *CA) sign(public any, template x509.Certificate) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	if err != nil {
		return nil, err
	}
	template.SerialNumber, template.NotAfter = serial, time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
	if template.NotBefore.IsZero() { // a test's clock may start in the past
		template.NotBefore = time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	parent := ca.certificate
	if parent == nil {
		parent = &template
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, public, ca.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// PEM returns the root certificate that clients need to trust the broker.
func (ca *CA) PEM() string { return pemText("CERTIFICATE", ca.certificate.Raw) }

// Issued reports whether the authority issued a device's certificate, which is valid at a time.
func (ca *CA) Issued(certificate *x509.Certificate, at time.Time) bool {
	roots := x509.NewCertPool()
	roots.AddCert(ca.certificate)
	_, err := certificate.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}

// ServerCertificate issues a certificate for a server with these host names and addresses.
func (ca *CA) ServerCertificate(hosts ...string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := x509.Certificate{
		Subject:  pkix.Name{CommonName: "Local AWS IoT"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	certificate, err := ca.sign(&key.PublicKey, template)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate}, nil
}

// issueDevice creates an RSA key pair of 2048 bits and its certificate.
func (ca *CA) issueDevice(now time.Time) (*x509.Certificate, *types.KeyPair, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := ca.sign(&key.PublicKey, x509.Certificate{
		Subject:   pkix.Name{CommonName: "AWS IoT Certificate"},
		NotBefore: now.Add(-2 * time.Minute), // a device's clock may be slow
		KeyUsage:  x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return certificate, &types.KeyPair{
		PublicKey:  aws.String(pemText("PUBLIC KEY", public)),
		PrivateKey: aws.String(pemText("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))),
	}, err
}

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
