package cloudwatch

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Queries answers DescribeAlarms, for alarms by name, and GetMetricData, for sums, in the protocol
// of AWS's newer SDKs (Smithy RPC v2 CBOR), which the emulator does not speak.
type Queries struct {
	Alarms    func() []Alarm
	Evaluator *Evaluator
	Store     *Store
	Next      http.Handler
}

const granite = "/service/GraniteServiceVersion20100801/operation/"

// ServeHTTP implements http.Handler.
func (q Queries) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	operation, ok := strings.CutPrefix(r.URL.Path, granite)
	answer := map[string]func([]byte) (any, error){"DescribeAlarms": q.describe, "GetMetricData": q.data}[operation]
	if !ok || answer == nil {
		q.Next.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	var out any
	if err == nil {
		out, err = answer(body)
	}
	var text []byte
	if err == nil {
		text, err = cbor.Marshal(out)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/cbor")
	w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	w.Write(text)
}

func (q Queries) describe(body []byte) (any, error) {
	var in struct{ AlarmNames []string }
	if err := cbor.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	alarms := []any{}
	for _, a := range q.Alarms() {
		if !slices.Contains(in.AlarmNames, a.Name) {
			continue
		}
		state, reason := q.Evaluator.State(a)
		alarms = append(alarms, map[string]any{"AlarmName": a.Name, "AlarmArn": a.ARN, "StateValue": string(state), "StateReason": reason})
	}
	return map[string]any{"MetricAlarms": alarms}, nil
}

// State is the present state of an alarm, and why it is that.
func (e *Evaluator) State(a Alarm) (state State, reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if state, known := e.states[a.ARN]; known {
		return state, e.reasons[a.ARN]
	}
	return InsufficientData, "Unchecked: Initial alarm creation"
}

func (q Queries) data(body []byte) (any, error) {
	var in struct {
		StartTime, EndTime time.Time
		MetricDataQueries  []struct {
			Id         string //nolint:staticcheck // AWS's name
			MetricStat struct {
				Period int
				Metric struct {
					Namespace, MetricName string
					Dimensions            []struct{ Name, Value string }
				}
			}
		}
	}
	if err := cbor.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	results := []any{}
	for _, query := range in.MetricDataQueries {
		dimensions := map[string]string{}
		for _, d := range query.MetricStat.Metric.Dimensions {
			dimensions[d.Name] = d.Value
		}
		metric := NewMetric(query.MetricStat.Metric.Namespace, query.MetricStat.Metric.MetricName, dimensions)
		times, values := []cbor.Tag{}, []float64{}
		period := max(time.Minute, time.Duration(query.MetricStat.Period)*time.Second)
		for from := in.StartTime.Truncate(period); from.Before(in.EndTime); from = from.Add(period) {
			if s := q.Store.Statistics(metric, from, from.Add(period)); s.Count > 0 {
				times, values = append(times, cbor.Tag{Number: 1, Content: from.Unix()}), append(values, s.Sum)
			}
		}
		results = append(results, map[string]any{"Id": query.Id, "StatusCode": "Complete", "Timestamps": times, "Values": values})
	}
	return map[string]any{"MetricDataResults": results}, nil
}
