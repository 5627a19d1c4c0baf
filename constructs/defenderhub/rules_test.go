package defenderhub_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

func TestEachSourceHasARuleWithAnErrorAction(t *testing.T) {
	stack := newStack()
	rules := defenderhub.NewRules(stack, jsii.String("Rules"), nil)
	if !slices.Equal(rules.Sources(), iotrule.Sources()) || rules.Rule(defender.AuditNotifications) != nil || rules.RuleName(defender.DetectNotifications) != nil {
		t.Errorf("sources %v, want %v, and no rule for notifications", rules.Sources(), iotrule.Sources())
	}
	logicalID := func(s defender.Source) string { return stack.Resolve(rules.Rule(s).LogicalId()).(string) }
	want := map[string]defender.Source{}
	for _, s := range iotrule.Sources() {
		if rules.RuleName(s) == nil {
			t.Errorf("%v has no rule", s)
			continue
		}
		want[logicalID(s)] = s
	}
	tp := synth(t, stack)
	queue, errors := `{"Ref":"`+tp.idOf(t, "AWS::SQS::Queue", "RulesQueue")+`"}`, `{"Ref":"`+tp.idOf(t, "AWS::SQS::Queue", "RulesErrorQueue")+`"}`
	policy := tp.ids("AWS::IAM::Policy")
	for _, id := range tp.ids("AWS::IoT::TopicRule") {
		r := tp[id]
		payload := r.Properties["TopicRulePayload"]
		if path(payload, "Sql") != iotrule.SQL(want[id], iotrule.DefaultEventTopic) || path(payload, "AwsIotSqlVersion") != "2016-03-23" || path(payload, "RuleDisabled") != false {
			t.Errorf("%s: got %s, want it enabled, with the SQL of %v", id, text(payload), want[id])
		}
		if r.Properties["RuleName"] != nil || !slices.Equal(r.DependsOn, policy) {
			t.Errorf("%s: name %v, depends on %v, want no name and %v", id, r.Properties["RuleName"], r.DependsOn, policy)
		}
		if action := text(path(payload, "Actions")); strings.Count(action, "QueueUrl") != 1 || !strings.Contains(action, queue) {
			t.Errorf("%s: actions %s, want %s", id, action, queue)
		}
		if action := text(path(payload, "ErrorAction")); !strings.Contains(action, errors) {
			t.Errorf("%s: error action %s, want %s", id, action, errors)
		}
		delete(want, id)
	}
	if len(want) > 0 {
		t.Errorf("no rule for %v", want)
	}
}

// AWS IoT rejects a rule whose role is too new. The role must not wait for a queue, so that it exists
// early.
func TestRoleOfTheRulesHasNoDependencies(t *testing.T) {
	stack := newStack()
	defenderhub.NewRules(stack, jsii.String("Rules"), nil)
	role := synth(t, stack).one(t, "AWS::IAM::Role")
	if len(role.DependsOn) > 0 || strings.Contains(text(role.Properties), "GetAtt") {
		t.Errorf("the role depends on other resources: %s", text(role))
	}
	if trust := text(role.Properties["AssumeRolePolicyDocument"]); !strings.Contains(trust, ":rule/*") || !strings.Contains(trust, "aws:SourceAccount") {
		t.Errorf("the trust policy %s does not name rules of this account", trust)
	}
}

func TestGivenQueuesAndTopicAreUsed(t *testing.T) {
	stack := newStack()
	queue, errors := awssqs.NewQueue(stack, jsii.String("Own"), nil), awssqs.NewQueue(stack, jsii.String("OwnErrors"), nil)
	defenderhub.NewRules(stack, jsii.String("Rules"), &defenderhub.RulesProps{
		Sources: []defender.Source{defender.DeviceEvents}, EventTopic: "plant/+/alarms", Queue: queue, ErrorQueue: errors,
	})
	tp := synth(t, stack)
	payload := tp.one(t, "AWS::IoT::TopicRule").Properties["TopicRulePayload"]
	if sql := path(payload, "Sql").(string); !strings.HasSuffix(sql, " FROM 'plant/+/alarms'") || !strings.Contains(sql, "principal()") {
		t.Errorf("SQL %s, want it on the topic plant/+/alarms, with the principal", sql)
	}
	if got := len(tp.ids("AWS::SQS::Queue")); got != 2 {
		t.Errorf("%d queues, want the two given ones", got)
	}
}

func TestExceptedDisconnectReasonsAreNotInTheRule(t *testing.T) {
	stack := newStack()
	defenderhub.NewRules(stack, jsii.String("Rules"), &defenderhub.RulesProps{
		Sources: []defender.Source{defender.SecurityDisconnects}, ExceptDisconnects: []string{"DUPLICATE_CLIENTID"},
	})
	payload := synth(t, stack).one(t, "AWS::IoT::TopicRule").Properties["TopicRulePayload"]
	if sql := path(payload, "Sql").(string); !strings.Contains(sql, "AUTH_ERROR") || strings.Contains(sql, "DUPLICATE_CLIENTID") {
		t.Errorf("SQL %s, want AUTH_ERROR in it, and not DUPLICATE_CLIENTID", sql)
	}
}

func TestAlarmOfRulesWatchesEachRule(t *testing.T) {
	stack := newStack()
	topic := awssns.NewTopic(stack, jsii.String("OnCall"), nil)
	rules := defenderhub.NewRules(stack, jsii.String("Rules"), &defenderhub.RulesProps{AlarmTopic: topic, ThrottledMessages: defenderhub.Alarm{Above: 100, Periods: 2}})
	one := defenderhub.NewRules(stack, jsii.String("One"), &defenderhub.RulesProps{Sources: []defender.Source{defender.DeviceEvents}})
	off := defenderhub.NewRules(stack, jsii.String("None"), &defenderhub.RulesProps{ThrottledMessages: defenderhub.Alarm{Off: true}})
	if len(rules.Alarms()) != 1 || len(one.Alarms()) != 1 || len(off.Alarms()) != 0 {
		t.Errorf("%d, %d and %d alarms, want 1, 1 and 0", len(rules.Alarms()), len(one.Alarms()), len(off.Alarms()))
	}
	tp := synth(t, stack)
	p := tp.named(t, "AWS::CloudWatch::Alarm", "RulesThrottledMessagesAlarm").Properties
	if got := comparison(p); got != "> 100 for 2, notBreaching" || !strings.Contains(text(p["AlarmActions"]), "OnCall") {
		t.Errorf("condition %s, actions %s; want > 100 for 2, notBreaching, and the topic", got, text(p["AlarmActions"]))
	}
	for _, s := range rules.Sources() {
		dimension := `"Dimensions":[{"Name":"RuleName","Value":` + text(stack.Resolve(rules.RuleName(s))) + `}],"MetricName":"RuleMessageThrottled","Namespace":"AWS/IoT"}`
		if metrics := text(p["Metrics"]); strings.Count(metrics, dimension) != 1 || strings.Count(metrics, "FILL(") != len(rules.Sources()) {
			t.Errorf("the sum does not count %v once: %s", s, metrics)
		}
	}
	p = tp.named(t, "AWS::CloudWatch::Alarm", "OneThrottledMessagesAlarm").Properties
	if got := comparison(p); got != "> 0 for 1, notBreaching" || p["MetricName"] != "RuleMessageThrottled" || p["Statistic"] != "Sum" || p["Period"] != 300.0 {
		t.Errorf("the alarm of one rule has the condition %s in %s", got, text(p))
	}
}

func TestWrongRulesPropsAreErrors(t *testing.T) {
	stack := newStack()
	fifo := awssqs.NewQueue(stack, jsii.String("Fifo"), &awssqs.QueueProps{Fifo: jsii.Bool(true)})
	queue, other := awssqs.NewQueue(stack, jsii.String("Queue"), nil), awssqs.NewQueue(stack, jsii.String("Other"), nil)
	imported := func(id string, arn *string) awssqs.IQueue { return awssqs.Queue_FromQueueArn(stack, &id, arn) }
	for name, c := range map[string]struct {
		props defenderhub.RulesProps
		want  []string
	}{
		"sources":          {defenderhub.RulesProps{Sources: []defender.Source{defender.DeviceEvents, defender.AuditNotifications, 0}}, []string{"Sources[2]", "Sources[1]"}},
		"topic":            {defenderhub.RulesProps{EventTopic: "a/+b"}, []string{"EventTopic"}},
		"quote in a topic": {defenderhub.RulesProps{EventTopic: "a' WHERE true"}, []string{"EventTopic"}},
		"Basic Ingest":     {defenderhub.RulesProps{EventTopic: "$aws/rules/r/events"}, []string{"EventTopic"}},
		"AWS's topics":     {defenderhub.RulesProps{EventTopic: "$aws/events/presence/#"}, []string{"EventTopic"}},
		"every topic":      {defenderhub.RulesProps{EventTopic: "#"}, []string{"EventTopic"}},
		"variable":         {defenderhub.RulesProps{EventTopic: "fleet/${iot:ClientId}"}, []string{"EventTopic"}},
		"token as a topic": {defenderhub.RulesProps{EventTopic: *awscdk.Fn_ImportValue(jsii.String("Topic"))}, nil},
		"reasons":          {defenderhub.RulesProps{ExceptDisconnects: []string{"AUTH_ERROR", "AUTH_ERROR", "CONNECTION_LOST"}}, []string{"ExceptDisconnects[1]", "ExceptDisconnects[2]", "ExceptDisconnects"}},
		"all reasons":      {defenderhub.RulesProps{ExceptDisconnects: iotrule.SecurityDisconnectReasons}, []string{"ExceptDisconnects"}},
		"alarm":            {defenderhub.RulesProps{ThrottledMessages: defenderhub.Alarm{Above: -1, Periods: 289}}, []string{"ThrottledMessages.Above", "ThrottledMessages.Periods"}},
		"FIFO queues":      {defenderhub.RulesProps{Queue: fifo, ErrorQueue: imported("OtherFifo", jsii.String(queueARN+".fifo"))}, []string{"Queue", "ErrorQueue"}},
		"one queue":        {defenderhub.RulesProps{Queue: queue, ErrorQueue: queue}, []string{"ErrorQueue"}},
		"two queues":       {defenderhub.RulesProps{Queue: queue, ErrorQueue: other}, nil},
		"one imported": {defenderhub.RulesProps{Queue: imported("A", awscdk.Fn_ImportValue(jsii.String("Queue"))),
			ErrorQueue: imported("B", awscdk.Fn_ImportValue(jsii.String("Queue")))}, []string{"ErrorQueue"}},
		"two imported": {defenderhub.RulesProps{Queue: imported("C", awscdk.Fn_ImportValue(jsii.String("Queue"))),
			ErrorQueue: imported("D", awscdk.Fn_ImportValue(jsii.String("ErrorQueue")))}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := faults(t, func() { defenderhub.NewRules(newStack(), jsii.String("Rules"), &c.props) })
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
