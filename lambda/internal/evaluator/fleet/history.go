package fleet

import (
	"context"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/engine/sketch"
)

// Fleet is the [engine.Fleet] of one batch. It reads each sketch once, and always gives the same
// answer. It is not safe for concurrent use.
type Fleet struct {
	store   *Store
	ctx     context.Context // of its batch
	at      time.Time
	history engine.History
	answers map[question]answer
	// read are sketches that may change after the batch.
	read map[place]memory
	err  error
}

type question struct {
	key   engine.FleetKey
	name  string
	start int64
}

type answer struct {
	engine.Range
	ok bool
}

// Load returns the fleet's measurements as of a time: the newest time of a batch. Sketches that
// are complete by then are cached beyond the batch. If the transport delivers later batches
// first, by more than [engine.SampleMargin], the cached sketches lack the earlier batches'
// samples.
//
// Check [Fleet.Err] before you store a judgment that used it.
func (s *Store) Load(ctx context.Context, at time.Time) *Fleet {
	f := &Fleet{store: s, ctx: ctx, at: at, answers: map[question]answer{}, read: map[place]memory{}}
	f.history = engine.History{
		Lateness: s.config.Lateness, MinDatapoints: s.config.MinDatapoints,
		Window: f.window, Day: f.day,
	}
	return f
}

// Err returns the first read error. After it, there are no thresholds.
func (f *Fleet) Err() error { return f.err }

// Statistic implements [engine.Fleet].
func (f *Fleet) Statistic(k engine.FleetKey, s defender.Statistic, start int64) (engine.Range, bool) {
	return f.ask(question{k, "p " + string(s), start}, func() (engine.Range, bool) { return f.history.Statistic(k, s, start) })
}

// Baseline implements [engine.Fleet].
func (f *Fleet) Baseline(k engine.FleetKey, c defender.Confidence, start int64) (engine.Range, bool) {
	return f.ask(question{k, "c " + string(c), start}, func() (engine.Range, bool) { return f.history.Baseline(k, c, start) })
}

func (f *Fleet) ask(q question, find func() (engine.Range, bool)) (engine.Range, bool) {
	if a, ok := f.answers[q]; ok {
		return a.Range, a.ok
	}
	r, ok := find()
	if f.err != nil {
		return engine.Range{}, false
	}
	f.answers[q] = answer{r, ok}
	return r, ok
}

func (f *Fleet) window(k engine.FleetKey, start int64) *sketch.Sketch {
	p := place{pk: windowPartition(k, start)}
	if m, ok := f.known(p); ok || f.err != nil {
		return m.sketch
	}
	read, err := f.store.window(f.ctx, k, start)
	if err != nil {
		f.err = err
		return nil
	}
	f.read[p] = memory{sketch: read}
	if f.store.complete(k, start) <= f.at.UnixMilli() {
		f.store.memory.Add(p, memory{sketch: read})
	}
	return read
}

func (f *Fleet) day(k engine.FleetKey, start int64) *sketch.Sketch {
	p := place{dayPartition(k), daySort(start)}
	if m, ok := f.known(p); ok || f.err != nil {
		return m.sketch
	}
	days, err := f.store.days(f.ctx, k, start, f.at)
	if err != nil {
		f.err = err
		return nil
	}
	for p, m := range days {
		if _, ok := f.read[p]; !ok {
			f.read[p] = m
		}
	}
	return f.read[p].sketch
}

// known returns what the batch has read, or a valid cached sketch.
func (f *Fleet) known(p place) (memory, bool) {
	if m, ok := f.read[p]; ok {
		return m, true
	}
	m, ok := f.store.memory.Get(p)
	if ok = ok && (m.sketch != nil || f.at.UnixMilli() < m.until); ok {
		f.read[p] = m
	}
	return m, ok
}
