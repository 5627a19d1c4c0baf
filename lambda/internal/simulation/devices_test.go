package simulation

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// devices schedules the events of devices.
func (w *world) devices(active time.Duration) {
	clients := 2 + w.rng.IntN(5)
	n := 20 + w.rng.IntN(120)
	for range n {
		client := fmt.Sprintf("device-%d", w.rng.IntN(clients))
		at := w.between(0, active)
		var act func()
		switch w.rng.IntN(10) {
		case 0:
			act = func() { w.disconnects(client) }
		case 1:
			act = func() { w.isRefused(client) }
		case 2:
			act = func() { w.sendsGarbage(client) }
		case 3: // an alarm that flaps
			act = func() {
				for range 2 + w.rng.IntN(6) {
					w.reports(client)
				}
			}
		default:
			act = func() { w.reports(client) }
		}
		w.after(at, act)
	}
}

// reports publishes a device event that begins or ends.
func (w *world) reports(client string) {
	kind := fmt.Sprintf("type-%d", w.rng.IntN(3))
	w.model.signals++
	active := w.chance(0.6)
	text := fmt.Sprintf("signal %d", w.model.signals)
	state := "cleared"
	if active {
		state = "active"
	}
	payload := fmt.Sprintf(`{"type":%q,"state":%q,"description":%q}`, kind, state, text)
	w.rule(defender.DeviceEvents, "defenderhub/events/"+client, client, payload, func(at int64) {
		w.model.add(defender.DeviceEvents, statement{time: at, active: active, text: text}, client, kind)
	})
}

// disconnects lets AWS IoT end a client's connection for a security reason.
func (w *world) disconnects(client string) {
	reason := pick(w.scheduler, iotrule.SecurityDisconnectReasons)
	w.model.signals++
	payload := w.lifecycle("disconnected", client, `"disconnectReason":"`+reason+`"`)
	w.rule(defender.SecurityDisconnects, "$aws/events/presence/disconnected/"+client, iotrule.NotMQTT, payload, func(at int64) {
		w.model.add(defender.SecurityDisconnects, statement{time: at, active: true}, client, reason)
	})
}

// isRefused lets AWS IoT refuse a client's connection.
func (w *world) isRefused(client string) {
	const reason = "AUTHORIZATION_FAILED"
	w.model.signals++
	payload := w.lifecycle("connect_failed", client, `"connectFailureReason":"`+reason+`"`)
	w.rule(defender.RefusedConnections, "$aws/events/presence/connect_failed/"+client, iotrule.NotMQTT, payload, func(at int64) {
		w.model.add(defender.RefusedConnections, statement{time: at, active: true}, client, reason)
	})
}

func (w *world) lifecycle(event, client, more string) string {
	w.model.sessions++
	if event != "connect_failed" { // which has no version
		more = fmt.Sprintf(`"versionNumber":%d,%s`, w.model.sessions, more)
	}
	return fmt.Sprintf(`{"clientId":%q,"timestamp":%d,"eventType":%q,"sessionIdentifier":"session-%d","principalIdentifier":"principal of %s",%s}`,
		client, time.Now().UnixMilli(), event, w.model.sessions/3, client, more)
}

// sendsGarbage publishes an invalid device event.
func (w *world) sendsGarbage(client string) {
	w.model.signals++
	payload := pick(w.scheduler, []string{`{"type":"A B","n":%d}`, `no JSON %d`, `{"state":"active","time":%d}`})
	payload = fmt.Sprintf(payload, w.model.signals)
	w.rule(defender.DeviceEvents, "defenderhub/events/"+client, client, payload, func(int64) { w.model.invalid = append(w.model.invalid, payload) })
}

// rule is the rules engine. It sends the message of a rule, or of its error action, to the queue.
// sent is called with the time that orders the signal, in ms.
func (w *world) rule(source defender.Source, topic, client, payload string, sent func(at int64)) {
	now := time.Now().UnixMilli()
	if w.faults.strikes(ruleError, w.forwarder) {
		w.after(w.between(0, 30*time.Second), func() {
			m := w.errorQueue.send(errorAction(source.String(), topic, client, payload), nil)
			sent(m.sent.UnixMilli())
		})
		return
	}
	e := iotrule.Envelope{Source: source.String(), Topic: topic, Time: now, ClientID: client, Payload: []byte(payload)}
	if iotrule.Of(source).FromDevice {
		e.Principal, e.SourceIP = "principal of "+client, "192.0.2.1"
	}
	body, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings always marshal
	}
	times := 1
	if w.faults.strikes(ruleDuplicate, w.forwarder) {
		times = 2
	}
	for range times {
		w.after(w.between(0, time.Second), func() { w.ingest.send(string(body), nil) })
	}
	sent(now)
}

// errorAction returns the message of a rule's error action.
// https://docs.aws.amazon.com/iot/latest/developerguide/rule-error-handling.html
func errorAction(rule, topic, client, payload string) string {
	text, err := json.Marshal(map[string]any{
		"ruleName": rule, "topic": topic, "clientId": client, "cloudwatchTraceId": "00000000-0000-0000-0000-000000000000",
		"base64OriginalPayload": base64.StdEncoding.EncodeToString([]byte(payload)),
		"failures":              []any{map[string]any{"failedAction": "SqsAction", "failedResource": "queue", "errorMessage": "throttled"}},
	})
	if err != nil {
		panic(err)
	}
	return string(text)
}
