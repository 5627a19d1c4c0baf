package cloudwatch

import (
	"encoding/json"
	"fmt"
)

// Notification is what an alarm's topics get of a change: a subject and a message in
// JSON. CloudWatch gives the Region by its name in words, and this by its code.
func (c Change) Notification(account, region string) (subject, message string) {
	a := c.Alarm
	trigger := map[string]any{}
	for _, property := range []string{
		"MetricName", "Namespace", "Statistic", "Dimensions", "Metrics", "Period", "EvaluationPeriods", "DatapointsToAlarm",
		"ComparisonOperator", "Threshold", "TreatMissingData",
	} {
		if value, ok := a.properties[property]; ok {
			trigger[property] = value
		}
	}
	encoded, err := json.Marshal(map[string]any{
		"AlarmName": a.Name, "AlarmDescription": a.Description, "AlarmArn": a.ARN, "AWSAccountId": account, "Region": region,
		"NewStateValue": c.To, "OldStateValue": c.From, "NewStateReason": c.Reason,
		"StateChangeTime": c.At.UTC().Format("2006-01-02T15:04:05.000-0700"),
		"AlarmActions":    a.actions[InAlarm], "OKActions": a.actions[OK], "InsufficientDataActions": a.actions[InsufficientData],
		"Trigger": trigger,
	})
	if err != nil {
		panic(err) // properties came as JSON
	}
	return fmt.Sprintf("%s: \"%s\" in %s", c.To, a.Name, region), string(encoded)
}
