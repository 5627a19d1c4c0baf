package simulation

import (
	"encoding/json"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
)

// model is the reference: it sees all signals in order, and imports neither the engine nor the
// ledger.
type model struct {
	signals, sessions int
	// statements are about findings, by their ID.
	statements map[string][]statement
	// invalid has the payloads that must reach the dead-letter queue.
	invalid []string
	// sent has the transitions that the engine sent, by client.
	sent map[string]map[change]bool
}

// statement is the state that a signal has for a finding.
type statement struct {
	// time orders statements, in ms.
	time   int64
	active bool
	// text is in the description; "" if it is not compared.
	text string
	// behavior is set for a transition.
	behavior string
	// skips reports that a statement is not imported if a newer one has ended the finding before:
	// an audit lists nothing that a later audit has listed.
	skips bool
}

func newModel() *model {
	return &model{statements: map[string][]statement{}, sent: map[string]map[change]bool{}}
}

func (m *model) add(source defender.Source, s statement, parts ...string) {
	id := asff.FindingID(source, region, parts...)
	m.statements[id] = append(m.statements[id], s)
}

// newest returns the statements of the newest time that may decide: at one time a finding that
// holds wins. raised reports whether one of all held.
func newest(all []statement) (last []statement, raised bool) {
	for _, s := range all {
		raised = raised || s.active
		switch {
		case len(last) == 0 || s.time > last[0].time || s.time == last[0].time && s.active && !last[0].active:
			last = []statement{s}
		case s.time == last[0].time && s.active == last[0].active:
			last = append(last, s)
		}
	}
	return last, raised
}

// transition notes a message of the engine.
func (m *model) transition(body string) {
	var t struct {
		ClientID   string `json:"clientId"`
		Transition struct {
			Time     int64  `json:"violationEventTime"`
			Kind     string `json:"violationEventType"`
			Profile  string `json:"securityProfileName"`
			Behavior struct {
				Name string `json:"name"`
			} `json:"behavior"`
		} `json:"transition"`
	}
	if err := json.Unmarshal([]byte(body), &t); err != nil {
		panic(err) // the engine wrote it
	}
	c := change{t.Transition.Profile + "/" + t.Transition.Behavior.Name, t.Transition.Kind, t.Transition.Time}
	if m.sent[t.ClientID] == nil {
		m.sent[t.ClientID] = map[change]bool{}
	}
	if m.sent[t.ClientID][c] {
		return
	}
	m.sent[t.ClientID][c] = true
	m.add(defender.BehaviorTransitions, statement{time: c.time, active: c.kind == raised, behavior: c.behavior}, t.Transition.Profile, t.Transition.Behavior.Name, t.ClientID)
}
