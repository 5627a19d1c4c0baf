package devicedefender

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
)

const (
	// lookBack is how far an on-demand audit looks into the history of connections.
	lookBack = 31 * 24 * time.Hour
	// sharedDelay is how much earlier the time that the check for shared certificates
	// looks at begins and ends.
	sharedDelay = 2 * time.Hour
)

// checkRun is what a check looks at.
type checkRun struct {
	at           time.Time // now, for everything but connections
	since, until time.Time // of connections
	days         int       // the threshold of checks that have one
	role         string    // the ARN of the role that reads
}

// issue is a resource that is not compliant, and why.
type issue struct {
	resource     types.NonCompliantResource
	related      []types.RelatedResource
	code, reason string
}

// auditCheck is how the checks of this package differ.
type auditCheck struct {
	// identifier is the field of the resource identifier that findings of the check
	// have, in the words of the API.
	identifier string
	// evaluate returns how many resources there are and what is wrong with some of
	// them. An error fails the check; its text is the message.
	evaluate func(*Service, checkRun) (total int, issues []issue, err error)
	// reads are the actions that the audit's role must allow.
	reads []string
}

// Which of the actions in the managed policy AWSIoTDeviceDefenderAudit a check needs AWS does
// not say. These read the resources that it is about, which says nothing of who connected
// (unverified).
var (
	caActions           = []string{"iot:ListCACertificates", "iot:DescribeCACertificate"}
	certificateActions  = []string{"iot:ListCertificates", "iot:DescribeCertificate"}
	identityPoolActions = []string{"cognito-identity:GetIdentityPoolRoles"}
	loggingActions      = []string{"iot:GetV2LoggingOptions"}
	policyActions       = []string{"iot:ListPolicies", "iot:GetPolicy"}
	roleAliasActions    = []string{"iot:ListRoleAliases", "iot:DescribeRoleAlias"}
)

var auditChecks = map[defender.Check]auditCheck{
	defender.AuthenticatedCognitoRoleOverlyPermissive:   {"cognitoIdentityPoolId", identityPools, identityPoolActions},
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
	defender.UnauthenticatedCognitoRoleOverlyPermissive: {"cognitoIdentityPoolId", identityPools, identityPoolActions},
}

// inconclusive is why a check fails, worded as a message of the API.
func inconclusive(format string, args ...any) error { return fmt.Errorf(format, args...) }

// insufficientPermissions is what the audit's role lacks.
type insufficientPermissions struct{ error }

// evaluate runs without the lock: checks may wait for others.
func (s *Service) evaluate(c defender.Check, run checkRun) (int, []issue, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, nil, inconclusive("Device Defender is stopping.")
	}
	if s.config.May != nil {
		if err := s.config.May(s.ctx, run.role, auditChecks[c].reads...); err != nil {
			return 0, nil, insufficientPermissions{err}
		}
	}
	return auditChecks[c].evaluate(s, run)
}

// noneHere is for resources that nobody can register with the local AWS IoT: CA
// certificates and role aliases. There are none, so none is wrong.
func noneHere(*Service, checkRun) (int, []issue, error) { return 0, nil, nil }

func identityPools(s *Service, _ checkRun) (int, []issue, error) {
	if s.config.IdentityPools == nil {
		return 0, nil, inconclusive("The local AWS does not know whether the account has Cognito identity pools.")
	}
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	n, err := s.config.IdentityPools(ctx)
	if err != nil {
		return 0, nil, inconclusive("The Cognito identity pools could not be counted: %w", err)
	}
	if n > 0 {
		return 0, nil, inconclusive("The local AWS cannot evaluate the roles of the account's %d Cognito identity pools.", n)
	}
	return 0, nil, nil
}

func loggingDisabled(s *Service, _ checkRun) (int, []issue, error) {
	options := s.config.Registry.Logging()
	on := false
	if options != nil && !options.DisableAllLogs && options.RoleArn != nil {
		logs := func(level types.LogLevel) bool { return level != "" && level != types.LogLevelDisabled }
		on = logs(options.DefaultLogLevel) || slices.ContainsFunc(options.EventConfigurations, func(e types.LogEventConfiguration) bool { return logs(e.LogLevel) })
	}
	if on {
		return 1, nil, nil
	}
	return 1, []issue{{
		resource: types.NonCompliantResource{ResourceType: types.ResourceTypeAccountSettings, ResourceIdentifier: &types.ResourceIdentifier{Account: &s.config.Account}},
		code:     "LOGGING_DISABLED", reason: "AWS IoT logs are not enabled.",
	}}, nil
}
