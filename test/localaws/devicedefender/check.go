package devicedefender

import (
	"context"
	"fmt"
	"time"

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
}

// issue is a resource that is not compliant, and why.
type issue struct {
	resource     Resource
	related      []Resource
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
}

var auditChecks = map[defender.Check]auditCheck{
	defender.AuthenticatedCognitoRoleOverlyPermissive:   {"cognitoIdentityPoolId", identityPools},
	defender.CACertificateExpiring:                      {"caCertificateId", noneHere},
	defender.CACertificateKeyQuality:                    {"caCertificateId", noneHere},
	defender.ConflictingClientIDs:                       {"clientId", conflictingClientIDs},
	defender.DeviceCertificateAge:                       {"deviceCertificateId", certificateAge},
	defender.DeviceCertificateExpiring:                  {"deviceCertificateId", certificateExpiring},
	defender.DeviceCertificateKeyQuality:                {"deviceCertificateId", certificateKeyQuality},
	defender.DeviceCertificateShared:                    {"deviceCertificateId", certificateShared},
	defender.IntermediateCARevoked:                      {"issuerCertificateIdentifier", intermediateCARevoked},
	defender.IoTPolicyOverlyPermissive:                  {"policyVersionIdentifier", overlyPermissivePolicies},
	defender.IoTPolicyPotentialMisconfiguration:         {"policyVersionIdentifier", misconfiguredPolicies},
	defender.RoleAliasAllowsAccessToUnusedServices:      {"roleAliasArn", noneHere},
	defender.RoleAliasOverlyPermissive:                  {"roleAliasArn", noneHere},
	defender.LoggingDisabled:                            {"account", loggingDisabled},
	defender.RevokedCACertificateStillActive:            {"caCertificateId", noneHere},
	defender.RevokedDeviceCertificateStillActive:        {"deviceCertificateId", revokedCertificates},
	defender.UnauthenticatedCognitoRoleOverlyPermissive: {"cognitoIdentityPoolId", identityPools},
}

// inconclusive is why a check fails, worded as a message of the API.
func inconclusive(format string, args ...any) error { return fmt.Errorf(format, args...) }

// evaluate runs without the lock: checks may wait for others.
func (s *Service) evaluate(c defender.Check, run checkRun) (int, []issue, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, nil, inconclusive("Device Defender is stopping.")
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
	options, set := s.config.Registry.Logging()
	on := set && !options.DisableAllLogs && options.RoleARN != "" && options.DefaultLogLevel != "" && options.DefaultLogLevel != "DISABLED"
	for _, e := range options.EventConfigurations {
		on = on || !options.DisableAllLogs && options.RoleARN != "" && e.LogLevel != "" && e.LogLevel != "DISABLED"
	}
	if on {
		return 1, nil, nil
	}
	return 1, []issue{{
		resource: Resource{ResourceType: AccountSettings, ResourceIdentifier: ResourceIdentifier{Account: s.config.Account}},
		code:     "LOGGING_DISABLED", reason: "AWS IoT logs are not enabled.",
	}}, nil
}
