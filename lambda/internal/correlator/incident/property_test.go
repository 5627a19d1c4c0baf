package incident_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/incident"
)

var start = time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)

// rule returns a rule with a number of stages and a window of 10 hours. A part names its stages by
// index.
func rule(stages int, change func(*correlation.Rule)) incident.Rule {
	r := correlation.Rule{Name: "r", Title: "t", WindowSeconds: 36_000, Severity: correlation.Label(defender.Medium)}
	for i := range stages {
		r.Stages = append(r.Stages, correlation.Stage{Name: fmt.Sprint(i), AtLeast: 1})
	}
	if change != nil {
		change(&r)
	}
	return incident.Rules([]correlation.Rule{r})[0]
}

// seen returns a part with one state, some hours after start.
func seen(r incident.Rule, id string, hours float64, s incident.State, severity defender.Severity, stages ...int) incident.Part {
	t := start.Add(time.Duration(hours * float64(time.Hour)))
	return incident.Part{
		Finding: asff.RelatedFinding{ProductARN: "p", ID: id}, Service: "service of " + id, Device: "device of " + id, Matches: map[string][]int{r.Digest: stages},
		History: []incident.Mark{{Order: findingevent.Order{Updated: t, Processed: t, Event: t}, State: s, Severity: severity}},
	}
}

// observe adds states to parts, as the handler does.
func observe(t interface{ Errorf(string, ...any) }, parts []incident.Part, all ...incident.Part) []incident.Part {
	for _, s := range all {
		i := slices.IndexFunc(parts, func(p incident.Part) bool { return p.Key() == s.Key() })
		if i < 0 {
			parts = append(parts, s)
			continue
		}
		if _, tied := parts[i].Observe(s); tied {
			t.Errorf("two states of %s have the same order", s.Key())
		}
	}
	return parts
}

// summary describes the outcome of parts.
func summary(r incident.Rule, parts []incident.Part, at time.Time) string {
	o := incident.Replay(r, parts, at)
	var ids []string
	for _, c := range o.Counted {
		ids = append(ids, c.Finding.ID)
	}
	return fmt.Sprint(o.Active, o.Began, o.Severity, o.End, o.Time, o.Next, ids)
}

// For events with distinct times, order and duplicates do not change the outcome.
func TestOrderAndDuplicatesChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rule(rapid.IntRange(1, 3).Draw(t, "stages"), func(r *correlation.Rule) {
			r.InOrder = rapid.Bool().Draw(t, "in order")
			r.DistinctProducts = rapid.IntRange(0, 2).Draw(t, "products")
			r.Stages[0].AtLeast = rapid.IntRange(1, 2).Draw(t, "at least")
		})
		var events []incident.Part
		n := rapid.IntRange(1, 24).Draw(t, "events")
		for i := range n {
			stage := rapid.IntRange(0, len(r.Stages)-1).Draw(t, "stage")
			s := seen(r, fmt.Sprint("f", rapid.IntRange(0, 4).Draw(t, "finding")), float64(i)*rapid.SampledFrom([]float64{0.5, 1, 3}).Draw(t, "step")+float64(i)/100,
				rapid.SampledFrom([]incident.State{incident.Open, incident.Open, incident.Ended, incident.Dismissed}).Draw(t, "state"),
				rapid.SampledFrom([]defender.Severity{defender.Low, defender.High, defender.Critical}).Draw(t, "severity"), stage)
			if !slices.ContainsFunc(events, func(e incident.Part) bool { return e.Newest().Order.Compare(s.Newest().Order) == 0 }) {
				events = append(events, s)
			}
		}
		at := start.Add(time.Duration(rapid.IntRange(0, 80).Draw(t, "now")) * time.Hour)
		want := summary(r, observe(t, nil, events...), at)
		arrived := append(rapid.Permutation(events).Draw(t, "order"), rapid.SliceOf(rapid.SampledFrom(events)).Draw(t, "repeated")...)
		parts := observe(t, nil, arrived...)
		// The parts are stored and read again, in another order.
		text, err := json.Marshal(parts)
		if err != nil {
			t.Fatal(err)
		}
		var stored []incident.Part
		if err := json.Unmarshal(text, &stored); err != nil {
			t.Fatal(err)
		}
		slices.Reverse(stored)
		if got := summary(r, stored, at); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

// The severity of an active composite finding does not fall.
func TestSeverityDoesNotFallWhileActive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rule(1, nil)
		var parts []incident.Part
		was := incident.Outcome{}
		for hour := range 40 {
			parts = observe(t, parts, seen(r, fmt.Sprint("f", rapid.IntRange(0, 2).Draw(t, "finding")), float64(hour),
				rapid.SampledFrom([]incident.State{incident.Open, incident.Open, incident.Ended}).Draw(t, "state"),
				rapid.SampledFrom([]defender.Severity{defender.Low, defender.High, defender.Critical}).Draw(t, "severity"), 0))
			o := incident.Replay(r, parts, start.Add(time.Duration(hour)*time.Hour))
			if o.Active && was.Active && o.Severity < was.Severity || o.Active && o.Severity < defender.Medium {
				t.Fatalf("hour %d: severity %v after %v, want none below MEDIUM or below the previous", hour, o.Severity, was.Severity)
			}
			was = o
		}
	})
}

// TestTimelines plays one finding per line, with a letter per hour: o is open, O open nearly an hour
// later, x ended, s suppressed. Wanted is the number of counted parts, "." if the rule is not active.
func TestTimelines(t *testing.T) {

	for _, c := range []struct {
		name   string
		stages int
		change func(*correlation.Rule)
		lines  []string // one finding each, of the stage with its index
		want   string
	}{
		{"opens, shrinks, ends with its last part, reopens", 2, nil, []string{
			"o . . . x . o . . . x",
			". o . . . x . o . x .",
		}, ". 2 2 2 1 . . 2 2 1 ."},
		{"one stage is not enough", 2, nil, []string{
			"o o o o",
			". . x .",
		}, ". . . ."},
		{"in order", 2, func(r *correlation.Rule) { r.InOrder = true }, []string{
			"o . . x",
			". o . .",
		}, ". 2 2 1"},
		{"out of order", 2, func(r *correlation.Rule) { r.InOrder = true }, []string{
			". o . .",
			"o . . .",
		}, ". . . ."},
		{"in order within the precision of times", 2, func(r *correlation.Rule) { r.InOrder = true }, []string{
			". o . .",
			"O . . .", // nearly an hour later
		}, ". 2 2 2"},
		{"a suppressed part does not count", 2, nil, []string{
			"o . s . o",
			". o . . .",
		}, ". 2 1 1 2"},
		{"the window passes", 2, func(r *correlation.Rule) { r.WindowSeconds = 3 * 3600 }, []string{
			"o . . . . . o",
			". o . . . . .",
		}, ". 2 2 1 . . ."},
		{"a repeat extends the window", 2, func(r *correlation.Rule) { r.WindowSeconds = 3 * 3600 }, []string{
			"o . o . o . .",
			". o . . . . .",
		}, ". 2 2 2 1 1 1"},
		{"a part in the window of another that has passed", 2, func(r *correlation.Rule) { r.WindowSeconds = 3 * 3600 }, []string{
			"o . . . .",
			". . . o .",
		}, ". . . . ."},
		{"two findings of a stage", 1, func(r *correlation.Rule) { r.Stages[0].AtLeast = 2 }, []string{
			"o . . .",
			". o x .",
		}, ". 2 1 1"},
		{"two services", 1, func(r *correlation.Rule) { r.DistinctProducts = 2 }, []string{
			"o . .",
			". o .",
		}, ". 2 2"},
		{"a campaign of three devices", 1, func(r *correlation.Rule) { r.Devices = 3 }, []string{
			"o . . . x .",
			". o . x . .",
			". . o . . x",
		}, ". . 3 2 1 ."},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rule(c.stages, c.change)
			var parts []incident.Part
			var got []string
			for hour := range strings.Fields(c.want) {
				for i, line := range c.lines {
					letter := strings.Fields(line)[hour]
					after := float64(hour)
					if letter == "O" {
						letter, after = "o", after+0.98
					}
					state, ok := map[string]incident.State{"o": incident.Open, "x": incident.Ended, "s": incident.Dismissed}[letter]
					if ok {
						parts = observe(t, parts, seen(r, fmt.Sprint("f", i), after, state, defender.High, min(i, c.stages-1)))
					}
				}
				letter := "."
				if o := incident.Replay(r, parts, start.Add(time.Duration(hour)*time.Hour)); o.Active {
					letter = fmt.Sprint(len(o.Counted))
				}
				got = append(got, letter)
			}
			if text := strings.Join(got, " "); text != c.want {
				t.Errorf("got  %s\nwant %s", text, c.want)
			}
		})
	}
}

// The first part can be in both stages, the second only in the first: it may begin up to two minutes
// later.
func TestStageSparesThePartOfALaterStage(t *testing.T) {
	r := rule(2, func(r *correlation.Rule) { r.InOrder = true })
	for later, want := range map[time.Duration]bool{time.Minute: true, 3 * time.Minute: false} {
		parts := observe(t, nil, seen(r, "both", 0, incident.Open, defender.High, 0, 1), seen(r, "first", later.Hours(), incident.Open, defender.High, 0))
		if o := incident.Replay(r, parts, start.Add(time.Hour)); o.Active != want {
			t.Errorf("%v later: active %v, want %v", later, o.Active, want)
		}
	}
}
