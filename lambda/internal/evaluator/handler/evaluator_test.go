package handler_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
)

func telnet() engine.Config {
	return profile(defender.Behavior{Name: "ports", Criteria: defender.ListeningTCPPorts.InPorts(443)})
}

func TestConformingReportCostsOneReadAndNoWrite(t *testing.T) {
	r := newRig(t, telnet())
	r.deliver(report("1", "pump", at(0), ports(1, 443)))
	r.table.took() // the first batch writes progress
	r.now = at(0.5)
	if again := r.deliver(report("2", "pump", at(0.5), ports(2, 443))); again != nil {
		t.Errorf("messages %v are retried, want none", again)
	}
	if calls := r.table.took(); len(calls) != 1 || calls["BatchGetItem"] != 1 {
		t.Errorf("calls %v, want one read", calls)
	}
	if len(r.registry.asked) > 0 || len(r.queue.bodies) > 0 || r.queue.asked > 0 {
		t.Errorf("asked the registry for %v and the queue %d times, sent %v; want none", r.registry.asked, r.queue.asked, r.queue.bodies)
	}
}

func TestBatchReadsEachThingOnce(t *testing.T) {
	r := newRig(t, telnet())
	unprocessed := map[string]bool{"thing#pump3": true, "thing#pump104": true}
	r.table.Throttle = func(_ string, key item) bool {
		name := str(key, contract.StatePartitionKey)
		first := unprocessed[name]
		delete(unprocessed, name)
		return first
	}
	var batch []events.SQSMessage
	for i := range 250 {
		batch = append(batch, report(fmt.Sprint(i), fmt.Sprintf("pump%d", i/2), at(0), ports(i+1, 443)))
	}
	r.deliver(batch...)
	if calls := r.table.took(); calls["BatchGetItem"] != 125+2 || calls["PutItem"] != 0 {
		t.Errorf("calls %v, want 125 reads and two of unprocessed keys", calls)
	}
}

func TestAlarmIsRaisedAndCleared(t *testing.T) {
	r := newRig(t, telnet())
	r.registry.by = map[string]registry.Thing{"cert-c7": {Name: "pump-7", Registered: true}}
	r.deliver(report("1", "c7", at(0), ports(1, 443, 23)))
	r.close(at(3))
	if len(r.queue.bodies) > 0 {
		t.Fatalf("sent %v before the lateness bound, want nothing", r.queue.bodies)
	}
	r.close(at(5))
	r.deliver(report("2", "c7", at(10), ports(2, 443)))
	r.close(at(20))
	if got := r.changes(); got != "c7 ports in-alarm, c7 ports alarm-cleared" {
		t.Fatalf("changes %q, want one alarm that is cleared", got)
	}
	for _, m := range r.messages() {
		// The closer raised the alarm, with the stored principal.
		if m.Registered == nil || !*m.Registered || m.Thing != "pump-7" || m.Transition.Profile != "Profile" || m.Transition.Thing != "c7" {
			t.Errorf("message %+v, want the registered thing pump-7", m)
		}
	}
	if it := r.table.of("c7"); it["outbox"] != nil || it[contract.StateDueAt] != nil || it[contract.StateExpiry] == nil {
		t.Errorf("the item %v is due, has an outbox or never expires", it)
	}
	if n := r.counted(contract.MetricTransitions); n != 2 {
		t.Errorf("%d transitions counted, want 2", n)
	}
	r.close(at(30))
	if len(r.queue.bodies) != 2 {
		t.Errorf("sent %v, want two messages", r.queue.bodies)
	}
}

func TestStateAndOutboxAreOneWrite(t *testing.T) {
	r := newRig(t, telnet())
	r.deliver(report("1", "pump", at(0), ports(1, 23)))
	r.table.took()
	r.queue.step = func(string, string, bool) error { return fmt.Errorf("no queue") }
	r.close(at(5))
	if calls := r.table.took(); calls["PutItem"] != 1 {
		t.Errorf("calls %v, want one write", calls)
	}
	it := r.table.of("pump")
	if !strings.Contains(str(it, "outbox"), `"in-alarm"`) || !strings.Contains(str(it, "state"), `"since"`) {
		t.Errorf("stored %v, want the alarm in the outbox and in the state", it)
	}
	if due := num(it, contract.StateDueAt); due > at(6).UnixMilli() {
		t.Errorf("the outbox is due at %v, want within a minute", time.UnixMilli(due).UTC())
	}
	r.queue.step = nil
	r.close(at(6))
	if got := r.changes(); got != "pump ports in-alarm" || r.table.of("pump")["outbox"] != nil {
		t.Errorf("changes %q, stored %v; want one alarm and no outbox", got, r.table.of("pump"))
	}
}

func TestRefusedMessagesStayInTheOutbox(t *testing.T) {
	r := newRig(t, telnet())
	r.deliver(report("1", "good", at(0), ports(1, 23)), report("2", "bad", at(0), ports(1, 23)))
	r.queue.refuse = `"clientId":"bad"`
	r.close(at(5))
	if r.table.of("good")["outbox"] != nil || r.table.of("bad")["outbox"] == nil || r.changes() != "good ports in-alarm" {
		t.Errorf("good %v, bad %v; want an outbox of bad alone", r.table.of("good"), r.table.of("bad"))
	}
	if n := r.counted(contract.MetricUnsent); n != 1 {
		t.Errorf("%d counted as unsent, want 1", n)
	}
	r.queue.refuse = ""
	r.close(at(6))
	if n := r.counted(contract.MetricUnsent); n != 1 || r.table.of("bad")["outbox"] != nil {
		t.Errorf("after the retry: %d counted as unsent, and the item of bad is %v; want 1 and no outbox", n, r.table.of("bad"))
	}
}

func TestTwoConcurrentEvaluators(t *testing.T) {
	r := newRig(t, profile(defender.Behavior{Name: "few", Criteria: defender.MessagesSent.LessThan(2, defender.Window5m)}))
	meanwhile := false
	r.table.step = func(operation, key string, done bool) error {
		if operation == "PutItem" && key == "thing#pump" && !done && !meanwhile {
			meanwhile = true
			r.deliver(message("2", "pump", at(1.2), 4))
		}
		return nil
	}
	if again := r.deliver(message("1", "pump", at(1), 4)); again != nil {
		t.Errorf("messages %v are retried, want none", again)
	}
	if calls := r.table.took(); !meanwhile || calls["GetItem"] != 1 {
		t.Errorf("calls %v, want a consistent read after the conflict", calls)
	}
	r.close(at(10))
	if got := r.changes(); got != "pump few in-alarm" {
		t.Errorf("changes %q, want the alarm of both messages", got)
	}
}

func TestMessageOfEndlessConflictsIsRetried(t *testing.T) {
	r := newRig(t, telnet())
	r.table.step = func(operation, key string, done bool) error {
		if operation == "PutItem" && key == "thing#pump" && !done {
			return conflict()
		}
		return nil
	}
	if again := r.deliver(report("1", "pump", at(0), ports(1, 23))); !slices.Equal(again, []string{"1"}) {
		t.Errorf("messages %v are retried, want 1", again)
	}
}

func TestMessagesOfFailedThingsAreRetried(t *testing.T) {
	r := newRig(t, telnet())
	r.table.step = func(operation, key string, done bool) error {
		if operation == "PutItem" && key == "thing#b" {
			return fmt.Errorf("no capacity")
		}
		return nil
	}
	batch := []events.SQSMessage{
		report("1", "a", at(0), ports(1, 23)), report("2", "b", at(0), ports(1, 23)), report("3", "c", at(0), ports(1, 443)), report("4", "b", at(1), ports(2, 443)),
	}
	if again := r.deliver(batch...); !slices.Equal(again, []string{"2", "4"}) {
		t.Errorf("messages %v are retried, want those of b", again)
	}
	if n := r.counted(contract.MetricFailed); n != 2 {
		t.Errorf("%d failures counted, want 2", n)
	}
	r.table.step = nil
	if again := r.deliver(batch[1], batch[3]); again != nil {
		t.Errorf("messages %v are retried, want none", again)
	}
	r.close(at(5))
	if got := r.changes(); got != "a ports in-alarm, b ports in-alarm" {
		t.Errorf("changes %q, want an alarm each of a and b", got)
	}
}

func TestBatchIsJudgedInTheOrderOfSending(t *testing.T) {
	r := newRig(t, telnet())
	// The later report is first in the batch. Judged in that order, the earlier one would be late.
	r.deliver(report("2", "pump", at(30), ports(2, 443)), report("1", "pump", at(0), ports(1, 23)))
	if n := r.counted(contract.MetricLate); n > 0 {
		t.Errorf("%d datapoints are late, want none", n)
	}
	r.close(at(40))
	if got := r.changes(); got != "pump ports in-alarm, pump ports alarm-cleared" {
		t.Errorf("changes %q, want one alarm that is cleared", got)
	}
}

func TestUnreadableReports(t *testing.T) {
	broken := []byte(`{"header":{"report_id":1,"version":"1.0"},"listening_tcp_ports":{"ports":[{"port":23}]}}`)
	for name, c := range map[string]struct {
		filter, topic, client string
		answered              string // the topic of the answer
	}{
		"a topic of the account":           {"reports/+", "reports/pump", "pump", "reports/pump/rejected"},
		"Basic Ingest":                     {"", "pump", "pump", ""},
		"AWS's reserved topic":             {"$aws/things/+/defender/metrics/json", "$aws/things/pump/defender/metrics/json", "pump", ""},
		"an answer that would be a report": {"reports/#", "reports/pump", "pump", ""},
		"over HTTPS":                       {"reports/+", "reports/pump", iotrule.NotMQTT, ""},
	} {
		config := telnet()
		config.ReportTopic = c.filter
		r := newRig(t, config)
		r.registry.by = map[string]registry.Thing{"cert": {Name: "pump", Registered: true}}
		for i := range 3 {
			when := at(float64(i) * 5)
			r.deliver(sent(fmt.Sprint(i), when, iotrule.Telemetry{Kind: iotrule.DeviceReport, Topic: c.topic, Time: when.UnixMilli(), ID: fmt.Sprint(i), ClientID: c.client, Principal: "cert", Payload: broken}))
		}
		if n := r.counted(contract.MetricUnreadableReports); n != 3 {
			t.Errorf("%s: %d unreadable reports counted, want 3", name, n)
		}
		r.close(at(20))
		if got := r.changes(); got != "pump reports-readable in-alarm" {
			t.Errorf("%s: changes %q", name, got)
		}
		if c.answered == "" {
			if len(r.iot.published) > 0 {
				t.Errorf("%s: answered %v, want no answer", name, r.iot.published)
			}
			continue
		}
		if len(r.iot.published) != 3 {
			t.Fatalf("%s: answered %v, want 3 answers", name, r.iot.published)
		}
		topic, payload, _ := strings.Cut(r.iot.published[0], " ")
		var answer struct {
			ThingName, Status string
			Timestamp         int64
			StatusDetails     struct{ ErrorCode, ErrorMessage string }
		}
		if err := json.Unmarshal([]byte(payload), &answer); err != nil || topic != c.answered || answer.ThingName != "pump" || answer.Status != "REJECTED" ||
			answer.Timestamp != start.UnixMilli() || answer.StatusDetails.ErrorCode != "InvalidPayload" || !strings.Contains(answer.StatusDetails.ErrorMessage, "metrics: missing") {
			t.Errorf("%s: answer on %s: %s, error %v", name, topic, payload, err)
		}
		if strings.Contains(r.logs.String(), "listening") {
			t.Errorf("%s: the device's text is in the log %s", name, r.logs.String())
		}
	}
}

func TestReportWhoseAnswerFailsIsNotRetried(t *testing.T) {
	config := telnet()
	config.ReportTopic = "reports/+"
	r := newRig(t, config)
	r.iot.fails = fmt.Errorf("no permission")
	if again := r.deliver(report("1", "pump", at(0), []byte("{"))); again != nil || r.counted(contract.MetricUnanswered) != 1 {
		t.Errorf("messages %v are retried, %d counted as unanswered; want none and 1", again, r.counted(contract.MetricUnanswered))
	}
}

func TestUnjudgedDatapointsAreCounted(t *testing.T) {
	r := newRig(t, profile(
		defender.Behavior{Name: "ports", Criteria: defender.ListeningTCPPorts.InPorts(443)},
		defender.Behavior{Name: "sent", Criteria: defender.MessagesSent.LessThan(100, defender.Window5m)},
		defender.Behavior{Name: "heat", Criteria: defender.CustomNumber("heat").LessThan(80, defender.Window5m)},
		defender.Behavior{Name: "p90", Criteria: defender.AllBytesOut.LessThanPercentile(defender.P90, defender.Window5m)},
	))
	late := message("3", "pump", at(20), 4)
	late.Attributes["SentTimestamp"] = fmt.Sprint(at(30).UnixMilli())
	early := message("4", "pump", at(60), 4)
	early.Attributes["SentTimestamp"] = fmt.Sprint(at(30).UnixMilli())
	again := r.deliver(
		report("1", "pump", at(30), []byte(`{"hed":{"rid":1,"v":"1.0"},"met":{"ns":{"bo":-5,"bi":3}},"cmet":{"heat":[{"string_list":["hot"]}]}}`)),
		report("2", "pump", at(30), []byte(`{"hed":{"rid":2,"v":"1.0"},"met":{"ns":{"bo":5}}}`)),
		late, early,
		events.SQSMessage{MessageId: "5", Body: "{}", EventSource: "aws:sqs", Attributes: map[string]string{"SentTimestamp": "1"}},
		sent("6", at(30), iotrule.Telemetry{Kind: iotrule.LifecycleEvent, Topic: "t", Payload: []byte(`{"eventType":"connected"}`)}),
	)
	if again != nil {
		t.Errorf("messages %v are retried, want none", again)
	}
	for metric, want := range map[string]int{
		contract.MetricReceived: 6, contract.MetricDiscarded: 1, contract.MetricUnread: 1, contract.MetricUnjudged: 1, contract.MetricUnreadable: 2,
		contract.MetricLate: 3, contract.MetricEarly: 3, contract.MetricFailed: 0, // a message has a size, a number, and an address
	} {
		if n := r.counted(metric); n != want {
			t.Errorf("%s counts %d, want %d", metric, n, want)
		}
	}
}

func TestMetricsAreSplitByKind(t *testing.T) {
	r := newRig(t, telnet())
	r.deliver(report("1", "pump", at(0), ports(1, 443)))
	want := `"Dimensions":[["Evaluator"],["Evaluator","Source"]],"Metrics":[{"Name":"Received","Unit":"Count"}]`
	if text := r.metrics.String(); !strings.Contains(text, want) || !strings.Contains(text, `"Source":"report"`) {
		t.Errorf("metrics %s, want %s for reports", text, want)
	}
}

func TestSenderOverHTTPSIsTheThingOfItsPrincipal(t *testing.T) {
	r := newRig(t, telnet())
	r.registry.by = map[string]registry.Thing{"cert-a": {Name: "pump", Registered: true}}
	overHTTPS := func(id, principal string) events.SQSMessage {
		return sent(id, at(0), iotrule.Telemetry{Kind: iotrule.DeviceReport, Topic: "t", Time: start.UnixMilli(), ID: id, ClientID: iotrule.NotMQTT, Principal: principal, Payload: ports(1, 23)})
	}
	if again := r.deliver(overHTTPS("1", "cert-a"), overHTTPS("2", "cert-b")); again != nil || r.counted(contract.MetricUnresolved) != 1 {
		t.Errorf("messages %v are retried, %d unresolved; want none and 1", again, r.counted(contract.MetricUnresolved))
	}
	r.registry.fails = throttled
	if again := r.deliver(overHTTPS("3", "cert-c")); !slices.Equal(again, []string{"3"}) {
		t.Errorf("throttled: messages %v are retried, want 3", again)
	}
	r.registry.fails = denied
	if again := r.deliver(overHTTPS("4", "cert-d")); again != nil || r.counted(contract.MetricUnresolved) != 3 {
		t.Errorf("denied: messages %v are retried, %d unresolved; want none and 3", again, r.counted(contract.MetricUnresolved))
	}
	r.registry.fails = nil
	r.close(at(10))
	if got := r.changes(); got != "pump ports in-alarm" {
		t.Errorf("changes %q, want the alarm of pump", got)
	}
}

var (
	throttled   = answered(http.StatusTooManyRequests, "ThrottlingException")
	unavailable = answered(http.StatusInternalServerError, "InternalFailureException")
	denied      = answered(http.StatusForbidden, "AccessDeniedException")
)

// answered returns the AWS SDK's error for a response of AWS IoT.
func answered(status int, code string) error {
	_, err := iot.New(iot.Options{
		Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1,
		HTTPClient: smithyhttp.ClientDoFunc(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Header: http.Header{"X-Amzn-Errortype": {code}}, Body: io.NopCloser(strings.NewReader("{}"))}, nil
		}),
	}).DescribeThing(context.Background(), &iot.DescribeThingInput{ThingName: aws.String("pump")})
	return fmt.Errorf("DescribeThing: %w", err)
}

// A message of an error action has no time, and sometimes no ID.
func TestErrorActionIsJudged(t *testing.T) {
	r := newRig(t, profile(defender.Behavior{Name: "ports", Criteria: defender.ListeningTCPPorts.InPorts(443)}, defender.Behavior{Name: "few", Criteria: defender.MessagesSent.LessThan(2, defender.Window5m)}))
	byErrorAction := func(id, rule string, payload []byte) events.SQSMessage {
		m := sent(id, at(1), iotrule.Telemetry{})
		m.Body = fmt.Sprintf(`{"ruleName":%q,"topic":"t","clientId":"pump","base64OriginalPayload":%q,"failures":[]}`, rule, base64.StdEncoding.EncodeToString(payload))
		return m
	}
	r.deliver(byErrorAction("1", "Messages", []byte("a")), byErrorAction("2", "Messages", []byte("b")), byErrorAction("3", "Reports", ports(1, 23)))
	r.close(at(20))
	if got := r.changes(); got != "pump few in-alarm, pump few alarm-cleared, pump ports in-alarm" {
		t.Fatalf("changes %q", got)
	}
	if m := r.messages()[2]; m.Transition.Time != at(1).UnixMilli() {
		t.Errorf("the report counts at %v, want the time of its message", time.UnixMilli(m.Transition.Time).UTC())
	}
}

// With Basic Ingest, a device sends a message to any rule that its policy allows, on any topic. Such a
// message must not affect another device.
func TestEventsPublishedByDevicesAreRejected(t *testing.T) {
	attempts := defender.Behavior{Name: "attempts", Criteria: defender.ConnectionAttempts.LessThan(1, defender.Window5m)}
	event := fmt.Sprintf(`{"clientId":"victim","timestamp":%d,"eventType":"connected","sessionIdentifier":"s"}`, at(1).UnixMilli())
	const topic = "$aws/events/presence/connected/victim"
	direct := func(client string) string {
		return sent("1", at(1), iotrule.Telemetry{Kind: iotrule.LifecycleEvent, Topic: topic, Time: at(1).UnixMilli(), ClientID: client, Payload: []byte(event)}).Body
	}
	byErrorAction := func(rule, client string) string {
		return fmt.Sprintf(`{"ruleName":%q,"topic":%q,"clientId":%q,"base64OriginalPayload":%q}`, rule, topic, client, base64.StdEncoding.EncodeToString([]byte(event)))
	}
	for name, c := range map[string]struct {
		body   string
		want   string
		metric string
	}{
		"of AWS IoT":                                  {direct(iotrule.NotMQTT), "victim attempts in-alarm, victim attempts alarm-cleared", ""},
		"of AWS IoT, in the client's name":            {direct("victim"), "victim attempts in-alarm, victim attempts alarm-cleared", ""},
		"of a device":                                 {direct("attacker"), "", contract.MetricUnreadable},
		"of AWS IoT, by an error action":              {byErrorAction("Lifecycle", iotrule.NotMQTT), "victim attempts in-alarm, victim attempts alarm-cleared", ""},
		"of a device, by an error action":             {byErrorAction("Lifecycle", "attacker"), "", contract.MetricUnreadable},
		"report with an event's topic":                {byErrorAction("Reports", "attacker"), "", contract.MetricUnreadableReports},
		"report with an event's topic, over HTTPS":    {byErrorAction("Reports", iotrule.NotMQTT), "", contract.MetricUnreadableReports},
		"report with an event's topic, of the victim": {byErrorAction("Reports", "victim"), "", contract.MetricUnreadableReports},
	} {
		r := newRig(t, profile(attempts))
		m := sent("1", at(1), iotrule.Telemetry{})
		m.Body = c.body
		again := r.deliver(m)
		// The alarm is cleared only if messages show that the session lasts.
		r.deliver(message("2", "victim", at(5.5), 4), message("3", "victim", at(10.5), 4), message("4", "victim", at(16), 4))
		r.close(at(20))
		if got := r.changes(); got != c.want || again != nil {
			t.Errorf("%s: changes %q, want %q; messages %v are retried, want none", name, got, c.want, again)
		}
		if c.metric != "" && r.counted(c.metric) != 1 {
			t.Errorf("%s: %s counts %d, want 1", name, c.metric, r.counted(c.metric))
		}
	}
}

func TestTooLongClientIDDoesNotFailItsBatch(t *testing.T) {
	r := newRig(t, telnet())
	long := strings.Repeat("c", 3000)
	if again := r.deliver(report("1", "pump", at(0), ports(1, 23)), report("2", long, at(0), ports(1, 23))); again != nil {
		t.Errorf("messages %v are retried, want none", again)
	}
	var stored []string
	for _, it := range r.table.items() {
		if thing, ok := strings.CutPrefix(str(it, contract.StatePartitionKey), "thing#"); ok {
			stored = append(stored, thing)
		}
	}
	if n := r.counted(contract.MetricUnreadable); n != 1 || !slices.Equal(stored, []string{"pump"}) {
		t.Errorf("%d unreadable counted, stored %q; want 1 and the item of pump alone", n, stored)
	}
}

func TestUnknownEventsAreErrors(t *testing.T) {
	r := newRig(t, telnet())
	for _, event := range []string{
		`[]`, `{}`, `{"Records":[]}`, `{"Records":[{"eventSource":"aws:s3"}]}`, `{"defenderhub":"open"}`,
		`{"defenderhub":"close","partition":2,"partitions":2,"at":"2026-09-01T00:00:00Z"}`, `{"defenderhub":"close","partition":-1,"partitions":2,"at":"2026-09-01T00:00:00Z"}`,
		`{"defenderhub":"close","partitions":1}`, `{"defenderhub":"close","partitions":1,"at":"<aws.scheduler.scheduled-time>"}`,
	} {
		if _, err := r.handler.Handle(context.Background(), json.RawMessage(event)); err == nil {
			t.Errorf("event %s: no error", event)
		}
	}
}

// A device chooses its texts. Characters that Amazon SQS refuses must not block its own alarms or
// those of others.
func TestTextThatAmazonSQSRefusesBlocksNoAlarm(t *testing.T) {
	r := newRig(t, profile(defender.Behavior{Name: "processes", Criteria: defender.CustomStringList("processes").In("init")}))
	text := "\x01\x1f\x7f\ufffe\uffff\ufffd\u2028\U0010ffff"
	for i, client := range []string{"pump", "odd\ufffe"} {
		payload, err := json.Marshal(map[string]any{
			"header":         map[string]any{"report_id": 1, "version": "1.0"},
			"custom_metrics": map[string]any{"processes": []any{map[string]any{"string_list": []string{text}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		r.deliver(report(fmt.Sprint(i), client, at(0), payload))
	}
	r.close(at(5))
	if got := r.changes(); got != "odd\ufffe processes in-alarm, pump processes in-alarm" {
		t.Fatalf("changes %q, want both alarms", got)
	}
	for _, m := range r.messages() {
		if got := m.Transition.Value.Strings; !slices.Equal(got, []string{text}) {
			t.Errorf("%q became %q", text, got)
		}
	}
}
