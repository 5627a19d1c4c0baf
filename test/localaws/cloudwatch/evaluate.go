package cloudwatch

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// further is the number of additional periods that an alarm evaluates if values are missing. AWS does
// not document the number; its examples have two.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
const further = 2

// Change is a change of an alarm's state.
type Change struct {
	Alarm    Alarm
	From, To State
	At       time.Time
	Reason   string
}

// Evaluator evaluates alarms by the metrics in Store, and keeps their states.
type Evaluator struct {
	Store *Store

	mu     sync.Mutex
	states map[string]State // by ARN
	// reasons are the reasons for the states of alarms that have changed.
	reasons map[string]string
}

// Advance evaluates each alarm at the end of each of its periods after from and not after to. It
// returns the changes sorted by time. It forgets the states of all other alarms.
func (e *Evaluator) Advance(alarms []Alarm, from, to time.Time) []Change {
	e.mu.Lock()
	defer e.mu.Unlock()
	states := map[string]State{}
	var changes []Change
	for _, a := range alarms {
		state, known := e.states[a.ARN]
		if !known {
			state = InsufficientData
		}
		for end := from.Truncate(a.period).Add(a.period); !end.After(to); end = end.Add(a.period) {
			points := a.points(e.Store, end)
			next := a.judge(points, state)
			if next != state {
				if e.reasons == nil {
					e.reasons = map[string]string{}
				}
				e.reasons[a.ARN] = a.reason(points, next)
				changes = append(changes, Change{a, state, next, end, e.reasons[a.ARN]})
				state = next
			}
		}
		states[a.ARN] = state
	}
	e.states = states
	e.Store.forget(to)
	slices.SortStableFunc(changes, func(x, y Change) int { return x.At.Compare(y.At) })
	return changes
}

type datapoint struct {
	value float64
	there bool
}

// points returns the values of the periods up to end, newest first.
func (a Alarm) points(s *Store, end time.Time) []datapoint {
	points := make([]datapoint, a.periods+further)
	for i := range points {
		points[i].value, points[i].there = a.value(s, end.Add(-a.period), end)
		end = end.Add(-a.period)
	}
	return points
}

// judge returns the state for the newest values. If there are too few, TreatMissingData decides.
func (a Alarm) judge(points []datapoint, current State) State {
	there, breaching, oldest := 0, 0, 0
	for i, p := range points {
		if !p.there || there == a.periods {
			continue
		}
		there++
		if operators[a.operator].breaches(p.value, a.threshold) {
			breaching++
			oldest = i + 1
		}
	}
	missing := a.periods - there
	switch {
	case breaching >= a.toAlarm:
		return InAlarm
	case missing == 0 || a.missing == "notBreaching":
		return OK
	case a.missing == "breaching":
		if breaching+missing >= a.toAlarm {
			return InAlarm
		}
		return OK
	case there > breaching:
		return OK
	case a.missing == "ignore":
		return current
	case there == 0:
		return InsufficientData
	case oldest >= a.toAlarm:
		return InAlarm // all known values breach, and did so long enough
	}
	return current
}

func (a Alarm) reason(points []datapoint, next State) string {
	if next == InsufficientData {
		return fmt.Sprintf("Insufficient Data: none of the last %d periods has a datapoint", len(points))
	}
	var known []string
	for _, p := range points {
		if p.there && len(known) < a.periods {
			known = append(known, fmt.Sprint(p.value))
		}
	}
	return fmt.Sprintf("Threshold Crossed: datapoints [%s], newest first, with %d missing of %d; in alarm when %d are %s %v",
		strings.Join(known, ", "), a.periods-len(known), a.periods, a.toAlarm, operators[a.operator].words, a.threshold)
}

// Notification returns the subject and the JSON message for an alarm's topics. In CloudWatch, the
// Region is a name such as "US East (N. Virginia)"; here it is the code.
func (c Change) Notification(account, region string) (subject, message string) {
	a := c.Alarm
	trigger := map[string]any{}
	for _, property := range []string{
		"MetricName", "Namespace", "Statistic", "Dimensions", "Metrics", "Period", "EvaluationPeriods", "DatapointsToAlarm",
		"ComparisonOperator", "Threshold", "TreatMissingData",
	} {
		if value, ok := a.properties[property]; ok {
			trigger[property] = value
		}
	}
	encoded, err := json.Marshal(map[string]any{
		"AlarmName": a.Name, "AlarmDescription": a.Description, "AlarmArn": a.ARN, "AWSAccountId": account, "Region": region,
		"NewStateValue": c.To, "OldStateValue": c.From, "NewStateReason": c.Reason,
		"StateChangeTime": c.At.UTC().Format("2006-01-02T15:04:05.000-0700"),
		"AlarmActions":    a.actions[InAlarm], "OKActions": a.actions[OK], "InsufficientDataActions": a.actions[InsufficientData],
		"Trigger": trigger,
	})
	if err != nil {
		panic(err) // properties came as JSON
	}
	return fmt.Sprintf("%s: \"%s\" in %s", c.To, a.Name, region), string(encoded)
}
