package iotcore

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// CertificateStatus is the status of a device certificate. Only ACTIVE
// certificates may connect.
type CertificateStatus string

// The statuses that UpdateCertificate accepts.
const (
	Active   CertificateStatus = "ACTIVE"
	Inactive CertificateStatus = "INACTIVE"
	Revoked  CertificateStatus = "REVOKED"
)

// Certificate is a registered device certificate.
type Certificate struct {
	ID           string // SHA-256 of the DER form, in hex
	ARN          string
	X509         *x509.Certificate
	Status       CertificateStatus
	Created      time.Time
	LastModified time.Time
	version      int
}

// CertificateID returns the id that AWS IoT gives a certificate.
func CertificateID(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// Certificate returns a registered certificate by its id.
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
	var out []Certificate
	for _, c := range s.certificates {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Certificate) int { return strings.Compare(certificateOrder(a), certificateOrder(b)) })
	return out
}

func certificateOrder(c Certificate) string {
	return fmt.Sprintf("%020d %s", c.Created.UnixNano(), c.ID)
}

// OnCertificateStatus has f called after each change of a certificate's status
// and after its deletion, then with an empty status.
func (s *Service) OnCertificateStatus(f func(certificateID string, status CertificateStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onStatus = append(s.onStatus, f)
}

// tellStatus must be called without the lock: the listener may ask the service.
func (s *Service) tellStatus(id string, status CertificateStatus) {
	s.mu.RLock()
	listeners := slices.Clone(s.onStatus)
	s.mu.RUnlock()
	for _, f := range listeners {
		f(id, status)
	}
}

// KeyPair is the key of a new certificate, in PEM. It is not kept.
type KeyPair struct {
	PublicKey  string `json:"PublicKey"`
	PrivateKey string `json:"PrivateKey"`
}

// CreateKeysAndCertificateInput is the operation's input.
type CreateKeysAndCertificateInput struct {
	SetAsActive bool `query:"setAsActive"`
}

// CreateKeysAndCertificateOutput is the operation's output.
type CreateKeysAndCertificateOutput struct {
	CertificateARN string  `json:"certificateArn"`
	CertificateID  string  `json:"certificateId"`
	CertificatePEM string  `json:"certificatePem"`
	KeyPair        KeyPair `json:"keyPair"`
}

// CreateKeysAndCertificate makes a key pair and a certificate for it, INACTIVE
// unless the input says otherwise.
func (s *Service) CreateKeysAndCertificate(in *CreateKeysAndCertificateInput) (*CreateKeysAndCertificateOutput, error) {
	x, keys, err := s.ca.issueDevice(s.now())
	if err != nil {
		return nil, errInternal.new("issue a certificate: %v", err)
	}
	status := Inactive
	if in.SetAsActive {
		status = Active
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.register(x, status)
	return &CreateKeysAndCertificateOutput{
		CertificateARN: c.ARN, CertificateID: c.ID, CertificatePEM: certificatePEM(x), KeyPair: keys,
	}, nil
}

// RegisterCertificateWithoutCAInput is the operation's input.
type RegisterCertificateWithoutCAInput struct {
	CertificatePEM string            `json:"certificatePem"`
	Status         CertificateStatus `json:"status"`
}

// RegisterCertificateWithoutCAOutput is the operation's output.
type RegisterCertificateWithoutCAOutput struct {
	CertificateARN string `json:"certificateArn"`
	CertificateID  string `json:"certificateId"`
}

// RegisterCertificateWithoutCA registers a certificate that anybody signed.
// Default status: INACTIVE.
func (s *Service) RegisterCertificateWithoutCA(in *RegisterCertificateWithoutCAInput) (*RegisterCertificateWithoutCAOutput, error) {
	x, err := parseCertificatePEM(in.CertificatePEM)
	if err != nil {
		return nil, errCertificateFormat.new("The certificate is not valid: %v", err)
	}
	if in.Status == "" {
		in.Status = Inactive
	}
	if err := in.Status.settable(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.certificates[CertificateID(x)]; ok {
		err := errAlreadyExists.new("The certificate is already provisioned or registered (id=%s)", c.ID)
		err.ResourceARN, err.ResourceID = c.ARN, c.ID
		return nil, err
	}
	c := s.register(x, in.Status)
	return &RegisterCertificateWithoutCAOutput{CertificateARN: c.ARN, CertificateID: c.ID}, nil
}

func (s *Service) register(x *x509.Certificate, status CertificateStatus) *Certificate {
	id := CertificateID(x)
	now := s.now()
	c := &Certificate{ID: id, ARN: s.ARN("cert/" + id), X509: x, Status: status, Created: now, LastModified: now, version: 1}
	s.certificates[id] = c
	return c
}

func (status CertificateStatus) settable() error {
	switch status {
	case Active, Inactive, Revoked:
		return nil
	}
	return errInvalidRequest.new("The certificate status %q cannot be set; want ACTIVE, INACTIVE or REVOKED", status)
}

// UpdateCertificateInput is the operation's input.
type UpdateCertificateInput struct {
	CertificateID string            `uri:"certificateId"`
	NewStatus     CertificateStatus `query:"newStatus"`
}

// UpdateCertificate changes a certificate's status. A revoked certificate stays
// revoked (unverified; AWS says only of INACTIVE that it can be undone).
func (s *Service) UpdateCertificate(in *UpdateCertificateInput) (*struct{}, error) {
	if err := in.NewStatus.settable(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	c, err := s.certificate(in.CertificateID)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	if c.Status == Revoked && in.NewStatus != Revoked {
		s.mu.Unlock()
		return nil, errCertificateState.new("The certificate is revoked and cannot become %s (id=%s)", in.NewStatus, c.ID)
	}
	changed := c.Status != in.NewStatus
	if changed {
		c.Status, c.LastModified = in.NewStatus, s.now()
		c.version++
	}
	s.mu.Unlock()
	if changed {
		s.tellStatus(in.CertificateID, in.NewStatus)
	}
	return nil, nil
}

// certificate needs the lock.
func (s *Service) certificate(id string) (*Certificate, error) {
	c, ok := s.certificates[id]
	if !ok {
		return nil, errNotFound.new("The certificate given in certificateId does not exist (id=%s)", id)
	}
	return c, nil
}

// CertificateInput names a certificate.
type CertificateInput struct {
	CertificateID string `uri:"certificateId"`
}

// CertificateDescription is how DescribeCertificate tells of a certificate.
type CertificateDescription struct {
	CertificateARN   string            `json:"certificateArn"`
	CertificateID    string            `json:"certificateId"`
	Status           CertificateStatus `json:"status"`
	CertificatePEM   string            `json:"certificatePem"`
	OwnedBy          string            `json:"ownedBy"`
	CreationDate     Timestamp         `json:"creationDate"`
	LastModifiedDate Timestamp         `json:"lastModifiedDate"`
	CustomerVersion  int               `json:"customerVersion"`
	Validity         struct {
		NotBefore Timestamp `json:"notBefore"`
		NotAfter  Timestamp `json:"notAfter"`
	} `json:"validity"`
	CertificateMode string `json:"certificateMode"`
}

// DescribeCertificateOutput is the operation's output.
type DescribeCertificateOutput struct {
	CertificateDescription CertificateDescription `json:"certificateDescription"`
}

// DescribeCertificate tells everything about a certificate except its key.
func (s *Service) DescribeCertificate(in *CertificateInput) (*DescribeCertificateOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c, err := s.certificate(in.CertificateID)
	if err != nil {
		return nil, err
	}
	d := CertificateDescription{
		CertificateARN: c.ARN, CertificateID: c.ID, Status: c.Status, CertificatePEM: certificatePEM(c.X509),
		OwnedBy: s.account, CreationDate: Timestamp(c.Created), LastModifiedDate: Timestamp(c.LastModified),
		CustomerVersion: c.version, CertificateMode: "DEFAULT",
	}
	d.Validity.NotBefore, d.Validity.NotAfter = Timestamp(c.X509.NotBefore), Timestamp(c.X509.NotAfter)
	return &DescribeCertificateOutput{CertificateDescription: d}, nil
}

// ListedCertificate is an element of ListCertificatesOutput.
type ListedCertificate struct {
	CertificateARN  string            `json:"certificateArn"`
	CertificateID   string            `json:"certificateId"`
	Status          CertificateStatus `json:"status"`
	CertificateMode string            `json:"certificateMode"`
	CreationDate    Timestamp         `json:"creationDate"`
	order           string
}

// ListCertificatesOutput is the operation's output.
type ListCertificatesOutput struct {
	Certificates []ListedCertificate `json:"certificates"`
	NextMarker   string              `json:"nextMarker,omitempty"`
}

// ListCertificates lists certificates by creation date, newest first unless the
// input asks for the other order.
func (s *Service) ListCertificates(in *MarkerInput) (*ListCertificatesOutput, error) {
	var all []ListedCertificate
	for _, c := range s.Certificates() {
		all = append(all, ListedCertificate{
			CertificateARN: c.ARN, CertificateID: c.ID, Status: c.Status, CertificateMode: "DEFAULT",
			CreationDate: Timestamp(c.Created), order: certificateOrder(c),
		})
	}
	page, next, err := in.page(len(all), func(i int) string { return all[i].order })
	if err != nil {
		return nil, err
	}
	return &ListCertificatesOutput{Certificates: pick(all, page), NextMarker: next}, nil
}

// DeleteCertificateInput is the operation's input.
type DeleteCertificateInput struct {
	CertificateID string `uri:"certificateId"`
	ForceDelete   bool   `query:"forceDelete"`
}

// DeleteCertificate removes a certificate that is not ACTIVE and has neither
// things nor policies attached; ForceDelete overrules the policies only.
func (s *Service) DeleteCertificate(in *DeleteCertificateInput) (*struct{}, error) {
	s.mu.Lock()
	if err := s.removeCertificate(in); err != nil {
		s.mu.Unlock()
		return nil, err
	}
	s.mu.Unlock()
	s.tellStatus(in.CertificateID, "")
	return nil, nil
}

func (s *Service) removeCertificate(in *DeleteCertificateInput) error {
	c, err := s.certificate(in.CertificateID)
	if err != nil {
		return err
	}
	if c.Status == Active {
		return errCertificateState.new("Certificate must be deactivated before deletion. (id=%s)", c.ID)
	}
	for _, t := range s.things {
		if _, ok := t.principals[c.ARN]; ok {
			return errDeleteConflict.new("Things must be detached before deletion (arn=%s)", c.ARN)
		}
	}
	for _, p := range s.policies {
		if p.targets[c.ARN] && !in.ForceDelete {
			return errDeleteConflict.new("Certificate policies must be detached before deletion (arn=%s)", c.ARN)
		}
	}
	for _, p := range s.policies {
		delete(p.targets, c.ARN)
	}
	delete(s.certificates, c.ID)
	return nil
}
