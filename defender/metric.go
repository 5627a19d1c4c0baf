package defender

import (
	"net/netip"
	"slices"
	"strings"
)

// Operator compares a datapoint with the value of a behavior. It states what is
// normal: a datapoint for which the comparison is false is a violation. The set
// operators ask it of every element, so an empty list conforms.
type Operator string

// The comparison operators, spelled as the AWS IoT API spells them.
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

// String is the name of the field in the AWS IoT API.
func (k ValueKind) String() string {
	names := [...]string{"", "count", "cidrs", "ports", "number", "numbers", "strings"}
	if k < 0 || int(k) >= len(names) {
		return "unknown"
	}
	return names[k]
}

// MetricSide tells where a metric's datapoints come from.
type MetricSide int

const (
	// CloudSide metrics are measured by AWS IoT.
	CloudSide MetricSide = iota + 1
	// DeviceSide metrics stand in the reports of an agent on the device.
	DeviceSide
	// CustomSide metrics are defined by the user and reported by the device.
	CustomSide
)

// MetricInfo is the row of the metrics table.
type MetricInfo struct {
	// Name is the metric's name in the AWS IoT API.
	Name string
	// Unit is what a datapoint counts.
	Unit string
	Side MetricSide
	Kind ValueKind
	// Windowed tells that a static value is compared over a window.
	Windowed bool
	// UpperBoundOnly tells that only less-than and less-than-equals are allowed.
	UpperBoundOnly bool
	// Statistical tells that statistical thresholds and learned behaviors exist.
	Statistical bool
	// Dimensional tells that a dimension by topic filter can be set.
	Dimensional bool
}

// Metric is one of the typed metrics of this package. Each offers only the
// operators that AWS allows for it.
// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/detect-cloud-side-metrics.html
type Metric interface{ Info() MetricInfo }

type metric struct{ info MetricInfo }

// Info returns the metric's row.
func (m metric) Info() MetricInfo { return m.info }

type (
	// SizeMetric is compared message by message, or snapshot by snapshot, and so
	// takes no window with a static value.
	SizeMetric struct{ metric }
	// RateMetric is counted over a window.
	RateMetric struct{ metric }
	// DurationMetric is a time in minutes that can only be bounded from above.
	DurationMetric struct{ metric }
	// AddressMetric is a list of IP addresses.
	AddressMetric struct{ metric }
	// PortMetric is a list of ports.
	PortMetric struct{ metric }
	// NumberMetric is a custom metric of type number, counted over a window.
	NumberMetric struct{ metric }
	// NumberListMetric is a custom metric of type number-list.
	NumberListMetric struct{ metric }
	// StringListMetric is a custom metric of type string-list.
	StringListMetric struct{ metric }
)

func size(name, unit string, side MetricSide, dimensional bool) SizeMetric {
	return SizeMetric{metric{MetricInfo{Name: name, Unit: unit, Side: side, Kind: CountValue, Statistical: true, Dimensional: dimensional}}}
}

func rate(name, unit string, side MetricSide, dimensional bool) RateMetric {
	return RateMetric{metric{MetricInfo{Name: name, Unit: unit, Side: side, Kind: CountValue, Windowed: true, Statistical: true, Dimensional: dimensional}}}
}

func ports(name string) PortMetric {
	return PortMetric{metric{MetricInfo{Name: name, Unit: "ports", Side: DeviceSide, Kind: PortsValue}}}
}

// The cloud-side metrics. The type of each says which operators it has.
var (
	MessageByteSize       SizeMetric     = size("aws:message-byte-size", "bytes", CloudSide, true)
	MessagesSent          RateMetric     = rate("aws:num-messages-sent", "messages", CloudSide, true)
	MessagesReceived      RateMetric     = rate("aws:num-messages-received", "messages", CloudSide, true)
	AuthorizationFailures RateMetric     = rate("aws:num-authorization-failures", "failures", CloudSide, true)
	ConnectionAttempts    RateMetric     = rate("aws:num-connection-attempts", "attempts", CloudSide, false)
	Disconnects           RateMetric     = rate("aws:num-disconnects", "disconnects", CloudSide, false)
	DisconnectDuration    DurationMetric = DurationMetric{metric{MetricInfo{Name: "aws:disconnect-duration", Unit: "minutes", Side: CloudSide, Kind: CountValue, UpperBoundOnly: true}}}
	SourceIPAddress       AddressMetric  = AddressMetric{metric{MetricInfo{Name: "aws:source-ip-address", Unit: "addresses", Side: CloudSide, Kind: CIDRsValue, Dimensional: true}}}
)

// The device-side metrics. The type of each says which operators it has.
var (
	AllBytesIn                RateMetric    = rate("aws:all-bytes-in", "bytes", DeviceSide, false)
	AllBytesOut               RateMetric    = rate("aws:all-bytes-out", "bytes", DeviceSide, false)
	AllPacketsIn              RateMetric    = rate("aws:all-packets-in", "packets", DeviceSide, false)
	AllPacketsOut             RateMetric    = rate("aws:all-packets-out", "packets", DeviceSide, false)
	NumListeningTCPPorts      RateMetric    = rate("aws:num-listening-tcp-ports", "ports", DeviceSide, false)
	NumListeningUDPPorts      RateMetric    = rate("aws:num-listening-udp-ports", "ports", DeviceSide, false)
	EstablishedTCPConnections SizeMetric    = size("aws:num-established-tcp-connections", "connections", DeviceSide, false)
	ListeningTCPPorts         PortMetric    = ports("aws:listening-tcp-ports")
	ListeningUDPPorts         PortMetric    = ports("aws:listening-udp-ports")
	DestinationIPAddresses    AddressMetric = AddressMetric{metric{MetricInfo{Name: "aws:destination-ip-addresses", Unit: "addresses", Side: DeviceSide, Kind: CIDRsValue}}}
)

func custom(name string, kind ValueKind) metric {
	return metric{MetricInfo{Name: name, Unit: "", Side: CustomSide, Kind: kind, Windowed: kind == NumberValue, Statistical: kind == NumberValue}}
}

// CustomNumber is the custom metric name, of type number.
func CustomNumber(name string) NumberMetric { return NumberMetric{custom(name, NumberValue)} }

// CustomNumberList is the custom metric name, of type number-list.
func CustomNumberList(name string) NumberListMetric {
	return NumberListMetric{custom(name, NumbersValue)}
}

// CustomStringList is the custom metric name, of type string-list.
func CustomStringList(name string) StringListMetric {
	return StringListMetric{custom(name, StringsValue)}
}

// CustomIPAddressList is the custom metric name, of type ip-address-list.
func CustomIPAddressList(name string) AddressMetric {
	return AddressMetric{custom(name, CIDRsValue)}
}

// Metrics returns the metrics that AWS defines: the cloud-side ones, then the
// device-side ones.
func Metrics() []Metric {
	return []Metric{
		MessageByteSize, MessagesSent, MessagesReceived, AuthorizationFailures, ConnectionAttempts, Disconnects, DisconnectDuration, SourceIPAddress,
		AllBytesIn, AllBytesOut, AllPacketsIn, AllPacketsOut, NumListeningTCPPorts, NumListeningUDPPorts, EstablishedTCPConnections,
		ListeningTCPPorts, ListeningUDPPorts, DestinationIPAddresses,
	}
}

// operators are those that AWS allows for the metric.
func (i MetricInfo) operators() []Operator {
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

// CustomMetricType is the type of a custom metric in AWS::IoT::CustomMetric, ""
// for a metric that AWS defines.
func (i MetricInfo) CustomMetricType() string {
	if i.Side != CustomSide {
		return ""
	}
	return map[ValueKind]string{NumberValue: "number", NumbersValue: "number-list", StringsValue: "string-list", CIDRsValue: "ip-address-list"}[i.Kind]
}

// metricInfo finds the row for an API name; a name that AWS does not define is a
// custom metric of the given kind.
func metricInfo(name string, kind ValueKind) MetricInfo {
	if name == "aws:destination-ip-address" { // AWS's own example drops the ending
		name = DestinationIPAddresses.Info().Name
	}
	for _, m := range Metrics() {
		if m.Info().Name == name {
			return m.Info()
		}
	}
	return custom(name, kind).info
}

// LessThan is normal below n.
func (m SizeMetric) LessThan(n int64) Criteria { return static(m, LessThan, n, 0) }

// LessThanEquals is normal up to n.
func (m SizeMetric) LessThanEquals(n int64) Criteria { return static(m, LessThanEquals, n, 0) }

// GreaterThan is normal above n.
func (m SizeMetric) GreaterThan(n int64) Criteria { return static(m, GreaterThan, n, 0) }

// GreaterThanEquals is normal from n on.
func (m SizeMetric) GreaterThanEquals(n int64) Criteria { return static(m, GreaterThanEquals, n, 0) }

// Statistical compares the device's sum over w with a percentile of the fleet's.
func (m SizeMetric) Statistical(op Operator, s Statistic, w Window) Criteria {
	return statistical(m, op, s, w)
}

// Learned compares with what the fleet did in the past.
func (m SizeMetric) Learned(c Confidence) Criteria { return learned(m, c) }

// LessThan is normal below n in each w.
func (m RateMetric) LessThan(n int64, w Window) Criteria { return static(m, LessThan, n, w) }

// LessThanEquals is normal up to n in each w.
func (m RateMetric) LessThanEquals(n int64, w Window) Criteria {
	return static(m, LessThanEquals, n, w)
}

// GreaterThan is normal above n in each w.
func (m RateMetric) GreaterThan(n int64, w Window) Criteria { return static(m, GreaterThan, n, w) }

// GreaterThanEquals is normal from n on in each w.
func (m RateMetric) GreaterThanEquals(n int64, w Window) Criteria {
	return static(m, GreaterThanEquals, n, w)
}

// Statistical compares with a percentile of the fleet over w.
func (m RateMetric) Statistical(op Operator, s Statistic, w Window) Criteria {
	return statistical(m, op, s, w)
}

// Learned compares with what the fleet did in the past.
func (m RateMetric) Learned(c Confidence) Criteria { return learned(m, c) }

// LessThan is normal below n minutes.
func (m DurationMetric) LessThan(minutes int64) Criteria { return static(m, LessThan, minutes, 0) }

// LessThanEquals is normal up to n minutes.
func (m DurationMetric) LessThanEquals(minutes int64) Criteria {
	return static(m, LessThanEquals, minutes, 0)
}

// InCIDRs is normal as long as every address lies in one of the networks.
func (m AddressMetric) InCIDRs(networks ...netip.Prefix) Criteria {
	return set(m, InCIDRSet, Value{CIDRs: prefixTexts(networks)})
}

// NotInCIDRs is normal as long as no address lies in one of the networks.
func (m AddressMetric) NotInCIDRs(networks ...netip.Prefix) Criteria {
	return set(m, NotInCIDRSet, Value{CIDRs: prefixTexts(networks)})
}

// InPorts is normal as long as every port is one of these.
func (m PortMetric) InPorts(ports ...uint16) Criteria {
	return set(m, InPortSet, Value{Ports: slices.Clone(ports)})
}

// NotInPorts is normal as long as no port is one of these.
func (m PortMetric) NotInPorts(ports ...uint16) Criteria {
	return set(m, NotInPortSet, Value{Ports: slices.Clone(ports)})
}

// LessThan is normal below n in each w.
func (m NumberMetric) LessThan(n float64, w Window) Criteria { return number(m, LessThan, n, w) }

// LessThanEquals is normal up to n in each w.
func (m NumberMetric) LessThanEquals(n float64, w Window) Criteria {
	return number(m, LessThanEquals, n, w)
}

// GreaterThan is normal above n in each w.
func (m NumberMetric) GreaterThan(n float64, w Window) Criteria { return number(m, GreaterThan, n, w) }

// GreaterThanEquals is normal from n on in each w.
func (m NumberMetric) GreaterThanEquals(n float64, w Window) Criteria {
	return number(m, GreaterThanEquals, n, w)
}

// Statistical compares with a percentile of the fleet over w. AWS refuses it for a
// metric with negative values.
func (m NumberMetric) Statistical(op Operator, s Statistic, w Window) Criteria {
	return statistical(m, op, s, w)
}

// Learned compares with what the fleet did in the past.
func (m NumberMetric) Learned(c Confidence) Criteria { return learned(m, c) }

// In is normal as long as every element is one of these.
func (m NumberListMetric) In(n ...float64) Criteria {
	return set(m, InSet, Value{Numbers: slices.Clone(n)})
}

// NotIn is normal as long as no element is one of these.
func (m NumberListMetric) NotIn(n ...float64) Criteria {
	return set(m, NotInSet, Value{Numbers: slices.Clone(n)})
}

// In is normal as long as every element is one of these.
func (m StringListMetric) In(s ...string) Criteria {
	return set(m, InSet, Value{Strings: slices.Clone(s)})
}

// NotIn is normal as long as no element is one of these.
func (m StringListMetric) NotIn(s ...string) Criteria {
	return set(m, NotInSet, Value{Strings: slices.Clone(s)})
}

func prefixTexts(networks []netip.Prefix) []string {
	texts := make([]string, len(networks))
	for i, n := range networks {
		texts[i] = n.String()
	}
	return texts
}

// validateCustomName reports a custom metric's name that AWS refuses.
func (i MetricInfo) validateCustomName() error {
	if i.Side != CustomSide {
		return nil
	}
	if strings.HasPrefix(i.Name, "aws:") || !validName(i.Name) {
		return invalid("", orMissing(i.Name), "a custom metric's name: %s, not beginning with aws:", nameRule)
	}
	return nil
}

// The metrics of the self-managed engine's behaviors about device reports themselves.
const (
	// MinutesSinceReport counts the minutes since the last device report.
	MinutesSinceReport = "defenderhub:minutes-since-report"
	// UnreadableReport is 1 for a device report that cannot be read, 0 for one that can.
	UnreadableReport = "defenderhub:unreadable-report"
)
