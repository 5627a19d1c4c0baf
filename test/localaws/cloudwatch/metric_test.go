package cloudwatch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLevelsAreMeasuredEachMinute(t *testing.T) {
	var s Store
	m := QueueMetric(MessagesVisible, "q")
	begin := noon.Add(20 * time.Second)
	s.Hold(m, begin, begin.Add(4*time.Minute), 40, 0.5)
	for name, tc := range map[string]struct {
		from, to time.Time
		want     Statistics
	}{
		"all":            {noon, noon.Add(time.Hour), Statistics{4, 4*60 + 30*(0+1+2+3), 60, 150}}, // 12:01 to 12:04
		"part":           {noon.Add(2 * time.Minute), noon.Add(4 * time.Minute), Statistics{2, 90 + 120, 90, 120}},
		"between two":    {noon.Add(61 * time.Second), noon.Add(119 * time.Second), Statistics{}},
		"before":         {noon, noon.Add(time.Minute), Statistics{}},
		"after":          {noon.Add(5 * time.Minute), noon.Add(time.Hour), Statistics{}},
		"up to a minute": {noon, noon.Add(2 * time.Minute), Statistics{1, 60, 60, 60}},
	} {
		if got := s.Statistics(m, tc.from, tc.to); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
	if got := s.Statistics(QueueMetric(MessagesVisible, "other"), noon, noon.Add(time.Hour)); got.Count != 0 {
		t.Errorf("another queue has %+v", got)
	}
}

func TestOldValuesAreDeleted(t *testing.T) {
	var s Store
	m := NewMetric("n", "m", nil)
	for _, at := range []time.Time{noon, noon.Add(retention)} {
		s.Put(m, at, 1)
		s.Hold(m, at, at.Add(time.Minute), 1, 0)
	}
	s.forget(noon.Add(retention + time.Hour))
	if len(s.points[m]) != 1 || len(s.levels[m]) != 1 {
		t.Errorf("kept the points %v and the levels %v, want one of each", s.points, s.levels)
	}
}

func TestEmbeddedMetricsAreRead(t *testing.T) {
	data, err := ParseEMF([]byte(`{"_aws": {"Timestamp": 1767225600123, "CloudWatchMetrics": [{"Namespace": "DefenderHub", "Dimensions": [["Forwarder"], ["Forwarder", "Source"]],
		"Metrics": [{"Name": "Failed", "Unit": "Count"}, {"Name": "Latency"}]}]}, "Forwarder": "f", "Source": "audit", "Failed": 2, "Latency": [1, 2.5]}`))
	if err != nil || len(data) != 4 {
		t.Fatalf("data %v, error %v", data, err)
	}
	if d := data[0]; d.Metric != NewMetric("DefenderHub", "Failed", map[string]string{"Forwarder": "f"}) || d.At.UnixMilli() != 1767225600123 || len(d.Values) != 1 || d.Values[0] != 2 {
		t.Errorf("first datum %+v, want Failed = 2", d)
	}
	if d := data[3]; d.Metric != NewMetric("DefenderHub", "Latency", map[string]string{"Source": "audit", "Forwarder": "f"}) || len(d.Values) != 2 || d.Values[1] != 2.5 {
		t.Errorf("last datum %+v, want Latency = 1, 2.5", d)
	}
}

func TestLinesWithoutMetrics(t *testing.T) {
	for _, line := range []string{"", "START RequestId", `{"msg": "the _aws of it"}`, `{"msg": "\"_aws\""}`, `"_aws"`, `{"_aws": 1`} {
		if data, err := ParseEMF([]byte(line)); err != nil || data != nil {
			t.Errorf("%s: got %v, error %v, want neither", line, data, err)
		}
	}
	for line, want := range map[string]string{
		`{"_aws": 1}`:                         "embedded metrics",
		`{"_aws": {"CloudWatchMetrics": []}}`: "Timestamp",
		`{"_aws": {"Timestamp": 1, "CloudWatchMetrics": [{"Namespace": "n", "Dimensions": [[]], "Metrics": [{"Name": "m"}]}]}}`:                    "want a number",
		`{"m": "x", "_aws": {"Timestamp": 1, "CloudWatchMetrics": [{"Namespace": "n", "Dimensions": [[]], "Metrics": [{"Name": "m"}]}]}}`:          "want a number",
		`{"m": 1, "d": 2, "_aws": {"Timestamp": 1, "CloudWatchMetrics": [{"Namespace": "n", "Dimensions": [["d"]], "Metrics": [{"Name": "m"}]}]}}`: "dimension d",
	} {
		if _, err := ParseEMF([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func FuzzParseEMF(f *testing.F) {
	f.Add([]byte(`{"m": [1], "_aws": {"Timestamp": 1, "CloudWatchMetrics": [{"Namespace": "n", "Dimensions": [[]], "Metrics": [{"Name": "m"}]}]}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if data, err := ParseEMF(line); err != nil && data != nil {
			t.Errorf("data together with an error: %v", data)
		}
	})
}

func TestTailReadsEachCompleteLineOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.log")
	var tail Tail
	for _, step := range []struct{ added, want string }{{"", ""}, {"a\nb", "a"}, {"c\n\nd\n", "bc,,d"}, {"", ""}, {"e\n", "e"}} {
		if step.added != "" {
			f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			f.WriteString(step.added)
			f.Close()
		}
		lines, err := tail.Lines(path)
		var got []string
		for _, l := range lines {
			got = append(got, string(l))
		}
		if err != nil || strings.Join(got, ",") != step.want {
			t.Errorf("after %q: %q, error %v; want %q", step.added, got, err, step.want)
		}
	}
}
