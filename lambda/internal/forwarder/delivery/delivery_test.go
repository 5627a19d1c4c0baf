package delivery_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger/ledgertest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// refresh runs the schedule and returns how many entries were due.
func (w *world) refresh(t *testing.T) int {
	t.Helper()
	n := 0
	err := w.ledger.Due(context.Background(), w.now, func(entries []ledger.Entry) error {
		n += len(entries)
		w.deliver.Refresh(context.Background(), w.now, entries)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (w *world) mustFind(t *testing.T) asff.Finding {
	t.Helper()
	stored, ok := w.finding()
	if !ok {
		t.Fatal("no finding")
	}
	var f asff.Finding
	if err := json.Unmarshal(stored.JSON, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func ms(d time.Duration) int64 { return start.Add(d).UnixMilli() }

func alarm(d time.Duration) signal.Signal { return event(ms(d), asff.Active, "t") }
func clear(d time.Duration) signal.Signal { return event(ms(d), asff.Archived, "t") }

func TestLateAlarmDoesNotReopenAClearedFinding(t *testing.T) {
	w := newWorld(t)
	w.replay(t, alarm(-5*time.Minute), clear(-time.Minute), alarm(-3*time.Minute))
	if s := w.mustFind(t).RecordState; s != "ARCHIVED" {
		t.Errorf("state %s, want ARCHIVED", s)
	}
}

func TestLateClearDoesNotEndANewerAlarm(t *testing.T) {
	w := newWorld(t)
	w.replay(t, alarm(-5*time.Minute), alarm(-time.Minute), clear(-3*time.Minute), clear(-3*time.Minute))
	if s := w.mustFind(t).RecordState; s != "ACTIVE" {
		t.Errorf("state %s, want ACTIVE: the clear is older than the second alarm", s)
	}
}

func TestClearOfAnUnknownFindingImportsNothing(t *testing.T) {
	w := newWorld(t)
	w.replay(t, clear(-time.Minute))
	if f, ok := w.finding(); ok {
		t.Errorf("imported %+v, want nothing", f)
	}
	w.replay(t, alarm(-2*time.Minute))
	if f := w.mustFind(t); f.RecordState != "ARCHIVED" || f.FirstObservedAt.UnixMilli() != ms(-2*time.Minute) {
		t.Errorf("%s, first observed %v; want ARCHIVED with the time of the late alarm", f.RecordState, f.FirstObservedAt)
	}
}

func TestCreatedAtStaysAndUpdatedAtRises(t *testing.T) {
	w := newWorld(t)
	w.replay(t, alarm(-5*time.Minute))
	first := w.mustFind(t)
	if !first.CreatedAt.Equal(first.UpdatedAt.Time) || first.CreatedAt.UnixMilli() != ms(-5*time.Minute) {
		t.Errorf("created %v, updated %v; want both at the time of the alarm", first.CreatedAt, first.UpdatedAt)
	}
	// The clock does not move, but UpdatedAt must rise with each state.
	w.replay(t, event(ms(-5*time.Minute)+1, asff.Archived, "t"), event(ms(-5*time.Minute)+2, asff.Active, "u"), event(ms(-5*time.Minute)+2, asff.Active, "v"))
	last := w.mustFind(t)
	if !last.CreatedAt.Equal(first.CreatedAt.Time) || !last.UpdatedAt.After(first.UpdatedAt.Time) || last.RecordState != "ACTIVE" {
		t.Errorf("created %v, updated %v, %s; want the CreatedAt of the first state, %v, and a later UpdatedAt", last.CreatedAt, last.UpdatedAt, last.RecordState, first.CreatedAt)
	}
}

func TestBatchImportsTheNewestStateWithTheEarliestTime(t *testing.T) {
	w := newWorld(t)
	outcomes := w.deliver.Deliver(context.Background(), w.now, []signal.Signal{clear(-time.Minute), alarm(-3 * time.Minute), alarm(-2 * time.Minute)})
	f := w.mustFind(t)
	if len(outcomes) != 1 || f.RecordState != "ARCHIVED" || f.CreatedAt.UnixMilli() != ms(-3*time.Minute) || f.LastObservedAt.UnixMilli() != ms(-time.Minute) {
		t.Errorf("outcomes %v, %s, created %v, last observed %v", outcomes, f.RecordState, f.CreatedAt, f.LastObservedAt)
	}
}

func TestUnchangedRepeatsAreNotImported(t *testing.T) {
	w := newWorld(t)
	updated := func() time.Duration {
		f := w.mustFind(t)
		return f.UpdatedAt.Sub(f.CreatedAt.Time)
	}
	w.replay(t, alarm(0))
	for i := 1; i < 60; i++ {
		w.now = start.Add(time.Duration(i) * time.Minute)
		w.replay(t, alarm(time.Duration(i)*time.Minute))
	}
	if after := updated(); after != 0 {
		t.Errorf("updated after %v, want no update within an hour", after)
	}
	w.now = start.Add(time.Hour)
	w.replay(t, alarm(time.Hour))
	if after := updated(); after != time.Hour {
		t.Errorf("updated after %v, want an hour", after)
	}
}

// A client that is refused every second does not cost a write of the ledger each time.
func TestRepeatsWithoutAnEndEventAreRarelyWritten(t *testing.T) {
	w := newWorld(t)
	w.replay(t, refused(0))
	before := w.table.Writes()
	for i := 1; i < 3600; i++ {
		w.now = start.Add(time.Duration(i) * time.Second)
		w.replay(t, refused(time.Duration(i)*time.Second))
	}
	if n := w.table.Writes() - before; n > 65 {
		t.Errorf("%d writes for an hour of repeats, want at most 65", n)
	}
	w.now = w.now.Add(contract.DefaultQuietTime - time.Minute)
	if w.refresh(t); w.mustFind(t).RecordState != "ACTIVE" {
		t.Error("archived before it was quiet for 7 days")
	}
	w.now = w.now.Add(time.Minute)
	if w.refresh(t); w.mustFind(t).RecordState != "ARCHIVED" {
		t.Error("active after 7 quiet days")
	}
}

func TestChangedRepeatsAreImportedAtOnce(t *testing.T) {
	w := newWorld(t)
	w.replay(t, alarm(-2*time.Minute), event(ms(-time.Minute), asff.Active, "worse"))
	if title := w.mustFind(t).Title; title != "worse" {
		t.Errorf("title %q, want worse", title)
	}
}

func TestActiveFindingsOutliveSecurityHubsNinetyDays(t *testing.T) {
	w := newWorld(t)
	w.replay(t, alarm(0))
	for day := range 400 {
		w.now = start.Add(time.Duration(day) * 24 * time.Hour)
		w.refresh(t)
		w.table.Expire(w.now)
	}
	f := w.mustFind(t)
	if f.RecordState != "ACTIVE" || f.LastObservedAt.UnixMilli() != ms(0) || f.CreatedAt.UnixMilli() != ms(0) {
		t.Errorf("%s, created %v, last observed %v; want ACTIVE with the times of the alarm", f.RecordState, f.CreatedAt, f.LastObservedAt)
	}
	w.replay(t, clear(399*24*time.Hour))
	if s := w.mustFind(t).RecordState; s != "ARCHIVED" {
		t.Errorf("state %s, want ARCHIVED", s)
	}
}

func TestEndedFindingsAreDeletedAfterSecurityHubDeletesThem(t *testing.T) {
	w := newWorld(t)
	w.replay(t, alarm(-time.Minute), clear(0))
	for _, c := range []struct {
		days, left int
	}{{90, 1}, {98, 0}} {
		w.now = start.Add(time.Duration(c.days) * 24 * time.Hour)
		if n := w.refresh(t); n != 0 {
			t.Errorf("%d due after %d days, want none", n, c.days)
		}
		if w.table.Expire(w.now); w.table.Len() != c.left {
			t.Errorf("%d records after %d days, want %d", w.table.Len(), c.days, c.left)
		}
	}
}

// refused is a signal of a source without an end event.
func refused(d time.Duration) signal.Signal {
	s := alarm(d)
	return signal.New(defender.RefusedConnections, s.Finding, ms(d), signal.Order{Time: ms(d)})
}

func TestFindingsWithoutAnEndEventAreArchivedWhenQuiet(t *testing.T) {
	w := newWorld(t)
	state := func() asff.RecordState { return w.mustFind(t).RecordState }
	w.replay(t, refused(0))
	w.now = start.Add(3 * 24 * time.Hour)
	w.replay(t, refused(3*24*time.Hour)) // the quiet time starts here
	w.now = start.Add(9 * 24 * time.Hour)
	if w.refresh(t); state() != "ACTIVE" {
		t.Error("archived before it was quiet for 7 days")
	}
	w.now = start.Add(10*24*time.Hour + time.Minute)
	if w.refresh(t); state() != "ARCHIVED" {
		t.Error("active after 7 quiet days")
	}
	if w.replay(t, refused(3*24*time.Hour)); state() != "ARCHIVED" {
		t.Error("a duplicate reopened it")
	}
	if w.replay(t, refused(10*24*time.Hour)); state() != "ACTIVE" {
		t.Error("a new event did not reopen it")
	}
}

func TestQuietTimeEndsNoFindingWithAnEndEvent(t *testing.T) {
	w := newWorld(t)
	w.replay(t, alarm(0))
	for day := range 90 {
		w.now = start.Add(time.Duration(day) * 24 * time.Hour)
		w.refresh(t)
	}
	if s := w.mustFind(t).RecordState; s != "ACTIVE" {
		t.Errorf("state %s, want ACTIVE", s)
	}
}

func TestUnconfirmedClaimsAreImportedBySchedule(t *testing.T) {
	w := newWorld(t)
	if _, err := ledgertest.Claim(context.Background(), w.ledger, w.now, alarm(0)); err != nil { // and the function is killed
		t.Fatal(err)
	}
	w.now = start.Add(59 * time.Minute)
	if n := w.refresh(t); n != 0 {
		t.Errorf("%d due while the message may still be retried, want none", n)
	}
	w.now = start.Add(61 * time.Minute)
	w.refresh(t)
	w.mustFind(t)
	if n := w.refresh(t); n != 0 {
		t.Errorf("%d still due after the import", n)
	}
}

func TestSecurityHubOffKeepsTheClaim(t *testing.T) {
	w := newWorld(t)
	if err := w.hub.Disable(); err != nil {
		t.Fatal(err)
	}
	o := w.deliver.Deliver(context.Background(), w.now, []signal.Signal{alarm(0)})[id]
	if o.Verdict != outcome.HubOff || !strings.Contains(o.Reason, "not subscribed") {
		t.Errorf("outcome %+v, want HubOff that gives the reason", o)
	}
	if err := w.hub.Enable(securityhubtest.Settings{}); err != nil {
		t.Fatal(err)
	}
	w.now = start.Add(24 * time.Hour)
	w.replay(t, alarm(0))
	if f := w.mustFind(t); f.CreatedAt.UnixMilli() != ms(0) || f.UpdatedAt.UnixMilli() != ms(0) {
		t.Errorf("created %v, updated %v; want both at the time of the message", f.CreatedAt, f.UpdatedAt)
	}
}

func TestScheduleDoesNotImportRefusedFindings(t *testing.T) {
	w := newWorld(t)
	bad := alarm(0)
	bad.Finding.Title = strings.Repeat("x", 300) // as if AWS had changed a limit
	o := w.deliver.Deliver(context.Background(), w.now, []signal.Signal{bad})[id]
	if o.Verdict != outcome.Refused {
		t.Fatalf("outcome %+v, want a refusal", o)
	}
	w.now = start.Add(200 * 24 * time.Hour)
	if n := w.refresh(t); n != 0 {
		t.Errorf("%d due, want none", n)
	}
	w.now = start.Add(time.Minute)
	w.replay(t, alarm(time.Minute))
	w.mustFind(t)
}

// Security Hub keeps showing the version that it accepted.
func TestRefusedUpdateLeavesTheFindingAsItWas(t *testing.T) {
	w := newWorld(t)
	w.replay(t, refused(0))
	w.now = start.Add(2 * time.Hour)
	worse := refused(2 * time.Hour)
	worse.Finding.Title = strings.Repeat("x", 300)
	for range 2 { // the second time, the message is sent again from the dead-letter queue
		if o := w.deliver.Deliver(context.Background(), w.now, []signal.Signal{worse})[id]; o.Verdict != outcome.Refused {
			t.Fatalf("outcome %+v, want a refusal", o)
		}
	}
	w.now = start.Add(2*time.Hour + contract.DefaultQuietTime - time.Second)
	if n := w.refresh(t); n != 0 {
		t.Errorf("%d due although it was seen within the quiet time", n)
	}
	w.now = w.now.Add(time.Second)
	w.refresh(t)
	if f := w.mustFind(t); f.RecordState != "ARCHIVED" || f.Title != refused(0).Finding.Title {
		t.Errorf("after the quiet time: %s, %q; want ARCHIVED with the old title", f.RecordState, f.Title)
	}
}

// The message is retried after a failure, perhaps in another environment, which must know the version
// that Security Hub accepted before.
func TestUpdateRefusedAfterAFailureLeavesTheFindingAsItWas(t *testing.T) {
	w := newWorld(t)
	w.replay(t, refused(0))
	w.now = start.Add(2 * time.Hour)
	worse := refused(2 * time.Hour)
	worse.Finding.Title = strings.Repeat("x", 300)
	if _, err := ledgertest.Claim(context.Background(), w.ledger, w.now, worse); err != nil { // and the function is killed
		t.Fatal(err)
	}
	if o := w.deliver.Deliver(context.Background(), w.now, []signal.Signal{worse})[id]; o.Verdict != outcome.Refused {
		t.Fatalf("outcome %+v, want a refusal", o)
	}
	w.now = start.Add(2*time.Hour + contract.DefaultQuietTime)
	w.refresh(t)
	if f := w.mustFind(t); f.RecordState != "ARCHIVED" || f.Title != refused(0).Finding.Title {
		t.Errorf("after the quiet time: %s, %q; want ARCHIVED with the old title", f.RecordState, f.Title)
	}
}

func TestFindingThatFailsForADayIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		failing := func() (remove func()) {
			return w.service.Inject(securityhubtest.Fault{FailFinding: func(id string) *securityhubtest.FindingError {
				return &securityhubtest.FindingError{ID: id, Code: "SomethingNew", Message: "no"}
			}})
		}
		try := func(at time.Duration, s signal.Signal) outcome.Verdict {
			w.now = start.Add(at)
			return w.deliver.Deliver(context.Background(), w.now, []signal.Signal{s})[id].Verdict
		}
		var got []outcome.Verdict
		want := []outcome.Verdict{
			outcome.Failing, outcome.Failing, outcome.Refused, // for a day
			outcome.Refused,                  // a later report is refused at once
			outcome.Done,                     // accepted
			outcome.Failing, outcome.Failing, // a new day begins
		}
		remove := failing()
		got = append(got, try(0, alarm(0)), try(23*time.Hour, alarm(0)), try(24*time.Hour, alarm(0)), try(48*time.Hour, alarm(48*time.Hour)))
		remove()
		got = append(got, try(49*time.Hour, alarm(49*time.Hour)))
		remove = failing()
		got = append(got, try(50*time.Hour, clear(50*time.Hour)), try(51*time.Hour, clear(50*time.Hour)))
		remove()
		if !slices.Equal(got, want) {
			t.Errorf("verdicts %v, want %v", got, want)
		}
		if w.replay(t, clear(50*time.Hour)); w.mustFind(t).RecordState != "ARCHIVED" {
			t.Errorf("state %s after the last attempt, want ARCHIVED", w.mustFind(t).RecordState)
		}
	})
}

func TestUpdatedAtIsNeverInTheFuture(t *testing.T) {
	w := newWorld(t)
	w.replay(t, alarm(24*time.Hour))
	if f := w.mustFind(t); f.UpdatedAt.After(w.now) || f.LastObservedAt.After(w.now) {
		t.Errorf("updated %v, observed %v; want none after %v", f.UpdatedAt, f.LastObservedAt, w.now)
	}
}

// reported returns the signal of an audit task that reports the finding at a time.
func reported(d time.Duration) signal.Signal {
	s := alarm(d)
	s = signal.New(defender.AuditNotifications, s.Finding, ms(d), signal.Order{Time: ms(d)})
	s.Check = "LOGGING_DISABLED_CHECK"
	return s
}

// A disabled check reports neither findings nor that they are fixed.
func TestAuditFindingsThatNoAuditReportsAreArchived(t *testing.T) {
	const day = 24 * time.Hour
	w := newWorld(t)
	state := func() asff.RecordState { return w.mustFind(t).RecordState }
	pass := func(to time.Duration, tasks bool) {
		for w.now.Before(start.Add(to)) {
			w.now = w.now.Add(day)
			if since := w.now.Sub(start); tasks && since%(30*day) == 0 { // once a month
				w.replay(t, reported(since))
			}
			w.refresh(t)
		}
	}
	w.replay(t, reported(0))
	if pass(300*day, true); state() != "ACTIVE" {
		t.Error("archived although each month an audit reports it")
	}
	if pass(389*day, false); state() != "ACTIVE" {
		t.Error("archived before 90 days")
	}
	if pass(391*day, false); state() != "ARCHIVED" {
		t.Error("active 91 days after its last report")
	}
	if f := w.mustFind(t); !strings.Contains(f.Description, "No audit has reported this for 90 days") {
		t.Errorf("description %q does not say why it is archived", f.Description)
	}
	w.now = start.Add(400 * day)
	if w.replay(t, reported(400*day)); state() != "ACTIVE" {
		t.Error("a new report did not reopen it")
	}
}
