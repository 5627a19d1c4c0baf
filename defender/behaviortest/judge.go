package behaviortest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/offline"
)

// start is when every test begins: a multiple of each window.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// batching is the construct's default batching window.
const batching = 10 * time.Second

// maxEvents limits the events of one test, with their repetitions.
const maxEvents = 1_000_000

const (
	inAlarm     = "in-alarm"
	cleared     = "alarm-cleared"
	invalidated = "alarm-invalidated"
)

var changes = []string{inAlarm, cleared, invalidated}

func (s Suite) config() engine.Config {
	return engine.Config{
		Profiles: []engine.ProfileConfig{{Name: "behaviors", Behaviors: s.Behaviors}}, Reports: true,
		ReportsEvery: int(time.Duration(s.Settings.ReportsEvery) / time.Minute), ReportSeconds: int(time.Duration(s.Settings.ReportInterval) / time.Second),
		MinDatapoints: int64(s.Settings.MinDatapoints), ConfirmTraffic: s.Settings.ConfirmFirstTraffic, BatchSeconds: int(batching / time.Second),
	}
}

// Validate reports all faults of the suite.
func (s Suite) Validate() error {
	faults := []error{defender.SecurityProfile{Behaviors: s.Behaviors}.Validate()}
	if faults[0] == nil {
		_, err := s.config().Compile()
		faults = append(faults, err)
	}
	set := s.Settings
	if c := set.ReportsEvery; c != 0 && (c < Clock(5*time.Minute) || c > Clock(24*time.Hour) || c%Clock(time.Minute) != 0) {
		faults = append(faults, fmt.Errorf("settings.reportsEvery is %s, want whole minutes from 0:05 to 24:00", c))
	}
	if c := set.ReportInterval; c != 0 && (c < Clock(10*time.Second) || c > Clock(time.Hour) || c%Clock(time.Second) != 0) {
		faults = append(faults, fmt.Errorf("settings.reportInterval is %s, want whole seconds from 0:00:10 to 1:00", c))
	}
	if n := set.MinDatapoints; n < 0 {
		faults = append(faults, fmt.Errorf("settings.minDatapoints is %d, want at least 1", n))
	}
	if len(s.Tests) == 0 {
		faults = append(faults, errors.New("tests: none, want at least one"))
	}
	known := []string{engine.SilentAgent, engine.UnreadableReports}
	for _, b := range s.Behaviors {
		known = append(known, b.Name)
	}
	for _, t := range s.Tests {
		events := 0
		for i, e := range t.Telemetry {
			events += max(1, e.Times)
			if err := e.validate(); err != nil {
				faults = append(faults, fmt.Errorf("test %q: telemetry[%d]: %w", t.Name, i, err))
			}
		}
		if events > maxEvents {
			faults = append(faults, fmt.Errorf("test %q: %d events, want at most %d", t.Name, events, maxEvents))
		}
		for i, a := range t.Alarms {
			if !slices.Contains(known, a.Behavior) {
				faults = append(faults, fmt.Errorf("test %q: alarms[%d]: no behavior has the name %q", t.Name, i, a.Behavior))
			}
			if a.Change != "" && !slices.Contains(changes, a.Change) {
				faults = append(faults, fmt.Errorf("test %q: alarms[%d]: change %q, want one of %q", t.Name, i, a.Change, changes))
			}
		}
	}
	return errors.Join(faults...)
}

func (e Event) validate() error {
	given := 0
	for _, ok := range []bool{e.Event != "", e.Message != nil, len(e.Report) > 0} {
		if ok {
			given++
		}
	}
	switch {
	case e.Device == "":
		return errors.New("device: missing, want a client ID")
	case given != 1:
		return errors.New("want exactly one of event, message and report")
	case e.Event != "" && !slices.Contains([]string{"connected", "disconnected", "refused"}, e.Event):
		return fmt.Errorf("event %q, want connected, disconnected or refused", e.Event)
	case e.Message != nil && (e.Message.Topic == "" || e.Message.Bytes < 0):
		return errors.New("message: want a topic, and bytes of 0 or more")
	case e.Times < 0 || e.Times > 1 && e.Every <= 0:
		return errors.New("times: want a number above 0, and with more than 1 also every")
	}
	return nil
}

func (s Suite) run(t Test) (Result, error) {
	until := time.Time{}
	if t.Until > 0 {
		until = start.Add(time.Duration(t.Until))
	}
	judged, err := offline.Judge(s.config(), t.records(), until)
	if err != nil {
		return Result{}, err
	}
	r := Result{Name: t.Name}
	expected := slices.Clone(t.Alarms)
	for _, tr := range judged.Transitions {
		since := time.UnixMilli(tr.Time).UTC().Sub(start).Round(time.Second)
		got := Alarm{Clock(since), tr.Device, tr.Behavior.Name, string(tr.Change)}
		same := func(a Alarm) bool {
			a.Change = cmp.Or(a.Change, inAlarm)
			return a == got
		}
		if i := slices.IndexFunc(expected, same); i >= 0 {
			expected = slices.Delete(expected, i, i+1)
		} else {
			r.Unexpected = append(r.Unexpected, got)
		}
	}
	r.Missing = expected
	return r, nil
}

// records converts the test's events to recorded telemetry, in order of time.
func (t Test) records() []offline.Record {
	type moment struct {
		at time.Duration
		Event
	}
	var all []moment
	for _, e := range t.Telemetry {
		for n := range max(1, e.Times) {
			all = append(all, moment{time.Duration(e.At) + time.Duration(n)*time.Duration(e.Every), e})
		}
	}
	slices.SortStableFunc(all, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	sessions := map[string]int{}
	records := make([]offline.Record, len(all))
	for i, m := range all {
		at := start.Add(m.at).UnixMilli()
		r := offline.Record{ID: fmt.Sprint(i), Client: m.Device, Thing: m.Device, SourceIP: m.SourceIP, Time: offline.Time(at)}
		switch {
		case m.Message != nil:
			r.Kind, r.Topic, r.Bytes = offline.Message, m.Message.Topic, m.Message.Bytes
		case m.Event.Event == "":
			r.Kind, r.Payload = offline.Report, offline.Payload(m.Report)
		default:
			r.Kind, r.Payload = offline.Lifecycle, m.lifecycle(at, sessions)
		}
		records[i] = r
	}
	return records
}

// lifecycle returns the event that AWS IoT would publish. Each connection starts a new session.
func (e Event) lifecycle(at int64, sessions map[string]int) []byte {
	kind := e.Event
	switch kind {
	case "refused":
		kind = "connect_failed"
	case "connected":
		sessions[e.Device]++
	}
	l := engine.Lifecycle{
		ClientID: e.Device, ThingName: e.Device, Timestamp: at, EventType: kind, Session: fmt.Sprint("session-", sessions[e.Device]), IPAddress: e.SourceIP,
	}
	if kind == "disconnected" {
		l.DisconnectReason = cmp.Or(e.Reason, "CLIENT_INITIATED_DISCONNECT")
	}
	text, _ := json.Marshal(l) // strings and numbers always encode
	return text
}
