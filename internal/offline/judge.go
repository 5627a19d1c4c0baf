package offline

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/internal/report"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
)

// Transition is a change of a device's alarm.
type Transition struct {
	Device string
	engine.Transition
}

// Result is the judgment of a recording.
type Result struct {
	// Transitions in the order of their times.
	Transitions []Transition
	// Unknown counts messages over HTTPS without a thing, Unreadable counts messages that contain
	// no report although they should. Neither is judged, except that an unreadable report is a
	// datapoint of the behavior about reports.
	Unknown, Unreadable int
	// Stats are the engine's, of all devices.
	Stats engine.Stats
	// Samples are the measurements of behaviors with a percentile or a baseline, by population:
	// one per device and window.
	Samples map[engine.FleetKey][]float64
}

// linkedTime is how long after a disconnection AWS IoT returns its time.
// https://docs.aws.amazon.com/iot/latest/apireference/API_iotdata_GetConnection.html
const linkedTime = 30 * time.Minute

// closeEvery is how often the closer runs.
const closeEvery = time.Minute

// Judge judges records, in the order of their times, and then the silence until a time. The zero
// time means: until everything that the records can cause has been judged.
func Judge(config engine.Config, records []Record, until time.Time) (Result, error) {
	all, err := config.Compile()
	if err != nil {
		return Result{}, err
	}
	pattern, err := contract.ParseClientPattern(config.ClientPattern)
	if err != nil {
		return Result{}, err
	}
	lateness := engine.Lateness(time.Duration(config.BatchSeconds) * time.Second)
	j := &judge{
		behaviors: all, rules: engine.Rules(all, config.ReportTopic), lateness: lateness, pattern: pattern,
		things: map[string]*thing{}, connections: map[string]connection{}, population: newPopulation(lateness, config.MinDatapoints),
		result: Result{Samples: map[engine.FleetKey][]float64{}},
	}
	ordered := slices.Clone(records)
	slices.SortStableFunc(ordered, func(a, b Record) int { return cmp.Compare(a.at(), b.at()) })
	for _, r := range ordered {
		j.close(time.UnixMilli(r.at() - 1).UTC())
		j.add(r)
	}
	if until.IsZero() && len(ordered) > 0 {
		until = time.UnixMilli(ordered[len(ordered)-1].at()).UTC().Add(longest(all) + lateness + closeEvery)
	}
	j.close(until)
	slices.SortStableFunc(j.result.Transitions, func(a, b Transition) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Device, b.Device), cmp.Compare(a.Behavior.Name, b.Behavior.Name))
	})
	return j.result, nil
}

// longest is the longest time from an event to a verdict that it causes, without the lateness.
func longest(all []engine.Compiled) time.Duration {
	var most time.Duration
	for _, c := range all {
		windows := time.Duration(max(c.Behavior.DatapointsToAlarm(), c.Behavior.DatapointsToClear()) + 1)
		length := engine.Period.Duration()
		if w := c.Behavior.Criteria.Window(); w != 0 {
			length = w.Duration()
		}
		most = max(most, windows*length)
	}
	return most
}

type judge struct {
	behaviors   []engine.Compiled
	rules       []iotrule.TelemetryRule
	lateness    time.Duration
	pattern     contract.ClientPattern
	things      map[string]*thing
	due         dues
	connections map[string]connection
	population  *population
	result      Result
}

// thing is a device's state. due is the time of its valid entry in the heap, zero without one.
type thing struct {
	state engine.State
	due   time.Time
}

// connection is what lifecycle events say about a client.
type connection struct {
	connected bool
	since     int64 // ms
	session   string
	version   int64
}

// add applies the rules to a record, and judges what they send.
func (j *judge) add(r Record) {
	switch r.Kind {
	case Lifecycle:
		l, err := r.event()
		if err != nil {
			return // Read has refused it
		}
		j.connect(l)
		if j.sends(iotrule.LifecycleEvent) {
			j.step(j.subject(l.ClientID, r.Thing), l.Datapoints(), r.at())
		}
	case Message:
		for _, rule := range j.rules {
			t := r.telemetry(rule.Kind)
			switch {
			case rule.Kind != iotrule.PublishedMessage && rule.Kind != iotrule.Oversize:
			case !topicfilter.Matches(rule.TopicFilter, r.Topic):
			case rule.Kind == iotrule.Oversize && !rule.Violates(t.Bytes):
			default:
				j.judge(r, engine.MessageDatapoints(t))
			}
		}
	case Report:
		if j.sends(iotrule.DeviceReport) {
			j.judge(r, j.points(r))
		}
	}
}

func (j *judge) sends(kind iotrule.TelemetryKind) bool {
	return slices.ContainsFunc(j.rules, func(r iotrule.TelemetryRule) bool { return r.Kind == kind })
}

func (j *judge) points(r Record) []engine.Datapoint {
	read, err := report.Decode(r.Payload)
	if err != nil {
		j.result.Unreadable++
		return engine.UnreadableReport(r.ID, int64(r.Time))
	}
	return engine.Report("report/"+cmp.Or(read.ID, r.ID), int64(r.Time), read.Values, read.Partial, read.Unreadable())
}

func (j *judge) judge(r Record, points []engine.Datapoint) {
	subject := ""
	if r.Client != "" && r.Client != iotrule.NotMQTT {
		subject = j.subject(r.Client, r.Thing)
	} else if subject = r.Thing; subject == "" {
		j.result.Unknown++
		return
	}
	j.step(subject, points, int64(r.Time))
}

// subject is the device of a client: the thing, if the client is an additional connection of it.
// The deployed function asks the registry whether the certificate is the thing's. Here a record
// without a thing counts as proof.
func (j *judge) subject(client, thing string) string {
	if of := j.pattern.Thing(client); of != "" && (thing == "" || of == thing) {
		return of
	}
	return client
}

// connect follows the connections of a client. An event about a session that another one has
// replaced changes nothing.
func (j *judge) connect(l engine.Lifecycle) {
	was, known := j.connections[l.ClientID]
	switch l.EventType {
	case "connected":
		j.connections[l.ClientID] = connection{true, l.Timestamp, l.Session, l.Version}
	case "disconnected":
		if known && was.connected && (was.session != l.Session || was.version > l.Version) {
			return
		}
		j.connections[l.ClientID] = connection{false, l.Timestamp, l.Session, l.Version}
	}
}

// connection answers as GetConnection would.
func (j *judge) connection(now time.Time) func(string) (engine.Connection, bool) {
	return func(client string) (engine.Connection, bool) {
		c, known := j.connections[client]
		switch {
		case !known:
			return engine.Connection{Connected: true, Since: 1}, true
		case !c.connected && now.Sub(time.UnixMilli(c.since)) > linkedTime:
			return engine.Connection{}, true
		}
		return engine.Connection{Connected: c.connected, Since: c.since}, true
	}
}

// step judges a device by datapoints and the time, in ms.
func (j *judge) step(subject string, points []engine.Datapoint, at int64) {
	t := j.things[subject]
	if t == nil {
		t = &thing{}
		j.things[subject] = t
	}
	now := time.UnixMilli(at).UTC()
	e := engine.Evaluator{Behaviors: j.behaviors, Lateness: j.lateness, Fleet: j.population, Connection: j.connection(now)}
	r := e.Step(subject, t.state, points, now)
	if r.Changed || len(r.Transitions) > 0 {
		t.state = r.State // otherwise the function writes nothing
	}
	for _, change := range r.Transitions {
		j.result.Transitions = append(j.result.Transitions, Transition{subject, change})
	}
	for of, value := range r.Samples {
		if j.population.add(of, value, at) {
			j.result.Samples[of.Key] = append(j.result.Samples[of.Key], value)
		}
	}
	j.result.Stats = sum(j.result.Stats, r.Stats)
	due := e.Due(t.state)
	if !due.IsZero() && !due.After(now) {
		due = now.Add(closeEvery) // the closer looks again in the next minute
	}
	if !due.IsZero() && !due.Equal(t.due) {
		heap.Push(&j.due, dueAt{due, subject})
	}
	t.due = due
}

// close judges silence up to a time, each minute as the closer does.
func (j *judge) close(until time.Time) {
	for len(j.due) > 0 {
		run := j.due[0].at.Add(closeEvery - 1).Truncate(closeEvery)
		if run.After(until) {
			return
		}
		subjects := map[string]bool{}
		for len(j.due) > 0 && !j.due[0].at.After(run) {
			next := heap.Pop(&j.due).(dueAt)
			if t := j.things[next.subject]; t.due.Equal(next.at) {
				t.due = time.Time{}
				subjects[next.subject] = true
			}
		}
		for _, s := range slices.Sorted(maps.Keys(subjects)) {
			j.step(s, nil, run.UnixMilli())
		}
	}
}

func sum(a, b engine.Stats) engine.Stats {
	a.Judged, a.Late, a.Early, a.Unread = a.Judged+b.Judged, a.Late+b.Late, a.Early+b.Early, a.Unread+b.Unread
	a.Sampled, a.Unjudged, a.Unconfirmed = a.Sampled+b.Sampled, a.Unjudged+b.Unjudged, a.Unconfirmed+b.Unconfirmed
	return a
}

// dues is a heap of the times at which devices are judged without telemetry. A device's newest
// entry counts.
type dues []dueAt

type dueAt struct {
	at      time.Time
	subject string
}

func (d dues) Len() int           { return len(d) }
func (d dues) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d dues) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *dues) Push(x any)        { *d = append(*d, x.(dueAt)) }
func (d *dues) Pop() any {
	last := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return last
}
