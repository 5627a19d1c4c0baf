package cloudwatch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// Tail reads log files from where it last stopped. Its zero value starts at the beginning.
type Tail struct{ read map[string]int64 }

// Lines returns the complete lines that were added to a file since the last call. A file that does
// not exist has none.
func (t *Tail) Lines(path string) ([][]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(t.read[path], io.SeekStart); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	if t.read == nil {
		t.read = map[string]int64{}
	}
	t.read[path] += int64(len(text))
	if len(text) == 0 {
		return nil, nil
	}
	return bytes.Split(text[:len(text)-1], []byte("\n")), nil
}

// Datum has values of a metric at a time of the machine's clock.
type Datum struct {
	Metric Metric
	At     time.Time
	Values []float64
}

// ParseEMF returns the metrics of a log line in the embedded metric format. Any other line has none.
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
