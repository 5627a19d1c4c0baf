package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/test/bench/awsstub"
)

// The kinds of single alerts, in the order in which each thing has them.
const (
	raises = iota
	repeats
	clears
	clearsAgain
	alertKinds
)

var kindNames = [alertKinds]string{"raised", "repeated", "cleared", "cleared again"}

// alerts are what alerts of one kind cost, each in an invocation of its own.
type alerts struct {
	units    awsstub.Units
	ledger   float64 // calls
	p50, p99 time.Duration
	// bytes is the size of the items afterwards.
	bytes int
}

const (
	things = 300
	warmUp = 20 // the first are slower: connections, and documents that are read once
)

// alerts measures single alerts of Detect. The functions have them in turn, so that all find the
// machine equally busy.
func (b *bench) alerts(subjects []subject, all [][]figures) error {
	type running struct {
		*process
		server *awsstub.Server
		into   *figures
	}
	var functions []running
	for i, s := range subjects {
		if s.python {
			continue
		}
		server := awsstub.New()
		defer server.Close()
		p, err := b.process(s, server, "")
		if err != nil {
			return err
		}
		defer p.stop(false)
		functions = append(functions, running{p, server, &all[i][len(all[i])-1]})
	}
	for kind := range alertKinds {
		before, ledger, waits := make([]awsstub.Units, len(functions)), make([]int, len(functions)), make([][]time.Duration, len(functions))
		from := 0
		if kind == raises {
			from = -warmUp
		}
		for thing := from; thing < things; thing++ {
			for j := range functions {
				i := (j + max(thing, 0)) % len(functions)
				f := functions[i]
				if thing == 0 {
					before[i], ledger[i], waits[i] = f.server.Table.Units(), 0, nil
				}
				now := time.Now()
				answer, err := f.server.Invoke(queueEvent("Queue", alert(thing, changes[kind], now), now), f.ended)
				if err != nil || !strings.Contains(answer, `"batchItemFailures":[]`) {
					return fmt.Errorf("an alert failed: %v %s %s", err, answer, &f.output)
				}
				calls, imported, took := f.server.Reset()
				if want := 1 - kind%2; imported != want {
					return fmt.Errorf("an alert that is %s imported %d findings, want %d", kindNames[kind], imported, want)
				}
				waits[i] = append(waits[i], took...)
				ledger[i] += ledgerCalls(calls)
			}
		}
		for i, f := range functions {
			_, bytes := f.server.Table.Size("finding#")
			a := alerts{units: f.server.Table.Units().Since(before[i], things), ledger: float64(ledger[i]) / things, bytes: bytes}
			if n := len(waits[i]); n > 0 {
				slices.Sort(waits[i])
				a.p50, a.p99 = waits[i][n/2], waits[i][n*99/100]
			}
			f.into.alerts[kind] = a
		}
	}
	return nil
}

func ledgerCalls(calls map[string]int) (n int) {
	for name, times := range calls {
		if strings.HasPrefix(name, "DynamoDB_") {
			n += times
		}
	}
	return n
}

// The changes of alerts of Detect.
const (
	raised  = "in-alarm"
	cleared = "alarm-cleared"
)

var changes = [alertKinds]string{raised, raised, cleared, cleared}

// alert is the message of an alert of Detect.
func alert(i int, change string, at time.Time) string {
	return topicMessage("Detect", text(map[string]any{
		"violationEventTime": at.UnixMilli(), "violationStartTime": at.UnixMilli(), "thingName": fmt.Sprintf("pump-%d", i), "securityProfileName": "Fleet",
		"violationId": fmt.Sprintf("v-%d", i), "violationEventType": change,
		"behavior": map[string]any{
			"name": "small-messages", "metric": "aws:message-byte-size", "suppressAlerts": false,
			"criteria": map[string]any{"comparisonOperator": "less-than", "value": map[string]any{"count": 8}, "consecutiveDatapointsToAlarm": 1, "consecutiveDatapointsToClear": 1},
		},
		"metricValue": map[string]any{"count": 9},
	}))
}
