package offline

import (
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/engine/sketch"
)

// population is the fleet's distributions, by window and by day.
type population struct {
	lateness time.Duration
	history  engine.History
	windows  map[engine.Population]*sketch.Sketch
	days     map[engine.Population]*sketch.Sketch
}

func newPopulation(lateness time.Duration, minDatapoints int64) *population {
	p := &population{lateness: lateness, windows: map[engine.Population]*sketch.Sketch{}, days: map[engine.Population]*sketch.Sketch{}}
	p.history = engine.History{
		Lateness: lateness, MinDatapoints: minDatapoints,
		Window: func(k engine.FleetKey, start int64) *sketch.Sketch { return known(p.windows, k, start) },
		Day:    func(k engine.FleetKey, start int64) *sketch.Sketch { return known(p.days, k, start) },
	}
	return p
}

func known(from map[engine.Population]*sketch.Sketch, k engine.FleetKey, start int64) *sketch.Sketch {
	if s := from[engine.Population{Key: k, Start: start}]; s != nil {
		return s
	}
	return &sketch.Sketch{}
}

// add adds a measurement, unless its window is complete at a time (ms), because complete sketches
// do not change.
func (p *population) add(of engine.Population, value float64, at int64) bool {
	if of.Start+(of.Key.Window.Duration()+p.lateness+engine.SampleMargin).Milliseconds() <= at {
		return false
	}
	day := of.Start - of.Start%(24*time.Hour).Milliseconds()
	return put(p.windows, of, value) && put(p.days, engine.Population{Key: of.Key, Start: day}, value)
}

func put(to map[engine.Population]*sketch.Sketch, of engine.Population, value float64) bool {
	s := to[of]
	if s == nil {
		s = &sketch.Sketch{}
		to[of] = s
	}
	return s.Add(value) == nil
}

// Statistic implements [engine.Fleet].
func (p *population) Statistic(k engine.FleetKey, s defender.Statistic, start int64) (engine.Range, bool) {
	return p.history.Statistic(k, s, start)
}

// Baseline implements [engine.Fleet].
func (p *population) Baseline(k engine.FleetKey, c defender.Confidence, start int64) (engine.Range, bool) {
	return p.history.Baseline(k, c, start)
}
