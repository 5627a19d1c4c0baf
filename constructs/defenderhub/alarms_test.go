package defenderhub_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// comparison returns the condition of an alarm with the properties p.
func comparison(p map[string]any) string {
	operator := map[any]string{"GreaterThanThreshold": ">", "LessThanThreshold": "<"}[p["ComparisonOperator"]]
	return fmt.Sprintf("%s %v for %v, %v", operator, p["Threshold"], p["EvaluationPeriods"], p["TreatMissingData"])
}

func TestAlarmsOfTheSelfManagedEngineFollowTheirProps(t *testing.T) {
	stack := newStack()
	topic := awssns.NewTopic(stack, jsii.String("Oncall"), nil)
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{Detect: selfManaged(defenderhub.SelfManagedProps{
		Transport: defenderhub.TransportKinesis, Closers: 4,
		AlarmTopic: topic, Alarms: &defenderhub.SelfManagedAlarmsProps{
			DeadLetters: defenderhub.Alarm{Off: true}, OldestMessage: defenderhub.Alarm{Above: 3600, Periods: 2},
			Blind: defenderhub.Alarm{Above: 10, Periods: 6}, CloserStopped: defenderhub.InactivityAlarm{Periods: 12},
		},
	})}))
	tuned := hub.Detect().SelfManaged().Alarms()
	if len(tuned) != 14 {
		t.Errorf("%d alarms, want 10 and one for each closer", len(tuned))
	}
	tp := synth(t, stack)
	for name, want := range map[string]struct {
		comparison string
		watches    []string
	}{
		"OldestMessage":     {"> 3600 for 2, notBreaching", []string{"HubDetectStream", "HubDetectErrorQueue", "GetRecords.IteratorAgeMilliseconds", "/ 1000"}},
		"Failures":          {"> 0 for 3, notBreaching", []string{"DefenderHub", `"Evaluator"`, "HubDetectEvaluator", `"Failed"`}},
		"Throttles":         {"> 0 for 3, notBreaching", []string{"HubDetectEvaluator", `"Throttles"`}},
		"Errors":            {"> 0 for 3, notBreaching", []string{"HubDetectEvaluator", "HubDetectCloser", `"Errors"`}},
		"Unsent":            {"> 0 for 3, notBreaching", []string{"HubDetectCloser", `"Unsent"`}},
		"CloserStopped0":    {"< 1 for 12, breaching", []string{"HubDetectCloser", `"Runs"`, `"` + contract.CloserSource(0) + `"`}},
		"CloserStopped3":    {"< 1 for 12, breaching", []string{"HubDetectCloser", `"Runs"`, `"` + contract.CloserSource(3) + `"`}},
		"Blind":             {"> 10 for 6, notBreaching", []string{"HubDetectCloser", `"Blind"`}},
		"Unfinished":        {"> 0 for 3, notBreaching", []string{"HubDetectCloser", `"Unfinished"`}},
		"OversizedStates":   {"> 0 for 1, notBreaching", []string{"HubDetectEvaluator", `"OversizedStates"`}},
		"Unreadable":        {"> 0 for 1, notBreaching", []string{"HubDetectEvaluator", `"Unreadable"`}},
		"ThrottledMessages": {"> 0 for 1, notBreaching", []string{"HubDetectRuleoversize", "HubDetectRulelifecycle", "HubDetectRulereports", `"AWS/IoT"`, `"RuleMessageThrottled"`, `"RuleName"`}},
	} {
		p := tp.named(t, "AWS::CloudWatch::Alarm", "HubDetect"+name+"Alarm").Properties
		if got := comparison(p); got != want.comparison {
			t.Errorf("%s: condition %s, want %s", name, got, want.comparison)
		}
		if !strings.Contains(text(p["AlarmActions"]), "Oncall") || !strings.Contains(text(p["OKActions"]), "Oncall") {
			t.Errorf("%s does not notify the topic: %s", name, text(p))
		}
		for _, part := range want.watches {
			if !strings.Contains(text(p), part) {
				t.Errorf("%s does not watch %s: %s", name, part, text(p))
			}
		}
	}
	defaults := selfManagedTemplate(t, defenderhub.SelfManagedProps{})
	queue := text(defaults.named(t, "AWS::CloudWatch::Alarm", "HubDetectOldestMessageAlarm").Properties)
	if !strings.Contains(queue, "HubDetectTelemetry") || !strings.Contains(queue, "HubDetectErrorQueue") {
		t.Errorf("the alarm does not watch both queues: %s", queue)
	}
	closer := defaults.named(t, "AWS::CloudWatch::Alarm", "HubDetectCloserStoppedAlarm").Properties
	if got := comparison(closer); got != "< 1 for 3, breaching" || closer["MetricName"] != "Invocations" {
		t.Errorf("without props the closer's alarm has the condition %s and the metric %v", got, closer["MetricName"])
	}
}

func TestEachAlarmOfTheSelfManagedEngineCanBeOff(t *testing.T) {
	off := defenderhub.Alarm{Off: true}
	tp := selfManagedTemplate(t, defenderhub.SelfManagedProps{Alarms: &defenderhub.SelfManagedAlarmsProps{
		DeadLetters: off, OldestMessage: off, Failures: off, Throttles: off, Errors: off, Unsent: off,
		CloserStopped: defenderhub.InactivityAlarm{Off: true}, Blind: off, Unfinished: off, OversizedStates: off, Unreadable: off, ThrottledMessages: off,
	}})
	for _, id := range tp.ids("AWS::CloudWatch::Alarm") {
		if strings.HasPrefix(id, "HubDetect") {
			t.Errorf("%s is deployed although it is off", id)
		}
	}
}

// An alarm can watch ten metrics, and the engine has a rule for each topic filter of a dimension.
func TestMoreThanTenRulesHaveSeveralAlarms(t *testing.T) {
	detect := selfManaged(defenderhub.SelfManagedProps{})
	for i := range 12 {
		detect.Behaviors = append(detect.Behaviors, defender.Behavior{
			Name: fmt.Sprintf("plant-%d", i), Criteria: defender.MessagesSent.LessThan(9, defender.Window5m),
			Dimension: &defender.Dimension{TopicFilters: []string{fmt.Sprintf("plant/%d", i)}},
		})
	}
	tp := hubTemplate(t, &defenderhub.DefenderHubProps{Detect: detect})
	var watched []string
	for _, alarm := range []string{"HubDetectThrottledMessagesAlarm", "HubDetectThrottledMessages2Alarm"} {
		metrics, _ := tp.named(t, "AWS::CloudWatch::Alarm", alarm).Properties["Metrics"].([]any)
		if len(metrics) > 11 {
			t.Errorf("%s watches %d metrics, want at most 10 and the sum", alarm, len(metrics)-1)
		}
		watched = append(watched, text(metrics))
	}
	rules := 0
	for _, id := range tp.ids("AWS::IoT::TopicRule") {
		if strings.HasPrefix(id, "HubDetect") {
			rules++
			if strings.Count(strings.Join(watched, ""), `{"Ref":"`+id+`"}`) != 1 {
				t.Errorf("not exactly one alarm watches %s", id)
			}
		}
	}
	if rules < 12 {
		t.Errorf("%d rules, want more than 12", rules)
	}
}

// templateOfAllAlarms has every part that has alarms.
func templateOfAllAlarms(t *testing.T) template {
	t.Helper()
	return hubTemplate(t, &defenderhub.DefenderHubProps{
		Detect: selfManaged(defenderhub.SelfManagedProps{}), Correlate: &defenderhub.CorrelateProps{Prebuilt: prebuilt}, Notify: &defenderhub.NotifyProps{Prebuilt: prebuilt},
	})
}

var alarmRow = regexp.MustCompile(`(?m)^\| \*(\w+)\* \| (Rules|forwarder|Detect|Correlate|Notify) \|`)

// An alarm's description says what happened and links to its row in the docs.
func TestEveryAlarmLinksToItsRow(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows, alarms []string
	for _, row := range alarmRow.FindAllStringSubmatch(string(page), -1) {
		rows = append(rows, row[2]+" "+row[1])
	}
	tp := templateOfAllAlarms(t)
	for _, id := range tp.ids("AWS::CloudWatch::Alarm") {
		part, name := "", ""
		for prefix, p := range map[string]string{"HubRules": "Rules", "HubForwarder": "forwarder", "HubDetect": "Detect", "HubCorrelate": "Correlate", "HubNotify": "Notify"} {
			if rest, ok := strings.CutPrefix(id, prefix); ok {
				part, name = p, rest
			}
		}
		alarms = append(alarms, part+" "+name[:len(name)-len("Alarm12345678")])
		description := tp[id].Properties["AlarmDescription"].(string)
		if !strings.HasSuffix(description, ". https://github.com/defenderhub/defenderhub/blob/main/docs/operations.md#alarms") || len(description) > 1024 || !strings.Contains(string(page), "\n## Alarms\n") {
			t.Errorf("%s: the description %q does not link to the alarms in docs/operations.md", id, description)
		}
	}
	slices.Sort(rows)
	slices.Sort(alarms)
	if !slices.Equal(rows, alarms) {
		t.Errorf("docs/operations.md has the rows %v\nthe alarms are                 %v", rows, alarms)
	}
}

var deadLettersCommand = regexp.MustCompile(`defenderhub dead-letters (retry|drop)( --queue \w+)?`)

func TestAlarmsOnDeadLettersNameTheCommandOfTheDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	alarms := 0
	for _, tp := range []template{templateOfAllAlarms(t), hubTemplate(t, &defenderhub.DefenderHubProps{Detect: withVerification()})} {
		for _, id := range tp.ids("AWS::CloudWatch::Alarm") {
			if !strings.Contains(id, "DeadLettersAlarm") {
				continue
			}
			alarms++
			description := tp[id].Properties["AlarmDescription"].(string)
			if command := deadLettersCommand.FindString(description); command == "" || !strings.Contains(string(page), "`"+command+"`") {
				t.Errorf("%s: the description %q names no command of docs/operations.md", id, description)
			}
		}
	}
	if alarms != 4+2 {
		t.Errorf("%d alarms on dead letters, want 6", alarms)
	}
}

// CloudWatch charges per metric that an alarm uses.
func TestDocsStateTheCostOfAlarms(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	watched := func(tp template, prefix string) (alarms, metrics int) {
		for _, id := range tp.ids("AWS::CloudWatch::Alarm") {
			if !strings.HasPrefix(id, prefix) {
				continue
			}
			alarms, metrics = alarms+1, metrics+max(1, strings.Count(text(tp[id].Properties["Metrics"]), `"MetricStat"`))
		}
		return alarms, metrics
	}
	tp := templateOfAllAlarms(t)
	_, correlator := watched(tp, "HubCorrelate")
	_, forwarder := watched(tp, "HubForwarder")
	_, audits := watched(forwarderTemplate(t, defenderhub.ForwarderProps{}), "Forwarder")
	_, engine := watched(tp, "HubDetect")
	_, rules := watched(tp, "HubRules")
	others := engine - len(tp.ids("AWS::IoT::TopicRule")) + rules
	for _, want := range []string{
		fmt.Sprintf("watch %d, with an audit topic %d, which is %.2f or %.2f USD", forwarder, audits, float64(forwarder)/10, float64(audits)/10),
		fmt.Sprintf("The alarm of the forwarder's four rules watches %d, which is %.2f USD", rules, float64(rules)/10),
		fmt.Sprintf("eleven of the engine's twelve alarms watch %d, and the twelfth watches one for each rule: with one rule they cost %.2f USD", others, float64(others+1)/10),
		fmt.Sprintf("nine alarms watch %d, which is %.2f USD", correlator, float64(correlator)/10),
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/operations.md does not say %q", want)
		}
	}
}
