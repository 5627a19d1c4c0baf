package simulation

import (
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
)

// model is the reference: it sees all signals in order, and imports neither the engine nor the
// ledger.
type model struct {
	signals, sessions int
	// statements are about findings, by their ID.
	statements map[string][]statement
	// invalid are payloads that must reach the dead-letter queue.
	invalid []string
}

// statement is what a signal says about a finding.
type statement struct {
	// time orders statements, in ms.
	time   int64
	active bool
	// text is in the description; "" if it is not compared.
	text string
}

func newModel() *model { return &model{statements: map[string][]statement{}} }

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
