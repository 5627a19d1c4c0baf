package devicedefender

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
)

var errNoBroker = inconclusive("The local AWS has no message broker whose connections could be looked at.")

// conflictingClientIDs finds the clients that lost their connection to another client
// with the same id.
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

// cutConnections tells whose connections were cut, latest first. AWS says that
// findings include principals and disconnect times, and shows none; the form follows
// that of shared certificates (unverified). Clients without a certificate are left out.
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

// certificateShared finds the certificates with which several clients were connected
// at the same time.
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

// concurrent reports whether two connections with different client ids overlap. Those
// that are still open are taken to end at until.
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
