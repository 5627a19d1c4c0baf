package simulation

import (
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/internal/securityhubtest"
)

// days has the numbers of days that pass at the end of some runs: more than the quiet time, the
// lifetime of unregistered devices, the time after which active findings are imported again, and the
// time after which Security Hub deletes findings.
var days = []int{9, 16, 65, 130}

// pass lets days pass in every eighth seed, and after runs with an incident that no correlator knows,
// with few events. Schedules run rarely, and DynamoDB deletes expired items up to two days late.
func (w *world) pass() {
	switch lost := w.lostIncidents(); {
	case w.seed%8 == 5:
		w.passing = days[w.seed/8%uint64(len(days))]
	case lost > 0:
		w.passing = days[1]
	default:
		return
	}
	w.ledger.closed = true
	until := time.Now().Add(time.Duration(w.passing) * 24 * time.Hour)
	w.log.printf("%d days pass", w.passing)
	for at := time.Now().Add(24 * time.Hour); at.Before(until); at = at.Add(24 * time.Hour) {
		w.at(at, func() {
			for _, name := range w.tables() {
				w.dynamodb.Expire(name, time.Now().Add(-w.between(0, 48*time.Hour)))
			}
		})
	}
	for at := time.Now().Add(time.Hour); at.Before(until); at = at.Add(11 * 24 * time.Hour) {
		w.at(at, func() {
			w.reports("device-0")
			w.reports("device-1")
			w.disconnects("device-1")
			w.startAudit("SCHEDULED_AUDIT_TASK", "daily")
		})
	}
	passed := w.passing
	w.run(until, nil)
	w.passing, w.resting = 0, false
	w.hourly()
	w.run(until.Add(3*time.Hour), nil)
	w.run(until.Add(12*time.Hour), w.idle)
	w.counts["days that passed in long runs"] += passed
	w.passed = passed
}

// tables are the tables that exist.
func (w *world) tables() []string {
	all := []string{ledgerTable, stateTable}
	if w.correlator != nil {
		all = append(all, w.correlateTable)
	}
	if w.notifier != nil {
		all = append(all, w.notifyTable)
	}
	return all
}

// The bounds of docs/findings.md and docs/detect.md.
const (
	quietTime            = 7 * 24 * time.Hour
	auditsKeep           = 90 * 24 * time.Hour
	silenceEnds          = 48 * time.Hour
	unregisteredLifetime = 14 * 24 * time.Hour
	hubKeeps             = 90 * 24 * time.Hour
	scheduleDelay        = 2 * 24 * time.Hour // schedules run once a day while time passes
)

// aged returns the effect of time on a finding whose newest statement holds: "" for none,
// "ends" if the finding must have ended, "may end" if it is about to.
func (w *world) aged(s statement, id string) string {
	lifetime := quietTime
	switch source := strings.Split(id, "/")[1]; source {
	case "security-disconnect", "refused-connection":
	case "audit":
		lifetime = auditsKeep
	default:
		return ""
	}
	switch age := time.Since(time.UnixMilli(s.time)); {
	case age < lifetime-time.Hour:
		return ""
	case age < lifetime+scheduleDelay:
		return "may end"
	}
	return "ends"
}

// mayBeGone reports whether Security Hub may have deleted a finding that ended.
func (w *world) mayBeGone(id string) bool {
	return w.passed > 0 && time.Since(w.hub.since[id]) > hubKeeps-time.Hour
}

// checkAge requires that the silence of devices has ended the alarms that silence ends.
func (w *world) checkAge() {
	const name = "alarms of silent devices end"
	if w.passed == 0 {
		return
	}
	for _, f := range w.hub.Findings() {
		parts := strings.Split(f.ID, "/")
		if f.RecordState != "ACTIVE" || len(parts) != 6 || parts[1] != "behavior" {
			continue
		}
		behavior, silent := parts[3]+"/"+parts[4], time.Since(w.hub.since[f.ID])
		switch d := w.deviceOf(parts[5]); {
		case behavior != offline && behavior != regular && silent > silenceEnds+scheduleDelay:
			w.violations.add(name, "%s is active after %v", f.ID, silent)
		case (behavior == offline || behavior == regular) && d != nil && !d.registered && silent > unregisteredLifetime+scheduleDelay:
			w.violations.add(name, "%s of an unregistered device is active after %v", f.ID, silent)
		}
		w.counts["findings checked after days"]++
	}
}

// endsByAge reports whether the state of a finding agrees with the effect that aged returned.
func endsByAge(f securityhubtest.Finding, aged string) bool {
	return aged == "may end" || aged == "ends" && f.RecordState != "ACTIVE"
}
