// Package emf writes counters in the CloudWatch embedded metric format, as lines of JSON in the
// function's log.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
package emf

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// Metrics counts by source until Flush. It is safe for concurrent use.
type Metrics struct {
	dimension, function string
	out                 io.Writer
	now                 func() time.Time

	mu     sync.Mutex
	counts map[set]map[string]int // by metric
}

// set is the dimensions that counts share: a source, and perhaps one more with its value.
type set struct{ source, dimension, value string }

func (s set) compare(o set) int {
	return cmp.Or(cmp.Compare(s.source, o.source), cmp.Compare(s.dimension, o.dimension), cmp.Compare(s.value, o.value))
}

// New returns the metrics of a function, written to out. dimension is the kind of function, such as
// [contract.MetricDimensionForwarder].
func New(dimension, function string, out io.Writer, now func() time.Time) *Metrics {
	return &Metrics{dimension: dimension, function: function, out: out, now: now, counts: map[set]map[string]int{}}
}

// Count adds n to a metric of a source.
func (m *Metrics) Count(source, metric string, n int) { m.CountBy(source, "", "", metric, n) }

// CountBy adds n to a metric of a source, and also counts it by one more dimension. Use few
// different values: CloudWatch charges each as a metric.
func (m *Metrics) CountBy(source, dimension, value, metric string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := set{source, dimension, value}
	if m.counts[s] == nil {
		m.counts[s] = map[string]int{}
	}
	m.counts[s][metric] += n
}

type directive struct {
	Timestamp         int64
	CloudWatchMetrics []metricSet
}

type metricSet struct {
	Namespace  string
	Dimensions [][]string
	Metrics    []definition
}

type definition struct{ Name, Unit string }

// Flush writes a line for each set of dimensions that counted anything, and resets the counters.
// Each metric is written by function, which is the sum of all sources, by function and source,
// and by function and the dimension of CountBy.
func (m *Metrics) Flush() error {
	m.mu.Lock()
	counts := m.counts
	m.counts = map[set]map[string]int{}
	m.mu.Unlock()
	for _, s := range slices.SortedFunc(maps.Keys(counts), set.compare) {
		line := map[string]any{m.dimension: m.function, contract.MetricDimensionSource: s.source}
		dimensions := [][]string{{m.dimension}, {m.dimension, contract.MetricDimensionSource}}
		if s.dimension != "" {
			line[s.dimension] = s.value
			dimensions = append(dimensions, []string{m.dimension, s.dimension})
		}
		var definitions []definition
		for _, name := range slices.Sorted(maps.Keys(counts[s])) {
			line[name] = counts[s][name]
			definitions = append(definitions, definition{name, "Count"})
		}
		line["_aws"] = directive{
			Timestamp: m.now().UnixMilli(),
			CloudWatchMetrics: []metricSet{{
				Namespace: contract.MetricNamespace, Dimensions: dimensions, Metrics: definitions,
			}},
		}
		text, err := json.Marshal(line)
		if err != nil {
			return fmt.Errorf("metrics of %s: %w", s.source, err)
		}
		if _, err := m.out.Write(append(text, '\n')); err != nil {
			return fmt.Errorf("metrics of %s: %w", s.source, err)
		}
	}
	return nil
}
