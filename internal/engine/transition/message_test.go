package transition_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/engine/transition"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

func example() transition.Message {
	n := int64(26)
	return transition.Message{
		Thing: "pump-7", ClientID: "pump-7-gateway", Registered: new(true),
		Transition: engine.Transition{
			Time: 1789441198000, Thing: "pump-7-gateway", Change: engine.InAlarm, Profile: "plant",
			Behavior:    defender.Behavior{Name: "small-messages", Criteria: defender.MessageByteSize.LessThan(8), Severity: defender.High},
			Value:       iotapi.Value{Count: &n},
			ViolationID: "f9c0a1a3c4fbd7c5c3a80a6b9f1f9f5e", StartTime: 1789441198000,
		},
	}
}

func TestMessageSurvivesJSON(t *testing.T) {
	for name, change := range map[string]func(*transition.Message){
		"registered":    func(*transition.Message) {},
		"unregistered":  func(m *transition.Message) { m.Registered = new(false) },
		"unknown":       func(m *transition.Message) { m.Thing, m.Registered = "", nil },
		"cleared":       func(m *transition.Message) { m.Transition.Change = engine.AlarmCleared },
		"without value": func(m *transition.Message) { m.Transition.Value = iotapi.Value{} },
	} {
		want := example()
		change(&want)
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got transition.Message
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := json.Marshal(got)
		if err != nil || string(again) != string(text) {
			t.Errorf("%s: marshaled again as %s, error %v, want %s", name, again, err, text)
		}
		if got.Thing != want.Thing || got.ClientID != want.ClientID || !reflect.DeepEqual(got.Registered, want.Registered) || got.Transition.Change != want.Transition.Change {
			t.Errorf("%s: read as %+v, want %+v", name, got, want)
		}
	}
}

func TestJSONOfAMessage(t *testing.T) {
	text, err := json.Marshal(example())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`{"source":"behavior","thing":"pump-7","clientId":"pump-7-gateway","registered":true,"transition":{`,
		`"violationEventType":"in-alarm"`, `"severity":"HIGH"`, `"violationStartTime":1789441198000`,
	} {
		if !strings.Contains(string(text), part) {
			t.Errorf("%s lacks %s", text, part)
		}
	}
}

func TestInvalidMessagesAreErrors(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*transition.Message)
		want   string
	}{
		"client ID":    {func(m *transition.Message) { m.ClientID = "" }, "client ID"},
		"behavior":     {func(m *transition.Message) { m.Transition.Behavior.Name = "" }, "behavior"},
		"profile":      {func(m *transition.Message) { m.Transition.Profile = "" }, "profile"},
		"violation ID": {func(m *transition.Message) { m.Transition.ViolationID = "" }, "violation ID"},
		"time":         {func(m *transition.Message) { m.Transition.Time = 0 }, "time"},
		"far time":     {func(m *transition.Message) { m.Transition.Time = 1<<53 + 1 }, "time"},
		"early start":  {func(m *transition.Message) { m.Transition.StartTime = -1 }, "time"},
		"far start":    {func(m *transition.Message) { m.Transition.StartTime = 1<<53 + 1 }, "time"},
		"change":       {func(m *transition.Message) { m.Transition.Change = "in-doubt" }, `"in-doubt"`},
	} {
		m := example()
		c.change(&m)
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, new(transition.Message)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that names %s", name, err, c.want)
		}
	}
	for text, want := range map[string]string{`{"source":"detect"}`: `"detect"`, `[]`: "array"} {
		if err := json.Unmarshal([]byte(text), new(transition.Message)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one that names %s", text, err, want)
		}
	}
}

func FuzzMessage(f *testing.F) {
	text, err := json.Marshal(example())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"source":"behavior","clientId":"a","transition":{"behavior":{"criteria":{"value":null}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m transition.Message
		if json.Unmarshal(data, &m) != nil {
			return
		}
		if m.ClientID == "" || m.Transition.ViolationID == "" {
			t.Errorf("%+v was read from %q", m, data)
		}
	})
}
