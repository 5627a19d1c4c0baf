package replay

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/behaviortest"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/offline"
)

// batchSeconds is the construct's default batching window.
const batchSeconds = 10

// readConfig reads behaviors in any of the forms that the command accepts.
func readConfig(s *cli.Session, path string) (engine.Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return engine.Config{}, err
	}
	config, err := parseConfig(text)
	if err != nil {
		return engine.Config{}, fmt.Errorf("%s: %w", path, err)
	}
	for i, p := range config.Profiles {
		if len(p.Targets) > 0 {
			s.Say("%s: the targets of the security profile %s are ignored: its behaviors judge all devices of the recording", cli.Quoted(path), cli.Quoted(p.Name))
			config.Profiles[i].Targets = nil
		}
	}
	return config, nil
}

func parseConfig(text []byte) (engine.Config, error) {
	document, err := offline.JSON(text)
	if err != nil {
		return engine.Config{}, err
	}
	if document[0] == '[' {
		document = fmt.Appendf(nil, `{"behaviors":%s}`, document)
	}
	var in struct {
		engine.Config
		Behaviors []defender.Behavior   `json:"behaviors"`
		Settings  behaviortest.Settings `json:"settings"`
	}
	if err := json.Unmarshal(document, &in); err != nil {
		return engine.Config{}, err
	}
	if err := checkFields(document); err != nil {
		return engine.Config{}, err
	}
	if len(in.Profiles) > 0 && len(in.Behaviors) > 0 {
		return engine.Config{}, errors.New("the file has both profiles and behaviors")
	}
	config := in.Config
	if len(in.Profiles) == 0 {
		if len(in.Behaviors) == 0 {
			return engine.Config{}, errors.New("the file has no behaviors")
		}
		suite := behaviortest.Suite{Behaviors: in.Behaviors, Settings: in.Settings, Tests: []behaviortest.Test{{Name: "replay"}}}
		if err := suite.Validate(); err != nil {
			return engine.Config{}, err
		}
		config = engine.Config{
			Profiles: []engine.ProfileConfig{{Name: "behaviors", Behaviors: in.Behaviors}}, Reports: true, BatchSeconds: batchSeconds,
			ReportsEvery: int(time.Duration(in.Settings.ReportsEvery) / time.Minute), ReportSeconds: int(time.Duration(in.Settings.ReportInterval) / time.Second),
			MinDatapoints: int64(in.Settings.MinDatapoints), ConfirmTraffic: in.Settings.ConfirmFirstTraffic,
		}
	}
	for _, p := range config.Profiles {
		if err := (defender.SecurityProfile{Behaviors: p.Behaviors}).Validate(); err != nil {
			return engine.Config{}, err
		}
	}
	_, err = config.Compile()
	return config, err
}

// checkFields returns an error for a field that does not exist in the behaviors that a user wrote, or
// in the settings beside them. The output of the AWS CLI has more fields beside its behaviors.
func checkFields(document []byte) error {
	var raw struct {
		Behaviors       []json.RawMessage
		Settings, Tests json.RawMessage
	}
	if err := json.Unmarshal(document, &raw); err != nil {
		return err
	}
	if err := offline.CheckFields(raw.Behaviors); err != nil || raw.Settings == nil && raw.Tests == nil {
		return err
	}
	strict := json.NewDecoder(bytes.NewReader(document))
	strict.DisallowUnknownFields()
	var file struct {
		Behaviors, Tests any
		Settings         behaviortest.Settings
	}
	if err := strict.Decode(&file); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// measuring returns a configuration that measures every metric, in windows of five minutes and in the
// windows that the given configuration uses. Its behaviors have percentiles, for which the engine
// takes samples.
func measuring(of engine.Config) engine.Config {
	windows := map[string]map[defender.Window]bool{}
	for _, p := range of.Profiles {
		for _, b := range p.Behaviors {
			if w := b.Criteria.Window(); w != 0 {
				name := b.Criteria.Metric().Name
				if windows[name] == nil {
					windows[name] = map[defender.Window]bool{}
				}
				windows[name][w] = true
			}
		}
	}
	var all []defender.Behavior
	for _, m := range defender.Metrics() {
		add := func(c defender.Criteria) {
			b := defender.Behavior{Name: fmt.Sprintf("b%d", len(all)), Criteria: c}
			if engine.Support([]defender.Behavior{b}) == nil {
				all = append(all, b)
			}
		}
		switch m := m.(type) {
		case defender.RateMetric:
			used := windows[m.Info().Name]
			if used == nil {
				used = map[defender.Window]bool{}
			}
			used[defender.Window5m] = true
			for _, w := range slices.Sorted(maps.Keys(used)) {
				add(m.LessThanPercentile(defender.P99, w))
			}
		case defender.SizeMetric:
			if m.Info().Name != defender.MessageByteSize.Info().Name { // the engine sums its windows
				add(m.LessThanPercentile(defender.P99, defender.Window5m))
			}
		}
	}
	of.Profiles, of.ReportsEvery = []engine.ProfileConfig{{Name: "percentiles", Behaviors: all}}, 0
	return of
}

// percentiles returns the percentiles of the measured metrics and of the message sizes.
func percentiles(of offline.Result, records []offline.Record) []percentile {
	all := []percentile{}
	add := func(metric string, minutes int, values []float64) {
		if len(values) == 0 {
			return
		}
		slices.Sort(values)
		at := func(part float64) float64 { return values[min(len(values)-1, int(part*float64(len(values))))] }
		all = append(all, percentile{metric, minutes, len(values), at(0.5), at(0.9), at(0.99), at(0.999), values[len(values)-1]})
	}
	for key, values := range of.Samples {
		add(key.Metric, int(key.Window.Duration().Minutes()), values)
	}
	var sizes []float64
	for _, r := range records {
		if r.Kind == offline.Message {
			sizes = append(sizes, float64(r.Size()))
		}
	}
	add(defender.MessageByteSize.Info().Name, 0, sizes)
	slices.SortFunc(all, func(a, b percentile) int {
		return cmp.Or(cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Minutes, b.Minutes))
	})
	return all
}
