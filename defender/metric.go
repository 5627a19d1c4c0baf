package defender

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// Metric is one of the typed metrics of this package. The methods of each type return [Criteria]
// that say what a healthy device does. A type has only the operators that AWS allows for it.
// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/detect-cloud-side-metrics.html
type Metric interface{ Info() iotapi.MetricInfo }

type metric struct{ info iotapi.MetricInfo }

// Info returns the metric's name, unit and type.
func (m metric) Info() iotapi.MetricInfo { return m.info }

type (
	// SizeMetric is judged per message or per device report, so a static value has no window.
	SizeMetric struct{ metric }
	// RateMetric is counted over a window.
	RateMetric struct{ metric }
	// DurationMetric is a duration in minutes. It allows only an upper limit.
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

func size(name, unit string, side iotapi.MetricSide, dimensional bool) SizeMetric {
	return SizeMetric{metric{iotapi.MetricInfo{Name: name, Unit: unit, Side: side, Kind: iotapi.CountValue, Statistical: true, Dimensional: dimensional}}}
}

func rate(name, unit string, side iotapi.MetricSide, dimensional bool) RateMetric {
	return RateMetric{metric{iotapi.MetricInfo{Name: name, Unit: unit, Side: side, Kind: iotapi.CountValue, Windowed: true, Statistical: true, Dimensional: dimensional}}}
}

func ports(name string) PortMetric {
	return PortMetric{metric{iotapi.MetricInfo{Name: name, Unit: "ports", Side: iotapi.DeviceSide, Kind: iotapi.PortsValue}}}
}

// The cloud-side metrics. The type of each determines its operators.
var (
	MessageByteSize       SizeMetric     = size("aws:message-byte-size", "bytes", iotapi.CloudSide, true)
	MessagesSent          RateMetric     = rate("aws:num-messages-sent", "messages", iotapi.CloudSide, true)
	MessagesReceived      RateMetric     = rate("aws:num-messages-received", "messages", iotapi.CloudSide, true)
	AuthorizationFailures RateMetric     = rate("aws:num-authorization-failures", "failures", iotapi.CloudSide, true)
	ConnectionAttempts    RateMetric     = rate("aws:num-connection-attempts", "attempts", iotapi.CloudSide, false)
	Disconnects           RateMetric     = rate("aws:num-disconnects", "disconnects", iotapi.CloudSide, false)
	DisconnectDuration    DurationMetric = DurationMetric{metric{iotapi.MetricInfo{Name: "aws:disconnect-duration", Unit: "minutes", Side: iotapi.CloudSide, Kind: iotapi.CountValue, UpperBoundOnly: true}}}
	SourceIPAddress       AddressMetric  = AddressMetric{metric{iotapi.MetricInfo{Name: "aws:source-ip-address", Unit: "addresses", Side: iotapi.CloudSide, Kind: iotapi.CIDRsValue, Dimensional: true}}}
)

// The device-side metrics. The type of each determines its operators.
var (
	AllBytesIn                RateMetric    = rate("aws:all-bytes-in", "bytes", iotapi.DeviceSide, false)
	AllBytesOut               RateMetric    = rate("aws:all-bytes-out", "bytes", iotapi.DeviceSide, false)
	AllPacketsIn              RateMetric    = rate("aws:all-packets-in", "packets", iotapi.DeviceSide, false)
	AllPacketsOut             RateMetric    = rate("aws:all-packets-out", "packets", iotapi.DeviceSide, false)
	NumListeningTCPPorts      RateMetric    = rate("aws:num-listening-tcp-ports", "ports", iotapi.DeviceSide, false)
	NumListeningUDPPorts      RateMetric    = rate("aws:num-listening-udp-ports", "ports", iotapi.DeviceSide, false)
	EstablishedTCPConnections SizeMetric    = size("aws:num-established-tcp-connections", "connections", iotapi.DeviceSide, false)
	ListeningTCPPorts         PortMetric    = ports("aws:listening-tcp-ports")
	ListeningUDPPorts         PortMetric    = ports("aws:listening-udp-ports")
	DestinationIPAddresses    AddressMetric = AddressMetric{metric{iotapi.MetricInfo{Name: "aws:destination-ip-addresses", Unit: "addresses", Side: iotapi.DeviceSide, Kind: iotapi.CIDRsValue}}}
)

func custom(name string, kind iotapi.ValueKind) metric {
	return metric{iotapi.MetricInfo{Name: name, Unit: "", Side: iotapi.CustomSide, Kind: kind, Windowed: kind == iotapi.NumberValue, Statistical: kind == iotapi.NumberValue}}
}

// CustomNumber returns the custom metric with this name and the type number. The name is 1 to 128
// of A-Z a-z 0-9 : _ - and does not begin with "aws:". [Criteria.Validate] reports other names.
func CustomNumber(name string) NumberMetric { return NumberMetric{custom(name, iotapi.NumberValue)} }

// CustomNumberList returns the custom metric with this name and the type number-list. The rule for
// names is that of [CustomNumber].
func CustomNumberList(name string) NumberListMetric {
	return NumberListMetric{custom(name, iotapi.NumbersValue)}
}

// CustomStringList returns the custom metric with this name and the type string-list. The rule for
// names is that of [CustomNumber].
func CustomStringList(name string) StringListMetric {
	return StringListMetric{custom(name, iotapi.StringsValue)}
}

// CustomIPAddressList returns the custom metric with this name and the type ip-address-list. The
// rule for names is that of [CustomNumber].
func CustomIPAddressList(name string) AddressMetric {
	return AddressMetric{custom(name, iotapi.CIDRsValue)}
}

// Metrics returns the metrics that AWS defines: the cloud-side ones, then the device-side ones.
func Metrics() []Metric {
	return []Metric{
		MessageByteSize, MessagesSent, MessagesReceived, AuthorizationFailures, ConnectionAttempts, Disconnects, DisconnectDuration, SourceIPAddress,
		AllBytesIn, AllBytesOut, AllPacketsIn, AllPacketsOut, NumListeningTCPPorts, NumListeningUDPPorts, EstablishedTCPConnections,
		ListeningTCPPorts, ListeningUDPPorts, DestinationIPAddresses,
	}
}

// metricInfo returns the metric with this API name. If AWS defines no such metric, it is a custom
// metric of the given kind.
func metricInfo(name string, kind iotapi.ValueKind) iotapi.MetricInfo {
	if name == "aws:destination-ip-address" { // the spelling of AWS's own example
		name = DestinationIPAddresses.Info().Name
	}
	for _, m := range Metrics() {
		if m.Info().Name == name {
			return m.Info()
		}
	}
	return custom(name, kind).info
}

// LessThan requires values below n.
func (m SizeMetric) LessThan(n int64) Criteria { return static(m, iotapi.LessThan, n, 0) }

// LessThanEquals requires values up to n.
func (m SizeMetric) LessThanEquals(n int64) Criteria { return static(m, iotapi.LessThanEquals, n, 0) }

// GreaterThan requires values above n.
func (m SizeMetric) GreaterThan(n int64) Criteria { return static(m, iotapi.GreaterThan, n, 0) }

// GreaterThanEquals requires values of at least n.
func (m SizeMetric) GreaterThanEquals(n int64) Criteria {
	return static(m, iotapi.GreaterThanEquals, n, 0)
}

// LessThanPercentile requires the device's sum over w to be below percentile s of the fleet.
func (m SizeMetric) LessThanPercentile(s Statistic, w Window) Criteria {
	return statistical(m, iotapi.LessThan, s, w)
}

// LessThanEqualsPercentile requires the device's sum over w to be at or below percentile s of the fleet.
func (m SizeMetric) LessThanEqualsPercentile(s Statistic, w Window) Criteria {
	return statistical(m, iotapi.LessThanEquals, s, w)
}

// GreaterThanPercentile requires the device's sum over w to be above percentile s of the fleet.
func (m SizeMetric) GreaterThanPercentile(s Statistic, w Window) Criteria {
	return statistical(m, iotapi.GreaterThan, s, w)
}

// GreaterThanEqualsPercentile requires the device's sum over w to be at or above percentile s of the fleet.
func (m SizeMetric) GreaterThanEqualsPercentile(s Statistic, w Window) Criteria {
	return statistical(m, iotapi.GreaterThanEquals, s, w)
}

// Learned requires values that are normal compared with the fleet's past datapoints. c is the
// confidence in a violation that an alarm needs. See docs/detect.md.
func (m SizeMetric) Learned(c Confidence) Criteria { return learned(m, c) }

// LessThan requires less than n in each window w.
func (m RateMetric) LessThan(n int64, w Window) Criteria { return static(m, iotapi.LessThan, n, w) }

// LessThanEquals requires at most n in each window w.
func (m RateMetric) LessThanEquals(n int64, w Window) Criteria {
	return static(m, iotapi.LessThanEquals, n, w)
}

// GreaterThan requires more than n in each window w.
func (m RateMetric) GreaterThan(n int64, w Window) Criteria {
	return static(m, iotapi.GreaterThan, n, w)
}

// GreaterThanEquals requires at least n in each window w.
func (m RateMetric) GreaterThanEquals(n int64, w Window) Criteria {
	return static(m, iotapi.GreaterThanEquals, n, w)
}

// LessThanPercentile requires the count over w to be below percentile s of the fleet.
func (m RateMetric) LessThanPercentile(s Statistic, w Window) Criteria {
	return statistical(m, iotapi.LessThan, s, w)
}

// LessThanEqualsPercentile requires the count over w to be at or below percentile s of the fleet.
func (m RateMetric) LessThanEqualsPercentile(s Statistic, w Window) Criteria {
	return statistical(m, iotapi.LessThanEquals, s, w)
}

// GreaterThanPercentile requires the count over w to be above percentile s of the fleet.
func (m RateMetric) GreaterThanPercentile(s Statistic, w Window) Criteria {
	return statistical(m, iotapi.GreaterThan, s, w)
}

// GreaterThanEqualsPercentile requires the count over w to be at or above percentile s of the fleet.
func (m RateMetric) GreaterThanEqualsPercentile(s Statistic, w Window) Criteria {
	return statistical(m, iotapi.GreaterThanEquals, s, w)
}

// Learned requires values that are normal compared with the fleet's past datapoints. c is the
// confidence in a violation that an alarm needs. See docs/detect.md.
func (m RateMetric) Learned(c Confidence) Criteria { return learned(m, c) }

// LessThan requires less than this number of minutes.
func (m DurationMetric) LessThan(minutes int64) Criteria {
	return static(m, iotapi.LessThan, minutes, 0)
}

// LessThanEquals requires at most this number of minutes.
func (m DurationMetric) LessThanEquals(minutes int64) Criteria {
	return static(m, iotapi.LessThanEquals, minutes, 0)
}

// InCIDRs requires every address to be in one of the networks.
func (m AddressMetric) InCIDRs(networks ...netip.Prefix) Criteria {
	return set(m, iotapi.InCIDRSet, iotapi.Value{CIDRs: prefixTexts(networks)})
}

// NotInCIDRs forbids addresses in these networks.
func (m AddressMetric) NotInCIDRs(networks ...netip.Prefix) Criteria {
	return set(m, iotapi.NotInCIDRSet, iotapi.Value{CIDRs: prefixTexts(networks)})
}

// InPorts requires every port to be one of these.
func (m PortMetric) InPorts(ports ...uint16) Criteria {
	return set(m, iotapi.InPortSet, iotapi.Value{Ports: slices.Clone(ports)})
}

// NotInPorts forbids these ports.
func (m PortMetric) NotInPorts(ports ...uint16) Criteria {
	return set(m, iotapi.NotInPortSet, iotapi.Value{Ports: slices.Clone(ports)})
}

// LessThan requires less than n in each window w.
func (m NumberMetric) LessThan(n float64, w Window) Criteria { return number(m, iotapi.LessThan, n, w) }

// LessThanEquals requires at most n in each window w.
func (m NumberMetric) LessThanEquals(n float64, w Window) Criteria {
	return number(m, iotapi.LessThanEquals, n, w)
}

// GreaterThan requires more than n in each window w.
func (m NumberMetric) GreaterThan(n float64, w Window) Criteria {
	return number(m, iotapi.GreaterThan, n, w)
}

// GreaterThanEquals requires at least n in each window w.
func (m NumberMetric) GreaterThanEquals(n float64, w Window) Criteria {
	return number(m, iotapi.GreaterThanEquals, n, w)
}

// LessThanPercentile requires the value over w to be below percentile s of the fleet. AWS
// rejects it for a metric with negative values.
func (m NumberMetric) LessThanPercentile(s Statistic, w Window) Criteria {
	return statistical(m, iotapi.LessThan, s, w)
}

// LessThanEqualsPercentile requires the value over w to be at or below percentile s of the fleet. AWS
// rejects it for a metric with negative values.
func (m NumberMetric) LessThanEqualsPercentile(s Statistic, w Window) Criteria {
	return statistical(m, iotapi.LessThanEquals, s, w)
}

// GreaterThanPercentile requires the value over w to be above percentile s of the fleet. AWS
// rejects it for a metric with negative values.
func (m NumberMetric) GreaterThanPercentile(s Statistic, w Window) Criteria {
	return statistical(m, iotapi.GreaterThan, s, w)
}

// GreaterThanEqualsPercentile requires the value over w to be at or above percentile s of the fleet. AWS
// rejects it for a metric with negative values.
func (m NumberMetric) GreaterThanEqualsPercentile(s Statistic, w Window) Criteria {
	return statistical(m, iotapi.GreaterThanEquals, s, w)
}

// Learned requires values that are normal compared with the fleet's past datapoints. c is the
// confidence in a violation that an alarm needs. See docs/detect.md.
func (m NumberMetric) Learned(c Confidence) Criteria { return learned(m, c) }

// In requires every element to be one of these.
func (m NumberListMetric) In(n ...float64) Criteria {
	return set(m, iotapi.InSet, iotapi.Value{Numbers: slices.Clone(n)})
}

// NotIn forbids these elements.
func (m NumberListMetric) NotIn(n ...float64) Criteria {
	return set(m, iotapi.NotInSet, iotapi.Value{Numbers: slices.Clone(n)})
}

// In requires every element to be one of these.
func (m StringListMetric) In(s ...string) Criteria {
	return set(m, iotapi.InSet, iotapi.Value{Strings: slices.Clone(s)})
}

// NotIn forbids these elements.
func (m StringListMetric) NotIn(s ...string) Criteria {
	return set(m, iotapi.NotInSet, iotapi.Value{Strings: slices.Clone(s)})
}

func prefixTexts(networks []netip.Prefix) []string {
	texts := make([]string, len(networks))
	for i, n := range networks {
		texts[i] = n.String()
	}
	return texts
}

// validateCustomName reports a custom metric's name that AWS rejects.
func validateCustomName(i iotapi.MetricInfo) error {
	if i.Side != iotapi.CustomSide {
		return nil
	}
	if strings.HasPrefix(i.Name, "aws:") || !validName(i.Name) {
		return invalid("", orMissing(i.Name), "a custom metric's name: %s, not beginning with aws:", nameRule)
	}
	return nil
}
