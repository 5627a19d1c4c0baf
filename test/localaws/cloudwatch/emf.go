package cloudwatch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Datum is values of a metric that were written at a time of the machine's clock.
type Datum struct {
	Metric Metric
	At     time.Time
	Values []float64
}

// ParseEMF reads the metrics of a line in the embedded metric format: none for a line
// that is something else.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
func ParseEMF(line []byte) ([]Datum, error) {
	if !bytes.Contains(line, []byte(`"_aws"`)) {
		return nil, nil
	}
	var root map[string]json.RawMessage
	if json.Unmarshal(line, &root) != nil || root["_aws"] == nil {
		return nil, nil
	}
	var directive struct {
		Timestamp         *int64
		CloudWatchMetrics []struct {
			Namespace  string
			Dimensions [][]string
			Metrics    []struct{ Name string }
		}
	}
	if err := json.Unmarshal(root["_aws"], &directive); err != nil {
		return nil, fmt.Errorf("embedded metrics: %w", err)
	}
	if directive.Timestamp == nil {
		return nil, errors.New("embedded metrics: Timestamp is missing")
	}
	var data []Datum
	for _, set := range directive.CloudWatchMetrics {
		for _, definition := range set.Metrics {
			values, err := numbers(root[definition.Name])
			if err != nil {
				return nil, fmt.Errorf("embedded metric %s: %w", definition.Name, err)
			}
			for _, names := range set.Dimensions {
				dimensions := map[string]string{}
				for _, name := range names {
					var value string
					if err := json.Unmarshal(root[name], &value); err != nil {
						return nil, fmt.Errorf("embedded metric %s: dimension %s: want a text: %w", definition.Name, name, err)
					}
					dimensions[name] = value
				}
				data = append(data, Datum{NewMetric(set.Namespace, definition.Name, dimensions), time.UnixMilli(*directive.Timestamp), values})
			}
		}
	}
	return data, nil
}

// numbers reads a number or a list of numbers.
func numbers(text json.RawMessage) ([]float64, error) {
	var one float64
	if json.Unmarshal(text, &one) == nil {
		return []float64{one}, nil
	}
	var many []float64
	if err := json.Unmarshal(text, &many); err != nil {
		return nil, fmt.Errorf("want a number or a list of numbers: %w", err)
	}
	return many, nil
}
