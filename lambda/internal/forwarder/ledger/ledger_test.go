package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger/ledgertest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

var now = time.Date(2026, 9, 15, 3, 0, 0, 0, time.UTC)

func newLedger(table ledger.Table) *ledger.Ledger {
	return ledger.New(table, "us-east-1", contract.DefaultQuietTime)
}

func auditSignal(check, id string, state asff.RecordState, ms int64) signal.Signal {
	s := signal.New(defender.AuditNotifications, asff.Finding{ID: id, RecordState: state}, ms, signal.Order{Time: ms})
	s.Check = check
	return s
}

func TestOpenListsTheActiveFindingsOfOneCheck(t *testing.T) {
	ctx := context.Background()
	l := newLedger(&ledgertest.Table{})
	do := func(s signal.Signal) {
		t.Helper()
		c, err := ledgertest.Claim(ctx, l, now, s)
		if err != nil {
			t.Fatal(err)
		}
		if err := ledgertest.Confirm(ctx, l, now, c); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for i := range 40 {
		id := fmt.Sprintf("f%02d", i)
		do(auditSignal("A_CHECK", id, asff.Active, 1))
		if i%2 == 0 {
			do(auditSignal("A_CHECK", id, asff.Archived, 2))
		} else {
			want = append(want, id)
		}
	}
	do(auditSignal("A_CHECK_TOO", "other", asff.Active, 1))
	var got []string
	err := l.Open(ctx, "A_CHECK", 0, func(entries []ledger.Entry) error {
		for _, e := range entries {
			got = append(got, e.ID)
		}
		return nil
	})
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("listed %v, error %v; want %v", got, err, want)
	}
}

func TestConfirmLeavesANewerClaimAlone(t *testing.T) {
	ctx := context.Background()
	l := newLedger(&ledgertest.Table{})
	old, err := ledgertest.Claim(ctx, l, now, auditSignal("C", "f", asff.Active, 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledgertest.Claim(ctx, l, now, auditSignal("C", "f", asff.Archived, 2)); err != nil {
		t.Fatal(err)
	}
	if err := ledgertest.Confirm(ctx, l, now, old); err != nil {
		t.Errorf("confirm of the older claim: %v", err)
	}
	again, err := ledgertest.Claim(ctx, l, now, auditSignal("C", "f", asff.Archived, 2))
	if err != nil || !again.Import || again.Entry.Status != ledger.Pending || again.Entry.State != asff.Archived {
		t.Errorf("second claim of the newer state: %+v, error %v; want it pending", again, err)
	}
}

func TestUnconfirmedClaimDoesNotSuppressARepeat(t *testing.T) {
	ctx := context.Background()
	l := newLedger(&ledgertest.Table{})
	for ms := int64(1); ms < 4; ms++ {
		if c, err := ledgertest.Claim(ctx, l, now, auditSignal("C", "f", asff.Active, ms)); err != nil || !c.Import {
			t.Errorf("claim %d: %+v, error %v; want an import", ms, c, err)
		}
	}
}

// Security Hub has deleted a finding that was imported more than 90 days ago: it is new again.
func TestRestatedFindingThatSecurityHubDeletedIsNew(t *testing.T) {
	ctx := context.Background()
	for days, want := range map[int]bool{89: false, 91: true} {
		l := newLedger(&ledgertest.Table{})
		c, err := ledgertest.Claim(ctx, l, now, auditSignal("C", "f", asff.Active, 1))
		if err != nil {
			t.Fatal(err)
		}
		if err := ledgertest.Confirm(ctx, l, now, c); err != nil {
			t.Fatal(err)
		}
		c, err = ledgertest.Request(ctx, l, now.AddDate(0, 0, days), l.RestatedEntry(now.AddDate(0, 0, days), c.Entry, func(e ledger.Entry) asff.Finding {
			f := *e.Finding
			f.Title = fmt.Sprint(days)
			return f
		}))
		if f := c.Entry.Finding; err != nil || !c.Import || f.CreatedAt.Equal(f.UpdatedAt.Time) != want {
			t.Errorf("after %d days: error %v, created %v, updated %v; want equal times: %v", days, err, f.CreatedAt, f.UpdatedAt, want)
		}
	}
}

// A previous version, which does not know Quiet, confirms a shared finding after a rollback.
func TestSharedFindingEndsAfterAnEarlierVersionWroteIt(t *testing.T) {
	ctx := context.Background()
	l := newLedger(&ledgertest.Table{})
	s := signal.New(defender.DeviceEvents, asff.Finding{ID: "f", RecordState: asff.Active, ProductFields: map[string]string{signal.SharedField: "true"}}, now.UnixMilli(), signal.Order{Time: now.UnixMilli()})
	c, err := ledgertest.Claim(ctx, l, now, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := ledgertest.Confirm(ctx, l, now, c); err != nil {
		t.Fatal(err)
	}
	later := now.Add(contract.DefaultQuietTime)
	if c, err = ledgertest.Request(ctx, l, later, l.DueEntry(later, c.Entry)); err != nil || c.Entry.State != asff.Archived {
		t.Errorf("%v: %+v", err, c.Entry)
	}
}

func TestDuplicateIsImportedWithTheClaimsOwnUpdatedAt(t *testing.T) {
	ctx := context.Background()
	l := newLedger(&ledgertest.Table{})
	first, err := ledgertest.Claim(ctx, l, now, auditSignal("C", "f", asff.Active, 1))
	if err != nil {
		t.Fatal(err)
	}
	second, err := ledgertest.Claim(ctx, l, now, auditSignal("C", "f", asff.Active, 1))
	if err != nil || !second.Import || !second.Entry.Finding.UpdatedAt.Equal(first.Entry.Finding.UpdatedAt.Time) {
		t.Errorf("second claim %+v, error %v; want an import with the UpdatedAt of the first", second, err)
	}
}

func TestLongIDsHaveKeysWithinDynamoDBsLimits(t *testing.T) {
	ctx := context.Background()
	var keys []ledger.Key
	table := keySpy{&ledgertest.Table{}, &keys}
	l := newLedger(table)
	for _, id := range []string{strings.Repeat("漢", 512), strings.Repeat("a", 512)} {
		for _, check := range []string{"", "C"} {
			if _, err := ledgertest.Claim(ctx, l, now, auditSignal(check, id, asff.Active, 1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(keys) != 4 {
		t.Errorf("%d keys, want 4", len(keys))
	}
	for _, k := range keys {
		if len(k.Partition) > 2048 || len(k.Sort) > 1024 {
			t.Errorf("keys of %d and %d bytes, want at most 2048 and 1024", len(k.Partition), len(k.Sort))
		}
	}
}

type keySpy struct {
	ledger.Table
	keys *[]ledger.Key
}

func (s keySpy) GetAll(ctx context.Context, keys []ledger.Key) ([]ledger.Record, []error) {
	*s.keys = append(*s.keys, keys...)
	return s.Table.GetAll(ctx, keys)
}

func TestDamagedRecordsAreReported(t *testing.T) {
	ctx := context.Background()
	for _, doc := range []string{"", "x", `{"source":"nobody"}`, `{"source":"detect","status":"pending"}`, `{"source":"detect","status":"confirmed","state":"ACTIVE"}`,
		`{"source":"detect","status":"pending","finding":{},"shown":[{"status":"pending","state":"ARCHIVED"}]}`} {
		table := &ledgertest.Table{}
		if err := table.Put(ctx, ledger.Record{Key: ledger.Key{Partition: "finding#f", Sort: "finding"}, Revision: 1, Doc: []byte(doc)}); err != nil {
			t.Fatal(err)
		}
		if _, err := ledgertest.Claim(ctx, newLedger(table), now, auditSignal("", "f", asff.Active, 1)); err == nil || !strings.Contains(err.Error(), "finding#f") {
			t.Errorf("record %q: error %v, want one that names finding#f", doc, err)
		}
	}
}

// An unreadable record, as after a rollback, does not prevent the others from being imported
// again before Security Hub deletes them.
func TestDamagedRecordDoesNotHideTheOthers(t *testing.T) {
	ctx := context.Background()
	table := &ledgertest.Table{}
	l := newLedger(table)
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		if _, err := ledgertest.Claim(ctx, l, now, auditSignal("CHECK", id, asff.Active, 1)); err != nil {
			t.Fatal(err)
		}
	}
	damaged := ledger.Record{
		Key: ledger.Key{Partition: "audit#us-east-1#CHECK#0", Sort: "0"}, Revision: 1, Doc: []byte(`{"source":"nobody"}`), Open: true, RefreshShard: "0", RefreshAt: now,
	}
	if err := table.Put(ctx, damaged); err != nil {
		t.Fatal(err)
	}
	for name, list := range map[string]func(func([]ledger.Entry) error) error{
		"due":  func(each func([]ledger.Entry) error) error { return l.Due(ctx, now.Add(24*time.Hour), each) },
		"open": func(each func([]ledger.Entry) error) error { return l.Open(ctx, "CHECK", 0, each) },
	} {
		n := 0
		err := list(func(entries []ledger.Entry) error { n += len(entries); return nil })
		if n != 8 || err == nil || !strings.Contains(err.Error(), "CHECK#0 / 0") {
			t.Errorf("%s: %d of 8 listed, error %v", name, n, err)
		}
	}
}

// If each run ends early, every entry has its turn within a day.
func TestEveryShardHasItsTurn(t *testing.T) {
	ctx := context.Background()
	l := newLedger(&ledgertest.Table{})
	for i := range 100 {
		if _, err := ledgertest.Claim(ctx, l, now, auditSignal("", fmt.Sprint(i), asff.Active, 1)); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for hour := range 24 {
		enough := errors.New("time is over")
		err := l.Due(ctx, now.Add(time.Duration(2+hour)*time.Hour), func(entries []ledger.Entry) error {
			for _, e := range entries {
				seen[e.ID] = true
			}
			return enough
		})
		if !errors.Is(err, enough) {
			t.Fatal(err)
		}
	}
	if len(seen) != 100 {
		t.Errorf("%d of 100 entries were due in a day of runs", len(seen))
	}
}

// An item has at most 400 KB, a finding 240 KB. While Security Hub accepts no finding, the ledger
// keeps the confirmed version and only the newest claims.
func TestOnlyTheNewestUnconfirmedClaimsAreKept(t *testing.T) {
	ctx := context.Background()
	l := newLedger(&ledgertest.Table{})
	claim := func(ms int64) ledger.Claim {
		t.Helper()
		s := auditSignal("C", "f", asff.Active, ms)
		s.Digest = fmt.Sprint(ms)
		c, err := ledgertest.Claim(ctx, l, now, s)
		if err != nil || !c.Import {
			t.Fatalf("claim %d: %+v, error %v; want an import", ms, c, err)
		}
		return c
	}
	if err := ledgertest.Confirm(ctx, l, now, claim(1)); err != nil {
		t.Fatal(err)
	}
	for ms := range int64(10) {
		claim(2 + ms)
	}
	err := l.Open(ctx, "C", 0, func(entries []ledger.Entry) error {
		var shown []string
		for _, s := range entries[0].Shown {
			shown = append(shown, fmt.Sprint(s.Status, " ", s.Digest))
		}
		if want := []string{"confirmed 1", "pending 8", "pending 9", "pending 10"}; !slices.Equal(shown, want) {
			t.Errorf("the entry keeps %q, want %q", shown, want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestLargestEntryFitsIntoAnItem(t *testing.T) {
	ctx := context.Background()
	l := newLedger(sizeSpy{&ledgertest.Table{}, t})
	for ms := range int64(8) {
		s := auditSignal("C", "f", asff.Active, ms+1)
		s.Finding.ProductFields = map[string]string{}
		for i := range 47 {
			s.Finding.ProductFields[fmt.Sprint(i)] = strings.Repeat("€", 1700)
		}
		c, err := ledgertest.Claim(ctx, l, now, s)
		if err != nil || !c.Import || c.Entry.Finding.ProductFields["46"] == "" {
			t.Fatalf("claim %d: %+v, error %v; want an import of the whole finding", ms+1, c, err)
		}
	}
}

type sizeSpy struct {
	ledger.Table
	t *testing.T
}

func (s sizeSpy) PutAll(ctx context.Context, records []ledger.Record) []error {
	for _, r := range records {
		if len(r.Doc) > 395_000 {
			s.t.Errorf("an item of %d bytes, want at most 395,000", len(r.Doc))
		}
	}
	return s.Table.PutAll(ctx, records)
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"status":"confirmed","source":"detect","id":"f","state":"ACTIVE","order":{"time":1},"digest":"d","finding":{}}`))
	f.Add([]byte(`{"status":"unseen","source":"audit","id":"f","finding":null}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		ctx := context.Background()
		table := &ledgertest.Table{}
		if err := table.Put(ctx, ledger.Record{Key: ledger.Key{Partition: "finding#f", Sort: "finding"}, Revision: 1, Doc: doc}); err != nil {
			t.Fatal(err)
		}
		l := newLedger(table)
		if c, err := ledgertest.Claim(ctx, l, now, auditSignal("", "f", asff.Active, 2)); err == nil && c.Import && c.Entry.Finding == nil {
			t.Errorf("record %q: the claim has no finding to import", doc)
		}
	})
}
