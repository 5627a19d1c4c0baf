//go:build !race

// The race detector would find nothing that it does not find in the other tests of this package, and
// these would take four times as long.

package handler_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/internal/offline"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
)

// recorded returns a record of a device, and the messages that the AWS IoT rules make of it.
func recorded(t *rapid.T, rules []iotrule.TelemetryRule, even *rand.Rand, i int, minutes int64) (offline.Record, []events.SQSMessage) {
	when := start.Add(time.Duration(even.Int64N(minutes*60)) * time.Second)
	r := offline.Record{
		ID: fmt.Sprint("m", i), Client: rapid.SampledFrom([]string{"pump", "valve", "pump#2"}).Draw(t, "client"),
		Time: offline.Time(when.UnixMilli()), SourceIP: rapid.SampledFrom([]string{"10.0.0.1", "192.0.2.1"}).Draw(t, "address"),
	}
	r.Principal = "cert-" + strings.TrimSuffix(r.Client, "#2")
	r.Thing = strings.TrimSuffix(r.Client, "#2")
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		r.Kind, r.Topic, r.Payload = offline.Report, "reports/"+r.Client, ports(i+1, rapid.SampledFrom([][]int{{443}, {23}, {443, 444, 445}}).Draw(t, "ports")...)
		if rapid.IntRange(0, 5).Draw(t, "broken") == 0 {
			r.Payload = []byte(`{}`)
		}
	case 1, 2:
		r.Kind, r.Topic, r.Bytes = offline.Message, rapid.SampledFrom([]string{"t", "other/t"}).Draw(t, "topic"), rapid.Int64Range(1, 16).Draw(t, "bytes")
	default:
		event := rapid.SampledFrom([]string{"connected", "disconnected", "connect_failed"}).Draw(t, "event")
		r.Kind, r.Topic = offline.Lifecycle, "$aws/events/presence/"+event+"/"+r.Client
		r.Payload = fmt.Appendf(nil, `{"clientId":%q,"timestamp":%d,"eventType":%q,"sessionIdentifier":%q,"versionNumber":%d,"principalIdentifier":%q,"ipAddress":%q}`,
			r.Client, when.UnixMilli(), event, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "session"), rapid.IntRange(0, 1).Draw(t, "version"), r.Principal, r.SourceIP)
	}
	var messages []events.SQSMessage
	for n, rule := range rules {
		telemetry := iotrule.Telemetry{Kind: rule.Kind, Topic: r.Topic, Time: int64(r.Time), ID: r.ID, ClientID: r.Client, Principal: r.Principal, SourceIP: r.SourceIP, Bytes: r.Bytes}
		switch {
		case rule.Kind == iotrule.DeviceReport && r.Kind == offline.Report, rule.Kind == iotrule.LifecycleEvent && r.Kind == offline.Lifecycle:
			telemetry.Payload, telemetry.Bytes = r.Payload, 0
			if rule.Kind == iotrule.LifecycleEvent {
				telemetry.ClientID = ""
			}
		case r.Kind != offline.Message, rule.Kind != iotrule.PublishedMessage && rule.Kind != iotrule.Oversize, !topicfilter.Matches(rule.TopicFilter, r.Topic):
			continue
		case rule.Kind == iotrule.Oversize && !strings.Contains(rule.SQL, fmt.Sprint(" >= ", limit)):
			t.Fatalf("the rule %s does not compare the size with %d", rule.SQL, limit)
		case rule.Kind == iotrule.Oversize && r.Bytes < limit:
			continue
		}
		messages = append(messages, sent(fmt.Sprint(r.ID, "-", n), when, telemetry))
	}
	return r, messages
}

// limit is that of the behaviors about the size of messages.
const limit = 8

func transitions(all []offline.Transition) string {
	var lines []string
	for _, m := range all {
		lines = append(lines, fmt.Sprintf("%s %s %s at %v since %v", m.Device, m.Behavior.Name, m.Change, time.UnixMilli(m.Time).Sub(start), time.UnixMilli(m.StartTime).Sub(start)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Package offline must return the transitions of the deployed functions.
func TestOfflineJudgmentEqualsTheFunctions(t *testing.T) {
	w := defender.Window5m
	kinds := map[string][]defender.Behavior{
		"size alone": {{Name: "small", Criteria: defender.MessageByteSize.LessThan(limit)}},
		"all": {
			{Name: "ports", Criteria: defender.ListeningTCPPorts.InPorts(443), ToAlarm: 2, ToClear: 2},
			{Name: "few", Criteria: defender.MessagesSent.LessThan(3, w)},
			{Name: "some", Criteria: defender.MessagesSent.GreaterThan(0, w)},
			{Name: "elsewhere", Criteria: defender.MessageByteSize.LessThan(limit), Dimension: &defender.Dimension{TopicFilters: []string{"other/+"}}},
			{Name: "away", Criteria: defender.DisconnectDuration.LessThan(10)},
			{Name: "refusals", Criteria: defender.AuthorizationFailures.LessThan(1, w)},
			{Name: "network", Criteria: defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("10.0.0.0/8"))},
			{Name: "usual", Criteria: defender.NumListeningTCPPorts.LessThanEqualsPercentile(defender.P50, w)},
		},
	}
	alarms := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]string{"size alone", "all"}).Draw(t, "behaviors")
		config := profile(slices.Clone(kinds[kind])...)
		config.Reports = kind == "all"
		if config.Reports {
			config.ReportsEvery = 20
		}
		compiled, err := config.Compile()
		if err != nil {
			t.Fatal(err)
		}
		even := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		minutes := rapid.SampledFrom([]int64{10, 40, 180}).Draw(t, "minutes")
		var records []offline.Record
		messages := map[string][]events.SQSMessage{}
		for i := range rapid.IntRange(0, 40).Draw(t, "events") {
			r, m := recorded(t, engine.Rules(compiled, config.ReportTopic), even, i, minutes)
			records, messages[r.ID] = append(records, r), m
		}
		slices.SortStableFunc(records, func(a, b offline.Record) int { return int(a.Time - b.Time) })
		r := newRig(t, config)
		end := at(float64(minutes) + 60)
		next := 0
		for minute := start; !minute.After(end); minute = minute.Add(time.Minute) {
			for ; next < len(records) && int64(records[next].Time) <= minute.UnixMilli(); next++ {
				r.now = time.UnixMilli(int64(records[next].Time)).UTC()
				follow(r, records[next], r.now)
				if m := messages[records[next].ID]; len(m) > 0 {
					r.deliver(m...)
				}
			}
			r.now = minute
			follow(r, offline.Record{}, minute)
			r.close(minute)
		}
		var deployed []offline.Transition
		for _, m := range r.messages() {
			deployed = append(deployed, offline.Transition{Device: m.ClientID, Transition: m.Transition})
		}
		got, err := offline.Judge(config, records, end)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := transitions(got.Transitions), transitions(deployed); got != want {
			t.Fatalf("offline:\n%s\nfunctions:\n%s", got, want)
		}
		for _, d := range deployed {
			if d.Change == engine.InAlarm {
				alarms[d.Behavior.Name]++
			}
		}
	})
	for _, name := range []string{"small", "ports", "few", "some", "elsewhere", "away", "refusals", "network", "usual", engine.SilentAgent} {
		if alarms[name] == 0 {
			t.Errorf("no run raised an alarm of %s: %v", name, alarms)
		}
	}
}
