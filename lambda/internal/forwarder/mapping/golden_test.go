package mapping_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/fxamacker/cbor/v2"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
	"github.com/defenderhub/defenderhub/lambda/internal/inprocess"
)

var update = flag.Bool("update", false, "rewrite testdata/findings")

const account = "123456789012"

// sent is later than all times in the samples.
var sent = time.Date(2026, 9, 15, 3, 0, 0, 0, time.UTC)

func mapper(region string) mapping.Mapper {
	return mapping.Mapper{Account: account, Partition: "aws", Region: region, EventTopic: "defenderhub/events/+"}
}

func sample(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "samples", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// envelope returns the message of a source's AWS IoT rule about a payload.
func envelope(t testing.TB, source defender.Source, topic string, payload []byte, more map[string]any) []byte {
	t.Helper()
	fields := map[string]any{"source": source.String(), "topic": topic, "time": sent.UnixMilli() - 2000, "payload": base64.StdEncoding.EncodeToString(payload)}
	for k, v := range more {
		fields[k] = v
	}
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// rule maps the message of an AWS IoT rule or of its error action.
func rule(m mapping.Mapper, body []byte) (signal.Signal, error) {
	source, e, err := iotrule.Decode(body)
	if err != nil {
		return signal.Signal{}, err
	}
	return m.Rule(source, e, sent)
}

// auditFindings returns the findings of a sample as the SDK decodes them.
func auditFindings(t testing.TB, name string) *iot.ListAuditFindingsOutput {
	t.Helper()
	out, err := readAuditFindings(sample(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readAuditFindings(answer []byte) (*iot.ListAuditFindingsOutput, error) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	})
	return iot.NewFromConfig(inprocess.Config(handler, account, "us-west-2")).ListAuditFindings(context.Background(), &iot.ListAuditFindingsInput{TaskId: aws.String("t")})
}

// recorded maps every recorded payload.
func recorded(t testing.TB) map[string][]signal.Signal {
	t.Helper()
	must := func(s signal.Signal, err error) []signal.Signal {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return []signal.Signal{s}
	}
	m := mapper("us-east-1")
	all := map[string][]signal.Signal{}

	disconnected := sample(t, "lifecycle-disconnected")
	security := bytes.Replace(disconnected, []byte(`"CLIENT_INITIATED_DISCONNECT"`), []byte(`"DUPLICATE_CLIENTID"`), 1)
	all["disconnected"] = must(rule(m, envelope(t, defender.SecurityDisconnects, "$aws/events/presence/disconnected/186b5", security, nil)))
	all["connect-failed"] = must(rule(m, envelope(t, defender.RefusedConnections, "$aws/events/presence/connect_failed/186b5", sample(t, "lifecycle-connect-failed"), nil)))
	rejected := sample(t, "report-rejected")
	all["report-rejected"] = must(rule(m, envelope(t, defender.RejectedReports, "$aws/things/myThing/defender/metrics/json/rejected", rejected, nil)))
	all["report-rejected-cbor"] = must(rule(m, envelope(t, defender.RejectedReports, "$aws/things/myThing/defender/metrics/cbor/rejected", toCBOR(t, rejected), nil)))
	tamper := []byte(`{"type":"tamper","severity":"HIGH","description":"The case was opened.","time":1789440000000,"details":{"sensor":"lid"}}`)
	device := map[string]any{"clientId": "pump-7", "principal": strings.Repeat("ab12", 16), "sourceIp": "198.51.100.7"}
	all["device-event"] = must(rule(m, envelope(t, defender.DeviceEvents, "defenderhub/events/pump-7", tamper, device)))
	all["device-event-mismatch"] = must(rule(m, envelope(t, defender.DeviceEvents, "defenderhub/events/pump-8", tamper, device)))
	joined := iotrule.Envelope{Topic: "defenderhub/events/pump-7#2", Time: sent.UnixMilli() - 2000, Payload: tamper, ClientID: "pump-7#2", Principal: strings.Repeat("ab12", 16), Thing: "pump-7"}
	all["device-event-joined"] = must(m.Rule(defender.DeviceEvents, joined, sent))
	all["device-event-cleared"] = must(rule(m, envelope(t, defender.DeviceEvents, "defenderhub/events/pump-7", []byte(`{"type":"tamper","state":"cleared"}`), device)))
	failed := bytes.Replace(sample(t, "rule-error-action"), []byte(`"ewogICJtZXNzYWdlIjogIkhlbGxvIHZyb20gQVdTIElvVCBjb25zb2xlIgp9"`), []byte(`"`+base64.StdEncoding.EncodeToString(tamper)+`"`), 1)
	all["device-event-error-action"] = must(rule(m, failed))

	for _, name := range []string{"", "-cidrs", "-cleared", "-invalidated", "-ml", "-number", "-numbers", "-ports", "-statistical", "-strings"} {
		all["detect"+name] = must(m.Detect(sample(t, "sns-detect"+name), mapping.Origin{Account: account, Region: "us-east-1", Sent: sent}))
	}

	maps.Copy(all, transitions(t))

	west := mapper("us-west-2")
	for _, name := range []string{"sns-audit", "sns-audit-canceled", "sns-audit-failed-check"} {
		task, err := west.AuditTask(sample(t, name), mapping.Origin{Account: account, Region: "us-west-2", Sent: sent})
		if err != nil {
			t.Fatal(err)
		}
		all["check-summary"+strings.TrimPrefix(name, "sns-audit")] = west.CheckSummaries(task)
	}
	task := mapping.AuditTask{ID: "9f71b6e90cfb57d4ac671be3a4898e6a", Type: "ON_DEMAND_AUDIT_TASK", Status: "COMPLETED", Started: 1667772700554}
	for _, f := range auditFindings(t, "list-audit-findings").Findings {
		all["audit"] = append(all["audit"], west.AuditFinding(task, f))
	}
	return all
}

func toCBOR(t testing.TB, text []byte) []byte {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	out, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// golden is a signal in a file of testdata/findings.
type golden struct {
	Time    asff.Timestamp
	Order   signal.Order
	Finding asff.Finding
}

func TestRecordedPayloadsBecomeTheseFindings(t *testing.T) {
	all := recorded(t)
	for name, signals := range all {
		var list []golden
		for _, s := range signals {
			f := s.Finding
			f.CreatedAt, f.UpdatedAt = asff.Milliseconds(s.Time), asff.Milliseconds(s.Time)
			s.Order.Tie = ""
			list = append(list, golden{asff.Milliseconds(s.Time), s.Order, f})
		}
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(list); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", "findings", name+".json")
		if *update {
			if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text.Bytes(), want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, &text, want)
		}
	}
	if files, _ := filepath.Glob("testdata/findings/*.json"); len(files) != len(all) {
		t.Errorf("%d golden files for %d payloads", len(files), len(all))
	}
}

func TestSecurityHubAcceptsAllMappedFindings(t *testing.T) {
	for name, signals := range recorded(t) {
		for _, s := range signals {
			accepted(t, name, s)
		}
	}
}

// accepted checks that the local Security Hub, which enforces AWS's limits, accepts the finding,
// before and after Restate.
func accepted(t testing.TB, name string, s signal.Signal) {
	t.Helper()
	imported(t, name, s)
	m := wholeEngine()
	s.Finding = m.Restate(s.Source, s.Profile, s.Behavior, s.Finding)
	imported(t, name+" restated", s)
	if again := m.Restate(s.Source, s.Profile, s.Behavior, s.Finding); !reflect.DeepEqual(again, s.Finding) {
		t.Errorf("%s: restated twice: %+v, want %+v", name, again, s.Finding)
	}
}

func imported(t testing.TB, name string, s signal.Signal) {
	t.Helper()
	region := strings.Split(s.Finding.ProductARN, ":")[3]
	service := securityhubtest.New(securityhubtest.Config{})
	if err := service.Hub(account, region).Enable(securityhubtest.Settings{}); err != nil {
		t.Fatal(err)
	}
	f := s.Finding
	f.CreatedAt, f.UpdatedAt = asff.Milliseconds(max(s.Time, 0)), asff.Milliseconds(max(s.Time, 0))
	body, err := json.Marshal(map[string]any{"Findings": []asff.Finding{f}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, "http://localhost/findings/import", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKID/20260915/"+region+"/securityhub/aws4_request, SignedHeaders=host, Signature=0")
	response, err := inprocess.Config(service, account, region).HTTPClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		FailedFindings []struct{ ErrorMessage string }
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != 200 || len(answer.FailedFindings) > 0 {
		t.Errorf("%s: status %d, failed %v, finding %s", name, response.StatusCode, answer.FailedFindings, body)
	}
}
