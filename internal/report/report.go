// Package report decodes device reports: the ports, connections, traffic and custom metrics that
// an agent on a device publishes in the format of AWS IoT Device Defender.
// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/detect-device-side-metrics.html
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// Report is the readable content of one device report.
type Report struct {
	// ID is the report's number in decimal digits: a positive integer below 2^64, unique and
	// rising on one device. It is "" if missing or unreadable.
	ID string
	// Values are the datapoints by metric name, including custom metrics. A list that the device
	// reported as empty is present, without elements.
	Values map[string]iotapi.Value
	// Partial are the incomplete lists in Values, by metric name.
	Partial map[string]iotapi.Partial
	// Discarded counts unreadable values by field: the path with long names and without list
	// indexes, such as "listening_tcp_ports.ports". All custom metrics share "custom_metrics",
	// because the device chooses their names. Negative counts of bytes or packets, as after a
	// reboot, are discarded too.
	Discarded map[string]int
}

// MaxBytes is the maximum size of a report: that of an MQTT payload.
// https://docs.aws.amazon.com/general/latest/gr/iot-core.html
const MaxBytes = 128 << 10

// Decode decodes a report in JSON, or in CBOR if the first byte cannot begin a JSON object. Keys
// may be long, short or mixed, as real agents write them.
//
// Decode discards and counts unreadable values, and reads all others. It returns an error only if
// the input contains no report: it is too large, is not an object, or has neither metrics nor
// custom_metrics.
func Decode(payload []byte) (Report, error) {
	if len(payload) > MaxBytes {
		return Report{}, fmt.Errorf("device report of %d bytes, want at most %d", len(payload), MaxBytes)
	}
	tree, more, err := decodeTree(payload)
	if err != nil {
		return Report{}, fmt.Errorf("device report: %w", err)
	}
	r := Report{Values: map[string]iotapi.Value{}, Partial: map[string]iotapi.Partial{}, Discarded: map[string]int{}}
	metrics, hasMetrics := r.object(tree, "metrics", "met")
	customs, hasCustoms := r.object(tree, "custom_metrics", "cmet")
	if !hasMetrics && !hasCustoms {
		return Report{}, errors.New("device report: metrics: missing, want an object in metrics or custom_metrics")
	}
	if more {
		r.discard("payload")
	}
	r.header(tree)
	metrics.path = "" // the field is clear without the prefix
	r.ports(metrics, "listening_tcp_ports", "tp", defender.ListeningTCPPorts.Info().Name, defender.NumListeningTCPPorts.Info().Name)
	r.ports(metrics, "listening_udp_ports", "up", defender.ListeningUDPPorts.Info().Name, defender.NumListeningUDPPorts.Info().Name)
	r.traffic(metrics)
	r.connections(metrics)
	r.customs(customs)
	return r, nil
}

// Unreadable reports whether the report has values but none is readable.
func (r Report) Unreadable() bool { return len(r.Values) == 0 && len(r.Discarded) > 0 }

func (r *Report) discard(field string) { r.Discarded[field]++ }

func (r *Report) header(tree node) {
	header, ok := r.object(tree, "header", "hed")
	if !ok {
		if _, given := tree.pick("header", "hed"); !given {
			r.discard("header")
		}
		return
	}
	id, _ := r.find(header, "report_id", "rid")
	if r.ID, ok = reportID(id); !ok {
		r.discard("header.report_id")
	}
	if version, _ := r.find(header, "version", "v"); version != "1.0" {
		r.discard("header.version")
	}
}

// reportID keeps all digits: a clock in nanoseconds exceeds 2^53.
func reportID(v any) (string, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return "", false
	}
	id, err := strconv.ParseUint(n.String(), 10, 64)
	if err != nil {
		f, err := n.Float64() // such as 1.5e9
		if err != nil || f != math.Trunc(f) || f < 1 || f >= 1<<64 {
			return "", false
		}
		id = uint64(f)
	}
	if id == 0 {
		return "", false
	}
	return strconv.FormatUint(id, 10), true
}

// ports returns a datapoint of the list and one of the count. One port may listen on several
// interfaces. Port 0 cannot listen, so the list is complete without it, and only the agent's own
// total counts it.
func (r *Report) ports(metrics node, long, short, listName, countName string) {
	listening, ok := r.object(metrics, long, short)
	if !ok {
		return
	}
	items, hasList := r.list(listening, "ports", "pts")
	ports, seen := make([]uint16, 0, len(items)), map[uint16]bool{}
	whole, zeros := true, 0
	for _, item := range items {
		fields, _ := item.(map[string]any)
		v, _ := node{fields: fields}.pick("port", "pt")
		port, isNumber := asNumber(v)
		if !isNumber || port < 1 || port > math.MaxUint16 || port != math.Trunc(port) {
			r.discard(listening.child("ports"))
			if isNumber && port == 0 {
				zeros++
			} else {
				whole = false
			}
			continue
		}
		if p := uint16(port); !seen[p] {
			seen[p], ports = true, append(ports, p)
		}
	}
	if hasList {
		r.Values[listName] = iotapi.Value{Ports: ports}
	}
	r.total(listening, listName, countName, hasList, whole, len(items), zeros)
}

// total returns the datapoint of a count: total if the agent sends it, because the list may be a
// sample, else the list's length without the elements that do not count. If total is unreadable, the
// list may or may not be a sample.
func (r *Report) total(n node, listName, countName string, hasList, whole bool, length, without int) {
	total, ok, given := r.count(n, "total", "t")
	if !given {
		total, ok = int64(length-without), hasList
	}
	if ok {
		r.Values[countName] = iotapi.Value{Count: &total}
	}
	switch {
	case !hasList:
	case ok && total > int64(length):
		r.Partial[listName] = iotapi.Partial{Listed: int64(length), Total: total}
	case !whole || !ok:
		r.Partial[listName] = iotapi.Partial{}
	}
}

func (r *Report) traffic(metrics node) {
	stats, ok := r.object(metrics, "network_stats", "ns")
	if !ok {
		return
	}
	for _, m := range []struct {
		long, short string
		metric      defender.Metric
	}{
		{"bytes_in", "bi", defender.AllBytesIn}, {"bytes_out", "bo", defender.AllBytesOut},
		{"packets_in", "pi", defender.AllPacketsIn}, {"packets_out", "po", defender.AllPacketsOut},
	} {
		if delta, ok, _ := r.count(stats, m.long, m.short); ok {
			r.Values[m.metric.Info().Name] = iotapi.Value{Count: &delta}
		}
	}
}

func (r *Report) connections(metrics node) {
	tcp, ok := r.object(metrics, "tcp_connections", "tc")
	if !ok {
		return
	}
	tcp.path = ""
	established, ok := r.object(tcp, "established_connections", "ec")
	if !ok {
		return
	}
	items, hasList := r.list(established, "connections", "cs")
	addresses, seen := make([]string, 0, len(items)), map[string]bool{}
	whole := true
	for _, item := range items {
		fields, _ := item.(map[string]any)
		v, _ := node{fields: fields}.pick("remote_addr", "rad")
		text, _ := v.(string)
		address, err := remoteAddress(text)
		if err != nil {
			r.discard(established.child("connections"))
			whole = false
			continue
		}
		if !seen[address] {
			seen[address], addresses = true, append(addresses, address)
		}
	}
	name := defender.DestinationIPAddresses.Info().Name
	if hasList {
		r.Values[name] = iotapi.Value{CIDRs: addresses}
	}
	r.total(established, name, defender.EstablishedTCPConnections.Info().Name, hasList, whole, len(items), 0)
}

// remoteAddress accepts an address with or without port and, as some agents write it, IPv6 without
// brackets. Its last group counts as port if it can be one and the rest is an address.
func remoteAddress(text string) (string, error) {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().Unmap().WithZone("").String(), nil
	}
	first, second := text, text
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		if _, err := strconv.ParseUint(text[i+1:], 10, 16); err == nil {
			first = text[:i]
		} else {
			second = text[:i] // such as 192.0.2.1:*
		}
	}
	a, err := netip.ParseAddr(strings.Trim(first, "[]"))
	if err != nil {
		a, err = netip.ParseAddr(strings.Trim(second, "[]"))
	}
	if err != nil {
		return "", err
	}
	return a.Unmap().WithZone("").String(), nil
}

// reserved are the prefixes that custom metrics cannot have: AWS's, and those of the engine's own
// metrics of reports.
var reserved = []string{"aws:", "defenderhub:"}

func (r *Report) customs(customs node) {
	for name, v := range customs.fields {
		if strings.HasPrefix(name, reserved[0]) || strings.HasPrefix(name, reserved[1]) {
			r.discard(customs.path)
			continue
		}
		value, discarded := customValue(v)
		for range discarded {
			r.discard(customs.path)
		}
		if value.Kind() == 0 {
			continue
		}
		r.Values[name] = value
		if discarded > 0 {
			r.Partial[name] = iotapi.Partial{}
		}
	}
}

// customValue reads the array with one object that AWS requires, and counts what it cannot read.
// Unreadable elements of a list are left out.
func customValue(v any) (value iotapi.Value, discarded int) {
	list, _ := v.([]any)
	if len(list) != 1 {
		return iotapi.Value{}, 1
	}
	object, _ := list[0].(map[string]any)
	if len(object) != 1 {
		return iotapi.Value{}, 1
	}
	for key, inner := range object {
		items, isList := inner.([]any)
		switch {
		case key == "number":
			if n, ok := asNumber(inner); ok {
				return iotapi.Value{Number: &n}, 0
			}
		case !isList:
		case key == "number_list":
			value.Numbers, discarded = each(items, asNumber)
			return value, discarded
		case key == "string_list":
			value.Strings, discarded = each(items, func(v any) (string, bool) { s, ok := v.(string); return s, ok })
			return value, discarded
		case key == "ip_list":
			value.CIDRs, discarded = each(items, address)
			return value, discarded
		}
	}
	return iotapi.Value{}, 1
}

func address(v any) (string, bool) {
	s, _ := v.(string)
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().WithZone("").String(), true
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked().String(), err == nil
}

// each converts the elements of a list and counts those that it cannot convert; the result is
// never nil.
func each[T any](items []any, convert func(any) (T, bool)) (all []T, discarded int) {
	all = make([]T, 0, len(items))
	for _, item := range items {
		v, ok := convert(item)
		if !ok {
			discarded++
			continue
		}
		all = append(all, v)
	}
	return all, discarded
}
