package devicedefender

import (
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

const day = 24 * time.Hour

// usableCertificates are the certificates that the checks of AWS look at: ACTIVE ones
// (and PENDING_TRANSFER, a status that no certificate has here).
func (s *Service) usableCertificates() []iotcore.Certificate {
	return slices.DeleteFunc(s.config.Registry.Certificates(), func(c iotcore.Certificate) bool { return c.Status != iotcore.Active })
}

func certificateIssue(c iotcore.Certificate, code, reason string) issue {
	return issue{
		resource: types.NonCompliantResource{ResourceType: types.ResourceTypeDeviceCertificate, ResourceIdentifier: &types.ResourceIdentifier{DeviceCertificateId: &c.ID}},
		code:     code, reason: reason,
	}
}

// certificateAge finds certificates that were created as many days ago as the
// threshold says, or more.
func certificateAge(s *Service, run checkRun) (int, []issue, error) {
	certificates := s.usableCertificates()
	var issues []issue
	for _, c := range certificates {
		if age := run.at.Sub(c.Created); age >= time.Duration(run.days)*day {
			issues = append(issues, certificateIssue(c, "CERTIFICATE_PAST_AGE_THRESHOLD",
				fmt.Sprintf("Certificate is %d days old; the threshold is %d days.", age/day, run.days)))
		}
	}
	return len(certificates), issues, nil
}

// certificateExpiring finds certificates that have expired or will within the days of
// the threshold. EXPIRATION_TIME follows sample code of AWS (unverified).
func certificateExpiring(s *Service, run checkRun) (int, []issue, error) {
	certificates := s.usableCertificates()
	var issues []issue
	for _, c := range certificates {
		end := c.X509.NotAfter
		code, reason := "CERTIFICATE_APPROACHING_EXPIRATION", "Certificate is approaching its expiration."
		switch {
		case run.at.After(end):
			code, reason = "CERTIFICATE_PAST_EXPIRATION", "Certificate is past its expiration."
		case run.at.Add(time.Duration(run.days) * day).Before(end):
			continue
		}
		i := certificateIssue(c, code, reason)
		i.resource.AdditionalInfo = map[string]string{"EXPIRATION_TIME": milliseconds(end)}
		issues = append(issues, i)
	}
	return len(certificates), issues, nil
}

// soundCertificates is for what only certificates of others can have: weak keys, an
// intermediate CA, a place on an issuer's revocation list. Here AWS IoT itself made all keys
// and certificates, because registering others is refused.
func soundCertificates(s *Service, _ checkRun) (int, []issue, error) {
	return len(s.usableCertificates()), nil, nil
}
