package handler

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/internal/notification"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/message"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/record"
)

const (
	// attempts is how often a write that conflicts with concurrent invocations is tried.
	attempts = 10
	// orphaned is how long other events wait for the event that owes a message. The event itself is
	// received again within minutes, unless somebody purged the queue.
	orphaned = time.Hour
)

var (
	errBusy     = errors.New("another invocation publishes a message about the finding")
	errConflict = errors.New("the record of the finding was changed too often")
)

// handle handles the newest event of a run. A hold over 0 lets the events be received again after
// that time.
func (b *batch) handle(ctx context.Context, r run) (hold time.Duration, err error) {
	for range attempts {
		hold, err = b.attempt(ctx, r)
		if !errors.Is(err, record.ErrConflict) {
			return hold, err
		}
	}
	return 0, errConflict
}

func (b *batch) attempt(ctx context.Context, r run) (time.Duration, error) {
	e := r.newest()
	f, err := b.Table.Finding(ctx, e.Key())
	if err != nil {
		return 0, err
	}
	// An event that changes nothing need not wait for a message that another event owes.
	if _, ours := r.of(orderOf(f.Owed)); f.Owed != nil && (ours || newer(e, f)) {
		if err := b.resume(ctx, r, &f); err != nil {
			return 0, err
		}
	}
	hold := b.holdOf(r)
	notice := b.notice(e)
	d, err := decide(f, e, notice.Line(), facts{
		concerns: slices.ContainsFunc(b.Config.Filters, func(f notification.Filter) bool { return f.Concerns(e) }), mayHold: hold > 0,
		wanted:  func() bool { return b.wanted(e, &notice) },
		covered: func() (string, error) { return b.covered(ctx, e) },
	})
	if err != nil {
		return 0, err
	}
	notice.Change, notice.Before = d.change, d.before
	if notice.Incident {
		if err := b.recordIncident(ctx, e, d); err != nil {
			return 0, err
		}
	}
	switch {
	case d.change != message.None:
		err = b.announce(ctx, notice, f, d)
	case d.write:
		err = b.put(ctx, e, &d.next)
	}
	if err != nil {
		return 0, err
	}
	if n := len(r.messages); d.metric != "" {
		b.Metrics.Count(source, d.metric, n)
	} else if n > 1 {
		b.Metrics.Count(source, contract.MetricUnchanged, n-1)
	}
	if d.hold {
		return hold, nil
	}
	return 0, nil
}

func orderOf(o *record.Owed) findingevent.Order {
	if o == nil {
		return findingevent.Order{}
	}
	return o.Order
}

func (b *batch) put(ctx context.Context, e findingevent.Event, f *record.Finding) error {
	return b.Table.PutFinding(ctx, e.Key(), f, b.now, defender.Severity(b.Config.Remind))
}

// notice describes an event, without the change.
func (b *batch) notice(e findingevent.Event) message.Notice {
	n := message.Notice{Event: e, Device: message.DeviceOf(e), Incident: correlation.IsComposite(e)}
	n.Account, n.Region = placeOf(e)
	if n.Incident {
		entity := e.ProductFields[correlation.FieldEntity]
		n.Parts, n.Campaign = e.ProductFields[correlation.FieldParts], entity == ""
		if n.Device.Name != entity {
			n.Device = message.Device{Name: entity}
		}
	}
	return n
}

// elsewhere matches the end of the ID of an incident of another account or Region.
var elsewhere = regexp.MustCompile(`^defenderhub/[^/]+/[^/]+/[^/]+/(?:[^/]+/)?[^/]+/([0-9]{12})/([a-z]{2,4}(?:-[a-z0-9]+)+)$`)

// placeOf returns the account and the Region of a finding's device. An incident is imported under
// this account; its ID names theirs.
func placeOf(e findingevent.Event) (account, region string) {
	if correlation.IsComposite(e) {
		if m := elsewhere.FindStringSubmatch(e.ID); m != nil {
			return m[1], m[2]
		}
	}
	return e.Account, e.Region
}

// holdOf returns for how long the events may still wait for an incident; 0 if they have waited.
// An incident waits for nothing.
func (b *batch) holdOf(r run) time.Duration {
	if len(b.Config.Rules) == 0 || correlation.IsComposite(r.newest()) {
		return 0
	}
	oldest := b.now
	for _, m := range r.messages {
		if m.receives > 1 {
			return 0 // even if the clock of this machine is behind: an event waits once
		}
		if m.sent.Before(oldest) {
			oldest = m.sent
		}
	}
	return max(0, b.Config.Hold()-b.now.Sub(oldest))
}

// wanted reports whether a filter lets an event through. A filter that cannot be evaluated does.
func (b *batch) wanted(e findingevent.Event, n *message.Notice) bool {
	for _, f := range b.Config.Filters {
		if !f.Concerns(e) || !f.Severe(e.Severity) {
			continue
		}
		if len(f.ThingGroups) == 0 {
			return true
		}
		groups, err := b.groups(e, n)
		if err != nil {
			b.Metrics.Count(source, contract.MetricUnevaluated, 1)
			b.Log.Warn("thing groups are not known: the message is sent", "finding", e.Key(), "reason", err.Error())
			return true
		}
		if slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(f.ThingGroups, g) }) {
			return true
		}
	}
	return false
}

var errNoThing = errors.New("the finding names no thing of this account and Region")

// groups returns the groups of an event's thing, and keeps them for the message.
func (b *batch) groups(e findingevent.Event, n *message.Notice) ([]string, error) {
	if n.Device.Groups != nil {
		return n.Device.Groups, nil
	}
	if !n.Device.Thing || n.Account != e.HubAccount || n.Region != b.Region {
		return nil, errNoThing
	}
	groups, err := b.Groups.Groups(b.lookups, n.Device.Name, b.now)
	if err == nil {
		n.Device.Groups = groups
	}
	return groups, err
}

// aliasesOf returns the keys under which a finding may be a part of an incident.
func aliasesOf(e findingevent.Event) []string {
	account, region := placeOf(e)
	place := account + "/" + region + "/"
	all := []string{"finding/" + e.Key()}
	for _, r := range e.Resources {
		if r.ID != "" && !slices.Contains(all, place+"resource/"+r.ID) {
			all = append(all, place+"resource/"+r.ID)
		}
	}
	if key := correlation.Key(e); key != "" {
		all = append(all, place+"key/"+key)
	}
	return all
}

// incidentAliases returns the keys under which an incident covers its parts: the parts that it
// names, and its device with all names, or what the parts of a campaign share.
func incidentAliases(e findingevent.Event) []string {
	account, region := placeOf(e)
	place := account + "/" + region + "/"
	var all []string
	for _, r := range e.Related {
		all = append(all, "finding/"+r.ProductARN+"/"+r.ID)
	}
	if key := e.ProductFields[correlation.FieldKey]; key != "" {
		return append(all, place+"key/"+key)
	}
	for _, r := range e.Resources {
		if r.ID != "" {
			all = append(all, place+"resource/"+r.ID)
		}
	}
	return all
}

// recordIncident lets an incident cover its parts, before its own message is sent.
func (b *batch) recordIncident(ctx context.Context, e findingevent.Event, d decision) error {
	// In an administrator account, other accounts could import what looks like an incident.
	ours := strings.Contains(e.ProductARN, ":"+e.HubAccount+":product/"+e.HubAccount+"/")
	if !d.write || !ours {
		return nil
	}
	incident := record.Incident{Key: e.Key(), Rule: e.ProductFields[correlation.FieldRule], Open: d.next.Open, Order: e.Order}
	for _, alias := range incidentAliases(e) {
		if err := b.Table.PutIncident(ctx, alias, incident, b.now); err != nil {
			return err
		}
	}
	return nil
}

// covered returns the key of an open incident of which a finding is a part: one that names it, or one
// about its device, or its campaign, with a stage that it matches. It is "" if there is none.
//
// An incident may have ended, and opened again, without what it named earlier. Only its own record
// says that: an event that ends an incident names few of its parts, and a late event may name them
// again.
func (b *batch) covered(ctx context.Context, e findingevent.Event) (string, error) {
	if len(b.Config.Rules) == 0 || correlation.IsComposite(e) {
		return "", nil
	}
	for i, alias := range aliasesOf(e) {
		incidents, err := b.Table.Incidents(ctx, alias)
		if err != nil {
			return "", err
		}
		for _, incident := range incidents {
			named := i == 0
			if !named && !slices.ContainsFunc(b.Config.Rules, func(r correlation.Rule) bool { return r.Name == incident.Rule && len(r.Match(e)) > 0 }) {
				continue
			}
			f, err := b.Table.Finding(ctx, incident.Key)
			if err != nil {
				return "", err
			}
			if f.Open && !incident.Order.Updated.Before(f.Opened) {
				return incident.Key, nil
			}
		}
	}
	return "", nil
}
