// Package iotapi describes the metrics, operators, values and audit checks of the AWS IoT API.
// Package defender and the functions both use it.
package iotapi

import "fmt"

// Operator compares a datapoint with the value of a behavior. It describes normal behavior: a
// datapoint for which the comparison is false is a violation. The set operators apply to every
// element, so an empty list conforms.
type Operator string

// The comparison operators, spelled as in the AWS IoT API.
const (
	LessThan          Operator = "less-than"
	LessThanEquals    Operator = "less-than-equals"
	GreaterThan       Operator = "greater-than"
	GreaterThanEquals Operator = "greater-than-equals"
	InCIDRSet         Operator = "in-cidr-set"
	NotInCIDRSet      Operator = "not-in-cidr-set"
	InPortSet         Operator = "in-port-set"
	NotInPortSet      Operator = "not-in-port-set"
	InSet             Operator = "in-set"
	NotInSet          Operator = "not-in-set"
)

// ValueKind is the kind of a metric's datapoints.
type ValueKind int

// The kinds; each is one field of [Value].
const (
	CountValue ValueKind = iota + 1
	CIDRsValue
	PortsValue
	NumberValue
	NumbersValue
	StringsValue
)

// String returns the name of the field in the AWS IoT API.
func (k ValueKind) String() string {
	names := [...]string{"", "count", "cidrs", "ports", "number", "numbers", "strings"}
	if k < 0 || int(k) >= len(names) {
		return "unknown"
	}
	return names[k]
}

// MetricSide is where a metric's datapoints are measured.
type MetricSide int

const (
	// CloudSide metrics are measured by AWS IoT.
	CloudSide MetricSide = iota + 1
	// DeviceSide metrics are in the reports of an agent on the device.
	DeviceSide
	// CustomSide metrics are defined by the user and reported by the device.
	CustomSide
)

// MetricInfo is a row of the table of metrics.
type MetricInfo struct {
	// Name is the metric's name in the AWS IoT API.
	Name string
	// Unit is what a datapoint counts.
	Unit string
	Side MetricSide
	Kind ValueKind
	// Windowed reports whether a static value is compared over a window.
	Windowed bool
	// UpperBoundOnly reports whether only less-than and less-than-equals are allowed.
	UpperBoundOnly bool
	// Statistical reports whether statistical thresholds and learned behaviors are allowed.
	Statistical bool
	// Dimensional reports whether a topic filter dimension is allowed.
	Dimensional bool
}

// Operators returns the operators that AWS allows for the metric.
func (i MetricInfo) Operators() []Operator {
	switch {
	case i.UpperBoundOnly:
		return []Operator{LessThan, LessThanEquals}
	case i.Kind == CIDRsValue:
		return []Operator{InCIDRSet, NotInCIDRSet}
	case i.Kind == PortsValue:
		return []Operator{InPortSet, NotInPortSet}
	case i.Kind == NumbersValue || i.Kind == StringsValue:
		return []Operator{InSet, NotInSet}
	}
	return []Operator{LessThan, LessThanEquals, GreaterThan, GreaterThanEquals}
}

// CustomMetricType returns the type of a custom metric in AWS::IoT::CustomMetric, "" for a metric
// that AWS defines.
func (i MetricInfo) CustomMetricType() string {
	if i.Side != CustomSide {
		return ""
	}
	return map[ValueKind]string{NumberValue: "number", NumbersValue: "number-list", StringsValue: "string-list", CIDRsValue: "ip-address-list"}[i.Kind]
}

// Value is a datapoint, or the value that datapoints are compared with. Exactly one field is set.
// The JSON form is that of the AWS IoT API.
type Value struct {
	Count   *int64    `json:"count,omitempty"`
	CIDRs   []string  `json:"cidrs,omitempty"`
	Ports   []uint16  `json:"ports,omitempty"`
	Number  *float64  `json:"number,omitempty"`
	Numbers []float64 `json:"numbers,omitempty"`
	Strings []string  `json:"strings,omitempty"`
}

// Kind returns which field is set, 0 if none is.
func (v Value) Kind() ValueKind {
	switch {
	case v.Count != nil:
		return CountValue
	case v.CIDRs != nil:
		return CIDRsValue
	case v.Ports != nil:
		return PortsValue
	case v.Number != nil:
		return NumberValue
	case v.Numbers != nil:
		return NumbersValue
	case v.Strings != nil:
		return StringsValue
	}
	return 0
}

// Elements returns the number of elements of a set, 0 for a single number.
func (v Value) Elements() int {
	return len(v.CIDRs) + len(v.Ports) + len(v.Numbers) + len(v.Strings)
}

// String returns the value as a finding shows it: "8", "[443 80]".
func (v Value) String() string {
	switch v.Kind() {
	case CountValue:
		return fmt.Sprint(*v.Count)
	case NumberValue:
		return fmt.Sprint(*v.Number)
	case CIDRsValue:
		return fmt.Sprint(v.CIDRs)
	case PortsValue:
		return fmt.Sprint(v.Ports)
	case NumbersValue:
		return fmt.Sprint(v.Numbers)
	case StringsValue:
		return fmt.Sprintf("%q", v.Strings)
	}
	return ""
}

// Partial means that a list in a device report is incomplete. The zero value means that some
// elements are unreadable.
type Partial struct {
	// If the list is a sample, Listed and Total are how many elements the report lists and how
	// many it says there are. Otherwise both are 0.
	Listed int64 `json:"listed,omitempty"`
	Total  int64 `json:"total,omitempty"`
}

// Sampled reports whether the device listed only a sample.
func (p Partial) Sampled() bool { return p.Total > 0 }

// String returns a sample as a finding shows it: "50 of 126".
func (p Partial) String() string { return fmt.Sprintf("%d of %d", p.Listed, p.Total) }
