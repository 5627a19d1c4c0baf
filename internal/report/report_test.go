package report

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

func count(n int64) iotapi.Value    { return iotapi.Value{Count: &n} }
func number(n float64) iotapi.Value { return iotapi.Value{Number: &n} }

func sample(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// asCBOR encodes JSON text as CBOR. Whole numbers become integers.
func asCBOR(t testing.TB, text []byte) []byte {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	var integers func(any) any
	integers = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for k := range v {
				v[k] = integers(v[k])
			}
		case []any:
			for i := range v {
				v[i] = integers(v[i])
			}
		case float64:
			if v == float64(int64(v)) {
				return int64(v)
			}
		}
		return v
	}
	out, err := cbor.Marshal(integers(v))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDecodeReadsTheSamplesOfAWSInBothEncodings(t *testing.T) {
	want := map[string]iotapi.Value{
		"aws:listening-tcp-ports":             {Ports: []uint16{24800, 22}},
		"aws:num-listening-tcp-ports":         count(2),
		"aws:listening-udp-ports":             {Ports: []uint16{5353}},
		"aws:num-listening-udp-ports":         count(1),
		"aws:destination-ip-addresses":        {CIDRs: []string{"192.168.0.1"}},
		"aws:num-established-tcp-connections": count(1),
		"MyMetricOfType_Number":               number(1),
		"MyMetricOfType_NumberList":           {Numbers: []float64{1, 2, 3}},
		"MyMetricOfType_StringList":           {Strings: []string{"value_1", "value_2"}},
		"MyMetricOfType_IpList":               {CIDRs: []string{"172.0.0.0", "172.0.0.10"}},
	}
	traffic := map[string][4]int64{
		"report-long.json":  {29358693495, 26485035, 10013573555, 11382615},
		"report-short.json": {29359307173, 26490711, 10014614051, 11387620},
	}
	ids := map[string]string{"report-long.json": "1530304554", "report-short.json": "1530305228"}
	for name, numbers := range traffic {
		for encoding, payload := range map[string][]byte{"JSON": sample(t, name), "CBOR": asCBOR(t, sample(t, name))} {
			t.Run(name+" "+encoding, func(t *testing.T) {
				got, err := Decode(payload)
				if err != nil {
					t.Fatal(err)
				}
				for i, m := range []string{"aws:all-bytes-in", "aws:all-bytes-out", "aws:all-packets-in", "aws:all-packets-out"} {
					want[m] = count(numbers[i])
				}
				if got.ID != ids[name] || len(got.Discarded) > 0 || len(got.Partial) > 0 || !reflect.DeepEqual(got.Values, want) {
					t.Errorf("got %+v\nwant ID %s, values %+v", got, ids[name], want)
				}
			})
		}
	}
}

const header = `"header": {"report_id": 7, "version": "1.0"}, `

func TestDecodeReadsReportsOfAgents(t *testing.T) {
	for name, tc := range map[string]struct {
		payload string
		want    map[string]iotapi.Value
		partial map[string]iotapi.Partial
	}{
		"long and short mixed": {`{"hed": {"report_id": 7, "v": "1.0"}, "metrics": {"tp": {"ports": [{"pt": 22}], "total": 1}}}`,
			map[string]iotapi.Value{"aws:listening-tcp-ports": {Ports: []uint16{22}}, "aws:num-listening-tcp-ports": count(1)}, nil},
		"total beside a sample": {`{` + header + `"metrics": {"listening_udp_ports": {"ports": [{"port": 53}], "total": 40}}}`,
			map[string]iotapi.Value{"aws:listening-udp-ports": {Ports: []uint16{53}}, "aws:num-listening-udp-ports": count(40)}, map[string]iotapi.Partial{"aws:listening-udp-ports": {Listed: 1, Total: 40}}},
		"total alone": {`{` + header + `"metrics": {"listening_udp_ports": {"total": 0}}}`,
			map[string]iotapi.Value{"aws:num-listening-udp-ports": count(0)}, nil},
		"no total": {`{` + header + `"metrics": {"listening_tcp_ports": {"ports": [{"port": 53}, {"port": 80}]}}}`,
			map[string]iotapi.Value{"aws:listening-tcp-ports": {Ports: []uint16{53, 80}}, "aws:num-listening-tcp-ports": count(2)}, nil},
		"an empty list is a datapoint": {`{` + header + `"metrics": {"listening_tcp_ports": {"ports": []}}}`,
			map[string]iotapi.Value{"aws:listening-tcp-ports": {Ports: []uint16{}}, "aws:num-listening-tcp-ports": count(0)}, nil},
		"one port on two interfaces": {`{` + header + `"metrics": {"tp": {"pts": [{"pt": 22, "if": "eth0"}, {"pt": 22, "if": "lo"}], "t": 2}}}`,
			map[string]iotapi.Value{"aws:listening-tcp-ports": {Ports: []uint16{22}}, "aws:num-listening-tcp-ports": count(2)}, nil},
		"IPv6 with and without brackets": {`{` + header + `"metrics": {"tc": {"ec": {"cs": [{"rad": "[2001:db8::1]:443"}, {"rad": "2001:db8::2:443"}, {"rad": "::ffff:192.0.2.1:80"}, {"rad": "192.0.2.1:1"}]}}}}`,
			map[string]iotapi.Value{"aws:destination-ip-addresses": {CIDRs: []string{"2001:db8::1", "2001:db8::2", "192.0.2.1"}}, "aws:num-established-tcp-connections": count(4)}, nil},
		"addresses without port, whose rest is an address": {`{` + header + `"metrics": {"tc": {"ec": {"cs": [{"rad": "::ffff:192.0.2.1"}, {"rad": "[::ffff:192.0.2.2]"}, {"rad": "[2001:db8::1:2]"}, {"rad": "2001:db8::1:bad"}, {"rad": "192.0.2.3:*"}]}}}}`,
			map[string]iotapi.Value{"aws:destination-ip-addresses": {CIDRs: []string{"192.0.2.1", "192.0.2.2", "2001:db8::1:2", "2001:db8::1:bad", "192.0.2.3"}}, "aws:num-established-tcp-connections": count(5)}, nil},
		"addresses without port": {`{` + header + `"metrics": {"tc": {"ec": {"cs": [{"rad": "2001:db8::bad"}, {"rad": "[2001:db8::3]"}, {"rad": "2001:db8:1:2:3:4:5:6"}, {"rad": "192.0.2.9"}]}}}}`,
			map[string]iotapi.Value{"aws:destination-ip-addresses": {CIDRs: []string{"2001:db8::bad", "2001:db8::3", "2001:db8:1:2:3:4:5:6", "192.0.2.9"}}, "aws:num-established-tcp-connections": count(4)}, nil},
		"custom metrics alone": {`{` + header + `"custom_metrics": {"battery": [{"number": -0.5}], "nets": [{"ip_list": ["10.0.0.0/8"]}]}}`,
			map[string]iotapi.Value{"battery": number(-0.5), "nets": {CIDRs: []string{"10.0.0.0/8"}}}, nil},
		"zero byte at the end, as in C": {`{` + header + `"metrics": {"tp": {"t": 1}}}` + "\n\x00",
			map[string]iotapi.Value{"aws:num-listening-tcp-ports": count(1)}, nil},
		"byte order mark": {"\uFEFF{" + header + `"metrics": {"tp": {"t": 1}}}`,
			map[string]iotapi.Value{"aws:num-listening-tcp-ports": count(1)}, nil},
		"whole numbers with a decimal point": {`{` + header + `"metrics": {"ns": {"bi": 15.0, "bo": 1.5e3}, "tp": {"pts": [{"pt": 22.0}], "t": 1.0}}}`,
			map[string]iotapi.Value{"aws:all-bytes-in": count(15), "aws:all-bytes-out": count(1500), "aws:listening-tcp-ports": {Ports: []uint16{22}}, "aws:num-listening-tcp-ports": count(1)}, nil},
		"unknown keys are ignored": {`{` + header + `"metrics": {"future": 1}, "signature": "x"}`, map[string]iotapi.Value{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode([]byte(tc.payload))
			if err != nil {
				t.Fatal(err)
			}
			if tc.partial == nil {
				tc.partial = map[string]iotapi.Partial{}
			}
			if len(got.Discarded) > 0 || !reflect.DeepEqual(got.Values, tc.want) || !reflect.DeepEqual(got.Partial, tc.partial) {
				t.Errorf("got %+v, want %+v and %+v", got, tc.want, tc.partial)
			}
		})
	}
}

// oddValues returns reports with a telnet port and one unreadable value each.
func oddValues(t testing.TB) []struct {
	Name, Report string
	Discarded    map[string]int
} {
	var all []struct {
		Name, Report string
		Discarded    map[string]int
	}
	if err := json.Unmarshal(sample(t, "odd-values.json"), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestOnlyTheUnreadableValueIsDiscarded(t *testing.T) {
	for _, tc := range oddValues(t) {
		t.Run(tc.Name, func(t *testing.T) {
			payloads := map[string][]byte{"JSON": []byte(tc.Report)}
			if json.Valid(payloads["JSON"]) && !strings.Contains(tc.Report, "1e400") {
				payloads["CBOR"] = asCBOR(t, payloads["JSON"])
			}
			for encoding, payload := range payloads {
				got, err := Decode(payload)
				if err != nil || !reflect.DeepEqual(got.Discarded, tc.Discarded) || !slices.Contains(got.Values["aws:listening-tcp-ports"].Ports, 23) {
					t.Errorf("%s: got %+v, error %v, want port 23 and discarded %v", encoding, got, err, tc.Discarded)
				}
			}
		})
	}
}

// JSON cannot express some of these values. The two encodings express others differently.
func TestReportsInUnusualEncodings(t *testing.T) {
	fields := func(more string, tail ...byte) []byte {
		// {"met": {"tp": {"pts": [{"pt": 23}]}, "ns": {"bi": ...}}, "hed": {"rid": 7, "v": "1.0"}}
		return append([]byte("\xa2\x63met\xa2\x62tp\xa1\x63pts\x81\xa1\x62pt\x17\x62ns"+more+"\x63hed\xa2\x63rid\x07\x61v\x631.0"), tail...)
	}
	in := `{"header":{"report_id":7,"version":"1.0"},"metrics":{"listening_tcp_ports":{"ports":[{"port":23}]}},"custom_metrics":{`
	for name, tc := range map[string]struct {
		payload   []byte
		discarded map[string]int
	}{
		"NaN in CBOR":                             {fields("\xa1\x62bi\xf9\x7e\x00"), map[string]int{"network_stats.bytes_in": 1}},
		"a time tag without a time":               {fields("\xa1\x62bi\xc0\x07"), map[string]int{"payload": 1}},
		"a bignum":                                {fields("\xa1\x62bi\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00"), map[string]int{"network_stats.bytes_in": 1}},
		"a negative number below 64 bits":         {fields("\xa1\x62bi\x3b\xff\xff\xff\xff\xff\xff\xff\xff"), map[string]int{"network_stats.bytes_in": 1}},
		"a key that is not text":                  {fields("\xa2\x01\x02\x62bo\x03"), map[string]int{}},
		"a key of bytes":                          {fields("\xa2\x41\x01\x02\x62bo\x03"), map[string]int{}},
		"a key of a list":                         {fields("\xa2\x80\x02\x62bo\x03"), map[string]int{"payload": 1}},
		"a key twice":                             {fields("\xa2\x62bo\x02\x62bo\x03"), map[string]int{}},
		"a text that is not UTF-8":                {fields("\xa2\x62\xff\xfe\x61\xff\x62bo\x03"), map[string]int{}},
		"CBOR with its own tag":                   {append([]byte("\xd9\xd9\xf7"), fields("\xa1\x62bo\x03")...), map[string]int{}},
		"a byte after CBOR":                       {fields("\xa1\x62bo\x03", 0x01), map[string]int{"payload": 1}},
		"a zero byte after CBOR":                  {fields("\xa1\x62bo\x03", 0), map[string]int{}},
		"NaN in JSON":                             {[]byte(in + `"a":[{"number":NaN}],"b":[{"number":-Infinity}],"c \" NaN":[{"string_list":["NaN"]}]}}`), map[string]int{"custom_metrics": 2}},
		"an object after JSON":                    {[]byte(in + `}} {"header":{}}`), map[string]int{"payload": 1}},
		"more elements than CBOR libraries allow": {[]byte(in + `"a":[{"number_list":[1` + strings.Repeat(",1", 20000) + `]}]}}`), map[string]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode(tc.payload)
			if err != nil || got.ID != "7" || !slices.Contains(got.Values["aws:listening-tcp-ports"].Ports, 23) || !reflect.DeepEqual(got.Discarded, tc.discarded) {
				t.Errorf("got %+v, error %v, want port 23 and discarded %v", got, err, tc.discarded)
			}
			if s := got.Values[`c " NaN`].Strings; name == "NaN in JSON" && !slices.Equal(s, []string{"NaN"}) {
				t.Errorf("got the strings %q, want NaN unchanged", s)
			}
		})
	}
	got, err := Decode(asCBOR(t, []byte(in+`"a":[{"number_list":[1`+strings.Repeat(",1", 20000)+`]}]}}`)))
	if err != nil || len(got.Values["a"].Numbers) != 20001 {
		t.Errorf("%d numbers in CBOR, error %v, want 20001", len(got.Values["a"].Numbers), err)
	}
}

func TestReportIDKeepsItsDigits(t *testing.T) {
	for text, want := range map[string]string{
		"7": "7", "9007199254740993": "9007199254740993", "18446744073709551615": "18446744073709551615", "1.5e9": "1500000000", "7.0": "7",
		"0": "", "-7": "", "1.5": "", "18446744073709551616": "", "1e300": "", `"7"`: "", "null": "",
	} {
		got, err := Decode([]byte(`{"header":{"version":"1.0","report_id":` + text + `},"metrics":{}}`))
		if err != nil || got.ID != want {
			t.Errorf("report_id %s is read as %q, error %v, want %q", text, got.ID, err, want)
		}
	}
}

func TestPartialLists(t *testing.T) {
	ports := "aws:listening-tcp-ports"
	for name, tc := range map[string]struct {
		tcp  string
		want map[string]iotapi.Partial
	}{
		"complete":                        {`{"pts":[{"pt":22}],"t":1}`, map[string]iotapi.Partial{}},
		"a sample":                        {`{"pts":[{"pt":22}],"t":126}`, map[string]iotapi.Partial{ports: {Listed: 1, Total: 126}}},
		"an empty sample":                 {`{"pts":[],"t":126}`, map[string]iotapi.Partial{ports: {Total: 126}}},
		"a total below the list's length": {`{"pts":[{"pt":22},{"pt":23}],"t":1}`, map[string]iotapi.Partial{}},
		"a total that cannot be read":     {`{"pts":[{"pt":22}],"t":"many"}`, map[string]iotapi.Partial{ports: {}}},
		"an element that cannot be read":  {`{"pts":[{"pt":22},{"pt":"x"}]}`, map[string]iotapi.Partial{ports: {}}},
		"port 0":                          {`{"pts":[{"pt":22},{"pt":0}]}`, map[string]iotapi.Partial{}},
		"no list":                         {`{"t":126}`, map[string]iotapi.Partial{}},
	} {
		got, err := Decode([]byte(`{` + header + `"met":{"tp":` + tc.tcp + `}}`))
		if err != nil || !reflect.DeepEqual(got.Partial, tc.want) {
			t.Errorf("%s: got %+v, error %v, want %+v", name, got.Partial, err, tc.want)
		}
	}
}

func TestPortZeroIsNotCounted(t *testing.T) {
	for tcp, want := range map[string]int64{`{"pts":[{"pt":22},{"pt":0}]}`: 1, `{"pts":[{"pt":22},{"pt":0}],"t":2}`: 2, `{"pts":[{"pt":22},{"pt":"x"}]}`: 2} {
		got, err := Decode([]byte(`{` + header + `"met":{"tp":` + tcp + `}}`))
		if err != nil || !reflect.DeepEqual(got.Values["aws:num-listening-tcp-ports"], count(want)) {
			t.Errorf("%s: got %+v, error %v, want %d", tcp, got.Values, err, want)
		}
	}
}

func TestPayloadsThatAreNoReportAreErrors(t *testing.T) {
	for name, tc := range map[string]struct{ payload, want string }{
		"empty":                          {"", "empty"},
		"white space":                    {" \n", "empty"},
		"garbage":                        {"\xff\x00\x01", "CBOR"},
		"text":                           {"tampered", "CBOR"},
		"not an object":                  {"[1]", "object"},
		"half an object":                 {`{"metrics": {`, "JSON"},
		"neither metrics":                {`{"header": {"report_id": 1, "version": "1.0"}}`, "metrics"},
		"metrics that are not an object": {`{` + header + `"metrics": 1, "custom_metrics": []}`, "metrics"},
		"too large":                      {`{"pad": "` + strings.Repeat("x", MaxBytes) + `"}`, "bytes"},
		"too many nested lists":          {strings.Repeat("\x81", maxNesting+1) + "\x01", "CBOR"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Decode([]byte(tc.payload)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one that names %q", err, tc.want)
			}
		})
	}
}

func TestReportWithoutReadableValues(t *testing.T) {
	for metrics, want := range map[string]bool{
		`"metrics":{}`: false, `"metrics":{"tp":7}`: true, `"metrics":{"tp":7,"up":{"t":1}}`: false, `"custom_metrics":{"a":[{}]}`: true,
	} {
		got, err := Decode([]byte(`{` + header + metrics + `}`))
		if err != nil || got.Unreadable() != want {
			t.Errorf("%s: unreadable %v, error %v, want %v", metrics, got.Unreadable(), err, want)
		}
	}
}

func TestJSONAndCBORAreEquivalent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ports := rapid.SliceOfN(rapid.IntRange(1, 65535), 0, 8).Draw(t, "ports")
		list := []any{}
		for _, p := range ports {
			list = append(list, map[string]any{"pt": p})
		}
		tree := map[string]any{
			"hed":  map[string]any{"rid": rapid.IntRange(1, 1<<40).Draw(t, "id"), "v": "1.0"},
			"met":  map[string]any{"tp": map[string]any{"pts": list}, "ns": map[string]any{"bi": rapid.IntRange(-10, 1<<40).Draw(t, "bytes")}},
			"cmet": map[string]any{"n": []any{map[string]any{"number": rapid.Float64Range(-1e9, 1e9).Draw(t, "number")}}},
		}
		asJSON, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		binary, err := cbor.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		a, errA := Decode(asJSON)
		b, errB := Decode(binary)
		if errA != nil || errB != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("JSON: %+v, error %v\nCBOR: %+v, error %v", a, errA, b, errB)
		}
	})
}

// fields are the fields of discarded values. Each is a value of a metric dimension, so a device must not
// choose it.
var fields = []string{
	"payload", "header", "header.report_id", "header.version", "metrics", "custom_metrics",
	"listening_tcp_ports", "listening_tcp_ports.ports", "listening_tcp_ports.total", "listening_udp_ports", "listening_udp_ports.ports", "listening_udp_ports.total",
	"network_stats", "network_stats.bytes_in", "network_stats.bytes_out", "network_stats.packets_in", "network_stats.packets_out",
	"tcp_connections", "established_connections", "established_connections.connections", "established_connections.total",
}

func FuzzDecode(f *testing.F) {
	for _, odd := range oddValues(f) {
		f.Add([]byte(odd.Report))
	}
	f.Add([]byte(`{"metrics":{"tp":{"pts":[{"pt":NaN}]}}}`))
	for _, name := range []string{"report-long.json", "report-short.json"} {
		f.Add(sample(f, name))
		f.Add(asCBOR(f, sample(f, name)))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := Decode(payload)
		if err != nil {
			if len(r.Values) > 0 || len(r.Discarded) > 0 {
				t.Errorf("%+v is returned with the error %v", r, err)
			}
			return
		}
		for name, v := range r.Values {
			if v.Kind() == 0 {
				t.Errorf("%s has no value", name)
			}
		}
		for name, p := range r.Partial {
			if v := r.Values[name]; v.Kind() == 0 || v.Count != nil || v.Number != nil || p.Sampled() && p.Listed >= p.Total {
				t.Errorf("%s is partial: %+v of %v", name, p, v)
			}
		}
		for field := range r.Discarded {
			if !slices.Contains(fields, field) {
				t.Errorf("the device can choose the field %q of discarded values", field)
			}
		}
		if id, err := strconv.ParseUint(r.ID, 10, 64); r.ID != "" && (err != nil || id == 0) {
			t.Errorf("the report ID %q is not a positive number", r.ID)
		}
	})
}

// largest returns the report that is slowest to decode: it has almost MaxBytes, and all elements differ.
func largest(tb testing.TB) []byte {
	tb.Helper()
	var report struct {
		Header  map[string]any `cbor:"hed"`
		Metrics map[string]any `cbor:"met"`
	}
	report.Header = map[string]any{"rid": 1, "v": "1.0"}
	var connections []map[string]string
	for i := range 7000 {
		connections = append(connections, map[string]string{"rad": fmt.Sprintf("10.%d.%d.1:1", i>>8, i&255)})
	}
	report.Metrics = map[string]any{"tc": map[string]any{"ec": map[string]any{"cs": connections}}}
	payload, err := cbor.Marshal(report)
	if err != nil || len(payload) < MaxBytes*3/4 {
		tb.Fatalf("the report has %d bytes, error %v, want at least %d", len(payload), err, MaxBytes*3/4)
	}
	return payload
}

func TestLargestReportKeepsEveryAddress(t *testing.T) {
	r, err := Decode(largest(t))
	if got := r.Values[defender.DestinationIPAddresses.Info().Name].CIDRs; err != nil || len(got) != 7000 {
		t.Errorf("%d addresses, error %v, want 7000", len(got), err)
	}
}

// A device chooses its payload: the time must be linear in the bytes.
func BenchmarkLargestReport(b *testing.B) {
	payload := largest(b)
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		if _, err := Decode(payload); err != nil {
			b.Fatal(err)
		}
	}
}
