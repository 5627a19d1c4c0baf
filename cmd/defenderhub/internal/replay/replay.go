// Package replay implements the command replay, which judges recorded telemetry with other behaviors.
package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/offline"
)

// difference counts the alarms of a behavior.
type difference struct {
	Behavior      string `json:"behavior" head:"BEHAVIOR" doc:"the behavior's name"`
	Before        int    `json:"before" head:"BEFORE" doc:"alarms that the behaviors of --before raised, 0 without it"`
	After         int    `json:"after" head:"AFTER" doc:"alarms that the behaviors of --behaviors raised"`
	DevicesBefore int    `json:"devicesBefore" head:"DEVICES BEFORE" doc:"devices in these alarms"`
	DevicesAfter  int    `json:"devicesAfter" head:"DEVICES AFTER" doc:"devices in these alarms"`
}

// change is a change of an alarm.
type change struct {
	Time     time.Time `json:"time" head:"TIME" doc:"the time of the datapoint that changed the alarm, for a window its end"`
	Device   string    `json:"device" head:"DEVICE" doc:"the thing, or the client ID"`
	Behavior string    `json:"behavior" head:"BEHAVIOR" doc:"the behavior's name"`
	Change   string    `json:"change" head:"CHANGE" doc:"in-alarm, alarm-cleared or alarm-invalidated"`
	In       in        `json:"in" head:"IN" doc:"before, after, or both"`
}

type in string

const (
	before in = "before"
	after  in = "after"
	both   in = "both"
)

// Style implements [cli.Styled].
func (i in) Style() string { return map[in]string{before: "33", after: "31"}[i] }

// percentile has the percentiles of a metric's values.
type percentile struct {
	Metric     string  `json:"metric" head:"METRIC" doc:"the metric's name in the AWS IoT API"`
	Minutes    int     `json:"minutes" head:"MINUTES" doc:"the length of the windows, 0 for each message"`
	Datapoints int     `json:"datapoints" head:"DATAPOINTS" doc:"values: one per device and window, or per message"`
	P50        float64 `json:"p50" head:"P50" doc:"half of the values are at most this"`
	P90        float64 `json:"p90" head:"P90" doc:"90 % of the values are at most this"`
	P99        float64 `json:"p99" head:"P99" doc:"99 % of the values are at most this"`
	P999       float64 `json:"p999" head:"P99.9" doc:"99.9 % of the values are at most this"`
	Max        float64 `json:"max" head:"MAX" doc:"the maximum"`
}

// Command returns the command.
func Command() *cli.Command {
	var behaviors, old string
	return &cli.Command{
		Use: "replay --behaviors FILE RECORDING...", Short: "Judge recorded telemetry with other behaviors, offline",
		Long: `Judge recorded telemetry with other behaviors, offline.

It shows the alarms that the behaviors of --behaviors would have raised, compares them with
those of --before, and shows percentiles of each metric, which suggest thresholds. A file of behaviors
is a list as the AWS IoT API writes it, the output of describe-security-profile, a file
of defenderhub test, or the behaviors.json of the deployed evaluator. A recording has
one JSON object per line; - is standard input. docs/command.md says how to record.`,
		Example: `defenderhub replay --behaviors new.yaml --before old.yaml telemetry.jsonl
zcat recording-*.gz | defenderhub replay --behaviors new.yaml - --json`,
		Args:   cobra.MinimumNArgs(1),
		Output: []cli.Section{cli.Rows[difference]("behaviors", nil), cli.Rows[change]("alarms", nil), cli.Rows[percentile]("percentiles", nil)},
		Flags: func(f *pflag.FlagSet) {
			f.StringVar(&behaviors, "behaviors", "", "`file` with the behaviors to try")
			f.StringVar(&old, "before", "", "`file` with the behaviors to compare with")
		},
		Run: func(_ context.Context, s *cli.Session, args []string) error {
			if behaviors == "" {
				return errors.New("no behaviors: add --behaviors FILE")
			}
			return run(s, behaviors, old, args)
		},
	}
}

func run(s *cli.Session, behaviors, old string, recordings []string) error {
	config, err := readConfig(s, behaviors)
	if err != nil {
		return err
	}
	records, err := readAll(s.In, recordings)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return errors.New("the recording is empty")
	}
	now, err := offline.Judge(config, records, time.Time{})
	if err != nil {
		return err
	}
	var was offline.Result
	if old != "" {
		oldConfig, err := readConfig(s, old)
		if err != nil {
			return err
		}
		if was, err = offline.Judge(oldConfig, records, time.Time{}); err != nil {
			return err
		}
	}
	measured, err := offline.Judge(measuring(config), records, time.Time{})
	if err != nil {
		return err
	}
	s.Say("%d records from %s to %s", len(records), stamp(slices.MinFunc(records, byTime)), stamp(slices.MaxFunc(records, byTime)))
	if now.Unknown > 0 {
		s.Say("%d messages over HTTPS were not judged: the recording does not name their thing", now.Unknown)
	}
	if now.Unreadable > 0 {
		s.Say("%d messages on the topics of device reports contain no report", now.Unreadable)
	}
	return s.Print(
		cli.Rows("behaviors", differences(config, was, now)).OrSay("no behaviors"),
		cli.Rows("alarms", changes(was, now)).OrSay("no alarms"),
		cli.Rows("percentiles", percentiles(measured, records)).OrSay("no numbers were measured"),
	)
}

func byTime(a, b offline.Record) int { return cmp.Compare(a.Time, b.Time) }

func stamp(r offline.Record) string {
	return time.UnixMilli(int64(r.Time)).UTC().Format(time.RFC3339)
}

// readAll reads the recordings one after the other. Messages without an ID get different IDs.
func readAll(stdin io.Reader, paths []string) ([]offline.Record, error) {
	var all []offline.Record
	for _, path := range paths {
		from := stdin
		if path != "-" {
			f, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			from = f
		}
		records, err := offline.Read(from)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(paths) > 1 {
			for i := range records {
				if records[i].Unnamed {
					records[i].ID = path + " " + records[i].ID
				}
			}
		}
		all = append(all, records...)
	}
	return all, nil
}

// differences counts the alarms of each behavior, including behaviors without an alarm.
func differences(config engine.Config, was, now offline.Result) []difference {
	rows := map[string]*difference{}
	devices := map[string]map[string]bool{}
	row := func(name string) *difference {
		if rows[name] == nil {
			rows[name] = &difference{Behavior: name}
		}
		return rows[name]
	}
	for _, p := range config.Profiles {
		for _, b := range p.Behaviors {
			row(b.Name)
		}
	}
	count := func(side string, result offline.Result, add func(d *difference, first bool)) {
		for _, t := range result.Transitions {
			if t.Change != engine.InAlarm {
				continue
			}
			key := side + " " + t.Behavior.Name
			if devices[key] == nil {
				devices[key] = map[string]bool{}
			}
			first := !devices[key][t.Device]
			devices[key][t.Device] = true
			add(row(t.Behavior.Name), first)
		}
	}
	count("before", was, func(d *difference, first bool) {
		d.Before++
		if first {
			d.DevicesBefore++
		}
	})
	count("after", now, func(d *difference, first bool) {
		d.After++
		if first {
			d.DevicesAfter++
		}
	})
	all := []difference{}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		all = append(all, *rows[name])
	}
	return all
}

// changes merges the transitions of both results, in order of time.
func changes(was, now offline.Result) []change {
	type key struct {
		time                     int64
		device, behavior, change string
	}
	of := func(t offline.Transition) key {
		return key{t.Time, t.Device, t.Behavior.Name, string(t.Change)}
	}
	found := map[key]in{}
	for _, t := range was.Transitions {
		found[of(t)] = before
	}
	for _, t := range now.Transitions {
		if found[of(t)] == before {
			found[of(t)] = both
		} else {
			found[of(t)] = after
		}
	}
	all := []change{}
	for k, where := range found {
		all = append(all, change{time.UnixMilli(k.time).UTC().Round(time.Second), k.device, k.behavior, k.change, where})
	}
	slices.SortFunc(all, func(a, b change) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Device, b.Device), cmp.Compare(a.Behavior, b.Behavior), cmp.Compare(a.Change, b.Change))
	})
	return all
}
