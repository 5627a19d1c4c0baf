package handler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/deviceevent"
)

// shared counts all findings, the shared ones, and the severities of the shared ones.
func (r *rig) shared() (all, shared int, severities map[string]int) {
	severities = map[string]int{}
	for _, f := range r.hub.Findings() {
		all++
		if f.ProductFields["SharedFinding"] == "true" {
			shared++
			severities[f.Severity.Label]++
		}
	}
	return all, shared, severities
}

func TestDeviceThatInventsTypesRaisesABoundedNumberOfFindings(t *testing.T) {
	r := newRig(t)
	var batch []events.SQSMessage
	for i := range 1000 {
		batch = append(batch, r.device("pump-1", start, fmt.Sprintf(`{"type":"t-%d","severity":"CRITICAL"}`, i)))
	}
	r.must(r.device("pump-2", start, tamper))
	r.must(batch[:300]...)
	r.must(batch...)
	all, shared, severities := r.shared()
	if all != 1+deviceevent.MaxTypes+1 || shared != 1 || severities["MEDIUM"] != 1 {
		t.Errorf("%d findings, %d of them shared, with severities %v; want %d findings and one shared with MEDIUM", all, shared, severities, 1+deviceevent.MaxTypes+1)
	}
	writes := r.table.Writes()
	r.must(batch...)
	if got := r.table.Writes(); got != writes {
		t.Errorf("%d writes for duplicates, want none", got-writes)
	}
	// An event that clears one shared type does not end the others.
	r.must(r.device("pump-1", start, `{"type":"t-999","state":"cleared"}`))
	for _, f := range r.hub.Findings() {
		if f.RecordState != "ACTIVE" {
			t.Errorf("%s is %s", f.ID, f.RecordState)
		}
	}
	r.refresh(contract.DefaultQuietTime + 24*60*60*1e9)
	for _, f := range r.hub.Findings() {
		if shared := f.ProductFields["SharedFinding"] == "true"; shared != (f.RecordState == "ARCHIVED") {
			t.Errorf("%s is %s after the quiet time", f.ID, f.RecordState)
		}
	}
}

func TestClearedTypesDoNotHideARealOne(t *testing.T) {
	r := newRig(t)
	for i := range 2 * deviceevent.MaxTypes {
		r.must(r.device("pump-1", start, fmt.Sprintf(`{"type":"t-%d","state":"cleared"}`, i)))
	}
	r.must(r.device("pump-1", start, `{"type":"tamper","severity":"CRITICAL"}`))
	if got := r.hub.Findings(); len(got) != 1 || got[0].Severity.Label != "CRITICAL" {
		t.Errorf("findings %v, want one with CRITICAL", r.states())
	}
	// Its end may arrive first.
	r.must(r.device("pump-2", start, `{"type":"boot","state":"cleared"}`), r.device("pump-2", start.Add(-time.Second), `{"type":"boot"}`))
	r.want(map[string]string{"device-event/us-east-1/pump-1/tamper": "ACTIVE", "device-event/us-east-1/pump-2/boot": "ARCHIVED"})
}

func TestListedTypesHaveTheirSeveritiesAndOthersShareAFinding(t *testing.T) {
	r := newRig(t)
	r.handler.Severities = contract.Severities{Events: map[string]defender.Severity{"tamper": defender.High, "boot": defender.SeverityDefault}}
	r.must(
		r.device("pump-1", start, `{"type":"tamper","severity":"CRITICAL"}`),
		r.device("pump-1", start, `{"type":"boot","severity":"LOW"}`),
		r.device("pump-1", start, `{"type":"x","severity":"CRITICAL"}`),
		r.device("pump-1", start, `{"type":"y","severity":"CRITICAL"}`),
		r.device("pump-2", start, `{"type":"y","severity":"CRITICAL"}`),
		r.device("pump-3", start, `{"type":"z","state":"cleared"}`), // does not affect other types
	)
	got := map[string]string{}
	for _, f := range r.hub.Findings() {
		got[strings.TrimPrefix(f.ID, "defenderhub/device-event/us-east-1/")] = f.Severity.Label
	}
	want := map[string]string{"pump-1/tamper": "HIGH", "pump-1/boot": "LOW", "pump-1#more": "MEDIUM", "pump-2#more": "MEDIUM"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("severities %v, want %v", got, want)
	}
}

// A finding of a type that the deployment no longer lists, or that a version without a limit raised,
// still ends.
func TestClearedEventEndsAFindingFromBeforeTheLimit(t *testing.T) {
	const boot, cleared = "device-event/us-east-1/pump-1/boot", `{"type":"boot","state":"cleared"}`
	later := start.Add(time.Minute)
	r := newRig(t)
	r.must(r.device("pump-1", start, `{"type":"boot"}`))
	r.want(map[string]string{boot: "ACTIVE"})
	r.handler.Severities = contract.Severities{Events: map[string]defender.Severity{"tamper": defender.High}}
	writes := r.table.Writes()
	r.now = later
	r.must(r.device("pump-2", later, cleared))
	if got := r.table.Writes(); got != writes {
		t.Errorf("%d writes for an event that ends nothing", got-writes)
	}
	r.must(r.device("pump-1", later, cleared))
	r.want(map[string]string{boot: "ARCHIVED"})
}

func TestCertificateThatInventsClientIDsRaisesABoundedNumberOfFindings(t *testing.T) {
	r := newRig(t)
	refused := func(client, principal, publisher string) events.SQSMessage {
		body := fmt.Sprintf(`{"clientId":%q,"principalIdentifier":%q,"connectFailureReason":"AUTHORIZATION_FAILED"}`, client, principal)
		extra := map[string]any(nil)
		if publisher != "" {
			extra = map[string]any{"clientId": publisher}
		}
		return r.message(ruleBody(defender.RefusedConnections, "$aws/events/presence/connect_failed/"+client, body, extra))
	}
	for i := range 100 {
		client := fmt.Sprint("c", i)
		r.must(refused(client, "cert", ""), refused("n"+client, "", ""), refused(client, fmt.Sprint("p", i), "forger"))
	}
	if all, shared, _ := r.shared(); all != 3*(deviceevent.MaxTypes+1) || shared != 3 {
		t.Errorf("%d findings, %d of them shared; want %d and 3", all, shared, 3*(deviceevent.MaxTypes+1))
	}
}

// A device whose policy allows Basic Ingest invents things, and error codes for its own reports.
func TestClientThatInventsRefusedReportsRaisesABoundedNumberOfFindings(t *testing.T) {
	r := newRig(t)
	refused := func(thing, code, publisher string) events.SQSMessage {
		body := fmt.Sprintf(`{"thingName":%q,"status":"REJECTED","timestamp":1,"statusDetails":{"ErrorCode":%q}}`, thing, code)
		return r.message(ruleBody(defender.RejectedReports, "$aws/things/"+thing+"/defender/metrics/json/rejected", body, map[string]any{"clientId": publisher}))
	}
	for i := range 100 {
		r.must(refused("pump-1", fmt.Sprint("c", i), "pump-1"), refused(fmt.Sprint("t", i), "c", "pump-2"), refused(fmt.Sprint("real-", i), "InvalidPayload", "n/a"))
	}
	if all, shared, _ := r.shared(); all != 2*(deviceevent.MaxTypes+1)+100 || shared != 2 {
		t.Errorf("%d findings, %d of them shared; want %d and 2", all, shared, 2*(deviceevent.MaxTypes+1)+100)
	}
}

// A client that publishes refused connections of itself invents reasons and certificates.
func TestClientThatInventsItsRefusedConnectionsRaisesABoundedNumberOfFindings(t *testing.T) {
	r := newRig(t)
	for i := range 100 {
		body := fmt.Sprintf(`{"clientId":"pump-1","principalIdentifier":"p%d","connectFailureReason":"r%d"}`, i, i)
		r.must(r.message(ruleBody(defender.RefusedConnections, "$aws/events/presence/connect_failed/pump-1", body, map[string]any{"clientId": "pump-1"})))
	}
	if all, shared, _ := r.shared(); all != deviceevent.MaxTypes+1 || shared != 1 {
		t.Errorf("%d findings, %d of them shared; want %d and 1", all, shared, deviceevent.MaxTypes+1)
	}
}

// A policy or an authorizer that refuses many devices is no client that tries client IDs.
func TestRefusedConnectionsWithoutAPrincipalAreOfManyClients(t *testing.T) {
	r := newRig(t)
	for i := range deviceevent.MaxTypes + 10 {
		r.must(r.message(ruleBody(defender.RefusedConnections, fmt.Sprintf("$aws/events/presence/connect_failed/pump-%d", i), fmt.Sprintf(`{"clientId":"pump-%d","connectFailureReason":"AUTHORIZATION_FAILED"}`, i), nil)))
	}
	for _, f := range r.hub.Findings() {
		if f.ProductFields["SharedFinding"] == "true" && f.Title != "Clients without a principal were refused connections with more than 20 client IDs." {
			t.Errorf("title %q, want one about clients", f.Title)
		}
	}
	if all, shared, _ := r.shared(); all != deviceevent.MaxTypes+1 || shared != 1 {
		t.Errorf("%d findings, %d of them shared; want %d and 1", all, shared, deviceevent.MaxTypes+1)
	}
}

// Unidentified senders share one limit. The client with the ID "topic" has its own.
func TestUnidentifiedSendersShareALimit(t *testing.T) {
	r := newRig(t)
	for i := range deviceevent.MaxTypes + 1 {
		for _, client := range []string{"topic", "n/a"} {
			r.must(r.message(ruleBody(defender.DeviceEvents, "defenderhub/events/x", fmt.Sprintf(`{"type":"t-%d"}`, i), map[string]any{"clientId": client, "principal": ""})))
		}
	}
	titles := map[string]bool{}
	for _, f := range r.hub.Findings() {
		if f.ProductFields["SharedFinding"] == "true" {
			titles[f.Title] = true
		}
	}
	want := fmt.Sprintf(" reports more than %d event types.", deviceevent.MaxTypes)
	if all, shared, _ := r.shared(); all != 2*(deviceevent.MaxTypes+1) || shared != 2 || !titles["Device topic"+want] || !titles["An unidentified sender"+want] {
		t.Errorf("%d findings, %d of them shared; want %d and 2; titles %v", all, shared, 2*(deviceevent.MaxTypes+1), titles)
	}
}
