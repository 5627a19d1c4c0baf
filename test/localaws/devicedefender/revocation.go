package devicedefender

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

const (
	// patience bounds what a check or a notification waits for: it only ends what hangs.
	patience = 2 * time.Minute
	// maxRevocationList is the size of the largest revocation list that is read, in bytes.
	maxRevocationList = 16 << 20
)

// revokedCertificates finds ACTIVE certificates that their issuer's revocation list
// names. A certificate says where that list is; one that says nothing cannot be on it.
// A list that cannot be read fails the check. Signatures of lists are not verified:
// issuers are not registered here.
func revokedCertificates(s *Service, run checkRun) (int, []issue, error) {
	certificates := s.usableCertificates()
	lists := map[string]*x509.RevocationList{}
	var issues []issue
	for _, c := range certificates {
		revoked, err := s.revokedByIssuer(c, run.at, lists)
		if err != nil {
			return 0, nil, inconclusive("It is not known whether certificate %s was revoked: %w", c.ID, err)
		}
		if revoked {
			issues = append(issues, certificateIssue(c, "CERTIFICATE_REVOKED_BY_ISSUER", "Certificate is revoked by its issuer but still active."))
		}
	}
	return len(certificates), issues, nil
}

// revokedByIssuer asks the first list that can be read: a certificate's distribution
// points are copies of one.
func (s *Service) revokedByIssuer(c iotcore.Certificate, at time.Time, lists map[string]*x509.RevocationList) (bool, error) {
	var faults []error
	for _, url := range c.X509.CRLDistributionPoints {
		list, err := s.revocationList(url, lists)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if !bytes.Equal(list.RawIssuer, c.X509.RawIssuer) {
			faults = append(faults, fmt.Errorf("the revocation list %s is of the issuer %s, not of %s", url, list.Issuer, c.X509.Issuer))
			continue
		}
		return slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
			return e.SerialNumber.Cmp(c.X509.SerialNumber) == 0 && !e.RevocationTime.After(at)
		}), nil
	}
	return false, errors.Join(faults...)
}

// revocationList fetches a list once in each run of the check.
func (s *Service) revocationList(url string, lists map[string]*x509.RevocationList) (*x509.RevocationList, error) {
	if list := lists[url]; list != nil {
		return list, nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	text, err := s.config.RevocationList(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("get the revocation list %s: %w", url, err)
	}
	if block, _ := pem.Decode(text); block != nil {
		text = block.Bytes
	}
	list, err := x509.ParseRevocationList(text)
	if err != nil {
		return nil, fmt.Errorf("read the revocation list %s: %w", url, err)
	}
	lists[url] = list
	return list, nil
}

func fetchRevocationList(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", response.Status)
	}
	return io.ReadAll(http.MaxBytesReader(nil, response.Body, maxRevocationList))
}
