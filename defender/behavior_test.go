package defender_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// small returns a valid behavior, changed by change.
func small(change func(*defender.Behavior)) defender.Behavior {
	b := defender.Behavior{Name: "small-messages", Criteria: defender.MessageByteSize.LessThan(8)}
	change(&b)
	return b
}

func TestBehaviorRules(t *testing.T) {
	filters := func(n int) *defender.Dimension {
		d := &defender.Dimension{}
		for i := range n {
			d.TopicFilters = append(d.TopicFilters, fmt.Sprintf("a/%d/+", i))
		}
		return d
	}
	for _, c := range []struct {
		field    string
		value    any // the violating value in the error
		conforms func(*defender.Behavior)
		violates func(*defender.Behavior)
	}{
		{"Name", nil, func(b *defender.Behavior) { b.Name = "A-z_0:9" }, func(b *defender.Behavior) { b.Name = "" }},
		{"Name", "small messages", func(b *defender.Behavior) { b.Name = "s" }, func(b *defender.Behavior) { b.Name = "small messages" }},
		{"Name", strings.Repeat("n", 129), func(b *defender.Behavior) { b.Name = strings.Repeat("n", 128) }, func(b *defender.Behavior) { b.Name = strings.Repeat("n", 129) }},
		{"Criteria", int64(-1), func(b *defender.Behavior) { b.Criteria = defender.MessageByteSize.LessThan(0) }, func(b *defender.Behavior) { b.Criteria = defender.MessageByteSize.LessThan(-1) }},
		{"ToAlarm", 11, func(b *defender.Behavior) { b.ToAlarm = 10 }, func(b *defender.Behavior) { b.ToAlarm = 11 }},
		{"ToClear", -1, func(b *defender.Behavior) { b.ToClear = 0 }, func(b *defender.Behavior) { b.ToClear = -1 }},
		{"Severity", 6, func(b *defender.Behavior) { b.Severity = defender.Critical }, func(b *defender.Behavior) { b.Severity = 6 }},
		{"Dimension.TopicFilters", 0, func(b *defender.Behavior) { b.Dimension = filters(1) }, func(b *defender.Behavior) { b.Dimension = filters(0) }},
		{"Dimension.TopicFilters", 6, func(b *defender.Behavior) { b.Dimension = filters(5) }, func(b *defender.Behavior) { b.Dimension = filters(6) }},
		{"Dimension.TopicFilters[1]", "a/b+",
			func(b *defender.Behavior) {
				b.Dimension = &defender.Dimension{TopicFilters: []string{"${iot:ClientId}/#"}}
			},
			func(b *defender.Behavior) { b.Dimension = &defender.Dimension{TopicFilters: []string{"a", "a/b+"}} }},
		{"Dimension.TopicFilters", "a/+", func(b *defender.Behavior) { b.Dimension = &defender.Dimension{TopicFilters: []string{"a/+", "a/#"}} },
			func(b *defender.Behavior) {
				b.Dimension = &defender.Dimension{TopicFilters: []string{"a/+", "b", "a/+"}}
			}},
		{"Dimension", "aws:num-disconnects",
			func(b *defender.Behavior) {
				b.Dimension, b.Criteria = filters(1), defender.AuthorizationFailures.LessThan(5, defender.Window5m)
			},
			func(b *defender.Behavior) {
				b.Dimension, b.Criteria = filters(1), defender.Disconnects.LessThan(5, defender.Window5m)
			}},
		{"Dimension", "battery", func(b *defender.Behavior) { b.Criteria = defender.CustomNumber("battery").LessThan(1, 300) },
			func(b *defender.Behavior) {
				b.Dimension, b.Criteria = filters(1), defender.CustomNumber("battery").LessThan(1, 300)
			}},
	} {
		if err := small(c.conforms).Validate(); err != nil {
			t.Errorf("conforming %s: %v", c.field, err)
		}
		wantFault(t, small(c.violates).Validate(), c.field, c.value)
	}
}

func ExampleBehavior_Validate() {
	fmt.Println(defender.Under("Behaviors[0]", defender.Behavior{
		Name: "few disconnects", Criteria: defender.Disconnects.LessThan(-5, 60), ToAlarm: 12,
		Dimension: &defender.Dimension{TopicFilters: []string{"a/#/b"}},
	}.Validate()))
	// Output:
	// Behaviors[0].Name: "few disconnects", want 1 to 128 of A-Z a-z 0-9 : _ -
	// Behaviors[0].Criteria: 60, want Window5m, Window10m, Window15m, Window30m or Window1h for aws:num-disconnects
	// Behaviors[0].Criteria: -5, want 0 or more disconnects
	// Behaviors[0].ToAlarm: 12, want 1 to 10 datapoints, or 0 for the default of 1
	// Behaviors[0].Dimension: "aws:num-disconnects", want no dimension for this metric: AWS allows one for aws:message-byte-size, aws:num-messages-sent, aws:num-messages-received, aws:num-authorization-failures and aws:source-ip-address
	// Behaviors[0].Dimension.TopicFilters[0]: "a/#/b", want # alone in the last level
}

func TestDatapointsDefaultToOne(t *testing.T) {
	b := small(func(b *defender.Behavior) { b.ToClear = 3 })
	if b.DatapointsToAlarm() != 1 || b.DatapointsToClear() != 3 {
		t.Errorf("got %d to alarm and %d to clear, want 1 and 3", b.DatapointsToAlarm(), b.DatapointsToClear())
	}
}

func TestBehaviorsOfAProfile(t *testing.T) {
	many := func(n, ports int) []defender.Behavior {
		var open []uint16
		for port := range ports {
			open = append(open, uint16(port))
		}
		list := make([]defender.Behavior, n)
		for i := range list {
			list[i] = small(func(b *defender.Behavior) { b.Name = fmt.Sprint("b", i) })
			if ports > 0 {
				list[i].Criteria = defender.ListeningTCPPorts.InPorts(open...)
			}
		}
		return list
	}
	named := func(name string, c defender.Criteria) defender.Behavior {
		return defender.Behavior{Name: name, Criteria: c}
	}
	number, list := defender.CustomNumber("m").LessThan(1, 300), defender.CustomNumberList("m").In(1)
	for _, c := range []struct {
		name      string
		behaviors []defender.Behavior
		field     string // "-" if the behaviors are valid
		value     any
	}{
		{"none", nil, "-", nil},
		{"100", many(100, 0), "-", nil},
		{"101", many(101, 0), "", "101 behaviors"},
		{"1000 elements", many(10, 100), "-", nil},
		{"1001 elements", append(many(10, 100), named("one-more", defender.ListeningUDPPorts.InPorts(1))), "", "1001 elements of sets"},
		{"one name twice", append(many(2, 0), many(1, 0)...), "[2].Name", "b0"},
		{"names differ in case", []defender.Behavior{named("a", number), named("A", number)}, "-", nil},
		{"one custom metric in two types", []defender.Behavior{named("a", number), named("b", list)}, "[1].Criteria", "custom metric m as number-list"},
	} {
		err := defender.ValidateBehaviors(c.behaviors)
		if c.field == "-" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		wantFault(t, err, c.field, c.value)
	}
}

func TestDemoBehaviorsAreThoseOfTheAWSWalkthrough(t *testing.T) {
	demo := defender.DemoBehaviors()
	if err := defender.ValidateBehaviors(demo); err != nil || len(demo) != 1 {
		t.Fatalf("got %v, error %v, want one valid behavior", demo, err)
	}
	if got := demo[0].Criteria.Normal(); got != "aws:message-byte-size less-than 8" || demo[0].DatapointsToAlarm() != 1 || demo[0].DatapointsToClear() != 1 {
		t.Errorf("got %s, want less than 8 bytes, with one datapoint to alarm and to clear", got)
	}
}

func ExampleBehavior_MarshalJSON() {
	text, _ := json.Marshal(defender.Behavior{
		Name: "quiet-nights", Criteria: defender.MessagesSent.LessThan(10, defender.Window5m), ToAlarm: 2, Severity: defender.High,
		Dimension: &defender.Dimension{TopicFilters: []string{"night/#"}, NotIn: true}, SuppressAlerts: true,
	})
	fmt.Println(string(text))
	// Output: {"name":"quiet-nights","metric":"aws:num-messages-sent","metricDimension":{"topicFilters":["night/#"],"operator":"NOT_IN"},"criteria":{"comparisonOperator":"less-than","value":{"count":10},"durationSeconds":300,"consecutiveDatapointsToAlarm":2,"consecutiveDatapointsToClear":1},"suppressAlerts":true,"severity":"HIGH"}
}

// The behavior inside each recorded alarm is decoded completely: encoding it gives the same JSON.
func TestBehaviorsOfRecordedAlerts(t *testing.T) {
	want := map[string]string{
		"sns-detect.json":             "aws:num-messages-sent less-than 10 in 300 s",
		"sns-detect-cleared.json":     "aws:all-packets-out less-than 100 in 300 s",
		"sns-detect-invalidated.json": "aws:all-packets-out less-than 100 in 300 s",
		"sns-detect-cidrs.json":       "aws:source-ip-address in-cidr-set [192.0.2.0/24 2001:db8::/32]",
		"sns-detect-ports.json":       "aws:listening-tcp-ports in-port-set [443 80]",
		"sns-detect-number.json":      "batteryPercentage greater-than-equals 20 in 300 s",
		"sns-detect-numbers.json":     "radioChannels in-set [1 6 11]",
		"sns-detect-strings.json":     `runningProcesses in-set ["agent" "sshd"]`,
		"sns-detect-statistical.json": "aws:num-messages-sent less-than-equals p90 in 900 s",
		"sns-detect-ml.json":          "aws:num-messages-sent as learned, confidence HIGH",
	}
	files, err := filepath.Glob("testdata/sns-detect*.json")
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d files, %v, want %d", len(files), err, len(want))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var alert struct {
			Behavior    json.RawMessage
			MetricValue *iotapi.Value
		}
		var b defender.Behavior
		if err := json.Unmarshal(text, &alert); err != nil {
			t.Fatal(file, err)
		}
		if err := json.Unmarshal(alert.Behavior, &b); err != nil {
			t.Fatal(file, err)
		}
		if got := b.Criteria.Normal(); got != want[filepath.Base(file)] {
			t.Errorf("%s: got %s, want %s", file, got, want[filepath.Base(file)])
		}
		if err := b.Validate(); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if v := alert.MetricValue; v != nil && v.Kind() != b.Criteria.Metric().Kind {
			t.Errorf("%s: the measured value has kind %d, the metric %d", file, v.Kind(), b.Criteria.Metric().Kind)
		}
		again, err := json.Marshal(b)
		if err != nil {
			t.Fatal(file, err)
		}
		var in, out any
		if json.Unmarshal(alert.Behavior, &in) != nil || json.Unmarshal(again, &out) != nil || !reflect.DeepEqual(in, out) {
			t.Errorf("%s: encoded as %s, want %s", file, again, alert.Behavior)
		}
	}
}

// An example of AWS has the name in the singular.
func TestSingularNameOfDestinationAddressesIsAccepted(t *testing.T) {
	c := criteria(t, "aws:destination-ip-address", `{"comparisonOperator":"in-cidr-set","value":{"cidrs":["10.0.0.0/8"]}}`)
	if c.Metric() != defender.DestinationIPAddresses.Info() {
		t.Errorf("got %+v, want aws:destination-ip-addresses", c.Metric())
	}
}

func TestInvalidJSONOfBehaviorsIsRejected(t *testing.T) {
	for _, text := range []string{`[]`, `{"name":1}`, `{"criteria":{"value":{"ports":[65536]}}}`, `{"criteria":{"value":{"count":1.5}}}`, `{"severity":"LOUD"}`} {
		var b defender.Behavior
		if err := json.Unmarshal([]byte(text), &b); err == nil {
			t.Errorf("%s: got %+v, want an error", text, b)
		}
	}
}

// behaviors generates valid behaviors with every kind of criteria.
func behaviors() *rapid.Generator[defender.Behavior] {
	return rapid.Custom(func(t *rapid.T) defender.Behavior {
		window := rapid.SampledFrom([]defender.Window{300, 600, 900, 1800, 3600}).Draw(t, "window")
		n := rapid.Int64Range(0, 1<<40).Draw(t, "count")
		statistic := rapid.SampledFrom([]defender.Statistic{defender.P0, defender.P50, defender.P99_99}).Draw(t, "statistic")
		network := netip.MustParsePrefix(rapid.SampledFrom([]string{"10.0.0.0/8", "2001:db8::/32"}).Draw(t, "network"))
		b := defender.Behavior{
			Name: rapid.StringMatching(`[a-zA-Z0-9:_-]{1,128}`).Draw(t, "name"),
			Criteria: rapid.SampledFrom([]defender.Criteria{
				defender.MessageByteSize.GreaterThan(n),
				defender.MessageByteSize.LessThanPercentile(statistic, window),
				defender.MessagesSent.LessThanEquals(n, window),
				defender.MessagesSent.Learned(defender.MediumConfidence),
				defender.DisconnectDuration.LessThan(n),
				defender.SourceIPAddress.NotInCIDRs(network),
				defender.ListeningUDPPorts.InPorts(rapid.SliceOfNDistinct(rapid.Uint16(), 1, 20, rapid.ID).Draw(t, "ports")...),
				defender.CustomNumber("m").LessThan(rapid.Float64().Draw(t, "number"), window),
				defender.CustomNumber("m").GreaterThanPercentile(statistic, window),
				defender.CustomNumberList("m").In(rapid.SliceOfNDistinct(rapid.Float64(), 1, 9, rapid.ID).Draw(t, "numbers")...),
				defender.CustomStringList("m").NotIn(rapid.SliceOfNDistinct(rapid.StringN(1, 9, -1), 1, 9, rapid.ID).Draw(t, "strings")...),
				defender.CustomIPAddressList("m").InCIDRs(network),
			}).Draw(t, "criteria"),
			ToAlarm:        rapid.IntRange(1, 10).Draw(t, "toAlarm"),
			ToClear:        rapid.IntRange(1, 10).Draw(t, "toClear"),
			SuppressAlerts: rapid.Bool().Draw(t, "suppress"),
			Severity:       defender.Severity(rapid.IntRange(0, 5).Draw(t, "severity")),
		}
		if b.Criteria.Metric().Dimensional && rapid.Bool().Draw(t, "dimension") {
			b.Dimension = &defender.Dimension{TopicFilters: []string{"a/+", "${iot:ClientId}/#"}, NotIn: rapid.Bool().Draw(t, "notIn")}
		}
		return b
	})
}

func TestBehaviorsSurviveJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := behaviors().Draw(t, "behavior")
		if err := b.Validate(); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		var got defender.Behavior
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !reflect.DeepEqual(got, b) {
			t.Fatalf("%s: got %+v, want %+v", text, got, b)
		}
	})
}
