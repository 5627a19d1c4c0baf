package offline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// behaviorFields are the fields of a behavior in a file: those of the AWS IoT API, and Severity and
// TopicFilters of [defender.Behavior].
// https://docs.aws.amazon.com/iot/latest/apireference/API_Behavior.html
type behaviorFields struct {
	Name, Metric, SuppressAlerts, ExportMetric, Severity any
	MetricDimension                                      *struct {
		DimensionName any
		Operator      string
		TopicFilters  []any
	}
	Criteria struct {
		ComparisonOperator, DurationSeconds                        any
		ConsecutiveDatapointsToAlarm, ConsecutiveDatapointsToClear any
		Value                                                      struct{ Count, CIDRs, Ports, Number, Numbers, Strings any }
		StatisticalThreshold                                       struct{ Statistic any }
		MLDetectionConfig                                          struct{ ConfidenceLevel any }
	}
}

// CheckFields returns an error for the first field of a behavior that does not exist, and for a
// dimension that does not say which topics it has. A user may have misspelled it, and the behavior
// would be judged without it. behaviors are JSON objects.
// [defender.Behavior] itself ignores such fields, because AWS may add some.
func CheckFields(behaviors []json.RawMessage) error {
	for i, b := range behaviors {
		strict := json.NewDecoder(bytes.NewReader(b))
		strict.DisallowUnknownFields()
		var fields behaviorFields
		if err := strict.Decode(&fields); err != nil {
			return fmt.Errorf("behaviors[%d]: %s", i, strings.TrimPrefix(err.Error(), "json: "))
		}
		switch d := fields.MetricDimension; {
		case d == nil:
		case len(d.TopicFilters) == 0:
			return fmt.Errorf("behaviors[%d].metricDimension: topicFilters are missing: add stringValues of aws iot describe-dimension", i)
		case d.Operator != "" && d.Operator != "IN" && d.Operator != "NOT_IN":
			return fmt.Errorf("behaviors[%d].metricDimension.operator is %q, want IN or NOT_IN", i, d.Operator)
		}
	}
	return nil
}
