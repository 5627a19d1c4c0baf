package cloudwatch

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// values are the values of metrics in one period, by ID, without missing ones.
type values map[string]float64

// expression computes a value. It returns false if the value is missing.
type expression func(values) (float64, bool)

func metricOf(id string) expression {
	return func(v values) (float64, bool) {
		x, ok := v[id]
		return x, ok
	}
}

var term = regexp.MustCompile(`^(?:FILL\((\w+), *(-?[0-9.]+)\)|(MAX\(METRICS\(\)\))|([a-z]\w*))$`)

// parseExpression compiles an expression over the metrics with these IDs. It supports metrics,
// FILL(metric, number), MAX(METRICS()), and sums of these. A sum is missing if one of its terms
// is.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
func parseExpression(text string, ids []string) (expression, error) {
	var terms []expression
	for part := range strings.SplitSeq(text, "+") {
		m := term.FindStringSubmatch(strings.TrimSpace(part))
		if m == nil {
			return nil, fmt.Errorf("expression %q: the local AWS does not support %q, only sums of metrics, FILL(metric, number) and MAX(METRICS())", text, strings.TrimSpace(part))
		}
		id := m[1] + m[4]
		if id != "" && !slices.Contains(ids, id) {
			return nil, fmt.Errorf("expression %q: %s is not the ID of a metric of the alarm", text, id)
		}
		t := metricOf(id)
		switch {
		case m[2] != "":
			filler, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				return nil, fmt.Errorf("expression %q: %w", text, err)
			}
			t = func(v values) (float64, bool) {
				if x, ok := v[id]; ok {
					return x, true
				}
				return filler, true
			}
		case m[3] != "":
			t = func(v values) (most float64, there bool) {
				for _, id := range ids {
					if x, ok := v[id]; ok && (!there || x > most) {
						most, there = x, true
					}
				}
				return most, there
			}
		}
		terms = append(terms, t)
	}
	return func(v values) (sum float64, there bool) {
		for _, t := range terms {
			x, ok := t(v)
			if !ok {
				return 0, false
			}
			sum += x
		}
		return sum, true
	}, nil
}
