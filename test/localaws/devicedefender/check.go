package devicedefender

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
)

const (
	// lookBack is how far back an on-demand audit looks at connections.
	lookBack = 31 * 24 * time.Hour
	// sharedDelay is how much earlier the period of the check for shared certificates begins and
	// ends.
	sharedDelay = 2 * time.Hour
)

type checkRun struct {
	at           time.Time // for everything except connections
	since, until time.Time // the period of connections
	days         int       // the threshold, for checks that have one
	role         string    // the ARN of the audit's role
}

type issue struct {
	resource     types.NonCompliantResource
	related      []types.RelatedResource
	code, reason string
}

type auditCheck struct {
	// identifier is the API's name of the field that the resource identifiers of the check's
	// findings have.
	identifier string
	// evaluate returns the number of resources, and the issues of some of them. An error fails the
	// check, with its text as the message.
	evaluate func(*Service, checkRun) (total int, issues []issue, err error)
	// reads are the actions that the audit's role must allow.
	reads []string
}

// AWS does not document which actions of the managed policy AWSIoTDeviceDefenderAudit a check needs.
// These read the resources of the check. For connections there are none (unverified).
var (
	caActions           = []string{"iot:ListCACertificates", "iot:DescribeCACertificate"}
	certificateActions  = []string{"iot:ListCertificates", "iot:DescribeCertificate"}
	identityPoolActions = []string{"cognito-identity:GetIdentityPoolRoles"}
	loggingActions      = []string{"iot:GetV2LoggingOptions"}
	policyActions       = []string{"iot:ListPolicies", "iot:GetPolicy"}
	roleAliasActions    = []string{"iot:ListRoleAliases", "iot:DescribeRoleAlias"}
)

var auditChecks = map[defender.Check]auditCheck{
	defender.AuthenticatedCognitoRoleOverlyPermissive:   {"cognitoIdentityPoolId", noneHere, identityPoolActions},
	defender.CACertificateExpiring:                      {"caCertificateId", noneHere, caActions},
	defender.CACertificateKeyQuality:                    {"caCertificateId", noneHere, caActions},
	defender.ConflictingClientIDs:                       {"clientId", conflictingClientIDs, nil},
	defender.DeviceCertificateAge:                       {"deviceCertificateId", certificateAge, certificateActions},
	defender.DeviceCertificateExpiring:                  {"deviceCertificateId", certificateExpiring, certificateActions},
	defender.DeviceCertificateKeyQuality:                {"deviceCertificateId", soundCertificates, certificateActions},
	defender.DeviceCertificateShared:                    {"deviceCertificateId", certificateShared, certificateActions},
	defender.IntermediateCARevoked:                      {"issuerCertificateIdentifier", soundCertificates, certificateActions},
	defender.IoTPolicyOverlyPermissive:                  {"policyVersionIdentifier", overlyPermissivePolicies, policyActions},
	defender.IoTPolicyPotentialMisconfiguration:         {"policyVersionIdentifier", misconfiguredPolicies, policyActions},
	defender.RoleAliasAllowsAccessToUnusedServices:      {"roleAliasArn", noneHere, roleAliasActions},
	defender.RoleAliasOverlyPermissive:                  {"roleAliasArn", noneHere, roleAliasActions},
	defender.LoggingDisabled:                            {"account", loggingDisabled, loggingActions},
	defender.RevokedCACertificateStillActive:            {"caCertificateId", noneHere, caActions},
	defender.RevokedDeviceCertificateStillActive:        {"deviceCertificateId", soundCertificates, certificateActions},
	defender.UnauthenticatedCognitoRoleOverlyPermissive: {"cognitoIdentityPoolId", noneHere, identityPoolActions},
}

// insufficientPermissions is the error of a check whose role lacks permissions.
type insufficientPermissions struct{ error }

// evaluate runs without the lock, because checks may wait for other services.
func (s *Service) evaluate(c defender.Check, run checkRun) (int, []issue, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, nil, errors.New("Device Defender is stopping.") //nolint:staticcheck // a message of the API
	}
	if s.config.May != nil {
		if err := s.config.May(s.ctx, run.role, auditChecks[c].reads...); err != nil {
			return 0, nil, insufficientPermissions{err}
		}
	}
	return auditChecks[c].evaluate(s, run)
}

// noneHere checks resources that the local AWS does not support: CA certificates, role aliases and
// Cognito identity pools. There are none, so the check is compliant.
func noneHere(*Service, checkRun) (int, []issue, error) { return 0, nil, nil }

// loggingDisabled always finds an issue, because the local AWS IoT has no logging.
func loggingDisabled(s *Service, _ checkRun) (int, []issue, error) {
	return 1, []issue{{
		resource: types.NonCompliantResource{ResourceType: types.ResourceTypeAccountSettings, ResourceIdentifier: &types.ResourceIdentifier{Account: &s.config.Account}},
		code:     "LOGGING_DISABLED", reason: "AWS IoT logs are not enabled.",
	}}, nil
}

const day = 24 * time.Hour

// usableCertificates returns the certificates that AWS checks: those that are ACTIVE or
// PENDING_TRANSFER. No certificate here has the latter status.
func (s *Service) usableCertificates() []iotcore.Certificate {
	return slices.DeleteFunc(s.config.Registry.Certificates(), func(c iotcore.Certificate) bool { return c.Status != iotcore.Active })
}

func certificateIssue(c iotcore.Certificate, code, reason string) issue {
	return issue{
		resource: types.NonCompliantResource{ResourceType: types.ResourceTypeDeviceCertificate, ResourceIdentifier: &types.ResourceIdentifier{DeviceCertificateId: &c.ID}},
		code:     code, reason: reason,
	}
}

// certificateAge finds certificates whose age in days is at least the threshold.
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

// certificateExpiring finds certificates that have expired, or that expire within the days of the
// threshold. EXPIRATION_TIME is from AWS's sample code (unverified).
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

// soundCertificates checks for weak keys, intermediate CAs and revocation by the issuer. It finds
// nothing, because AWS IoT itself created all keys and certificates: it refuses to register
// others.
func soundCertificates(s *Service, _ checkRun) (int, []issue, error) {
	return len(s.usableCertificates()), nil, nil
}

var errNoBroker = errors.New("The local AWS has no message broker, so there are no connections to check.") //nolint:staticcheck // a message of the API

// conflictingClientIDs finds client IDs whose connection ended because another client took the ID.
func conflictingClientIDs(s *Service, run checkRun) (int, []issue, error) {
	connections := s.config.Connections
	if connections == nil {
		return 0, nil, errNoBroker
	}
	seen := map[string]bool{}
	for _, c := range s.config.Registry.Certificates() {
		for _, connection := range connections.ConnectionsOf(c.ID, run.since) {
			if connection.ConnectedAt.Before(run.until) {
				seen[connection.ClientID] = true
			}
		}
	}
	cut := map[string][]mqtt.Connection{}
	for _, c := range connections.Conflicts(run.since) {
		if !c.DisconnectedAt.After(run.until) {
			cut[c.ClientID] = append(cut[c.ClientID], c)
			seen[c.ClientID] = true
		}
	}
	var issues []issue
	for _, id := range slices.Sorted(maps.Keys(cut)) {
		issues = append(issues, issue{
			resource: types.NonCompliantResource{ResourceType: types.ResourceTypeClientId, ResourceIdentifier: &types.ResourceIdentifier{ClientId: &id}},
			related:  cutConnections(cut[id]),
			code:     "DUPLICATE_CLIENT_ID_ACROSS_CONNECTIONS", reason: "Multiple connections were made using the same client ID.",
		})
	}
	return len(seen), issues, nil
}

// cutConnections returns the certificates of the connections that ended, the latest first, without
// clients that have no certificate. AWS documents that findings include principals and disconnect
// times, but has no example; this form is that of shared certificates (unverified).
func cutConnections(connections []mqtt.Connection) []types.RelatedResource {
	var related []types.RelatedResource
	slices.SortStableFunc(connections, func(a, b mqtt.Connection) int { return b.DisconnectedAt.Compare(a.DisconnectedAt) })
	for _, c := range connections {
		if len(c.Principal) != 64 {
			continue
		}
		related = append(related, types.RelatedResource{
			ResourceType: types.ResourceTypeDeviceCertificate, ResourceIdentifier: &types.ResourceIdentifier{DeviceCertificateId: &c.Principal},
			AdditionalInfo: connectionTimes(c),
		})
	}
	return related
}

func connectionTimes(c mqtt.Connection) map[string]string {
	info := map[string]string{"CONNECTION_TIME": milliseconds(c.ConnectedAt)}
	if !c.DisconnectedAt.IsZero() {
		info["DISCONNECTION_TIME"] = milliseconds(c.DisconnectedAt)
	}
	return info
}

func milliseconds(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// certificateShared finds certificates with which several clients were connected at the same time.
func certificateShared(s *Service, run checkRun) (int, []issue, error) {
	if s.config.Connections == nil {
		return 0, nil, errNoBroker
	}
	certificates := s.usableCertificates()
	var issues []issue
	for _, c := range certificates {
		var within []mqtt.Connection
		for _, connection := range s.config.Connections.ConnectionsOf(c.ID, run.since) {
			if connection.ConnectedAt.Before(run.until) {
				within = append(within, connection)
			}
		}
		if !concurrent(within, run.until) {
			continue
		}
		slices.SortStableFunc(within, func(a, b mqtt.Connection) int { return b.ConnectedAt.Compare(a.ConnectedAt) })
		i := certificateIssue(c, "CERTIFICATE_SHARED_BY_MULTIPLE_DEVICES", "Certificate shared by one or more devices.")
		for _, connection := range within {
			i.related = append(i.related, types.RelatedResource{
				ResourceType: types.ResourceTypeClientId, ResourceIdentifier: &types.ResourceIdentifier{ClientId: &connection.ClientID},
				AdditionalInfo: connectionTimes(connection),
			})
		}
		issues = append(issues, i)
	}
	return len(certificates), issues, nil
}

// concurrent reports whether two connections with different client IDs overlap. Open connections
// count as ended at until.
func concurrent(connections []mqtt.Connection, until time.Time) bool {
	end := func(c mqtt.Connection) time.Time {
		if c.DisconnectedAt.IsZero() || c.DisconnectedAt.After(until) {
			return until
		}
		return c.DisconnectedAt
	}
	slices.SortFunc(connections, func(a, b mqtt.Connection) int {
		return cmp.Or(a.ConnectedAt.Compare(b.ConnectedAt), cmp.Compare(a.ClientID, b.ClientID))
	})
	for i, a := range connections {
		for _, b := range connections[i+1:] {
			if !b.ConnectedAt.Before(end(a)) {
				break
			}
			if a.ClientID != b.ClientID {
				return true
			}
		}
	}
	return false
}
