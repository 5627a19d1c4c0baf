// Package emf writes counters in the CloudWatch embedded metric format, a line of JSON
// on the function's log.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
package emf

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/defenderhub/defenderhub/defender"
)

// Metrics counts by source until they are flushed. It is safe for concurrent use.
type Metrics struct {
	dimension, function string
	out                 io.Writer
	now                 func() time.Time

	mu     sync.Mutex
	counts map[string]map[string]int // by source, by metric
}

// New returns metrics of a function, written to out. dimension is what kind of function
// it is, such as [defender.MetricDimensionForwarder].
func New(dimension, function string, out io.Writer, now func() time.Time) *Metrics {
	return &Metrics{dimension: dimension, function: function, out: out, now: now, counts: map[string]map[string]int{}}
}

// Count adds n to a metric of a source.
func (m *Metrics) Count(source, metric string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts[source] == nil {
		m.counts[source] = map[string]int{}
	}
	m.counts[source][metric] += n
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

// Flush writes a line for each source that counted anything, and starts again from 0.
// Each metric stands under the function alone, where CloudWatch adds the sources up,
// and under function and source.
func (m *Metrics) Flush() error {
	m.mu.Lock()
	counts := m.counts
	m.counts = map[string]map[string]int{}
	m.mu.Unlock()
	for _, source := range sortedKeys(counts) {
		line := map[string]any{m.dimension: m.function, defender.MetricDimensionSource: source}
		var definitions []definition
		for _, name := range sortedKeys(counts[source]) {
			line[name] = counts[source][name]
			definitions = append(definitions, definition{name, "Count"})
		}
		line["_aws"] = directive{
			Timestamp: m.now().UnixMilli(),
			CloudWatchMetrics: []metricSet{{
				Namespace: defender.MetricNamespace,
				Dimensions: [][]string{
					{m.dimension},
					{m.dimension, defender.MetricDimensionSource},
				},
				Metrics: definitions,
			}},
		}
		text, err := json.Marshal(line)
		if err != nil {
			return fmt.Errorf("metrics of %s: %w", source, err)
		}
		if _, err := m.out.Write(append(text, '\n')); err != nil {
			return fmt.Errorf("metrics of %s: %w", source, err)
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
