package cloudwatch

import (
	"cmp"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/defenderhub/defenderhub/test/localaws/edge"
)

// API serves DescribeAlarms by name and GetMetricData for sums, in the protocol of AWS's newer SDKs
// (Smithy RPC v2 CBOR), which the emulator does not have. It refuses to change alarms, their
// states and metrics. All other operations go to Next, the emulator.
type API struct {
	Alarms    func() []Alarm
	Evaluator *Evaluator
	Store     *Store
	Next      http.Handler
}

// changing are the operations that would change alarms, their states or metrics.
var changing = []string{"PutMetricData", "PutMetricAlarm", "PutCompositeAlarm", "DeleteAlarms", "SetAlarmState", "EnableAlarmActions", "DisableAlarmActions"}

// ServeHTTP implements http.Handler.
func (a API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := edge.Body(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	name := operation(r, body)
	serve := map[string]func([]byte) (any, error){"DescribeAlarms": a.describe, "GetMetricData": a.data}[name]
	switch {
	case slices.Contains(changing, name):
		edge.Refuse(w, r, name+": alarms come only from CloudFormation stacks, their states from metrics, and metrics from queues and from what functions log in the embedded metric format")
		return
	case serve == nil, !strings.HasPrefix(r.URL.Path, "/service/"):
		a.Next.ServeHTTP(w, r)
		return
	}
	out, err := serve(body)
	if err == nil {
		body, err = cbor.Marshal(out)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/cbor")
	w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	w.Write(body)
}

// operation returns the operation of a request in any of CloudWatch's protocols.
func operation(r *http.Request, body []byte) string {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		return target[strings.LastIndex(target, ".")+1:]
	}
	if strings.HasPrefix(r.URL.Path, "/service/") {
		return path.Base(r.URL.Path)
	}
	form, _ := url.ParseQuery(string(body))
	return cmp.Or(form.Get("Action"), r.URL.Query().Get("Action"))
}

func (a API) describe(body []byte) (any, error) {
	var in struct{ AlarmNames []string }
	if err := cbor.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	alarms := []any{}
	for _, alarm := range a.Alarms() {
		if !slices.Contains(in.AlarmNames, alarm.Name) {
			continue
		}
		state, reason := a.Evaluator.State(alarm)
		alarms = append(alarms, map[string]any{"AlarmName": alarm.Name, "AlarmArn": alarm.ARN, "StateValue": string(state), "StateReason": reason})
	}
	return map[string]any{"MetricAlarms": alarms}, nil
}

// State returns the present state of an alarm, and the reason for it.
func (e *Evaluator) State(a Alarm) (state State, reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if state, known := e.states[a.ARN]; known {
		return state, e.reasons[a.ARN]
	}
	return InsufficientData, "Unchecked: Initial alarm creation"
}

func (a API) data(body []byte) (any, error) {
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
			if s := a.Store.Statistics(metric, from, from.Add(period)); s.Count > 0 {
				times, values = append(times, cbor.Tag{Number: 1, Content: from.Unix()}), append(values, s.Sum)
			}
		}
		results = append(results, map[string]any{"Id": query.Id, "StatusCode": "Complete", "Timestamps": times, "Values": values})
	}
	return map[string]any{"MetricDataResults": results}, nil
}
