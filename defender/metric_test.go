package defender_test

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// documentedMetrics is AWS's table of metrics.
// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/detect-cloud-side-metrics.html
// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/detect-device-side-metrics.html
var documentedMetrics = []struct {
	metric     defender.Metric
	name, unit string
	side       iotapi.MetricSide
	kind       iotapi.ValueKind
	// A metric without statistical allows only static values.
	windowed, upperBoundOnly, statistical, dimensional bool
}{
	{defender.MessageByteSize, "aws:message-byte-size", "bytes", iotapi.CloudSide, iotapi.CountValue, false, false, true, true},
	{defender.MessagesSent, "aws:num-messages-sent", "messages", iotapi.CloudSide, iotapi.CountValue, true, false, true, true},
	{defender.MessagesReceived, "aws:num-messages-received", "messages", iotapi.CloudSide, iotapi.CountValue, true, false, true, true},
	{defender.AuthorizationFailures, "aws:num-authorization-failures", "failures", iotapi.CloudSide, iotapi.CountValue, true, false, true, true},
	{defender.ConnectionAttempts, "aws:num-connection-attempts", "attempts", iotapi.CloudSide, iotapi.CountValue, true, false, true, false},
	{defender.Disconnects, "aws:num-disconnects", "disconnects", iotapi.CloudSide, iotapi.CountValue, true, false, true, false},
	{defender.DisconnectDuration, "aws:disconnect-duration", "minutes", iotapi.CloudSide, iotapi.CountValue, false, true, false, false},
	{defender.SourceIPAddress, "aws:source-ip-address", "addresses", iotapi.CloudSide, iotapi.CIDRsValue, false, false, false, true},
	{defender.AllBytesIn, "aws:all-bytes-in", "bytes", iotapi.DeviceSide, iotapi.CountValue, true, false, true, false},
	{defender.AllBytesOut, "aws:all-bytes-out", "bytes", iotapi.DeviceSide, iotapi.CountValue, true, false, true, false},
	{defender.AllPacketsIn, "aws:all-packets-in", "packets", iotapi.DeviceSide, iotapi.CountValue, true, false, true, false},
	{defender.AllPacketsOut, "aws:all-packets-out", "packets", iotapi.DeviceSide, iotapi.CountValue, true, false, true, false},
	{defender.NumListeningTCPPorts, "aws:num-listening-tcp-ports", "ports", iotapi.DeviceSide, iotapi.CountValue, true, false, true, false},
	{defender.NumListeningUDPPorts, "aws:num-listening-udp-ports", "ports", iotapi.DeviceSide, iotapi.CountValue, true, false, true, false},
	{defender.EstablishedTCPConnections, "aws:num-established-tcp-connections", "connections", iotapi.DeviceSide, iotapi.CountValue, false, false, true, false},
	{defender.ListeningTCPPorts, "aws:listening-tcp-ports", "ports", iotapi.DeviceSide, iotapi.PortsValue, false, false, false, false},
	{defender.ListeningUDPPorts, "aws:listening-udp-ports", "ports", iotapi.DeviceSide, iotapi.PortsValue, false, false, false, false},
	{defender.DestinationIPAddresses, "aws:destination-ip-addresses", "addresses", iotapi.DeviceSide, iotapi.CIDRsValue, false, false, false, false},
}

func TestMetricsAreTheDocumentedOnes(t *testing.T) {
	if got, want := len(defender.Metrics()), len(documentedMetrics); got != want {
		t.Fatalf("%d metrics, want %d", got, want)
	}
	for i, m := range documentedMetrics {
		want := iotapi.MetricInfo{
			Name: m.name, Unit: m.unit, Side: m.side, Kind: m.kind,
			Windowed: m.windowed, UpperBoundOnly: m.upperBoundOnly, Statistical: m.statistical, Dimensional: m.dimensional,
		}
		if got := m.metric.Info(); got != want {
			t.Errorf("%s: got %+v, want %+v", m.name, got, want)
		}
		if got := defender.Metrics()[i].Info(); got != want {
			t.Errorf("Metrics()[%d] is %s, want %s", i, got.Name, m.name)
		}
		if got := m.metric.Info().CustomMetricType(); got != "" {
			t.Errorf("%s has the custom type %s, want none", m.name, got)
		}
	}
}

func TestCustomMetricsHaveTheTypeOfCloudFormation(t *testing.T) {
	for want, m := range map[string]defender.Metric{
		"number":          defender.CustomNumber("m"),
		"number-list":     defender.CustomNumberList("m"),
		"string-list":     defender.CustomStringList("m"),
		"ip-address-list": defender.CustomIPAddressList("m"),
	} {
		i := m.Info()
		if got := i.CustomMetricType(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if i.Dimensional || i.Side != iotapi.CustomSide || i.Statistical != (want == "number") || i.Windowed != (want == "number") {
			t.Errorf("%s: got %+v, want a custom metric without dimension; windowed and statistical if a number", want, i)
		}
	}
}

// apiCriteria are the fields of criteria in the API.
type apiCriteria struct {
	operator  iotapi.Operator
	value     string
	window    defender.Window
	statistic defender.Statistic
	level     defender.Confidence
}

func TestCriteriaOfEachMetric(t *testing.T) {
	ten := netip.MustParsePrefix("10.0.0.0/8")
	local := netip.MustParsePrefix("fe80::/10")
	size, rate, duration := defender.MessageByteSize, defender.MessagesSent, defender.DisconnectDuration
	number := defender.CustomNumber("battery")
	for _, c := range []struct {
		got  defender.Criteria
		kind string
		want apiCriteria
	}{
		{size.LessThan(8), "STATIC", apiCriteria{operator: "less-than", value: `{"count":8}`}},
		{size.LessThanEquals(8), "STATIC", apiCriteria{operator: "less-than-equals", value: `{"count":8}`}},
		{size.GreaterThan(0), "STATIC", apiCriteria{operator: "greater-than", value: `{"count":0}`}},
		{size.GreaterThanEquals(8), "STATIC", apiCriteria{operator: "greater-than-equals", value: `{"count":8}`}},
		{size.LessThanPercentile("p90", 300), "STATISTICAL", apiCriteria{operator: "less-than", value: `{}`, window: 300, statistic: "p90"}},
		{size.Learned("LOW"), "MACHINE_LEARNING", apiCriteria{value: `{}`, level: "LOW"}},
		{rate.LessThan(8, 300), "STATIC", apiCriteria{operator: "less-than", value: `{"count":8}`, window: 300}},
		{rate.LessThanEquals(8, 600), "STATIC", apiCriteria{operator: "less-than-equals", value: `{"count":8}`, window: 600}},
		{rate.GreaterThan(8, 900), "STATIC", apiCriteria{operator: "greater-than", value: `{"count":8}`, window: 900}},
		{rate.GreaterThanEquals(8, 1800), "STATIC", apiCriteria{operator: "greater-than-equals", value: `{"count":8}`, window: 1800}},
		{rate.GreaterThanPercentile("p0.01", 3600), "STATISTICAL", apiCriteria{operator: "greater-than", value: `{}`, window: 3600, statistic: "p0.01"}},
		{rate.Learned("HIGH"), "MACHINE_LEARNING", apiCriteria{value: `{}`, level: "HIGH"}},
		{duration.LessThan(90), "STATIC", apiCriteria{operator: "less-than", value: `{"count":90}`}},
		{duration.LessThanEquals(90), "STATIC", apiCriteria{operator: "less-than-equals", value: `{"count":90}`}},
		{defender.SourceIPAddress.InCIDRs(ten, local), "STATIC", apiCriteria{operator: "in-cidr-set", value: `{"cidrs":["10.0.0.0/8","fe80::/10"]}`}},
		{defender.DestinationIPAddresses.NotInCIDRs(ten), "STATIC", apiCriteria{operator: "not-in-cidr-set", value: `{"cidrs":["10.0.0.0/8"]}`}},
		{defender.ListeningTCPPorts.InPorts(443, 80), "STATIC", apiCriteria{operator: "in-port-set", value: `{"ports":[443,80]}`}},
		{defender.ListeningUDPPorts.NotInPorts(0, 65535), "STATIC", apiCriteria{operator: "not-in-port-set", value: `{"ports":[0,65535]}`}},
		{number.LessThan(-1.5, 300), "STATIC", apiCriteria{operator: "less-than", value: `{"number":-1.5}`, window: 300}},
		{number.LessThanEquals(1, 300), "STATIC", apiCriteria{operator: "less-than-equals", value: `{"number":1}`, window: 300}},
		{number.GreaterThan(1, 300), "STATIC", apiCriteria{operator: "greater-than", value: `{"number":1}`, window: 300}},
		{number.GreaterThanEquals(20, 300), "STATIC", apiCriteria{operator: "greater-than-equals", value: `{"number":20}`, window: 300}},
		{number.LessThanEqualsPercentile("p100", 300), "STATISTICAL", apiCriteria{operator: "less-than-equals", value: `{}`, window: 300, statistic: "p100"}},
		{number.Learned("MEDIUM"), "MACHINE_LEARNING", apiCriteria{value: `{}`, level: "MEDIUM"}},
		{defender.CustomNumberList("m").In(1, 2.5), "STATIC", apiCriteria{operator: "in-set", value: `{"numbers":[1,2.5]}`}},
		{defender.CustomNumberList("m").NotIn(1), "STATIC", apiCriteria{operator: "not-in-set", value: `{"numbers":[1]}`}},
		{defender.CustomStringList("m").In("a", "b"), "STATIC", apiCriteria{operator: "in-set", value: `{"strings":["a","b"]}`}},
		{defender.CustomStringList("m").NotIn("a"), "STATIC", apiCriteria{operator: "not-in-set", value: `{"strings":["a"]}`}},
		{defender.CustomIPAddressList("m").InCIDRs(ten), "STATIC", apiCriteria{operator: "in-cidr-set", value: `{"cidrs":["10.0.0.0/8"]}`}},
	} {
		value, err := json.Marshal(c.got.Value())
		got := apiCriteria{c.got.Operator(), string(value), c.got.Window(), c.got.Statistic(), c.got.Confidence()}
		if err != nil || got != c.want || c.got.Type() != c.kind {
			t.Errorf("%s: got %s %+v, %v, want %s %+v", c.got.Normal(), c.got.Type(), got, err, c.kind, c.want)
		}
		if err := c.got.Validate(); err != nil {
			t.Errorf("%s: %v", c.got.Normal(), err)
		}
	}
}

// An extra method on a metric would allow a behavior that AWS rejects.
func TestMetricsOfferOnlyTheOperatorsThatAWSAllows(t *testing.T) {
	numbers := []string{"GreaterThan", "GreaterThanEquals", "LessThan", "LessThanEquals"}
	withModels := append(slices.Clone(numbers), "Learned", "LessThanPercentile", "LessThanEqualsPercentile", "GreaterThanPercentile", "GreaterThanEqualsPercentile")
	for _, c := range []struct {
		metric defender.Metric
		want   []string
	}{
		{defender.MessageByteSize, withModels},
		{defender.MessagesSent, withModels},
		{defender.CustomNumber("m"), withModels},
		{defender.DisconnectDuration, []string{"LessThan", "LessThanEquals"}},
		{defender.SourceIPAddress, []string{"InCIDRs", "NotInCIDRs"}},
		{defender.ListeningTCPPorts, []string{"InPorts", "NotInPorts"}},
		{defender.CustomNumberList("m"), []string{"In", "NotIn"}},
		{defender.CustomStringList("m"), []string{"In", "NotIn"}},
	} {
		var got []string
		for m := range reflect.TypeOf(c.metric).Methods() {
			if m.Name != "Info" {
				got = append(got, m.Name)
			}
		}
		want := slices.Sorted(slices.Values(c.want))
		if !slices.Equal(got, want) {
			t.Errorf("%T offers %v, want %v", c.metric, got, want)
		}
	}
}

func TestCriteriaCopyTheCallersSlice(t *testing.T) {
	ports := []uint16{443}
	numbers, texts := []float64{1}, []string{"a"}
	p, n, s := defender.ListeningTCPPorts.InPorts(ports...), defender.CustomNumberList("m").In(numbers...), defender.CustomStringList("m").In(texts...)
	ports[0], numbers[0], texts[0] = 22, 2, "b"
	if got := p.Value().String() + n.Value().String() + s.Value().String(); got != `[443][1]["a"]` {
		t.Errorf("got %s, want the values before the slices changed", got)
	}
}
