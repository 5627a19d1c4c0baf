package defender

import (
	"encoding/json"
	"fmt"

	"github.com/defenderhub/defenderhub/internal/iotapi"
)

type behaviorJSON struct {
	Name            string         `json:"name"`
	Metric          string         `json:"metric"`
	MetricDimension *dimensionJSON `json:"metricDimension,omitempty"`
	Criteria        criteriaJSON   `json:"criteria"`
	SuppressAlerts  bool           `json:"suppressAlerts,omitempty"`
	Severity        string         `json:"severity,omitempty"`
}

type dimensionJSON struct {
	DimensionName string   `json:"dimensionName,omitempty"`
	TopicFilters  []string `json:"topicFilters,omitempty"`
	Operator      string   `json:"operator,omitempty"`
}

type criteriaJSON struct {
	ComparisonOperator           iotapi.Operator `json:"comparisonOperator,omitempty"`
	Value                        *iotapi.Value   `json:"value,omitempty"`
	DurationSeconds              Window          `json:"durationSeconds,omitempty"`
	ConsecutiveDatapointsToAlarm int             `json:"consecutiveDatapointsToAlarm,omitempty"`
	ConsecutiveDatapointsToClear int             `json:"consecutiveDatapointsToClear,omitempty"`
	StatisticalThreshold         *statisticJSON  `json:"statisticalThreshold,omitempty"`
	MLDetectionConfig            *confidenceJSON `json:"mlDetectionConfig,omitempty"`
}

type statisticJSON struct {
	Statistic Statistic `json:"statistic"`
}

type confidenceJSON struct {
	ConfidenceLevel Confidence `json:"confidenceLevel"`
}

// MarshalJSON writes the behavior as the AWS IoT API does, plus severity and the dimension's
// topic filters.
func (b Behavior) MarshalJSON() ([]byte, error) {
	c := b.Criteria
	out := behaviorJSON{
		Name: b.Name, Metric: c.metric.Name, SuppressAlerts: b.SuppressAlerts, Severity: b.Severity.String(),
		Criteria: criteriaJSON{
			ComparisonOperator: c.operator, DurationSeconds: c.window,
			ConsecutiveDatapointsToAlarm: b.DatapointsToAlarm(), ConsecutiveDatapointsToClear: b.DatapointsToClear(),
		},
	}
	if c.value.Kind() != 0 {
		out.Criteria.Value = &c.value
	}
	if c.statistic != "" {
		out.Criteria.StatisticalThreshold = &statisticJSON{c.statistic}
	}
	if c.confidence != "" {
		out.Criteria.MLDetectionConfig = &confidenceJSON{c.confidence}
	}
	if d := b.Dimension; d != nil {
		out.MetricDimension = &dimensionJSON{TopicFilters: d.TopicFilters, Operator: "IN"}
		if d.NotIn {
			out.MetricDimension.Operator = "NOT_IN"
		}
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads the format of MarshalJSON, and the behavior inside an alarm of Device
// Defender Detect.
func (b *Behavior) UnmarshalJSON(data []byte) error {
	var in behaviorJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*b = Behavior{
		Name: in.Name, SuppressAlerts: in.SuppressAlerts,
		ToAlarm: in.Criteria.ConsecutiveDatapointsToAlarm, ToClear: in.Criteria.ConsecutiveDatapointsToClear,
	}
	if in.Severity != "" {
		s, err := ParseSeverity(in.Severity)
		if err != nil {
			return fmt.Errorf("behavior %s: %w", in.Name, err)
		}
		b.Severity = s
	}
	c := Criteria{operator: in.Criteria.ComparisonOperator, window: in.Criteria.DurationSeconds}
	kind := iotapi.NumberValue
	if in.Criteria.Value != nil {
		c.value = *in.Criteria.Value
		kind = c.value.Kind()
	}
	if in.Criteria.StatisticalThreshold != nil {
		c.statistic = in.Criteria.StatisticalThreshold.Statistic
	}
	if in.Criteria.MLDetectionConfig != nil {
		c.confidence = in.Criteria.MLDetectionConfig.ConfidenceLevel
	}
	c.metric = metricInfo(in.Metric, kind)
	b.Criteria = c
	if d := in.MetricDimension; d != nil && len(d.TopicFilters) > 0 {
		b.Dimension = &Dimension{TopicFilters: d.TopicFilters, NotIn: d.Operator == "NOT_IN"}
	}
	return nil
}
