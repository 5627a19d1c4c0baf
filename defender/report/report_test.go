package report

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
)

func count(n int64) defender.Value    { return defender.Value{Count: &n} }
func number(n float64) defender.Value { return defender.Value{Number: &n} }

func sample(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// asCBOR encodes JSON text as CBOR, integers as integers.
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

func TestLongAndShortSamplesInBothEncodings(t *testing.T) {
	want := map[string]defender.Value{
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
	ids := map[string]int64{"report-long.json": 1530304554, "report-short.json": 1530305228}
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
				if got.ID != ids[name] || got.Discarded != 0 || !reflect.DeepEqual(got.Values, want) {
					t.Errorf("got %+v\nwant id %d, values %+v", got, ids[name], want)
				}
			})
		}
	}
}

const header = `"header": {"report_id": 7, "version": "1.0"}, `

func TestWhatAgentsReallyWrite(t *testing.T) {
	for name, tc := range map[string]struct {
		payload   string
		want      map[string]defender.Value
		discarded int
	}{
		"long and short mixed": {`{"hed": {"report_id": 7, "v": "1.0"}, "metrics": {"tp": {"ports": [{"pt": 22}], "total": 1}}}`,
			map[string]defender.Value{"aws:listening-tcp-ports": {Ports: []uint16{22}}, "aws:num-listening-tcp-ports": count(1)}, 0},
		"total beside a sample": {`{` + header + `"metrics": {"listening_udp_ports": {"ports": [{"port": 53}], "total": 40}}}`,
			map[string]defender.Value{"aws:listening-udp-ports": {Ports: []uint16{53}}, "aws:num-listening-udp-ports": count(40)}, 0},
		"total alone": {`{` + header + `"metrics": {"listening_udp_ports": {"total": 0}}}`,
			map[string]defender.Value{"aws:num-listening-udp-ports": count(0)}, 0},
		"no total": {`{` + header + `"metrics": {"listening_tcp_ports": {"ports": [{"port": 53}, {"port": 80}]}}}`,
			map[string]defender.Value{"aws:listening-tcp-ports": {Ports: []uint16{53, 80}}, "aws:num-listening-tcp-ports": count(2)}, 0},
		"an empty list is a datapoint": {`{` + header + `"metrics": {"listening_tcp_ports": {"ports": []}}}`,
			map[string]defender.Value{"aws:listening-tcp-ports": {Ports: []uint16{}}, "aws:num-listening-tcp-ports": count(0)}, 0},
		"one port on two interfaces": {`{` + header + `"metrics": {"tp": {"pts": [{"pt": 22, "if": "eth0"}, {"pt": 22, "if": "lo"}], "t": 2}}}`,
			map[string]defender.Value{"aws:listening-tcp-ports": {Ports: []uint16{22}}, "aws:num-listening-tcp-ports": count(2)}, 0},
		"negative deltas after a reboot": {`{` + header + `"metrics": {"network_stats": {"bytes_in": -5, "bytes_out": 3, "packets_in": -1}}}`,
			map[string]defender.Value{"aws:all-bytes-out": count(3)}, 2},
		"IPv6 with and without brackets": {`{` + header + `"metrics": {"tc": {"ec": {"cs": [{"rad": "[2001:db8::1]:443"}, {"rad": "2001:db8::2:443"}, {"rad": "::ffff:192.0.2.1:80"}, {"rad": "192.0.2.1:1"}]}}}}`,
			map[string]defender.Value{"aws:destination-ip-addresses": {CIDRs: []string{"2001:db8::1", "2001:db8::2", "192.0.2.1"}}, "aws:num-established-tcp-connections": count(4)}, 0},
		"custom metrics alone": {`{` + header + `"custom_metrics": {"battery": [{"number": -0.5}], "nets": [{"ip_list": ["10.0.0.0/8"]}]}}`,
			map[string]defender.Value{"battery": number(-0.5), "nets": {CIDRs: []string{"10.0.0.0/8"}}}, 0},
		"unknown keys are left alone": {`{` + header + `"metrics": {"future": 1}, "signature": "x"}`, map[string]defender.Value{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode([]byte(tc.payload))
			if err != nil {
				t.Fatal(err)
			}
			if got.Discarded != tc.discarded || !reflect.DeepEqual(got.Values, tc.want) {
				t.Errorf("got %+v, want %+v and %d discarded", got, tc.want, tc.discarded)
			}
		})
	}
}

func TestUnreadableReportsNameTheField(t *testing.T) {
	for name, tc := range map[string]struct{ payload, want string }{
		"empty":                  {"", "empty"},
		"garbage":                {"\xff\x00\x01", "CBOR"},
		"not an object":          {"[1]", "object"},
		"two objects":            {`{} {}`, "nothing behind"},
		"no header":              {`{"metrics": {}}`, "header"},
		"no report id":           {`{"header": {"version": "1.0"}, "metrics": {}}`, "report_id"},
		"report id 0":            {`{"header": {"report_id": 0, "version": "1.0"}, "metrics": {}}`, "report_id"},
		"other version":          {`{"header": {"report_id": 1, "version": "2.0"}, "metrics": {}}`, "version"},
		"neither metrics":        {`{"header": {"report_id": 1, "version": "1.0"}}`, "metrics"},
		"long and short at once": {`{` + header + `"metrics": {}, "met": {}}`, "met too"},
		"port 0":                 {`{` + header + `"metrics": {"tp": {"pts": [{"pt": 0}]}}}`, "ports[0].port"},
		"port as text":           {`{` + header + `"metrics": {"tp": {"pts": [{"pt": "22"}]}}}`, "port"},
		"negative total":         {`{` + header + `"metrics": {"tp": {"t": -1}}}`, "total"},
		"bad address":            {`{` + header + `"metrics": {"tc": {"ec": {"cs": [{"rad": "somewhere:1"}]}}}}`, "remote_addr"},
		"custom not in an array": {`{` + header + `"custom_metrics": {"n": {"number": 1}}}`, "custom_metrics.n"},
		"custom with two values": {`{` + header + `"custom_metrics": {"n": [{"number": 1}, {"number": 2}]}}`, "custom_metrics.n"},
		"custom of wrong kind":   {`{` + header + `"custom_metrics": {"n": [{"number": "1"}]}}`, "number"},
		"custom named aws:":      {`{` + header + `"custom_metrics": {"aws:x": [{"number": 1}]}}`, "aws:"},
		"too large":              {`{"pad": "` + strings.Repeat("x", MaxBytes) + `"}`, "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Decode([]byte(tc.payload)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one that names %q", err, tc.want)
			}
		})
	}
}

func TestJSONAndCBORSayTheSame(t *testing.T) {
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
			t.Fatalf("JSON %+v %v\nCBOR %+v %v", a, errA, b, errB)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, name := range []string{"report-long.json", "report-short.json"} {
		f.Add(sample(f, name))
		f.Add(asCBOR(f, sample(f, name)))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := Decode(payload)
		if err != nil {
			return
		}
		for name, v := range r.Values {
			if v.Kind() == 0 {
				t.Errorf("%s has no value", name)
			}
		}
	})
}

// largest is the report of MaxBytes that takes the longest to read: every element is
// another one.
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
		tb.Fatalf("%d bytes, %v", len(payload), err)
	}
	return payload
}

func TestLargestReportKeepsEveryAddress(t *testing.T) {
	r, err := Decode(largest(t))
	if got := r.Values[defender.DestinationIPAddresses.Info().Name].CIDRs; err != nil || len(got) != 7000 {
		t.Errorf("%d addresses, %v", len(got), err)
	}
}

// A device chooses what it sends: the time must grow with the bytes, not with their square.
func BenchmarkLargestReport(b *testing.B) {
	payload := largest(b)
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		if _, err := Decode(payload); err != nil {
			b.Fatal(err)
		}
	}
}
