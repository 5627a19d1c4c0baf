package handler

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/entity"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/incident"
)

// unknownProduct is the product, in metrics, of events that cannot be read.
const unknownProduct = "unknown"

// sighting is the finding of a message, attributed to one entity.
type sighting struct {
	message int
	part    incident.Part
}

// work is what a batch knows about one entity, shared resource or campaign.
type work struct {
	subject string
	entity  incident.Entity
	// rule is a campaign's rule.
	rule incident.Rule
	seen []sighting
}

func (w *work) messages() []int {
	all := make([]int, len(w.seen))
	for i, s := range w.seen {
		all[i] = s.message
	}
	return all
}

// batch is the work of a batch, by its subject: a key of [subjectOf], [sharedSubject] or
// [campaignSubject].
type batch struct {
	mu                          sync.Mutex
	entities, shared, campaigns map[string]*work
}

func (b *batch) add(to map[string]*work, subject string, e incident.Entity, r incident.Rule, s sighting) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := to[subject]
	if w == nil {
		w = &work{subject: subject, entity: e, rule: r}
		to[subject] = w
	}
	if e.Kind == correlation.Thing {
		w.entity.Kind = e.Kind
	}
	w.seen = append(w.seen, s)
}

// order sorts what concurrent reads have added: the state of a device must not depend on which of
// them was first.
func (b *batch) order() {
	for _, all := range []map[string]*work{b.entities, b.shared, b.campaigns} {
		for _, w := range all {
			slices.SortStableFunc(w.seen, func(x, y sighting) int { return cmp.Compare(x.message, y.message) })
		}
	}
}

// fromQueue handles events and returns those that must be retried.
func (h *Handler) fromQueue(ctx context.Context, home entity.Home, messages []events.SQSMessage) events.SQSEventResponse {
	failed := &failures{why: map[int]error{}}
	now := h.sent(messages)
	b := &batch{entities: map[string]*work{}, shared: map[string]*work{}, campaigns: map[string]*work{}}
	indexes := make([]int, len(messages))
	for i := range indexes {
		indexes[i] = i
	}
	for i, err := range forEach(indexes, func(i int) error { return h.read(ctx, home, b, i, []byte(messages[i].Body), now) }) {
		if err != nil {
			failed.add(err, i)
		}
	}
	b.order()
	h.process(ctx, home, b, now, failed)
	response := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
	for _, i := range slices.Sorted(maps.Keys(failed.why)) {
		h.count(unknownProduct, contract.MetricFailed, 1)
		h.Log.Warn("event is retried", "message", messages[i].MessageId, "reason", failed.why[i].Error())
		response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: messages[i].MessageId})
	}
	return response
}

// sent returns when the newest message was sent. Decisions take the time only from messages, their
// events and the schedule's request.
func (h *Handler) sent(messages []events.SQSMessage) time.Time {
	var newest int64
	for _, m := range messages {
		if ms, err := strconv.ParseInt(m.Attributes["SentTimestamp"], 10, 64); err == nil {
			newest = max(newest, ms)
		}
	}
	if newest == 0 {
		return h.Now() // Amazon SQS always sets it
	}
	return time.UnixMilli(newest).UTC()
}

// read adds a message's finding to the batch. An event that cannot be read fails: after its
// retries, the queue moves it to the dead-letter queue.
func (h *Handler) read(ctx context.Context, home entity.Home, b *batch, message int, body []byte, now time.Time) error {
	e, err := findingevent.Parse(body)
	if err != nil {
		h.count(unknownProduct, contract.MetricReceived, 1)
		h.count(unknownProduct, contract.MetricUnreadable, 1)
		return err
	}
	product := e.Product()
	h.count(product, contract.MetricReceived, 1)
	here := e.Account == home.Account && e.Region == home.Region
	if correlation.IsComposite(e) || !here && !h.config.Elsewhere {
		return nil
	}
	m := h.match(e)
	if m.none() {
		return nil
	}
	h.count(product, contract.MetricMatched, 1)
	return h.attribute(ctx, home, b, message, e, m, now)
}

// matches are the stages that a finding matches or could match, by the rule's digest.
type matches struct {
	own, shared map[string][]int
	resources   []incident.Rule
	campaigns   []incident.Rule
	stages      map[string][]int
}

func (m matches) none() bool {
	return len(m.own)+len(m.shared)+len(m.resources)+len(m.campaigns) == 0
}

// match matches a finding with all rules. Another version of the finding may match a rule although
// this one does not, because severity and types can change. If there may be an older version, this
// one must be stored too.
func (h *Handler) match(e findingevent.Event) matches {
	m := matches{own: map[string][]int{}, shared: map[string][]int{}, stages: map[string][]int{}}
	first := e.CreatedAt.Equal(e.Order.Updated) && e.Original && e.Open()
	for _, r := range h.rules {
		stages := r.Match(e)
		could := stages
		if len(stages) == 0 && !first {
			could = r.Could(e)
		}
		if len(could) == 0 {
			continue
		}
		m.stages[r.Digest] = stages
		switch {
		case r.Campaign():
			m.campaigns = append(m.campaigns, r)
			continue
		case len(r.Resources) > 0:
			m.resources = append(m.resources, r)
			continue
		}
		for _, s := range could {
			kind := m.own
			if r.Stages[s].Shared {
				kind = m.shared
			}
			kind[r.Digest] = stages
		}
	}
	return m
}

// attribute adds the finding to the entities that it is about.
func (h *Handler) attribute(ctx context.Context, home entity.Home, b *batch, message int, e findingevent.Event, m matches, now time.Time) error {
	attributed := false
	if len(m.own) > 0 || len(m.campaigns) > 0 {
		devices, more, err := h.Entities.Devices(ctx, home, e, now)
		if err != nil {
			return err
		}
		if more {
			h.count(e.Product(), contract.MetricTruncated, 1)
		}
		for _, d := range devices {
			attributed = true
			if len(m.own) > 0 {
				b.add(b.entities, subjectOf(d), d, incident.Rule{}, sighting{message, partOf(e, d, m.own)})
			}
			for _, r := range m.campaigns {
				if key := correlation.Key(e); key != "" {
					c := incident.Entity{Account: d.Account, Region: d.Region, Kind: correlation.Campaign, Name: key}
					p := partOf(e, d, map[string][]int{r.Digest: m.stages[r.Digest]})
					p.Resources = p.Resources[:min(1, len(p.Resources))]
					b.add(b.campaigns, campaignSubject(r, c), c, r, sighting{message, p})
				}
			}
		}
	}
	if len(m.shared) > 0 {
		for _, resource := range entity.Shared(home, e) {
			attributed = true
			b.add(b.shared, sharedSubject(home, resource), incident.Entity{}, incident.Rule{}, sighting{message, partOf(e, incident.Entity{}, m.shared)})
		}
	}
	for _, r := range m.resources {
		for _, res := range e.Resources {
			if readable(res) && slices.Contains(r.Resources, res.Type) {
				attributed = true
				d := incident.Entity{Account: e.Account, Region: e.Region, Kind: correlation.Resource, Name: res.ID}
				b.add(b.entities, subjectOf(d), d, incident.Rule{}, sighting{message, partOf(e, d, map[string][]int{r.Digest: m.stages[r.Digest]})})
			}
		}
	}
	if !attributed {
		h.count(e.Product(), contract.MetricUnattributed, 1)
	}
	return nil
}

// Subjects are the partition keys of the state table. A thing and the client of the same name are
// one device: which of them it is may only become known later.
func subjectOf(e incident.Entity) string {
	kind := "device"
	if e.Kind == correlation.Resource {
		kind = "resource"
	}
	return kind + "#" + e.Account + "#" + e.Region + "#" + e.Name
}

func sharedSubject(home entity.Home, resource string) string {
	return "shared#" + home.Account + "#" + home.Region + "#" + resource
}

const campaignPrefix = "campaign#"

func campaignSubject(r incident.Rule, e incident.Entity) string {
	return campaignPrefix + r.Digest + "#" + e.Account + "#" + e.Region + "#" + e.Name
}

// Limits of a part: resources, bytes of each, and bytes of the details of each.
const (
	maxPartResources = 3
	maxResource      = 1024
	maxDetails       = 500
)

// readable reports whether a resource has an ID, and no text that is too long for the state. AWS
// documents no limit for IDs of resources.
func readable(r findingevent.Resource) bool {
	return r.ID != "" && len(r.Type)+len(r.ID)+len(r.Partition)+len(r.Region) <= maxResource
}

// partOf returns a finding as a part with one state.
func partOf(e findingevent.Event, d incident.Entity, stages map[string][]int) incident.Part {
	p := incident.Part{
		Finding: asff.RelatedFinding{ProductARN: e.ProductARN, ID: e.ID}, Service: correlation.Service(e), Matches: stages, Start: started(e),
		Device: d.Name, Thing: d.Kind == correlation.Thing,
		History: []incident.Mark{{Order: e.Order, State: incident.Ended, Severity: e.Severity}},
	}
	switch {
	case e.Open():
		p.History[0].State = incident.Open
	case e.RecordState == asff.Active:
		p.History[0].State = incident.Dismissed
	}
	for _, r := range e.Resources[:min(maxPartResources, len(e.Resources))] {
		if !readable(r) {
			continue
		}
		resource := asff.Resource{Type: r.Type, ID: r.ID, Partition: r.Partition, Region: r.Region}
		details, room := map[string]string{}, maxDetails
		for _, k := range slices.Sorted(maps.Keys(r.Details)) {
			if n := len(k) + len(r.Details[k]); n <= room {
				details[k], room = r.Details[k], room-n
			}
		}
		if len(details) > 0 {
			resource.Details = &asff.ResourceDetails{Other: details}
		}
		p.Resources = append(p.Resources, resource)
	}
	return p
}
