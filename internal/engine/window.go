package engine

import (
	"cmp"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// What the lateness bound is made of. An event whose time is t is expected to be
// handed to [Evaluator.Step] before t plus the bound; what comes later is counted as
// late and not judged.
const (
	// ClockSkew is how far AWS's timestamps of lifecycle events may be off.
	// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
	ClockSkew = 2 * time.Minute
	// MaxBatching is the longest batching window of a queue's event source mapping.
	// https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html
	MaxBatching = 5 * time.Minute
	// DeliveryMargin is for the rule and the queue. What an invocation could not judge comes
	// again later than that, after the queue's visibility timeout: it is judged unless the
	// thing's time has gone on meanwhile, and else counted as late.
	DeliveryMargin = time.Minute
)

// Lateness is the bound for a transport that batches for at most batching.
func Lateness(batching time.Duration) time.Duration {
	return ClockSkew + batching + DeliveryMargin
}

// Period is the length of the windows of behaviors that have none of their own. It is
// the period in which Detect reports cloud-side metrics.
const Period = defender.Window5m

// windowStart is the start, in ms, of the window that holds t: windows are aligned to
// multiples of their length since 1970.
func windowStart(t int64, w defender.Window) int64 {
	length := w.Duration().Milliseconds()
	start := t - t%length
	if start > t { // before 1970
		start -= length
	}
	return start
}

// window is what is known of one behavior in one window of event time. Merging
// datapoints into it is commutative, and repeating one changes nothing.
type window struct {
	// Start in ms since 1970.
	Start int64 `json:"s"`
	// Verdict of the datapoints that were judged one by one.
	Verdict Verdict `json:"v,omitempty"`
	// At is the time of the datapoint that stands, and Value what was measured then; in
	// a window that counts it is the time of the first event.
	At    int64         `json:"t,omitempty"`
	Value *iotapi.Value `json:"m,omitempty"`
	// Sampled is set where Value is of a list of which the device listed a sample only.
	Sampled *iotapi.Partial `json:"d,omitempty"`
	// Last is the time of the last event of a sum whose first traffic is to be confirmed.
	Last int64 `json:"l,omitempty"`
	// Tally holds what is counted or summed until the window is over.
	Tally *tally `json:"n,omitempty"`
}

// add merges a judged datapoint: the worse verdict stands, of equal ones the first
// violating and the last conforming, at the same time the one whose text is less.
func (w *window) add(v Verdict, at int64, value iotapi.Value, sampled *iotapi.Partial) {
	if v == None || v < w.Verdict {
		return
	}
	if v == w.Verdict {
		order := cmp.Compare(at, w.At)
		if v == Conforms {
			order = -order
		}
		if order > 0 || order == 0 && (w.Value == nil || textOf(value, sampled) >= textOf(*w.Value, w.Sampled)) {
			return
		}
	}
	w.Verdict, w.At, w.Value, w.Sampled = v, at, &value, sampled
}

func textOf(v iotapi.Value, sampled *iotapi.Partial) string {
	if sampled == nil {
		return v.String()
	}
	return v.String() + sampled.String()
}

// settles is the time at which the window's verdict cannot change any more. A
// violation stands as soon as everything before it has come; all else must wait for
// the window's end.
func (w window) settles(length defender.Window, lateness int64) int64 {
	if w.Verdict == Violates {
		return w.At + lateness
	}
	return w.Start + length.Duration().Milliseconds() + lateness
}
