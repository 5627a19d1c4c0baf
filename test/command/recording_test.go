package command_test

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/internal/offline"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
	"github.com/defenderhub/defenderhub/test/localaws/iotsql"
)

// The rules that docs/command.md shows write records that `defenderhub replay` reads.
func TestDocumentedRulesRecordTelemetry(t *testing.T) {
	page, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```sql\n(.*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatal("docs/command.md has no SQL")
	}
	sent := map[string]string{
		"t":                                   "hello \x00",
		"$aws/events/presence/connected/pump": `{"clientId":"pump","timestamp":1767225600000,"eventType":"connected"}`,
		"fleet/pump/report":                   `{"header":{"report_id":1,"version":"1.0"},"metrics":{}}`,
	}
	var recording bytes.Buffer
	for sql := range strings.Lines(string(block[1])) {
		statement, err := iotsql.Parse(strings.TrimSpace(sql))
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		for topic, payload := range sent {
			if !topicfilter.Matches(statement.TopicFilter(), topic) {
				continue
			}
			out, matched, err := statement.Begin(iotsql.Message{Topic: topic, ClientID: "pump", Principal: "cert", SourceIP: "192.0.2.1", TraceID: "trace " + topic, Time: time.UnixMilli(1767225600000), Payload: []byte(payload)}).Select()
			if err != nil || !matched {
				t.Fatalf("%s: matched %v, error %v", sql, matched, err)
			}
			recording.Write(out)
		}
	}
	records, err := offline.Read(&recording)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[offline.Kind]int{}
	for _, r := range records {
		kinds[r.Kind]++
		if string(r.Payload) != sent[r.Topic] || r.Time != 1767225600000 || r.Kind != offline.Lifecycle && (r.Client != "pump" || r.ID != "trace "+r.Topic) {
			t.Errorf("recorded %+v, want the payload %q and the client, time and trace of the message", r, sent[r.Topic])
		}
	}
	// The report has a topic of the fleet's own, so the rule for messages records it too.
	if kinds[offline.Message] != 2 || kinds[offline.Lifecycle] != 1 || kinds[offline.Report] != 1 {
		t.Errorf("recorded %v, want two messages, a lifecycle event and a report", kinds)
	}
}
