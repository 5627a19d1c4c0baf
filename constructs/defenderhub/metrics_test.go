package defenderhub_test

import (
	"fmt"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/internal/contract"
)

func TestMetricMethodsReturnTheMetricsOfTheFunctions(t *testing.T) {
	stack := newStack()
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{
		Subscriptions: &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Off}, Detect: selfManaged(defenderhub.SelfManagedProps{}),
	}))
	f, e := hub.Forwarder(), hub.Detect().SelfManaged()
	forwarder := []string{"HubForwarderFunction", "HubForwarderAuditFunction"}
	evaluator, closer := []string{"HubDetectEvaluator"}, []string{"HubDetectCloser"}
	alarm := func(id string, metric awscloudwatch.IMetric) {
		awscloudwatch.NewAlarm(stack, &id, &awscloudwatch.AlarmProps{Metric: metric, Threshold: jsii.Number(1), EvaluationPeriods: jsii.Number(1)})
	}
	cases := map[string]struct {
		metric    func(*awscloudwatch.MetricOptions) awscloudwatch.IMetric
		name      string
		resources []string // functions or rules
	}{
		"Received": {f.MetricReceived, contract.MetricReceived, forwarder}, "Imported": {f.MetricImported, contract.MetricImported, forwarder},
		"Archived": {f.MetricArchived, contract.MetricArchived, forwarder}, "Unchanged": {f.MetricUnchanged, contract.MetricUnchanged, forwarder},
		"Failed": {f.MetricFailed, contract.MetricFailed, forwarder}, "Refused": {f.MetricRefused, contract.MetricRefused, forwarder},
		"Off":            {f.MetricSecurityHubOff, contract.MetricHubOff, forwarder},
		"EngineReceived": {e.MetricReceived, contract.MetricReceived, evaluator}, "EngineFailed": {e.MetricFailed, contract.MetricFailed, evaluator},
		"Transitions": {e.MetricTransitions, contract.MetricTransitions, append(evaluator, closer...)}, "Unsent": {e.MetricUnsent, contract.MetricUnsent, closer},
		"Throttled":       {hub.Rules().MetricThrottledMessages, "RuleMessageThrottled", []string{"HubRulesrejectedreport", "HubRulessecuritydisconnect", "HubRulesrefusedconnection", "HubRulesdeviceevent"}},
		"EngineThrottled": {e.MetricThrottledMessages, "RuleMessageThrottled", []string{"HubDetectRulelifecycle", "HubDetectRuleoversize", "HubDetectRulereports"}},
		"Blind":           {e.MetricBlind, contract.MetricBlind, closer}, "Unfinished": {e.MetricUnfinished, contract.MetricUnfinished, closer},
	}
	for id, c := range cases {
		alarm("Default"+id, c.metric(nil))
		alarm("Tuned"+id, c.metric(&awscloudwatch.MetricOptions{Statistic: jsii.String("Maximum"), Period: awscdk.Duration_Hours(jsii.Number(1))}))
	}
	tp := synth(t, stack)
	for id, c := range cases {
		for prefix, want := range map[string]string{"Default": "Sum 300", "Tuned": "Maximum 3600"} {
			p := tp.named(t, "AWS::CloudWatch::Alarm", prefix+id).Properties
			var seen []any
			if p["MetricName"] != nil {
				seen = append(seen, map[string]any{"Metric": p, "Period": p["Period"], "Stat": p["Statistic"]})
			}
			metrics, _ := p["Metrics"].([]any)
			for _, m := range metrics {
				if stat := path(m, "MetricStat"); stat != nil {
					seen = append(seen, stat)
				}
			}
			if len(seen) != len(c.resources) {
				t.Fatalf("%s%s sums the metrics of %s, want those of %v", prefix, id, text(p), c.resources)
			}
			namespace, kind := contract.MetricNamespace, "AWS::Lambda::Function"
			if c.name == "RuleMessageThrottled" {
				namespace, kind = "AWS/IoT", "AWS::IoT::TopicRule"
			}
			for _, stat := range seen {
				metric := path(stat, "Metric")
				if got := fmt.Sprint(path(stat, "Stat"), " ", path(stat, "Period")); got != want || path(metric, "MetricName") != c.name || path(metric, "Namespace") != namespace {
					t.Errorf("%s%s: %s, want %s of %s", prefix, id, text(stat), want, c.name)
				}
			}
			for _, resource := range c.resources {
				if !containsText(seen, tp.idOf(t, kind, resource)) {
					t.Errorf("%s%s does not count %s: %s", prefix, id, resource, text(seen))
				}
			}
		}
	}
}
