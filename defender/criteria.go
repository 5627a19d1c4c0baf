package defender

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// Window is the time over which datapoints are counted, in seconds. AWS allows five windows.
type Window int

// The windows.
const (
	Window5m  Window = 300
	Window10m Window = 600
	Window15m Window = 900
	Window30m Window = 1800
	Window1h  Window = 3600
)

var windows = []Window{Window5m, Window10m, Window15m, Window30m, Window1h}

// Duration returns the window's length.
func (w Window) Duration() time.Duration { return time.Duration(w) * time.Second }

// Statistic is a percentile of the fleet: 90 % of the fleet's measurements are below "p90".
type Statistic string

// The percentiles that AWS allows.
const (
	P0     Statistic = "p0"
	P0_01  Statistic = "p0.01"
	P0_1   Statistic = "p0.1"
	P1     Statistic = "p1"
	P10    Statistic = "p10"
	P50    Statistic = "p50"
	P90    Statistic = "p90"
	P99    Statistic = "p99"
	P99_9  Statistic = "p99.9"
	P99_99 Statistic = "p99.99"
	P100   Statistic = "p100"
)

var statistics = []Statistic{P0, P0_01, P0_1, P1, P10, P50, P90, P99, P99_9, P99_99, P100}

// Confidence is the confidence in a violation that a learned behavior needs to raise an alarm.
type Confidence string

// The levels of confidence.
const (
	LowConfidence    Confidence = "LOW"
	MediumConfidence Confidence = "MEDIUM"
	HighConfidence   Confidence = "HIGH"
)

var confidences = []Confidence{LowConfidence, MediumConfidence, HighConfidence}

// Criteria is the metric of a behavior and its normal values. Create it with the methods of a
// metric's type, such as MessageByteSize.LessThan(8) of [SizeMetric]; the zero value is invalid.
type Criteria struct {
	metric     iotapi.MetricInfo
	operator   iotapi.Operator
	value      iotapi.Value
	window     Window
	statistic  Statistic
	confidence Confidence
}

func static(m Metric, op iotapi.Operator, n int64, w Window) Criteria {
	return Criteria{metric: m.Info(), operator: op, value: iotapi.Value{Count: &n}, window: w}
}

func number(m Metric, op iotapi.Operator, n float64, w Window) Criteria {
	return Criteria{metric: m.Info(), operator: op, value: iotapi.Value{Number: &n}, window: w}
}

func set(m Metric, op iotapi.Operator, v iotapi.Value) Criteria {
	return Criteria{metric: m.Info(), operator: op, value: v}
}

func statistical(m Metric, op iotapi.Operator, s Statistic, w Window) Criteria {
	return Criteria{metric: m.Info(), operator: op, statistic: s, window: w}
}

func learned(m Metric, c Confidence) Criteria {
	return Criteria{metric: m.Info(), confidence: c}
}

// Metric returns the metric that the behavior judges.
func (c Criteria) Metric() iotapi.MetricInfo { return c.metric }

// Operator returns the comparison operator, "" for a learned behavior.
func (c Criteria) Operator() iotapi.Operator { return c.operator }

// Value returns the value to compare with, an empty one for statistical and learned behaviors.
func (c Criteria) Value() iotapi.Value { return c.value }

// Window returns the time over which datapoints are counted. It is 0 for a learned behavior, and
// if each datapoint is judged by itself.
func (c Criteria) Window() Window { return c.window }

// Statistic returns the percentile of the fleet, "" unless the behavior is statistical.
func (c Criteria) Statistic() Statistic { return c.statistic }

// Confidence returns the confidence that an alarm needs, "" unless the behavior is learned.
func (c Criteria) Confidence() Confidence { return c.confidence }

// Type returns STATIC, STATISTICAL or MACHINE_LEARNING, as findings call it.
func (c Criteria) Type() string {
	switch {
	case c.confidence != "":
		return "MACHINE_LEARNING"
	case c.statistic != "":
		return "STATISTICAL"
	}
	return "STATIC"
}

// Normal describes the normal values, for example "aws:num-disconnects less-than 1 in 300 s".
func (c Criteria) Normal() string {
	parts := []string{c.metric.Name, string(c.operator), c.value.String(), string(c.statistic)}
	if c.confidence != "" {
		parts = append(parts, "as learned, confidence", string(c.confidence))
	}
	if c.window != 0 {
		parts = append(parts, fmt.Sprintf("in %d s", c.window))
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}

// Validate reports everything that AWS would reject: invalid values, and combinations that only
// decoded JSON can have, because the methods of a [Metric] cannot create them.
func (c Criteria) Validate() error {
	if c.metric == (iotapi.MetricInfo{}) {
		return invalid("", nil, "a metric and its normal values, such as defender.MessageByteSize.LessThan(8)")
	}
	faults := []error{validateCustomName(c.metric)}
	fault := func(value any, want string, args ...any) {
		faults = append(faults, invalid("", value, want, args...))
	}
	learned := c.confidence != "" || c.operator == ""
	switch {
	case learned && !slices.Contains(confidences, c.confidence):
		fault(string(c.confidence), "LowConfidence, MediumConfidence or HighConfidence")
	case learned && (c.operator != "" || c.statistic != "" || c.value.Kind() != 0):
		fault(c.Normal(), "a confidence alone, without operator, value or statistic")
	case !learned && !slices.Contains(c.metric.Operators(), c.operator):
		fault(string(c.operator), "one of %v for %s", c.metric.Operators(), c.metric.Name)
	}
	if (learned || c.statistic != "") && !c.metric.Statistical {
		fault(c.metric.Name, "another metric: %s allows only static values", c.metric.Name)
	}
	switch {
	case learned:
	case c.statistic != "":
		faults = append(faults, c.validateWindow(true))
		if !slices.Contains(statistics, c.statistic) {
			fault(string(c.statistic), "one of %v", statistics)
		}
	default:
		faults = append(faults, c.validateWindow(c.metric.Windowed), c.validateValue())
	}
	return errors.Join(faults...)
}

func (c Criteria) validateWindow(windowed bool) error {
	switch {
	case windowed && !slices.Contains(windows, c.window):
		return invalid("", int(c.window), "Window5m, Window10m, Window15m, Window30m or Window1h for %s", c.metric.Name)
	case !windowed && c.window != 0:
		return invalid("", int(c.window), "no window for a static value of %s", c.metric.Name)
	}
	return nil
}

func (c Criteria) validateValue() error {
	var faults []error
	fault := func(value any, want string, args ...any) {
		faults = append(faults, invalid("", value, want, args...))
	}
	v := c.value
	set := c.metric.Kind != iotapi.CountValue && c.metric.Kind != iotapi.NumberValue
	switch {
	case set && v.Elements() == 0:
		fault(nil, "at least one element for %s %s", c.metric.Name, c.operator)
	case v.Kind() == 0:
		fault(nil, "a value of type %s for %s", c.metric.Kind, c.metric.Name)
	case v.Kind() != c.metric.Kind:
		fault(v, "a value of type %s for %s", c.metric.Kind, c.metric.Name)
	case v.Count != nil && *v.Count < 0:
		fault(*v.Count, "0 or more %s", c.metric.Unit)
	}
	for _, text := range v.CIDRs {
		if _, err := netip.ParsePrefix(text); err != nil {
			fault(text, "an IPv4 or IPv6 network such as 10.0.0.0/8")
		}
	}
	numbers := v.Numbers
	if v.Number != nil {
		numbers = []float64{*v.Number}
	}
	for _, n := range numbers {
		if math.IsNaN(n) || math.IsInf(n, 0) {
			fault(n, "a finite number")
		}
	}
	for _, s := range v.Strings {
		if s == "" {
			fault(s, "strings that are not empty")
		}
	}
	return errors.Join(append(faults, eachOnce(v.CIDRs), eachOnce(v.Ports), eachOnce(v.Numbers), eachOnce(v.Strings))...)
}

// eachOnce reports repeated elements of a list, because CloudFormation requires unique ones.
// https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-iot-securityprofile-metricvalue.html
func eachOnce[T comparable](list []T) error {
	var faults []error
	for i, v := range list {
		if slices.Contains(list[:i], v) {
			faults = append(faults, invalid("", v, "each element once"))
		}
	}
	return errors.Join(faults...)
}
