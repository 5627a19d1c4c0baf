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

// Compiled is a behavior of a security profile, ready to be judged.
type Compiled struct {
	// Behavior as the user wrote it.
	Behavior defender.Behavior
	// Profile is the name of the security profile.
	Profile string

	kind   kind
	length defender.Window
	static comparison
	lower  bool // a lower bound, which a window without events violates
	// confirm applies to the behaviors that judge bytes and packets.
	confirm confirmation

	// generation is from [Generations]. The others follow from the fields above: key names the
	// behavior in a state, form is the kind and a hash of everything that the windows depend on.
	generation int64
	key, form  string
}

const minute = int64(time.Minute / time.Millisecond)

// Compile compiles the behaviors of a profile. It returns the error of [Support].
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
		Behavior: b, Profile: profile, length: c.Window(),
		static: newComparison(op, c.Value()),
		lower:  op == iotapi.GreaterThan || op == iotapi.GreaterThanEquals,
	}
	if k.length == 0 {
		k.length = Period
	}
	static := c.Type() == "STATIC"
	switch m := c.Metric(); {
	case m.Name == defender.MessageByteSize.Info().Name && static:
		k.kind = sizeBehavior{}
	case m.Name == defender.MessageByteSize.Info().Name:
		k.kind = sumBehavior{}
	case m.Name == defender.DisconnectDuration.Info().Name:
		k.kind = durationBehavior{after: firstAbove(op, c.Value()) * minute}
	case m.Side == iotapi.CloudSide && m.Windowed && static:
		k.kind = countBehavior{limit: firstAbove(op, c.Value())}
	case m.Side == iotapi.CloudSide && m.Windowed:
		k.kind = countBehavior{limit: math.MaxInt64}
	default:
		k.kind = valueBehavior{}
	}
	return Traffic{}.of(k)
}

// identified returns c with its key and its form.
func (c Compiled) identified() Compiled {
	c.key, c.form = c.keyOf(), c.formOf()
	return c
}

// formOf returns the digit of the kind and a hash of the criteria and the dimension. A state of one
// form must not be used for another.
func (c Compiled) formOf() string {
	f := fnv.New32a()
	fmt.Fprint(f, c.Behavior.Criteria.Normal(), c.Behavior.Dimension != nil)
	if d := c.Behavior.Dimension; d != nil {
		fmt.Fprintf(f, "%v%q", d.NotIn, d.TopicFilters)
	}
	if c.confirm.within > 0 {
		fmt.Fprint(f, "confirm")
	}
	return fmt.Sprintf("%c%08x", c.kind.digit(), f.Sum32())
}

// firstAbove returns the count from which the result of the comparison cannot change: the first
// that violates an upper bound, or conforms to a lower one.
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

// ReadableReports is the behavior of a device whose reports can be parsed. Three consecutive
// windows of five minutes with a message that contains no report, or no valid value, raise the
// alarm: a single broken report does not. Detect has no such behavior.
func ReadableReports(profile, name string, severity defender.Severity) Compiled {
	return compile(profile, defender.Behavior{
		Name: name, Severity: severity, ToAlarm: 3, ToClear: 1,
		Criteria: defender.CustomNumber(contract.UnreadableReport).LessThan(1, 0),
	})
}

// sameKind reports whether t is the state of a behavior of the kind of c.
func (t *track) sameKind(c *Compiled) bool { return len(t.Form) > 0 && t.Form[0] == c.kind.digit() }

// takesWhole implements kind.takes for the kinds that need conforming datapoints as well.
func (c *Compiled) takesWhole(d Datapoint) (takes, known bool) {
	if d.Screened {
		return false, true
	}
	return c.inScope(d)
}

// inScope reports whether d has the metric of the behavior and is in its dimension. known is false
// if the engine cannot say whether it is in the dimension.
func (c *Compiled) inScope(d Datapoint) (in, known bool) {
	if d.Metric != c.Behavior.Criteria.Metric().Name {
		return false, true
	}
	return inDimension(c.Behavior.Dimension, d)
}

// clientIDVariable is replaced by the sender's client ID in the topic filters of a dimension.
const clientIDVariable = "${iot:ClientId}"

// literal escapes wildcards: a client ID may contain + and #, a topic may not.
var literal = strings.NewReplacer("+", "\x00", "#", "\x00")

// inDimension reports whether a message's topic is in the dimension. A datapoint without a topic
// is not a message, and matches no dimension, not even an inverted one. known is false if a topic
// filter contains the client ID and the message has none.
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

// NeedsConnections reports whether some behavior judges silence. [Evaluator.Connection] is
// called for no other.
func NeedsConnections(behaviors []Compiled) bool {
	return slices.ContainsFunc(behaviors, func(c Compiled) bool { return c.kind.silence(&c) != silenceIgnored })
}
