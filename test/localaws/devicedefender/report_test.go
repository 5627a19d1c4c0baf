package devicedefender_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang"
	"github.com/fxamacker/cbor/v2"

	"github.com/defenderhub/defenderhub/test/localaws/devicedefender"
	brokers "github.com/defenderhub/defenderhub/test/localaws/mqtt"
)

// answerTo returns the topic and payload of the answer to a message, "" for none.
func answerTo(topic string, payload []byte, now time.Time) (answerTopic string, answer []byte) {
	answerTopic, answer, _ = devicedefender.AnswerReport(topic, payload, now)
	return answerTopic, answer
}

// toCBOR writes a JSON value as CBOR, with whole numbers as such.
func toCBOR(t testing.TB, text []byte) []byte {
	t.Helper()
	var whole func(any) any
	whole = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for k := range v {
				v[k] = whole(v[k])
			}
		case []any:
			for i := range v {
				v[i] = whole(v[i])
			}
		case float64:
			return int64(v)
		}
		return v
	}
	return must[[]byte](t)(cbor.Marshal(whole(object(t, text))))
}

func fromCBOR(t testing.TB, data []byte) any {
	t.Helper()
	var v map[string]any
	if err := cbor.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v in %x", err, data)
	}
	if d, ok := v["statusDetails"].(map[any]any); ok {
		text := map[string]any{}
		for k, value := range d {
			text[fmt.Sprint(k)] = value
		}
		v["statusDetails"] = text
	}
	return map[string]any(v)
}

func TestReportsOfAWSAreAccepted(t *testing.T) {
	now := time.UnixMilli(1635801636023)
	for _, tt := range []struct{ sample, id string }{{"report-long.json", "1530304554"}, {"report-short.json", "1530305228"}} {
		want := replaced(t, "report-accepted.json", nil).(map[string]any)
		delete(want, "12334567") // the id of the sample's report
		want[tt.id] = now.Unix()
		want["timestamp"] = now.UnixMilli()
		for _, format := range []string{"json", "cbor"} {
			payload := testdata(t, tt.sample)
			if format == "cbor" {
				payload = toCBOR(t, payload)
			}
			topic, answer := answerTo("$aws/things/myThing/defender/metrics/"+format, payload, now)
			if topic != "$aws/things/myThing/defender/metrics/"+format+"/accepted" {
				t.Fatalf("%s as %s: answer on %s: %s", tt.sample, format, topic, answer)
			}
			var got any
			if format == "cbor" {
				got = fromCBOR(t, answer)
			} else {
				d := json.NewDecoder(strings.NewReader(string(answer)))
				d.UseNumber()
				if err := d.Decode(&got); err != nil {
					t.Fatal(err)
				}
			}
			wantSame(t, got, want)
		}
	}
}

func TestMalformedReportsAreRejected(t *testing.T) {
	now := time.UnixMilli(1635802047699)
	long := string(testdata(t, "report-long.json"))
	for _, tt := range []struct{ name, report string }{
		{"AWS's case: a number without its list", strings.Replace(long, `[
   {
    "number": 1
   }
  ]`, `{"number": 1}`, 1)},
		{"no JSON", "tampered"},
		{"empty", ""},
		{"no header", `{"metrics":{}}`},
		{"no metrics", `{"header":{"report_id":1,"version":"1.0"}}`},
		{"other version", strings.Replace(long, `"1.0"`, `"2.0"`, 1)},
		{"negative id", strings.Replace(long, "1530304554", "-1", 1)},
		{"port of 0", strings.Replace(long, "24800", "0", 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.report == long {
				t.Fatal("the replacement changed nothing, so the report is valid")
			}
			want := replaced(t, "report-rejected.json", map[string]any{"timestamp": float64(now.UnixMilli())})
			topic, answer := answerTo("$aws/things/myThing/defender/metrics/json", []byte(tt.report), now)
			if topic != "$aws/things/myThing/defender/metrics/json/rejected" {
				t.Fatalf("answer on %q: %s", topic, answer)
			}
			wantSame(t, object(t, answer), want)
			topic, answer = answerTo("$aws/things/myThing/defender/metrics/cbor", []byte{0x18}, now)
			if topic != "$aws/things/myThing/defender/metrics/cbor/rejected" {
				t.Fatalf("answer on %q: %x", topic, answer)
			}
			got := fromCBOR(t, answer).(map[string]any)
			got["timestamp"] = float64(got["timestamp"].(uint64))
			wantSame(t, got, want)
		})
	}
}

func TestReportInTheOtherFormatIsRejected(t *testing.T) {
	text := testdata(t, "report-long.json")
	for format, payload := range map[string][]byte{"json": toCBOR(t, text), "cbor": text} {
		if topic, _ := answerTo("$aws/things/t/defender/metrics/"+format, payload, start); !strings.HasSuffix(topic, "/rejected") {
			t.Errorf("%s: answer on %s", format, topic)
		}
	}
}

func TestOtherMessagesAreNoReports(t *testing.T) {
	for _, topic := range []string{
		"$aws/things/t/defender/metrics/json/accepted", "$aws/things/t/defender/metrics/xml", "$aws/things//defender/metrics/json",
		"aws/things/t/defender/metrics/json", "$aws/things/t/defender/metrics", "defenderhub/events/t",
	} {
		if to, _ := answerTo(topic, []byte("{}"), start); to != "" {
			t.Errorf("%s: answered on %s", topic, to)
		}
	}
}

// A device sends its report over MQTT and receives the answer.
func TestReportOverTheBroker(t *testing.T) {
	w := newWorld(t, devicedefender.Config{Connections: useBroker})
	w.broker.OnMessage(func(m brokers.Message) {
		if topic, answer, ok := devicedefender.AnswerReport(m.Topic, m.Payload, w.clock()); ok {
			w.broker.PublishAsService(topic, answer)
		}
	})
	device := w.connect(w.device(), "pump")
	answers := make(chan mqtt.Message, 2)
	for _, format := range []string{"json", "cbor"} {
		topic := "$aws/things/pump/defender/metrics/" + format
		finish(t, device.Subscribe(topic+"/accepted", 1, func(_ mqtt.Client, m mqtt.Message) { answers <- m }))
		finish(t, device.Subscribe(topic+"/rejected", 1, func(_ mqtt.Client, m mqtt.Message) { answers <- m }))
	}
	next := func() mqtt.Message {
		t.Helper()
		select {
		case m := <-answers:
			return m
		case <-time.After(patience):
			t.Fatal("no answer")
			return nil
		}
	}
	finish(t, device.Publish("$aws/things/pump/defender/metrics/json", 1, false, testdata(t, "report-long.json")))
	if m := next(); m.Topic() != "$aws/things/pump/defender/metrics/json/accepted" || !strings.Contains(string(m.Payload()), `"thingName":"pump"`) {
		t.Errorf("%s: %s", m.Topic(), m.Payload())
	}
	finish(t, device.Publish("$aws/things/pump/defender/metrics/cbor", 1, false, []byte("tampered")))
	if m := next(); m.Topic() != "$aws/things/pump/defender/metrics/cbor/rejected" || fromCBOR(t, m.Payload()).(map[string]any)["status"] != "REJECTED" {
		t.Errorf("%s: %x", m.Topic(), m.Payload())
	}
}

// Each payload gets one answer in its own format.
func FuzzReportGetsOneAnswer(f *testing.F) {
	f.Add(testdata(f, "report-long.json"), false)
	f.Add(testdata(f, "report-short.json"), false)
	f.Add(toCBOR(f, testdata(f, "report-short.json")), true)
	f.Add([]byte("{"), true)
	f.Fuzz(func(t *testing.T, payload []byte, binary bool) {
		format := "json"
		if binary {
			format = "cbor"
		}
		topic, answer, ok := devicedefender.AnswerReport("$aws/things/t/defender/metrics/"+format, payload, time.Now())
		var v map[string]any
		decode := json.Unmarshal
		if binary {
			decode = cbor.Unmarshal
		}
		if err := decode(answer, &v); !ok || err != nil || v["thingName"] != "t" {
			t.Errorf("%s: %v in %q", topic, err, answer)
		}
	})
}
