package engine

import (
	"cmp"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// The parts of the lateness bound. An event of time t must be passed to [Evaluator.Step] before t
// plus the bound. Later events are counted as late and not judged.
const (
	// ClockSkew is how far AWS's timestamps of lifecycle events may be off.
	// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
	ClockSkew = 2 * time.Minute
	// MaxBatching is the longest batching window of a queue's event source mapping.
	// https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html
	MaxBatching = 5 * time.Minute
	// DeliveryMargin is for the rule and the queue. A retry arrives later than that, after the
	// queue's visibility timeout. It is late only if later events of the thing were judged
	// meanwhile.
	DeliveryMargin = time.Minute
)

// Lateness returns the bound for a transport with a batching window of at most batching.
func Lateness(batching time.Duration) time.Duration {
	return ClockSkew + batching + DeliveryMargin
}

// Period is the length of the windows of behaviors without a window of their own. It is the period
// in which Detect reports cloud-side metrics.
const Period = defender.Window5m

// windowStart returns the start, in ms, of the window that contains t. Windows are aligned to
// multiples of their length since 1970.
func windowStart(t int64, w defender.Window) int64 {
	length := w.Duration().Milliseconds()
	start := t - t%length
	if start > t { // before 1970
		start -= length
	}
	return start
}

// window has the datapoints of one behavior in one window of event time. Adding them is
// commutative, and duplicates change nothing.
type window struct {
	// Start in ms since 1970.
	Start int64 `json:"s"`
	// Verdict about metric values, None for a count or a sum.
	Verdict Verdict `json:"v,omitempty"`
	// At is the time of the datapoint that decided the verdict, and Value what was measured. For
	// a count or a sum At is the time of the first event.
	At    int64         `json:"t,omitempty"`
	Value *iotapi.Value `json:"m,omitempty"`
	// Sampled is set if Value is a list of which the device sent a sample.
	Sampled *iotapi.Partial `json:"d,omitempty"`
	// Last is the time of the last event of a sum whose first traffic must be confirmed.
	Last int64 `json:"l,omitempty"`
	// Tally has the events of a count or a sum.
	Tally *tally `json:"n,omitempty"`
}

// add merges a judged datapoint. The worse verdict counts. Of several violating datapoints the
// first counts, of several conforming ones the last, and at the same time the one whose text is
// less.
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

// settles returns the time, in ms, from which the window's verdict cannot change: for a violation
// when all earlier events have arrived, otherwise after the end of the window.
func (w window) settles(length defender.Window, lateness int64) int64 {
	if w.Verdict == Violates {
		return w.At + lateness
	}
	return w.Start + length.Duration().Milliseconds() + lateness
}
