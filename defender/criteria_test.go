package defender_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// criteria decodes criteria from JSON, also those that no constructor creates.
func criteria(t *testing.T, metric, criteria string) defender.Criteria {
	t.Helper()
	var b defender.Behavior
	if err := json.Unmarshal([]byte(`{"name":"b","metric":"`+metric+`","criteria":`+criteria+`}`), &b); err != nil {
		t.Fatal(err)
	}
	return b.Criteria
}

func TestCriteriaThatAWSRejectsAreInvalid(t *testing.T) {
	for _, c := range []struct {
		name     string
		criteria defender.Criteria
		want     string // part of the message
	}{
		{"zero value", defender.Criteria{}, "missing, want a metric"},
		{"negative count", defender.MessageByteSize.LessThan(-1), "-1, want 0 or more bytes"},
		{"no window", defender.MessagesSent.LessThan(1, 0), "0, want Window5m"},
		{"unknown window", defender.MessagesSent.LessThan(1, 301), "301, want Window5m"},
		{"statistic without window", defender.MessageByteSize.LessThanPercentile("p90", 0), "0, want Window5m"},
		{"unknown statistic", defender.MessageByteSize.LessThanPercentile("Average", 300), `"Average", want one of [p0 p0.01`},
		{"no confidence", defender.MessageByteSize.Learned(""), "want LowConfidence"},
		{"unknown confidence", defender.MessageByteSize.Learned("SURE"), `"SURE", want LowConfidence`},
		{"no network", defender.SourceIPAddress.InCIDRs(), "missing, want at least one element"},
		{"zero network", defender.SourceIPAddress.InCIDRs(netip.Prefix{}), "want an IPv4 or IPv6 network"},
		{"no port", defender.ListeningTCPPorts.NotInPorts(), "missing, want at least one element"},
		{"no number", defender.CustomNumberList("m").In(), "missing, want at least one element"},
		{"no string", defender.CustomStringList("m").In(), "missing, want at least one element"},
		{"empty string", defender.CustomStringList("m").In("a", ""), `"", want strings that are not empty`},
		{"not a number", defender.CustomNumber("m").LessThan(math.NaN(), 300), "NaN, want a finite number"},
		{"infinity in a list", defender.CustomNumberList("m").In(1, math.Inf(1)), "+Inf, want a finite number"},
		{"custom name with the prefix aws:", defender.CustomNumber("aws:m").LessThan(1, 300), `"aws:m", want a custom metric's name`},
		{"custom name with a blank", defender.CustomNumber("my metric").LessThan(1, 300), `"my metric", want a custom metric's name`},
		{"custom name missing", defender.CustomNumber("").LessThan(1, 300), "missing, want a custom metric's name"},
		{"custom name too long", defender.CustomNumber(strings.Repeat("m", 129)).LessThan(1, 300), "want a custom metric's name"},

		{"decoded: unknown operator", criteria(t, "aws:all-bytes-in", `{"comparisonOperator":"equals","value":{"count":1},"durationSeconds":300}`), `"equals", want one of [less-than`},
		{"decoded: upper bound only", criteria(t, "aws:disconnect-duration", `{"comparisonOperator":"greater-than","value":{"count":1}}`), `"greater-than", want one of [less-than less-than-equals] for aws:disconnect-duration`},
		{"decoded: value of another kind", criteria(t, "aws:all-bytes-in", `{"comparisonOperator":"less-than","value":{"number":1},"durationSeconds":300}`), "1, want a value of type count for aws:all-bytes-in"},
		{"decoded: no value", criteria(t, "aws:all-bytes-in", `{"comparisonOperator":"less-than","durationSeconds":300}`), "missing, want a value of type count for aws:all-bytes-in"},
		{"decoded: window on a list", criteria(t, "aws:listening-tcp-ports", `{"comparisonOperator":"in-port-set","value":{"ports":[1]},"durationSeconds":300}`), "300, want no window"},
		{"decoded: window on a size", criteria(t, "aws:message-byte-size", `{"comparisonOperator":"less-than","value":{"count":1},"durationSeconds":300}`), "300, want no window"},
		{"decoded: statistic of addresses", criteria(t, "aws:source-ip-address", `{"comparisonOperator":"in-cidr-set","statisticalThreshold":{"statistic":"p90"},"durationSeconds":300}`), "allows only static values"},
		{"port twice", defender.ListeningTCPPorts.InPorts(22, 443, 22), "22, want each element once"},
		{"network twice", defender.SourceIPAddress.NotInCIDRs(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")), `"10.0.0.0/8", want each element once`},
		{"number twice", defender.CustomNumberList("m").In(1, 1), "1, want each element once"},
		{"text twice", defender.CustomStringList("m").In("a", "b", "a"), `"a", want each element once`},
		{"decoded: learned duration", criteria(t, "aws:disconnect-duration", `{"mlDetectionConfig":{"confidenceLevel":"HIGH"}}`), "allows only static values"},
		{"decoded: learned with operator", criteria(t, "aws:all-bytes-in", `{"mlDetectionConfig":{"confidenceLevel":"HIGH"},"comparisonOperator":"less-than"}`), "want a confidence alone"},
		{"decoded: address instead of network", criteria(t, "aws:source-ip-address", `{"comparisonOperator":"in-cidr-set","value":{"cidrs":["10.0.0.1"]}}`), `"10.0.0.1", want an IPv4 or IPv6 network`},
		{"decoded: unknown metric of AWS", criteria(t, "aws:num-reboots", `{"comparisonOperator":"less-than","value":{"number":1},"durationSeconds":300}`), `"aws:num-reboots", want a custom metric's name`},
		{"decoded: empty criteria", criteria(t, "aws:all-bytes-in", `{}`), "want LowConfidence"},
	} {
		err := c.criteria.Validate()
		if found := defender.FieldErrors(err); len(found) != 1 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want one fault with %q", c.name, err, c.want)
		}
	}
}

func TestWindowsAreTheFiveOfAWS(t *testing.T) {
	for w := range defender.Window(4000) {
		allowed := w == 300 || w == 600 || w == 900 || w == 1800 || w == 3600
		if err := defender.MessagesSent.LessThan(1, w).Validate(); (err == nil) != allowed {
			t.Errorf("%d s: error %v, want it allowed: %v", w, err, allowed)
		}
	}
	if got := defender.Window15m.Duration(); got != 15*time.Minute {
		t.Errorf("Window15m is %v", got)
	}
}

func TestStatisticsAreThoseOfTheAPI(t *testing.T) {
	for _, s := range []defender.Statistic{"p0", "p0.01", "p0.1", "p1", "p10", "p50", "p90", "p99", "p99.9", "p99.99", "p100"} {
		if err := defender.MessageByteSize.LessThanPercentile(s, defender.Window5m).Validate(); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func ExampleCriteria_Normal() {
	fmt.Println(defender.MessageByteSize.LessThan(8).Normal())
	fmt.Println(defender.Disconnects.LessThanEquals(2, defender.Window15m).Normal())
	fmt.Println(defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("10.0.0.0/8")).Normal())
	fmt.Println(defender.CustomStringList("processes").NotIn("xmrig").Normal())
	fmt.Println(defender.MessagesSent.LessThanEqualsPercentile(defender.P90, defender.Window15m).Normal())
	fmt.Println(defender.MessagesSent.Learned(defender.HighConfidence).Normal())
	// Output:
	// aws:message-byte-size less-than 8
	// aws:num-disconnects less-than-equals 2 in 900 s
	// aws:source-ip-address in-cidr-set [10.0.0.0/8]
	// processes not-in-set ["xmrig"]
	// aws:num-messages-sent less-than-equals p90 in 900 s
	// aws:num-messages-sent as learned, confidence HIGH
}

func TestKindAndTextOfAValueFollowItsField(t *testing.T) {
	n, f := int64(5), 2.5
	for _, c := range []struct {
		value    iotapi.Value
		kind     iotapi.ValueKind
		elements int
		text     string
	}{
		{iotapi.Value{}, 0, 0, ""},
		{iotapi.Value{Count: &n}, iotapi.CountValue, 0, "5"},
		{iotapi.Value{Number: &f}, iotapi.NumberValue, 0, "2.5"},
		{iotapi.Value{CIDRs: []string{"10.0.0.0/8", "::/0"}}, iotapi.CIDRsValue, 2, "[10.0.0.0/8 ::/0]"},
		{iotapi.Value{Ports: []uint16{}}, iotapi.PortsValue, 0, "[]"},
		{iotapi.Value{Ports: []uint16{443, 80}}, iotapi.PortsValue, 2, "[443 80]"},
		{iotapi.Value{Numbers: []float64{1, 2}}, iotapi.NumbersValue, 2, "[1 2]"},
		{iotapi.Value{Strings: []string{"a b"}}, iotapi.StringsValue, 1, `["a b"]`},
	} {
		if c.value.Kind() != c.kind || c.value.Elements() != c.elements || c.value.String() != c.text {
			t.Errorf("got %v, %d, %s, want %v, %d, %s", c.value.Kind(), c.value.Elements(), c.value, c.kind, c.elements, c.text)
		}
	}
}
