package handler

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/entity"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/incident"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/state"
	"github.com/defenderhub/defenderhub/lambda/internal/sqstext"
)

// started returns when a behavior's alarm began, in ns since 1970; 0 for other findings.
func started(e findingevent.Event) int64 {
	if _, ok := e.DeviceSource(); !ok {
		return 0
	}
	ms, err := strconv.ParseInt(e.ProductFields["ViolationStartTime"], 10, 64)
	if err != nil || ms <= 0 || ms > 1<<42 {
		return 0
	}
	return ms * int64(time.Millisecond)
}

// document is the stored state of an entity, of a shared resource or of a campaign.
type document struct {
	Entity incident.Entity `json:"entity"`
	Parts  []incident.Part `json:"parts,omitempty"`
	// Truncated reports whether parts were dropped.
	Truncated bool `json:"truncated,omitempty"`
	// Shown are the composite findings that were sent, by the rule's digest.
	Shown map[string]shown `json:"shown,omitempty"`
	// Revision is the highest of all composite findings, so that a changed rule continues it.
	Revision int64 `json:"revision,omitempty"`
	// Outbox has the composite findings that may not have been sent.
	Outbox []correlation.Composite `json:"outbox,omitempty"`
	// Clock is the time of the last decision, in ms since 1970.
	Clock int64 `json:"clock,omitempty"`
	// Uses are the shared resources to which the entity is linked, until LinkedTo (ms since 1970).
	Uses     []string `json:"uses,omitempty"`
	LinkedTo int64    `json:"linkedTo,omitempty"`
}

// shown is the last state of a composite finding that was sent.
type shown struct {
	State  asff.RecordState `json:"state"`
	Digest string           `json:"digest"`
	// SentAt and Since are ms since 1970; Since is when it became active.
	SentAt int64 `json:"sentAt"`
	// Severity is the last one while it was active.
	Severity correlation.Label `json:"severity"`
	Since    int64             `json:"since,omitempty"`
}

const (
	// keep is how long the states of a finding are kept after its window: longer than any message
	// waits in a queue, so that an old event cannot open what has ended.
	// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
	keep = 14*24*time.Hour + time.Hour
	// keepShared is how long a finding about a policy or role alias counts: a week longer than
	// Security Hub keeps one that is not updated.
	keepShared = asff.FindingLifetime + 7*24*time.Hour
	// retryOutbox is the delay after which the schedule sends an outbox again.
	retryOutbox = time.Minute
	// attempts is how often a write that conflicts with concurrent invocations is tried.
	attempts = 10
)

// tiedError has the findings of which two events have the same times.
type tiedError []incident.Part

func (e tiedError) Error() string {
	return fmt.Sprintf("two events of finding %s have the same times", e[0].Finding.ID)
}

// open reads a document.
func (h *Handler) open(ctx context.Context, subject string, e incident.Entity) (state.Record, document, error) {
	record, err := h.Store.Get(ctx, state.Key{Partition: subject, Sort: state.Main})
	if err != nil {
		return record, document{}, err
	}
	d, err := read(record, e)
	return record, d, err
}

func read(record state.Record, e incident.Entity) (document, error) {
	d := document{Entity: e}
	if record.Revision > 0 {
		if err := json.Unmarshal(record.Doc, &d); err != nil {
			return d, fmt.Errorf("state of %s: %w", record.Partition, err)
		}
	}
	if e.Kind == correlation.Thing {
		d.Entity.Kind = e.Kind
	}
	if d.Shown == nil {
		d.Shown = map[string]shown{}
	}
	return d, nil
}

// apply adds states to parts. truth has what Security Hub returned about ties. Ties that it does
// not decide are returned.
func apply(parts []incident.Part, seen []sighting, truth map[string]incident.Part) (all []incident.Part, tied []incident.Part) {
	all = slices.Clone(parts)
	for _, s := range seen {
		i := slices.IndexFunc(all, func(p incident.Part) bool { return p.Finding == s.part.Finding })
		if i < 0 {
			all = append(all, s.part)
			continue
		}
		if _, tie := all[i].Observe(s.part); !tie {
			continue
		}
		if said, ok := truth[s.part.Key()]; ok {
			said.Matches = restrict(said.Matches, s.part.Matches)
			said.Device, said.Thing = s.part.Device, s.part.Thing
			all[i].Settle(said)
		} else {
			tied = append(tied, s.part)
		}
	}
	return all, tied
}

// restrict returns the stages of the rules that a part has.
func restrict(stages, rules map[string][]int) map[string][]int {
	some := map[string][]int{}
	for digest := range rules {
		some[digest] = stages[digest]
	}
	return some
}

// visit updates an entity: it adds what was seen, decides, stores and sends. bump writes
// even if nothing changed, so that an invocation that decides at the same time, and has not seen a
// shared resource's new state, has to decide again.
func (h *Handler) visit(ctx context.Context, home entity.Home, w *work, truth map[string]incident.Part, now time.Time, bump bool) error {
	for range attempts {
		record, d, err := h.open(ctx, w.subject, w.entity)
		if err != nil {
			return err
		}
		before, due := record.Doc, record.Due
		parts, tied := apply(d.Parts, w.seen, truth)
		if len(tied) > 0 {
			return tiedError(tied)
		}
		now := d.after(now)
		d.Parts = forget(parts, now.Add(-keep-h.longest))
		h.truncate(&d)
		next, err := h.decide(ctx, home, w.subject, &d, now)
		if err != nil {
			return err
		}
		record.Due = next
		if len(d.Outbox) > 0 {
			record.Due = now.Add(retryOutbox)
		}
		changed, err := d.changes(before)
		if err != nil {
			return err
		}
		if !changed && sameDue(due, record.Due) && !bump || record.Revision == 0 && len(d.Parts) == 0 && !bump {
			return nil
		}
		if err := h.put(ctx, &record, &d, now); errors.Is(err, state.ErrConflict) {
			continue
		} else if err != nil {
			return err
		}
		return h.send(ctx, record, d, next, now)
	}
	return fmt.Errorf("%s after %d attempts: %w", w.subject, attempts, state.ErrConflict)
}

// after returns the time of a decision: it never goes back, even if an old message is delivered
// again.
func (d document) after(now time.Time) time.Time {
	if clock := time.UnixMilli(d.Clock).UTC(); d.Clock > 0 && clock.After(now) {
		return clock
	}
	return now
}

// changes reports whether the document differs from the stored text.
func (d document) changes(before []byte) (bool, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return false, fmt.Errorf("state of %s: %w", d.Entity.Name, err)
	}
	return !bytes.Equal(before, text), nil
}

// put writes the next revision.
func (h *Handler) put(ctx context.Context, record *state.Record, d *document, now time.Time) error {
	return h.putUntil(ctx, record, d, now, h.expires(*d, now))
}

// putUntil writes the next revision, which the table may delete after expires.
func (h *Handler) putUntil(ctx context.Context, record *state.Record, d *document, now, expires time.Time) error {
	d.Clock = now.UnixMilli()
	text, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("state of %s: %w", record.Partition, err)
	}
	record.Doc, record.Expires = text, expires
	record.Revision++
	return h.Store.Put(ctx, *record)
}

// send sends the outbox and empties it. Until that is stored, the schedule sends it again.
func (h *Handler) send(ctx context.Context, record state.Record, d document, next, now time.Time) error {
	if len(d.Outbox) == 0 {
		return nil
	}
	if err := h.sendAll(ctx, d.Outbox); err != nil {
		return err
	}
	d.Outbox, record.Due = nil, next
	err := h.put(ctx, &record, &d, now)
	switch {
	case errors.Is(err, state.ErrConflict): // the newer writer sends everything again, without harm
	case err != nil:
		h.Log.Warn("outbox was sent but not emptied: it is sent again", "subject", record.Partition, "reason", err.Error())
	}
	return nil
}

func (h *Handler) sendAll(ctx context.Context, outbox []correlation.Composite) error {
	for _, c := range outbox {
		body, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("composite finding of %s: %w", c.Rule, err)
		}
		if _, err := h.SQS.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &h.IngestQueueURL, MessageBody: aws.String(sqstext.Accepted.Replace(string(body)))}); err != nil {
			h.count(c.Rule, contract.MetricUnsent, 1)
			return fmt.Errorf("SendMessage: %w", err)
		}
	}
	return nil
}

// sameDue compares times as the table stores them.
func sameDue(a, b time.Time) bool { return a.UnixMilli() == b.UnixMilli() || a.IsZero() && b.IsZero() }

// forget drops the states before a time, and parts without later states.
func forget(parts []incident.Part, before time.Time) []incident.Part {
	kept := make([]incident.Part, 0, len(parts))
	for _, p := range parts {
		if !p.Forget(before) {
			kept = append(kept, p)
		}
	}
	return kept
}

// expires is when the table may delete a document: never while a composite finding is active.
func (h *Handler) expires(d document, now time.Time) time.Time {
	for _, s := range d.Shown {
		if s.State == asff.Active {
			return time.Time{}
		}
	}
	if len(d.Outbox) > 0 {
		return time.Time{}
	}
	return now.Add(keep + h.longest)
}

// rulesOf returns the rules about entities of this kind.
func (h *Handler) rulesOf(e incident.Entity) []incident.Rule {
	return slices.DeleteFunc(slices.Clone(h.rules), func(r incident.Rule) bool {
		return r.Campaign() || (len(r.Resources) > 0) != (e.Kind == correlation.Resource)
	})
}

// decide replays every rule and adds what changed to the outbox. It returns when time alone will
// change the decision.
func (h *Handler) decide(ctx context.Context, home entity.Home, subject string, d *document, now time.Time) (time.Time, error) {
	rules := h.rulesOf(d.Entity)
	next := d.drop(rules, now)
	// If the outbox has no room for all, those that were sent the longest time ago are first, so that
	// a flood holds back none.
	slices.SortStableFunc(rules, func(a, b incident.Rule) int { return cmp.Compare(d.Shown[a.Digest].SentAt, d.Shown[b.Digest].SentAt) })
	for _, r := range rules {
		parts, uses := d.Parts, []string(nil)
		if r.Shared() && (d.Shown[r.Digest].State == asff.Active || h.hasOwn(r, d.Parts, now)) {
			var shared []incident.Part
			var err error
			if uses, shared, err = h.used(ctx, home, subject, d, now); err != nil {
				return next, err
			}
			parts = append(slices.Clone(d.Parts), shared...)
		}
		o := incident.Resume(r, parts, now, d.Shown[r.Digest].before(incident.Known(parts, now.Add(-keep-h.longest)), r))
		fits, err := h.show(ctx, home, r, d, o, uses, now)
		if err != nil {
			return next, err
		}
		if !fits { // the schedule decides it again once the others are sent
			next = earliest(next, now)
			continue
		}
		next = earliest(next, o.Next)
		if s := d.Shown[r.Digest]; s.State == asff.Active {
			next = earliest(next, s.repeatAt())
		}
	}
	return next, nil
}

// keepRemoved is how long the composite finding of a rule that is no longer deployed is known after
// it was sent, which happens daily. The forwarder archives it within a day.
const keepRemoved = 48 * time.Hour

// drop stops sending the composite findings of rules that are no longer deployed: the forwarder
// archives them. If such a rule is deployed again before that, its next decision is always sent:
// otherwise a finding whose parts ended meanwhile would stay active. drop returns when it must be
// called again.
func (d *document) drop(rules []incident.Rule, now time.Time) (next time.Time) {
	for digest, s := range d.Shown {
		if slices.ContainsFunc(rules, func(r incident.Rule) bool { return r.Digest == digest }) {
			continue
		}
		all := len(d.Outbox)
		d.Outbox = slices.DeleteFunc(d.Outbox, func(c correlation.Composite) bool { return c.Digest == digest })
		if s.State != asff.Active && len(d.Outbox) == all || now.Sub(time.UnixMilli(s.SentAt)) > keepRemoved {
			delete(d.Shown, digest)
			continue
		}
		s.State, s.Digest = asff.Active, ""
		d.Shown[digest] = s
		next = now.Truncate(time.Hour).Add(time.Hour)
	}
	return next
}

// hasOwn reports whether the device itself has a part of the rule: only then does it matter what it
// uses.
func (h *Handler) hasOwn(r incident.Rule, parts []incident.Part, now time.Time) bool {
	return len(incident.Replay(r, parts, now).Counted) > 0
}

// before returns a composite finding that became active before all histories were complete for the
// rule's window: of the parts that made it active, some may have been dropped. For any other it
// returns the zero value.
func (s shown) before(known time.Time, r incident.Rule) incident.Past {
	since := time.UnixMilli(s.Since)
	if s.State != asff.Active || !since.Add(-r.Window()).Before(known) {
		return incident.Past{}
	}
	return incident.Past{Since: since, Severity: defender.Severity(s.Severity)}
}

// repeatAt is when an active composite finding is sent again although nothing changed: after an
// hour, then daily. So the finding also returns if its rule was removed for a while, and Security Hub
// does not delete it.
func (s shown) repeatAt() time.Time {
	sent := time.UnixMilli(s.SentAt)
	if s.SentAt-s.Since < time.Hour.Milliseconds() {
		return sent.Add(time.Hour)
	}
	return sent.Add(24 * time.Hour)
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// maxOutbox limits the JSON of the outbox, in bytes: an item of the table has room for that and for
// the parts.
const maxOutbox = 150 << 10

// show adds the composite finding of an outcome to the outbox if it differs from the one that was
// sent. It reports whether the outbox had room for it.
func (h *Handler) show(ctx context.Context, home entity.Home, r incident.Rule, d *document, o incident.Outcome, uses []string, now time.Time) (fits bool, err error) {
	was, sent := d.Shown[r.Digest]
	if !o.Active && was.State != asff.Active {
		return true, nil
	}
	aliases := []asff.Resource{entity.Device(home, d.Entity)}
	if o.Active {
		if aliases, err = h.aliases(ctx, home, d.Entity, uses, now); err != nil {
			return false, err
		}
	}
	if !o.Began { // its parts no longer match, or their states were dropped
		o.Time, o.Severity, o.End = now, defender.Severity(was.Severity), cmp.Or(o.End, correlation.PartsEnded)
	}
	c := incident.Compose(r, d.Entity, o, aliases, d.Truncated)
	digest := incident.Digest(c)
	if sent && digest == was.Digest && !(o.Active && !now.Before(was.repeatAt())) {
		return true, nil
	}
	others := slices.DeleteFunc(slices.Clone(d.Outbox), func(o correlation.Composite) bool { return o.Digest == r.Digest })
	if len(others) > 0 {
		if text, err := json.Marshal(append(slices.Clone(others), c)); err != nil || len(text) > maxOutbox {
			return false, err
		}
	}
	d.Revision = max(d.Revision+1, now.UnixMilli())
	c.Revision = d.Revision
	s := shown{State: c.State, Digest: digest, SentAt: now.UnixMilli(), Severity: c.Severity, Since: was.Since}
	switch {
	case c.State == asff.Active && was.State != asff.Active:
		s.Since = now.UnixMilli()
		h.count(r.Name, contract.MetricOpened, 1)
	case c.State == asff.Archived:
		h.count(r.Name, contract.MetricEnded, 1)
	}
	d.Shown[r.Digest] = s
	d.Outbox = append(others, c)
	return true, nil
}

// aliases returns the device's resources. If the function may not look them up, it returns only the
// device.
func (h *Handler) aliases(ctx context.Context, home entity.Home, e incident.Entity, uses []string, now time.Time) ([]asff.Resource, error) {
	if e.Kind == correlation.Campaign {
		return nil, nil
	}
	all, err := h.Entities.Aliases(ctx, home, e, uses, now)
	if err != nil && !certificate.CanRetry(err) {
		h.Log.Warn("aliases of a device cannot be looked up", "device", e.Name, "reason", err.Error())
		return []asff.Resource{entity.Device(home, e)}, nil
	}
	return all, err
}
