package simulation

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// device is a device of the fleet that the self-managed engine watches.
type device struct {
	client, principal string
	registered        bool
	// connected reports whether a session is open, since when it is or is not.
	connected bool
	since     time.Time
	version   int
	reported  int
	// edit is the change of the registry about the device, edited its time. known reports whether
	// the engine knew the thing by then.
	edit   registryEdit
	edited time.Time
	known  bool
	// history has the telemetry that the reference judges.
	history history
}

// lateBound is the time within which telemetry that was judged is certainly not late: the
// documented bound, less a margin.
const lateBound = 2*time.Minute + batching + time.Minute - 10*time.Second

// batching is the batching window of the evaluator's event sources.
const batching = 10 * time.Second

// judged notes that telemetry has left the transport.
func (d *datum) judged() {
	since, h := time.UnixMilli(d.time), &d.of.history
	if d.resumed.After(since) {
		since = d.resumed
	}
	h.late = h.late || time.Since(since) > lateBound
	h.unfinished = slices.DeleteFunc(h.unfinished, func(o *datum) bool { return o == d })
}

// fleet schedules the telemetry of the engine's devices in the active period.
func (w *world) fleet(active time.Duration) {
	for i := range 2 + w.rng.IntN(4) {
		client := fmt.Sprintf("engine-%d", i)
		sum := sha256.Sum256([]byte(client))
		d := &device{client: client, principal: hex.EncodeToString(sum[:]), registered: w.chance(0.7)}
		if w.registry.certificates[d.principal] = true; d.registered {
			w.registry.things[client] = []string{d.principal}
		}
		w.join(d, active)
	}
}

// join lets a device connect and report.
func (w *world) join(d *device, active time.Duration) {
	w.fleetOf = append(w.fleetOf, d)
	w.after(w.between(time.Minute, 10*time.Minute), func() { w.connect(d, active) })
	w.after(w.between(time.Minute, 6*time.Minute), func() { w.report(d, active) })
}

// over reports whether the active period has ended.
func (w *world) over(active time.Duration) bool { return time.Since(w.begin) >= active }

// connect opens a session, which ends some time later. There are five minutes between two
// lifecycle events: their order is known despite the skew of AWS's clocks.
func (w *world) connect(d *device, active time.Duration) {
	if w.over(active) || d.retired() {
		return
	}
	d.version++
	w.session(d, true)
	w.after(w.between(5*time.Minute, 45*time.Minute), func() {
		w.session(d, false)
		w.after(w.between(5*time.Minute, 70*time.Minute), func() { w.connect(d, active) })
	})
}

// session publishes a lifecycle event.
func (w *world) session(d *device, connected bool) {
	d.connected, d.since = connected, time.Now()
	kind := "disconnected"
	if connected {
		kind = "connected"
	}
	at := time.Now()
	skew := w.between(-2*time.Minute, 0)
	if w.faults.strikes(lifecycleSkew, w.evaluator) {
		at = at.Add(skew)
	}
	ms := at.UnixMilli()
	payload := fmt.Sprintf(`{"clientId":%q,"timestamp":%d,"eventType":%q,"sessionIdentifier":"session-%s","versionNumber":%d,"principalIdentifier":%q,"ipAddress":"192.0.2.1"}`,
		d.client, ms, kind, d.client, d.version, d.principal)
	d.history.sessions = append(d.history.sessions, sessionEvent{ms, connected})
	w.telemetry(d, iotrule.Telemetry{Kind: iotrule.LifecycleEvent, Topic: "$aws/events/presence/" + kind + "/" + d.client, ClientID: iotrule.NotMQTT, Payload: []byte(payload)},
		func(int64) int64 { return ms })
}

// longestErrorAction is how late the error action of a rule may be. Its messages have the time of
// the queue.
const longestErrorAction = 20 * time.Second

// report publishes a device report. For the engine the next one is at least five minutes later, as
// AWS wants, even if the rule's error action delivers one of them.

func (w *world) report(d *device, active time.Duration) {
	if w.over(active) || d.retired() {
		return
	}
	next := 5*time.Minute + longestErrorAction + w.between(0, 20*time.Second)
	switch {
	case w.chance(0.05):
		next += w.between(20*time.Minute, 80*time.Minute)
	case w.chance(0.1):
		next *= 2
	}
	w.after(next, func() { w.report(d, active) })
	d.reported++
	r := reportEvent{
		ports: 1 + w.rng.IntN(5), odd: w.chance(0.4), connections: w.rng.IntN(15), unreadable: w.chance(0.25),
	}
	payload := r.payload(d.reported)
	if r.unreadable && w.chance(0.5) {
		payload = "no report"
	}
	w.telemetry(d, iotrule.Telemetry{Kind: iotrule.DeviceReport, Topic: "reports/" + d.client, ClientID: d.client, Principal: d.principal, SourceIP: "192.0.2.1", Payload: []byte(payload)},
		func(at int64) int64 {
			r.time, r.empty = at, payload == "no report"
			d.history.reports = append(d.history.reports, r)
			return at
		})
}

// payload returns the report as the device publishes it.
func (r reportEvent) payload(id int) string {
	if r.unreadable {
		return fmt.Sprintf(`{"header":{"report_id":%d,"version":"1.0"},"metrics":{"listening_tcp_ports":7}}`, id)
	}
	ports := []string{`{"port":22}`, `{"port":443}`, `{"port":1883}`, `{"port":8883}`, `{"port":80}`}[:r.ports]
	if r.odd {
		ports = append(ports[:len(ports):len(ports)], `{"port":31337}`)
	}
	return fmt.Sprintf(`{"header":{"report_id":%d,"version":"1.0"},"metrics":{"listening_tcp_ports":{"ports":[%s]},"tcp_connections":{"established_connections":{"total":%d}}}}`,
		id, strings.Join(ports, ","), r.connections)
}

// telemetry is the rules engine: it sends to the queue or to the stream, or through the error
// action. sent gets the time of the rule, and returns the time that the engine judges by.
func (w *world) telemetry(d *device, t iotrule.Telemetry, sent func(at int64) int64) {
	w.model.signals++
	t.ID = fmt.Sprintf("trace-%d", w.model.signals)
	if w.faults.strikes(ruleError, w.evaluator) {
		w.after(w.between(0, longestErrorAction), func() {
			rule := "lifecycle"
			if t.Kind == iotrule.DeviceReport {
				rule = reportsRule
			}
			m := w.telemetryErrors.send(errorAction(rule, t.Topic, t.ClientID, string(t.Payload)), nil)
			m.datum = &datum{of: d, time: sent(m.sent.UnixMilli()), arrived: m.sent}
		})
		return
	}
	t.Time = time.Now().UnixMilli()
	body, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	times := 1
	if w.faults.strikes(ruleDuplicate, w.evaluator) {
		times = 2
	}
	at := sent(t.Time)
	for range times {
		w.after(w.between(0, time.Second), func() {
			one := &datum{of: d, time: at, arrived: time.Now(), waits: true}
			if w.stream != nil {
				w.stream.put(d.client, body, one)
				return
			}
			w.telemetryQueue.send(string(body), nil).datum = one
		})
	}
}

const reportsRule = "Reports"
