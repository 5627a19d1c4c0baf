package offline_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/offline"
)

func TestRead(t *testing.T) {
	got, err := offline.Read(strings.NewReader(`
{"kind":"message","client":"pump","time":1767225600000,"topic":"t","payload":"aGVsbG8="}

{"kind":"report","client":"pump","time":"2026-01-01T00:05:00Z","payload":{"header":{"report_id":1}},"later":"fields are ignored"}
{"kind":"lifecycle","topic":"$aws/events/presence/connected/a/b","payload":{"clientId":"a/b","timestamp":1767225600000}}
`))
	if err != nil || len(got) != 3 || string(got[0].Payload) != "hello" || got[0].ID != "record-1" || got[1].Time != 1767225900000 || string(got[1].Payload) != `{"header":{"report_id":1}}` {
		t.Errorf("got %+v, error %v, want a message, a report and a lifecycle event", got, err)
	}
}

// With Basic Ingest, a recording comes from the deployed rule for reports.
func TestReportOfADeployedRuleIsRead(t *testing.T) {
	got, err := offline.Read(strings.NewReader(`{"kind":"report","topic":"","time":1767225600000,"traceId":"trace","id":"random","clientId":"pump","principal":"p","payload":"e30="}`))
	if err != nil || len(got) != 1 || got[0].ID != "trace" || got[0].Client != "pump" || got[0].Principal != "p" || string(got[0].Payload) != "{}" {
		t.Errorf("got %+v, error %v, want a report of pump with the trace ID", got, err)
	}
}

func TestErrorOfARecordingNamesTheRecord(t *testing.T) {
	for line, want := range map[string]string{
		`{`:                                                  "record 2: unexpected EOF",
		`{"kind":"gossip","time":1}`:                         `record 2: kind "gossip"`,
		`{"kind":"message","topic":"t"}`:                     "record 2: message at time 0",
		`{"kind":"message","time":1}`:                        "record 2: message without a topic",
		`{"kind":"report","time":"noon"}`:                    `record 2: time "noon"`,
		`{"kind":"report","time":1,"payload":3}`:             "record 2: payload is neither",
		`{"kind":"lifecycle","time":1,"payload":{}}`:         "record 2: lifecycle event without clientId",
		`{"kind":"message","time":1,"topic":"t","bytes":-1}`: "with -1 bytes",
		`{"x":"` + strings.Repeat("a", 1<<20) + `"}`:         "record 2: 1048584 bytes, want at most",
	} {
		if _, err := offline.Read(strings.NewReader("\n" + `{"kind":"message","time":1,"topic":"t"}` + line + "\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: error %v, want one that says %q", line, err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(`{"kind":"message","client":"pump","time":1767225600000,"topic":"t","payload":"aGVsbG8="}`)
	f.Add(`{"kind":"report","client":"pump","time":"2026-01-01T00:05:00Z","payload":{"header":{"report_id":1},"metrics":{"listening_tcp_ports":{"ports":[{"port":23}]}}}}`)
	f.Add(`{"kind":"lifecycle","time":5,"topic":"$aws/events/presence/connected/a/b","payload":{"clientId":"a/b"}}`)
	config := engine.Config{Reports: true, ReportsEvery: 20, Profiles: []engine.ProfileConfig{{Name: "p", Behaviors: []defender.Behavior{
		{Name: "small", Criteria: defender.MessageByteSize.LessThan(8)}, {Name: "away", Criteria: defender.DisconnectDuration.LessThan(5)}, {Name: "telnet", Criteria: defender.ListeningTCPPorts.NotInPorts(23)},
	}}}}
	f.Fuzz(func(t *testing.T, text string) {
		records, err := offline.Read(strings.NewReader(text))
		if err != nil {
			return
		}
		if _, err := offline.Judge(config, records, time.Time{}); err != nil {
			t.Error(err)
		}
	})
}

// Each of 20 devices sends a message per minute in two windows. The last record has no client ID.
func TestJudgeCountsSamplesAndUnknownClients(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	config := engine.Config{Profiles: []engine.ProfileConfig{{Name: "p", Behaviors: []defender.Behavior{
		{Name: "sent", Criteria: defender.MessagesSent.LessThanPercentile(defender.P99, defender.Window5m)},
	}}}}
	var records []offline.Record
	for device := range 20 {
		for minute := range 10 {
			records = append(records, offline.Record{ID: fmt.Sprint(device, "-", minute), Kind: offline.Message, Client: fmt.Sprint("d", device), Topic: "t", Time: offline.Time(start.Add(time.Duration(minute) * time.Minute).UnixMilli())})
		}
	}
	records = append(records, offline.Record{Kind: offline.Message, Topic: "t", Time: records[0].Time})
	got, err := offline.Judge(config, records, time.Time{})
	if err != nil || got.Unknown != 1 {
		t.Fatalf("got %+v, error %v, want one record of an unknown client", got, err)
	}
	for key, values := range got.Samples {
		if key.Metric != defender.MessagesSent.Info().Name || len(values) != 40 || values[0] != 5 {
			t.Errorf("%v: samples %v, want 40 of 5 messages", key, values)
		}
	}
	if len(got.Samples) != 1 {
		t.Errorf("%d populations, want 1", len(got.Samples))
	}
}
