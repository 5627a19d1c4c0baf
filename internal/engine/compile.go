package engine

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/iotapi"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
)

// kind is how the datapoints of a behavior come about.
type kind int

const (
	// each: every measurement is judged by itself, and the worst of a window stands.
	each kind = iota
	// pushed: like each, but only violating ones arrive, because the rule's SQL keeps
	// the others back. A window without any conforms if the session was open throughout.
	pushed
	// counted and summed: events are collected until the window is over.
	counted
	summed
	// disconnected: minutes since the last session ended.
	disconnected
	// reporting: minutes since the last device report.
	reporting
)

// Compiled is a behavior of a security profile, made ready to be judged.
type Compiled struct {
	// Behavior as it was written.
	Behavior defender.Behavior
	// Profile is the name of the security profile.
	Profile string

	kind   kind
	length defender.Window
	static comparison
	limit  int64  // how many events need to be counted
	after  int64  // ms of disconnection or of missing reports that violate
	lower  bool   // a bound from below: no events violate
	form   string // the kind, and a hash of all that windows depend on
	// confirm is how many ms after the start of an unconfirmed window the window that
	// confirms it may start; 0: no window needs it. See [Traffic.Confirm].
	confirm int64

	generation int64
}

const minute = int64(time.Minute / time.Millisecond)

// Compile makes the behaviors of a profile ready. It fails with what [Support] reports.
func Compile(profile string, behaviors []defender.Behavior) ([]Compiled, error) {
	if err := Support(behaviors); err != nil {
		return nil, fmt.Errorf("security profile %s: %w", profile, err)
	}
	all := make([]Compiled, len(behaviors))
	for i, b := range behaviors {
		all[i] = compile(profile, b)
	}
	return all, nil
}

func compile(profile string, b defender.Behavior) Compiled {
	c := b.Criteria
	op := c.Operator()
	k := Compiled{
		Behavior: b, Profile: profile, length: c.Window(), limit: math.MaxInt64,
		static: newComparison(op, c.Value()),
		lower:  op == iotapi.GreaterThan || op == iotapi.GreaterThanEquals,
	}
	if k.length == 0 {
		k.length = Period
	}
	static := c.Type() == "STATIC"
	switch m := c.Metric(); {
	case m.Name == defender.MessageByteSize.Info().Name && static:
		k.kind = pushed
	case m.Name == defender.MessageByteSize.Info().Name:
		k.kind = summed
	case m.Name == defender.DisconnectDuration.Info().Name:
		k.kind, k.after = disconnected, firstAbove(op, c.Value())*minute
	case m.Side == iotapi.CloudSide && m.Windowed:
		k.kind = counted
		if static {
			k.limit = firstAbove(op, c.Value())
		}
	}
	return Traffic{}.of(k)
}

// formOf begins with the kind and differs where metric, criteria or dimension do: what
// was collected for one form says nothing about another.
func (c Compiled) formOf() string {
	f := fnv.New32a()
	fmt.Fprint(f, c.Behavior.Criteria.Normal(), c.Behavior.Dimension != nil)
	if d := c.Behavior.Dimension; d != nil {
		fmt.Fprintf(f, "%v%q", d.NotIn, d.TopicFilters)
	}
	if c.confirm > 0 {
		fmt.Fprint(f, "confirm")
	}
	return fmt.Sprintf("%d%08x", c.kind, f.Sum32())
}

// firstAbove is the count at which the comparison's answer is settled: the first that
// an upper bound does not allow, the first that a lower one does.
func firstAbove(op iotapi.Operator, v iotapi.Value) int64 {
	if v.Count == nil {
		return math.MaxInt64
	}
	n := *v.Count
	if (op == iotapi.LessThanEquals || op == iotapi.GreaterThan) && n < math.MaxInt64 {
		n++
	}
	return max(n, 0)
}

// MinReportInterval is the shortest time that AWS lets pass between two device reports, and
// how often they come where nothing else is stated.
// https://docs.aws.amazon.com/general/latest/gr/iot_device_defender.html
const MinReportInterval = 5 * time.Minute

// ReportsEvery is the behavior of a device that reports at least once in every
// interval, in whole minutes from [MinReportInterval] on. A device that never reported
// is not judged. The last report's time is kept to a quarter of the interval, so an
// alarm comes up to that much later. Detect has no such behavior.
func ReportsEvery(profile, name string, interval time.Duration, severity defender.Severity) Compiled {
	minutes := int64(interval / time.Minute)
	c := Compiled{
		Behavior: defender.Behavior{
			Name: name, Severity: severity,
			Criteria: defender.CustomNumber(contract.MinutesSinceReport).LessThanEquals(float64(minutes), 0),
		},
		Profile: profile, kind: reporting, after: minutes * minute,
		length: defender.Window(max(minutes*60/4, 60)),
	}
	c.form = c.formOf()
	return c
}

// ReadableReports is the behavior of a device whose reports can be read. Three five-minute
// windows in a row with one that contains no report, or no value that can be read, raise
// the alarm, so that a single broken report does not. Detect has no such behavior.
func ReadableReports(profile, name string, severity defender.Severity) Compiled {
	return compile(profile, defender.Behavior{
		Name: name, Severity: severity, ToAlarm: 3, ToClear: 1,
		Criteria: defender.CustomNumber(contract.UnreadableReport).LessThan(1, 0),
	})
}

// takes reports whether d is a datapoint of the behavior. known is false where it is one of
// its metric, but nobody can tell whether it lies in the dimension.
func (c Compiled) takes(d Datapoint) (takes, known bool) {
	if c.kind == reporting {
		return d.Metric == ReportReceived, true
	}
	if d.Screened && c.kind != pushed || d.Metric != c.Behavior.Criteria.Metric().Name {
		return false, true
	}
	return inDimension(c.Behavior.Dimension, d)
}

// clientIDVariable stands for the sender's client id in the topic filters of a dimension.
const clientIDVariable = "${iot:ClientId}"

// literal keeps a client id from being a wildcard: AWS IoT lets it hold + and #, which no
// topic does.
var literal = strings.NewReplacer("+", "\x00", "#", "\x00")

// inDimension reports whether a message's topic lies in the dimension. What has no topic
// is no message, and lies in none, nor outside of one. Of a message that came without a
// client id that is not known where a topic filter asks for it.
func inDimension(dim *defender.Dimension, d Datapoint) (in, known bool) {
	if dim == nil {
		return true, true
	}
	if d.Topic == "" {
		return false, true
	}
	known = true
	for _, filter := range dim.TopicFilters {
		if strings.Contains(filter, clientIDVariable) {
			if d.ClientID == "" || d.ClientID == iotrule.NotMQTT {
				known = false
				continue
			}
			filter = strings.ReplaceAll(filter, clientIDVariable, literal.Replace(d.ClientID))
		}
		if topicfilter.Matches(filter, d.Topic) {
			return !dim.NotIn, true
		}
	}
	return known && dim.NotIn, known
}

// infers tells that a window without events is a datapoint where a session was open
// throughout.
func (c Compiled) infers() bool {
	m := c.Behavior.Criteria.Metric()
	return c.kind == pushed || m.Side == iotapi.CloudSide && (c.kind == counted || c.kind == summed)
}

// NeedsConnections reports whether some behavior is judged by silence: [Evaluator.Connection]
// is asked for no other.
func NeedsConnections(behaviors []Compiled) bool {
	return slices.ContainsFunc(behaviors, func(c Compiled) bool { return c.infers() || c.kind == disconnected })
}

// sessions tells that the behavior needs to know of every session, also of devices that
// conform: what it judges is that nothing comes.
func (c Compiled) sessions() bool {
	return c.kind == disconnected || c.lower && c.infers() && c.kind != pushed
}
