package handler

import (
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/message"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/record"
)

// facts are what a decision depends on besides record and event. The functions are lookups, which
// are called only if they matter.
type facts struct {
	// concerns reports whether a filter is about the finding, whatever its severity and device.
	concerns bool
	// mayHold reports whether the event may wait for an incident.
	mayHold bool
	// wanted reports whether a filter lets the finding through.
	wanted func() bool
	// covered returns the key of an open incident of which the finding is a part, "" if there is none.
	covered func() (string, error)
}

// decision is what an event changes.
type decision struct {
	// next is the finding's record; write reports whether it differs.
	next  record.Finding
	write bool
	// change is what a message must report, and before the severity that was reported last.
	change message.Change
	before defender.Severity
	// hold reports whether the event waits.
	hold bool
	// metric counts the event if there is no message.
	metric string
}

// decide returns what an event changes in a finding's record. It depends on the record and the
// event alone, so that any order of the events of a finding leads to the same open findings.
func decide(f record.Finding, e findingevent.Event, line message.Line, a facts) (decision, error) {
	next := f
	severity := max(e.Severity, defender.Informational) // 0 means that nothing was reported
	if !newer(e, f) {
		switch {
		case f.Held == 0 || !f.Open || !e.Open():
		case a.mayHold:
			// The event that waits may be this one: the SDK has repeated the write after a lost answer.
			return decision{next: f, hold: true, metric: contract.MetricHeld}, nil
		default:
			return report(f, max(f.Held, severity), a)
		}
		return decision{next: f, metric: contract.MetricUnchanged}, nil
	}
	next.Order, next.Open, next.Line = e.Order, e.Open(), line
	if e.Open() && !f.Open {
		next.Opened = e.Order.Updated
	}
	next.Line.Since = since(f, next)
	reported := f.Open && f.Reported > 0
	if !e.Open() {
		return end(f, next, reported, a)
	}
	switch {
	case !reported && !a.wanted():
		return decision{next: f, metric: contract.MetricFiltered}, nil
	case !reported && a.mayHold:
		next.Reported, next.Incident = 0, ""
		next.Held = severity
		if f.Open {
			next.Held = max(f.Held, severity)
		}
		return decision{next: next, write: true, hold: true, metric: contract.MetricHeld}, nil
	case !reported:
		if f.Open {
			severity = max(f.Held, severity)
		}
		return report(next, severity, a)
	case severity <= f.Reported:
		return decision{next: next, write: true, metric: contract.MetricUnchanged}, nil
	}
	incident, err := a.covered()
	next.Reported = severity
	switch {
	case err != nil:
		return decision{}, err
	case incident != "":
		if f.Incident != "" {
			next.Incident = incident
		}
		return decision{next: next, write: true, metric: contract.MetricCovered}, nil
	case !a.wanted():
		next.Reported = f.Reported
		return decision{next: next, write: true, metric: contract.MetricFiltered}, nil
	}
	next.Incident = ""
	return decision{next: next, write: true, change: message.Worse, before: f.Reported}, nil
}

// since returns since when a finding is open, for people. Security Hub keeps the time of its first
// occurrence, which may be long before it opened again.
func since(f, next record.Finding) time.Time {
	at := f.Line.Since
	switch {
	case f.Revision == 0:
		return next.Line.Since
	case next.Open && !f.Open:
		at = next.Opened
	}
	if at.Before(next.Line.Since) {
		return next.Line.Since
	}
	return at
}

// newer reports whether an event is newer than the record. If the times do not say, a finding that
// is open or more severe counts as newer: it is better reported than lost.
func newer(e findingevent.Event, f record.Finding) bool {
	if f.Revision == 0 {
		return true
	}
	switch e.Order.Compare(f.Order) {
	case 1:
		return true
	case 0:
		return e.Open() && (!f.Open || e.Severity > f.Line.Severity)
	}
	return false
}

// report reports a finding that opened.
func report(next record.Finding, severity defender.Severity, a facts) (decision, error) {
	incident, err := a.covered()
	if err != nil {
		return decision{}, err
	}
	next.Reported, next.Incident, next.Held = severity, incident, 0
	d := decision{next: next, write: true, change: message.New}
	if incident != "" {
		d.change, d.metric = message.None, contract.MetricCovered
	}
	return d, nil
}

// end reports a finding that ended. The end of one that still waits for an incident waits too. Both
// are reported then, unless an incident covers them: a device must not be able to hide an event by
// clearing it at once.
func end(f, next record.Finding, reported bool, a facts) (decision, error) {
	if !reported && f.Open && f.Held > 0 && a.mayHold {
		return decision{next: f, hold: true, metric: contract.MetricHeld}, nil
	}
	next.Reported, next.Incident, next.Held = 0, "", 0
	if !reported && !(f.Open && f.Held > 0) {
		// Without this record an older event would report the finding as new.
		metric := contract.MetricUnchanged
		if !a.concerns {
			metric = contract.MetricFiltered
		}
		return decision{next: next, write: a.concerns || f.Revision > 0, metric: metric}, nil
	}
	incident := f.Incident
	if incident == "" {
		var err error
		if incident, err = a.covered(); err != nil {
			return decision{}, err
		}
	}
	if incident != "" {
		return decision{next: next, write: true, metric: contract.MetricCovered}, nil
	}
	return decision{next: next, write: true, change: message.Over, before: max(f.Reported, f.Held)}, nil
}
