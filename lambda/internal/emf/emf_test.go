package emf_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
)

func TestCountsAreEmbeddedBySource(t *testing.T) {
	var out strings.Builder
	m := emf.New(contract.MetricDimensionForwarder, "forwarder", &out, func() time.Time { return time.UnixMilli(1789441198000) })
	m.Count("detect", "Imported", 2)
	m.Count("detect", "Imported", 1)
	m.Count("audit", "Archived", 1)
	if err := m.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := m.Flush(); err != nil { // nothing is counted twice
		t.Fatal(err)
	}
	want := `{"Archived":1,"Forwarder":"forwarder","Source":"audit","_aws":{"Timestamp":1789441198000,"CloudWatchMetrics":[{"Namespace":"DefenderHub","Dimensions":[["Forwarder"],["Forwarder","Source"]],"Metrics":[{"Name":"Archived","Unit":"Count"}]}]}}
{"Forwarder":"forwarder","Imported":3,"Source":"detect","_aws":{"Timestamp":1789441198000,"CloudWatchMetrics":[{"Namespace":"DefenderHub","Dimensions":[["Forwarder"],["Forwarder","Source"]],"Metrics":[{"Name":"Imported","Unit":"Count"}]}]}}
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space") }

func TestFailureToWriteIsReported(t *testing.T) {
	m := emf.New(contract.MetricDimensionForwarder, "f", full{}, time.Now)
	m.Count("audit", "Archived", 1)
	if err := m.Flush(); err == nil {
		t.Error("no error although the write failed")
	}
}

// A count by one more dimension is part of the sums, too.
func TestCountsByAnotherDimension(t *testing.T) {
	var out strings.Builder
	m := emf.New(contract.MetricDimensionForwarder, "forwarder", &out, func() time.Time { return time.UnixMilli(1) })
	m.CountBy("detect", contract.MetricDimensionSeverity, "HIGH", "Imported", 2)
	m.CountBy("detect", contract.MetricDimensionField, "HIGH", "Imported", 1)
	if err := m.Flush(); err != nil {
		t.Fatal(err)
	}
	line := func(dimension string, n int) string {
		return fmt.Sprintf(`"%s":"HIGH","Forwarder":"forwarder","Imported":%d,"Source":"detect","_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"DefenderHub","Dimensions":[["Forwarder"],["Forwarder","Source"],["Forwarder","%s"]],"Metrics":[{"Name":"Imported","Unit":"Count"}]}]}}`, dimension, n, dimension)
	}
	got := strings.Split(out.String(), "\n")
	if len(got) != 3 || got[0] != "{"+line("Field", 1) || !strings.Contains(got[1], `"Severity":"HIGH"`) || !strings.Contains(got[1], `["Forwarder","Severity"]`) || !strings.Contains(got[1], `"Imported":2`) {
		t.Errorf("got\n%s", out.String())
	}
}
