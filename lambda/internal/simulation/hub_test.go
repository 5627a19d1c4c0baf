package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	hubtypes "github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/inprocess"
)

// hub is Security Hub with its faults. It records its calls and findings.
type hub struct {
	world   *world
	service *securityhubtest.Service
	*securityhubtest.Hub
	client *securityhub.Client
	// accepted are the times of calls within the quota.
	accepted []time.Time
	// refused are the times of calls over the quota.
	refused []time.Time
	calls   int
	// findings is the number of findings in accepted calls.
	findings int
	// seen has the last version of each finding, by ID.
	seen map[string]seen
	// edits are the notes of the analyst, by finding ID.
	edits map[string]string
	// stubborn findings fail until a time: a third of all, chosen by a number.
	stubborn uint64
	until    time.Time
	// since is when each finding became ACTIVE or ARCHIVED, lastChange when any did.
	since      map[string]time.Time
	lastChange time.Time
	// confirmed are the findings whose import the ledger knows, by ID.
	confirmed map[string]bool
	// titles are all that each finding had.
	titles map[string][]string
	// changed is called with each finding that an import has changed.
	changed func(id, state string)
}

// seen has the fields of a finding that the invariants compare.
type seen struct{ created, updated, state, text string }

// newHub returns a Security Hub that calls imported for each of its events.
func newHub(w *world, imported func(securityhubtest.Imported)) *hub {
	h := &hub{world: w, seen: map[string]seen{}, edits: map[string]string{}, since: map[string]time.Time{}, titles: map[string][]string{}, confirmed: map[string]bool{}}
	h.service = securityhubtest.New(securityhubtest.Config{Account: account, Now: time.Now, RateLimits: true, OnImported: imported})
	h.Hub = h.service.Hub(account, region)
	if err := h.Enable(securityhubtest.Settings{}); err != nil {
		panic(err) // it is new
	}
	h.client = securityhub.NewFromConfig(inprocess.Config(h.service, account, region))
	return h
}

// importer is the Security Hub client of an environment.
type importer struct{ *environment }

func (i importer) BatchImportFindings(ctx context.Context, in *securityhub.BatchImportFindingsInput, _ ...func(*securityhub.Options)) (*securityhub.BatchImportFindingsOutput, error) {
	sum := fnv.New64a()
	for _, f := range in.Findings {
		fmt.Fprintf(sum, "%s %s %s ", *f.Id, *f.UpdatedAt, f.RecordState) // never fails
	}
	about := fmt.Sprintf("%d %x", len(in.Findings), sum.Sum64())
	return ask(ctx, i.environment, "SecurityHub", "BatchImportFindings", about, func() (*securityhub.BatchImportFindingsOutput, error) {
		return i.world.hub.serve(i.environment, in)
	})
}

// serve imports findings, with the faults of Security Hub.
func (h *hub) serve(e *environment, in *securityhub.BatchImportFindingsInput) (*securityhub.BatchImportFindingsOutput, error) {
	w := h.world
	if w.faults.strikes(hubBusy, e.fn) {
		h.useQuota(1 + w.rng.IntN(40))
	}
	f := securityhubtest.Fault{Operation: "BatchImportFindings", Times: 1}
	if w.faults.strikes(hubFailure, e.fn) {
		f.Answer = securityhubtest.Unavailable()
	}
	if w.faults.strikes(hubLost, e.fn) {
		f.LoseAnswer = true
	}
	failing := w.rng.Uint64()
	if w.faults.strikes(hubPartial, e.fn) {
		f.FailFinding = func(id string) *securityhubtest.FindingError { return failure(id, failing) }
	}
	if time.Now().Before(h.until) {
		w.faults.hits[hit{hubStubborn, e.fn.name}]++
		f.FailFinding = func(id string) *securityhubtest.FindingError { return failure(id, h.stubborn) }
	}
	remove := h.service.Inject(f)
	defer remove()
	h.checkNew(in.Findings)
	h.calls++
	out, err := h.client.BatchImportFindings(context.Background(), in)
	calls := h.service.Calls("BatchImportFindings")
	last := calls[len(calls)-1]
	if last.Status != http.StatusTooManyRequests && f.Answer == nil { // a failing service does not count
		h.accepted = append(h.accepted, last.Time)
	}
	if last.Status == http.StatusTooManyRequests {
		h.refused = append(h.refused, last.Time)
		w.counts["import calls over the quota"]++
	}
	if last.Status == http.StatusOK {
		h.findings += len(in.Findings)
		h.look(e, in.Findings, last.Failed)
	}
	return out, err
}

// failure fails a third of all findings, chosen by a number.
func failure(id string, chosen uint64) *securityhubtest.FindingError {
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%s %d", id, chosen) // never fails
	if sum.Sum64()%3 != 0 {
		return nil
	}
	return &securityhubtest.FindingError{Code: "InternalFailure", Message: "Internal failure"}
}

// useQuota makes calls of another product, which has nothing to import.
func (h *hub) useQuota(n int) {
	for range n {
		_, _ = h.client.BatchImportFindings(context.Background(), &securityhub.BatchImportFindingsInput{Findings: []hubtypes.AwsSecurityFinding{}}) // is refused, but counts
		calls := h.service.Calls("BatchImportFindings")
		if last := calls[len(calls)-1]; last.Status != http.StatusTooManyRequests {
			h.accepted = append(h.accepted, last.Time)
		}
	}
}

// checkNew requires equal times of new findings, as Security Hub's guide asks.
// https://docs.aws.amazon.com/securityhub/latest/userguide/finding-update-batchimportfindings.html
func (h *hub) checkNew(findings []hubtypes.AwsSecurityFinding) {
	for _, f := range findings {
		if _, known := h.seen[*f.Id]; !known && *f.CreatedAt != *f.UpdatedAt {
			h.world.violations.add("CreatedAt and UpdatedAt are equal at creation", "%s: %s and %s", *f.Id, *f.CreatedAt, *f.UpdatedAt)
		}
	}
}

// look compares accepted findings with their last versions. It ignores findings that
// are not newer, as Security Hub does.
func (h *hub) look(e *environment, sent []hubtypes.AwsSecurityFinding, failed map[string]string) {
	for _, f := range sent {
		if failed[*f.Id] != "" {
			continue
		}
		id, is := *f.Id, seen{*f.CreatedAt, *f.UpdatedAt, string(f.RecordState), aws.ToString(f.Description)}
		was, known := h.seen[id]
		switch {
		case known && is.updated == was.updated && (is.state != was.state || is.text != was.text):
			h.world.violations.add("UpdatedAt rises", "%s: %+v, then %+v", id, was, is)
			continue
		case known && is.updated <= was.updated:
			continue
		case known && is.created != was.created && is.created == is.updated && was.created == was.updated && !h.confirmed[id]:
			// Until an import is confirmed, each attempt may be the one that creates the finding.
			h.world.counts["findings created anew while unconfirmed"]++
		case known && is.created == is.updated && h.forgotten(was):
			h.world.counts["findings created again after 90 days"]++
			h.confirmed[id] = false
		case known && is.created != was.created:
			h.world.violations.add("CreatedAt stays once an import is confirmed", "%s: %+v, then %+v", id, was, is)
		}
		if is.state != was.state {
			h.since[id], h.lastChange = time.Now(), time.Now()
		}
		if title := aws.ToString(f.Title); !slices.Contains(h.titles[id], title) {
			h.titles[id] = append(h.titles[id], title)
		}
		h.seen[id] = is
		h.world.counts["changes of findings"]++
		if i := e.serving; i != nil && strings.Contains(string(i.event), `"refresh"`) {
			h.world.counts["changes by the hourly schedule"]++
		}
		if h.changed != nil {
			h.changed(id, is.state)
		}
	}
}

// observe reads a write of the ledger that confirms an import.
func (h *hub) observe(a dynamodbtest.Access) {
	if a.Table != ledgerTable || !a.Write || a.Failed {
		return
	}
	if e, ok := ledgerRecordOf(a.Item); ok && e.Status == "confirmed" {
		h.confirmed[e.ID] = true
	}
}

// forgotten reports whether Security Hub has deleted a finding.
func (h *hub) forgotten(was seen) bool {
	updated, err := time.Parse(time.RFC3339, was.updated)
	return err == nil && time.Since(updated) > hubKeeps
}

// edit lets an analyst change a finding.
func (h *hub) edit() {
	all := h.Findings()
	if len(all) == 0 {
		return
	}
	f := pick(h.world.scheduler, all)
	note := fmt.Sprintf("note %d", len(h.edits)+1)
	out, err := h.client.BatchUpdateFindings(context.Background(), &securityhub.BatchUpdateFindingsInput{
		FindingIdentifiers: []hubtypes.AwsSecurityFindingIdentifier{{Id: &f.ID, ProductArn: &f.ProductARN}},
		Note:               &hubtypes.NoteUpdate{Text: &note, UpdatedBy: aws.String("analyst")},
		VerificationState:  hubtypes.VerificationStateTruePositive,
		UserDefinedFields:  map[string]string{"ticket": note},
	})
	if err == nil && len(out.UnprocessedFindings) == 0 {
		h.edits[f.ID] = note
		h.world.detect.decide(f.ID, string(hubtypes.VerificationStateTruePositive))
		h.world.faults.hits[hit{analystEdits, "-"}]++
	}
}

// turnOff disables Security Hub for a while.
func (h *hub) turnOff(d time.Duration) {
	if err := h.Disable(); err != nil {
		return // it is off
	}
	h.world.log.printf("Security Hub is off for %v", d)
	h.world.after(d, h.turnOn)
}

func (h *hub) turnOn() {
	if _, on := h.Settings(); on {
		return
	}
	if err := h.Enable(securityhubtest.Settings{}); err != nil {
		panic(err)
	}
	h.world.log.printf("Security Hub is on")
}

// checkQuota requires that no period has more calls than Security Hub's rate allows: ten a
// second, and thirty at once.
func (h *hub) checkQuota() {
	const rate, burst = 10, 30
	slices.SortFunc(h.accepted, time.Time.Compare)
	tokens, last := float64(burst), h.world.begin
	for _, at := range h.accepted {
		tokens = min(burst, tokens+rate*at.Sub(last).Seconds()) - 1
		last = at
		if tokens < -0.001 {
			h.world.violations.add("the quota of Security Hub", "at %v", at)
			return
		}
	}
	h.checkRefused()
}

// mostRefused is how many calls of a minute may be over the quota. After each one the importer waits
// longer, for five seconds on average in the end, so an environment makes about 17 in its first minute.
// Twelve environments may import at once.
const mostRefused = 12 * 20

// checkRefused requires that calls over the quota stay few: each one also counts for the quota of
// other products.
func (h *hub) checkRefused() {
	for i, at := range h.refused {
		j := i
		for j < len(h.refused) && h.refused[j].Sub(at) < time.Minute {
			j++
		}
		if j-i > mostRefused {
			h.world.violations.add("calls over the quota stay few", "%d in the minute from %v on", j-i, at)
			return
		}
	}
}

// checkEdits requires that no import changes an analyst's edits.
func (h *hub) checkEdits() {
	for _, f := range h.Findings() {
		note, edited := h.edits[f.ID]
		if !edited {
			continue
		}
		verified := violationOf(f) != "" || f.VerificationState == string(hubtypes.VerificationStateTruePositive) // checkVerification compares Detect's
		if f.Note == nil || f.Note.Text != note || f.UserDefinedFields["ticket"] != note || !verified {
			text, _ := json.Marshal(f)
			h.world.violations.add("what an analyst set survives", "%s", text)
		}
	}
}
