// Package report reads device reports: what an agent on a device publishes about its
// ports, connections, traffic and custom metrics, in the format of AWS IoT Device
// Defender.
// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/detect-device-side-metrics.html
package report

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
)

// Report is what one device report says.
type Report struct {
	// ID is the report's number: positive, unique and rising on one device.
	ID int64
	// Values are the datapoints by metric name, those of custom metrics included. A list
	// that the device reported empty is there, with no element.
	Values map[string]defender.Value
	// Discarded counts deltas that were negative, as after a reboot of the device: no
	// datapoint is made of them.
	Discarded int
}

// MaxBytes is the size of the largest report: an MQTT payload.
// https://docs.aws.amazon.com/general/latest/gr/iot-core.html
const MaxBytes = 128 << 10

// Decode reads a report in JSON, or in CBOR where the first byte cannot begin a JSON
// object. Keys may be long, short, or mixed, as real agents write them. The error says
// which field is wrong and what it should hold.
func Decode(payload []byte) (Report, error) {
	if len(payload) > MaxBytes {
		return Report{}, fmt.Errorf("device report of %d bytes, want at most %d", len(payload), MaxBytes)
	}
	tree, err := decodeTree(payload)
	if err != nil {
		return Report{}, fmt.Errorf("device report: %w", err)
	}
	r := Report{Values: map[string]defender.Value{}}
	var faults []error
	faults = append(faults, r.header(tree))
	metrics, hasMetrics, err := tree.object("metrics", "met")
	faults = append(faults, err)
	customs, hasCustoms, err := tree.object("custom_metrics", "cmet")
	faults = append(faults, err)
	if !hasMetrics && !hasCustoms {
		faults = append(faults, errors.New("metrics: missing, want metrics or custom_metrics"))
	}
	faults = append(faults,
		r.ports(metrics, "listening_tcp_ports", "tp", defender.ListeningTCPPorts.Info().Name, defender.NumListeningTCPPorts.Info().Name),
		r.ports(metrics, "listening_udp_ports", "up", defender.ListeningUDPPorts.Info().Name, defender.NumListeningUDPPorts.Info().Name),
		r.traffic(metrics), r.connections(metrics), r.customs(customs))
	if err := errors.Join(faults...); err != nil {
		return Report{}, fmt.Errorf("device report: %w", err)
	}
	return r, nil
}

func (r *Report) header(tree node) error {
	header, ok, err := tree.object("header", "hed")
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("header: missing, want report_id and version")
	}
	id, ok, err := header.number("report_id", "rid")
	switch {
	case err != nil:
		return err
	case !ok || id < 1 || id != math.Trunc(id) || id > 1<<53:
		return errors.New("header.report_id: want a positive integer")
	}
	r.ID = int64(id)
	version, ok := header.pick("version", "v")
	if !ok || version != "1.0" {
		return errors.New(`header.version: want "1.0"`)
	}
	return nil
}

// ports makes a datapoint of the list, and one of the count: total where the agent
// gives it, because the list may be a sample, else the list's length.
func (r *Report) ports(metrics node, long, short, listName, countName string) error {
	listening, ok, err := metrics.object(long, short)
	if !ok || err != nil {
		return err
	}
	items, hasList, err := listening.list("ports", "pts")
	if err != nil {
		return err
	}
	ports := make([]uint16, 0, len(items))
	seen := map[uint16]bool{} // one port may listen on several interfaces
	for i, item := range items {
		port, ok, err := asNode(item, fmt.Sprintf("%s.ports[%d]", long, i)).number("port", "pt")
		if err != nil {
			return err
		}
		if !ok || port < 1 || port > math.MaxUint16 || port != math.Trunc(port) {
			return fmt.Errorf("%s.ports[%d].port: want 1 to 65535", long, i)
		}
		if p := uint16(port); !seen[p] {
			seen[p], ports = true, append(ports, p)
		}
	}
	if hasList {
		r.Values[listName] = defender.Value{Ports: ports}
	}
	return r.total(listening, countName, hasList, len(items))
}

func (r *Report) total(n node, metric string, hasList bool, length int) error {
	total, ok, err := n.number("total", "t")
	if err != nil {
		return err
	}
	if ok && (total < 0 || total != math.Trunc(total) || total > 1<<53) {
		return fmt.Errorf("%s.total: want an integer from 0 on", n.path)
	}
	if !ok {
		if !hasList {
			return nil
		}
		total = float64(length)
	}
	r.count(metric, total)
	return nil
}

func (r *Report) count(metric string, n float64) {
	v := int64(n)
	r.Values[metric] = defender.Value{Count: &v}
}

func (r *Report) traffic(metrics node) error {
	stats, ok, err := metrics.object("network_stats", "ns")
	if !ok || err != nil {
		return err
	}
	for _, m := range []struct {
		long, short string
		metric      defender.Metric
	}{
		{"bytes_in", "bi", defender.AllBytesIn}, {"bytes_out", "bo", defender.AllBytesOut},
		{"packets_in", "pi", defender.AllPacketsIn}, {"packets_out", "po", defender.AllPacketsOut},
	} {
		delta, ok, err := stats.number(m.long, m.short)
		switch {
		case err != nil:
			return err
		case !ok:
		case delta < 0:
			r.Discarded++
		case delta != math.Trunc(delta) || delta > 1<<53:
			return fmt.Errorf("network_stats.%s: want an integer from 0 on", m.long)
		default:
			r.count(m.metric.Info().Name, delta)
		}
	}
	return nil
}

func (r *Report) connections(metrics node) error {
	tcp, ok, err := metrics.object("tcp_connections", "tc")
	if !ok || err != nil {
		return err
	}
	established, ok, err := tcp.object("established_connections", "ec")
	if !ok || err != nil {
		return err
	}
	items, hasList, err := established.list("connections", "cs")
	if err != nil {
		return err
	}
	addresses := make([]string, 0, len(items))
	seen := map[string]bool{}
	for i, item := range items {
		path := fmt.Sprintf("established_connections.connections[%d]", i)
		remote, ok := asNode(item, path).pick("remote_addr", "rad")
		text, isText := remote.(string)
		if !ok || !isText {
			return fmt.Errorf("%s.remote_addr: want IP:PORT", path)
		}
		address, err := remoteAddress(text)
		if err != nil {
			return fmt.Errorf("%s.remote_addr: %q, want IP:PORT", path, text)
		}
		if !seen[address] {
			seen[address], addresses = true, append(addresses, address)
		}
	}
	if hasList {
		r.Values[defender.DestinationIPAddresses.Info().Name] = defender.Value{CIDRs: addresses}
	}
	return r.total(established, defender.EstablishedTCPConnections.Info().Name, hasList, len(items))
}

// remoteAddress takes IP:PORT and [IP]:PORT, and IPv6 without brackets as some agents
// write it.
func remoteAddress(text string) (string, error) {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().Unmap().WithZone("").String(), nil
	}
	host := text
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		host = text[:i]
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return "", err
	}
	return a.Unmap().WithZone("").String(), nil
}

func (r *Report) customs(customs node) error {
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(customs.fields)) {
		v, err := customValue(customs.fields[name])
		if err != nil {
			faults = append(faults, fmt.Errorf("custom_metrics.%s: %w", name, err))
			continue
		}
		if strings.HasPrefix(name, "aws:") {
			faults = append(faults, fmt.Errorf("custom_metrics.%s: want a name that does not begin with aws:", name))
			continue
		}
		r.Values[name] = v
	}
	return errors.Join(faults...)
}

// customValue reads the array with one object that AWS demands.
func customValue(v any) (defender.Value, error) {
	list, ok := v.([]any)
	if !ok || len(list) != 1 {
		return defender.Value{}, errors.New("want an array with one object")
	}
	object, ok := list[0].(map[string]any)
	if !ok || len(object) != 1 {
		return defender.Value{}, errors.New("want an array with one object of one key")
	}
	for key, value := range object {
		items, isList := value.([]any)
		switch {
		case key == "number":
			if n, ok := value.(float64); ok {
				return defender.Value{Number: &n}, nil
			}
		case !isList:
		case key == "number_list":
			if all, ok := each(items, func(v any) (float64, bool) { n, ok := v.(float64); return n, ok }); ok {
				return defender.Value{Numbers: all}, nil
			}
		case key == "string_list":
			if all, ok := each(items, func(v any) (string, bool) { s, ok := v.(string); return s, ok }); ok {
				return defender.Value{Strings: all}, nil
			}
		case key == "ip_list":
			if all, ok := each(items, address); ok {
				return defender.Value{CIDRs: all}, nil
			}
		}
		return defender.Value{}, fmt.Errorf("%s: want number, number_list, string_list or ip_list with a value of that kind", key)
	}
	panic("unreachable: one key")
}

func address(v any) (string, bool) {
	s, _ := v.(string)
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().WithZone("").String(), true
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked().String(), err == nil
}

// each converts a list; the result is never nil.
func each[T any](items []any, convert func(any) (T, bool)) ([]T, bool) {
	all := make([]T, 0, len(items))
	for _, item := range items {
		v, ok := convert(item)
		if !ok {
			return nil, false
		}
		all = append(all, v)
	}
	return all, true
}
