package devicedefender_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/devicedefender"
	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
)

// patience ends a hung test. A test that passes never waits that long.
const patience = 2 * time.Minute

func finish(t *testing.T, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatalf("the broker did not answer in %s", patience)
	}
	if err := token.Error(); err != nil {
		t.Fatal(err)
	}
}

// connect connects a client with a certificate.
func (w *world) connect(certificateID, clientID string) paho.Client {
	w.t.Helper()
	c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + w.broker.PlainAddress()).SetUsername(certificateID).
		SetClientID(clientID).SetAutoReconnect(false).SetConnectRetry(false).SetConnectTimeout(patience))
	finish(w.t, c.Connect())
	w.t.Cleanup(func() { c.Disconnect(0) })
	return c
}

// waitForOpen waits until the broker has exactly n open connections of a certificate.
func (w *world) waitForOpen(certificateID string, n int) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		left := 0
		for _, c := range w.broker.ConnectionsOf(certificateID, time.Time{}) {
			if c.DisconnectedAt.IsZero() {
				left++
			}
		}
		if left == n {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d connections of %s are open, want %d", left, certificateID, n)
		}
		time.Sleep(time.Millisecond)
	}
}

// device creates an ACTIVE certificate with a policy that allows everything.
func (w *world) device() string {
	w.t.Helper()
	id := w.certificate()
	name := "p" + id[:8]
	w.policy(name, allowAll)
	must[*iot.AttachPolicyOutput](w.t)(w.AttachPolicy(w.t.Context(), &iot.AttachPolicyInput{PolicyName: &name, Target: aws.String(w.registry.ARN("cert/" + id))}))
	return id
}

func TestConflictingClientIDsAreFound(t *testing.T) {
	w := newWorld(t, devicedefender.Config{Connections: useBroker})
	first, second := w.device(), w.device()
	w.connect(first, "before")
	w.connect(second, "before") // not recorded: the check is not enabled yet
	w.step(time.Minute)
	w.enable()

	w.connect(first, "alone")
	w.connect(first, "pump")
	connected := w.clock()
	w.step(time.Minute)
	if status, counts, _ := w.result(defender.ConflictingClientIDs); status != "COMPLETED_COMPLIANT" || counts != "0/3" {
		t.Errorf("before the conflict: %s %s", status, counts)
	}
	w.connect(second, "pump")
	cut := w.clock()
	w.waitForOpen(first, 1)

	task := w.audit(defender.ConflictingClientIDs)
	found := w.findings(task)
	if len(found) != 1 || *found[0].NonCompliantResource.ResourceIdentifier.ClientId != "pump" || found[0].Severity != types.AuditFindingSeverityHigh ||
		*found[0].ReasonForNonComplianceCode != "DUPLICATE_CLIENT_ID_ACROSS_CONNECTIONS" || len(found[0].RelatedResources) != 1 {
		t.Fatalf("found %+v, want one finding about pump", found)
	}
	r := found[0].RelatedResources[0]
	if *r.ResourceIdentifier.DeviceCertificateId != first || r.AdditionalInfo["CONNECTION_TIME"] != fmt.Sprint(connected.UnixMilli()) ||
		r.AdditionalInfo["DISCONNECTION_TIME"] != fmt.Sprint(cut.UnixMilli()) {
		t.Errorf("related %+v, want certificate %s with the times of its connection", r, first)
	}

	w.step(31 * 24 * time.Hour)
	if _, counts, _ := w.result(defender.ConflictingClientIDs); !strings.HasPrefix(counts, "1/") {
		t.Errorf("31 days later: counts %s, want one finding", counts)
	}
	w.step(time.Minute)
	if status, _, found := w.result(defender.ConflictingClientIDs); status != "COMPLETED_COMPLIANT" {
		t.Errorf("more than 31 days later: %s %v", status, found)
	}
}

func TestDisablingACheckDeletesItsData(t *testing.T) {
	w := newWorld(t, devicedefender.Config{Connections: useBroker})
	w.enable()
	id := w.device()
	w.connect(id, "pump")
	w.connect(id, "pump")
	w.waitForOpen(id, 1)
	if _, counts, _ := w.result(defender.ConflictingClientIDs); counts != "1/1" {
		t.Errorf("after the conflict: counts %s, want 1/1", counts)
	}
	w.step(time.Minute)
	for _, enabled := range []bool{false, true} {
		must[*iot.UpdateAccountAuditConfigurationOutput](t)(w.UpdateAccountAuditConfiguration(t.Context(), &iot.UpdateAccountAuditConfigurationInput{
			AuditCheckConfigurations: map[string]types.AuditCheckConfiguration{defender.ConflictingClientIDs.String(): {Enabled: enabled}},
		}))
	}
	if status, _, found := w.result(defender.ConflictingClientIDs); status != "COMPLETED_COMPLIANT" {
		t.Errorf("after it was disabled and enabled: %s %v", status, found)
	}
}

// The check sees connections with a delay of two hours.
func TestSharedCertificatesAreFound(t *testing.T) {
	w := newWorld(t, devicedefender.Config{Connections: useBroker})
	w.enable()
	shared, single := w.device(), w.device()
	w.connect(shared, "a")
	one := w.connect(single, "c")
	w.step(time.Minute)
	one.Disconnect(0)
	w.waitForOpen(single, 0)
	w.connect(single, "d") // after the other
	w.connect(shared, "b") // while a is connected
	w.step(2 * time.Hour)
	if status, _, found := w.result(defender.DeviceCertificateShared); status != "COMPLETED_COMPLIANT" {
		t.Errorf("too early: %s %v", status, found)
	}
	w.step(time.Minute)
	w.connect(shared, "late")
	task := w.audit(defender.DeviceCertificateShared)
	found := w.findings(task)
	if len(found) != 1 || *found[0].NonCompliantResource.ResourceIdentifier.DeviceCertificateId != shared || *found[0].ReasonForNonComplianceCode != "CERTIFICATE_SHARED_BY_MULTIPLE_DEVICES" {
		t.Fatalf("found %+v, want one finding about certificate %s", found, shared)
	}
	var clients []string
	for _, r := range found[0].RelatedResources {
		clients = append(clients, *r.ResourceIdentifier.ClientId+"@"+r.AdditionalInfo["CONNECTION_TIME"])
	}
	if want := []string{fmt.Sprintf("b@%d", start.Add(time.Minute).UnixMilli()), fmt.Sprintf("a@%d", start.UnixMilli())}; !slices.Equal(clients, want) {
		t.Errorf("related %v, want %v", clients, want)
	}
	if d := w.describe(task).AuditDetails[defender.DeviceCertificateShared.String()]; *d.TotalResourcesCount != 2 {
		t.Errorf("the check counts %d certificates, want 2", *d.TotalResourcesCount)
	}
}

// history is a broker with the connections that a test gives it.
type history []mqtt.Connection

func (h history) ConnectionsOf(certificateID string, since time.Time) []mqtt.Connection {
	return slices.DeleteFunc(slices.Clone(h), func(c mqtt.Connection) bool {
		return c.Principal != certificateID || !c.DisconnectedAt.IsZero() && c.DisconnectedAt.Before(since)
	})
}

func (h history) Conflicts(time.Time) []mqtt.Connection { return h }

func TestSharedMeansTwoClientsAtTheSameTime(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	id := w.certificate()
	for _, tt := range []struct {
		name   string
		past   []string // CLIENT FROM TO, in minutes; TO is - for a connection that is open
		shared bool
	}{
		{"one after the other", []string{"a 0 1", "b 1 2"}, false},
		{"overlapping", []string{"a 0 2", "b 1 3"}, true},
		{"within", []string{"a 0 9", "b 1 2"}, true},
		{"one client twice", []string{"a 0 2", "a 1 3"}, false},
		{"open", []string{"a 0 -", "b 1 2"}, true},
		{"open, then nobody", []string{"b 0 1", "a 1 -"}, false},
		{"beside an older one", []string{"a 0 9", "a 1 2", "b 3 4"}, true},
		{"too late to be seen", []string{"a 0 -", "b 200 -"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var past history
			for _, line := range tt.past {
				f := strings.Fields(line)
				minute := func(text string) time.Time {
					return start.Add(must[time.Duration](t)(time.ParseDuration(text + "m")))
				}
				c := mqtt.Connection{ClientID: f[0], Principal: id, ConnectedAt: minute(f[1])}
				if f[2] != "-" {
					c.DisconnectedAt = minute(f[2])
				}
				past = append(past, c)
			}
			w := newWorld(t, devicedefender.Config{Registry: w.registry, Connections: past})
			w.enable()
			w.step(5 * time.Hour)
			if _, counts, found := w.result(defender.DeviceCertificateShared); (counts == "1/1") != tt.shared {
				t.Errorf("%s %v, want shared %v", counts, found, tt.shared)
			}
		})
	}
}

func TestRelatedResourcesArePaged(t *testing.T) {
	var past history
	for i := range 23 {
		past = append(past, mqtt.Connection{ClientID: "pump", Principal: fmt.Sprintf("%064x", i), ConnectedAt: start, DisconnectedAt: start.Add(time.Duration(i) * time.Second)})
	}
	past = append(past, mqtt.Connection{ClientID: "pump", Principal: "anonymous", ConnectedAt: start, DisconnectedAt: start})
	w := newWorld(t, devicedefender.Config{Connections: past})
	w.enable()
	w.step(time.Minute)
	found := w.findings(w.audit(defender.ConflictingClientIDs))
	if len(found) != 1 || len(found[0].RelatedResources) != 10 {
		t.Fatalf("found %+v, want one finding with ten related resources", found)
	}
	var all []string
	pages := iot.NewListRelatedResourcesForAuditFindingPaginator(w, &iot.ListRelatedResourcesForAuditFindingInput{FindingId: found[0].FindingId, MaxResults: aws.Int32(9)})
	for pages.HasMorePages() {
		for _, r := range must[*iot.ListRelatedResourcesForAuditFindingOutput](t)(pages.NextPage(t.Context())).RelatedResources {
			all = append(all, *r.ResourceIdentifier.DeviceCertificateId)
		}
	}
	if len(all) != 23 || all[0] != fmt.Sprintf("%064x", 22) || all[22] != fmt.Sprintf("%064x", 0) {
		t.Errorf("%d related resources: %v", len(all), all)
	}
	_, err := w.ListRelatedResourcesForAuditFinding(t.Context(), &iot.ListRelatedResourcesForAuditFindingInput{FindingId: aws.String("none")})
	wantCode(t, err, "ResourceNotFoundException", "none")
}
