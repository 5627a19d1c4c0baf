// The defenderhub CDK app: it reads its configuration from the CDK context and builds
// one stack around the construct. `cdk.json` runs it; docs/settings.md lists the settings.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiot"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
)

func main() {
	defer jsii.Close()
	if err := run(awscdk.NewApp(nil)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(app awscdk.App) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = wrongProps(fault)
		}
	}()
	context, _ := app.Node().GetAllContext(nil).(map[string]any)
	c, err := readConfig(context)
	if err != nil {
		return err
	}
	newStack(app, c)
	app.Synth(nil)
	return nil
}

// wrongProps is the error with which a construct refused its props, in the words of the
// settings: the user can correct it, and a stack trace would only hide it. Every other panic
// continues.
func wrongProps(fault any) error {
	err, _ := fault.(error)
	found := defender.FieldErrors(err)
	if len(found) == 0 {
		panic(fault)
	}
	faults := make([]error, len(found))
	for i, f := range found {
		field, _, _ := strings.Cut(f.Field, "[")
		key, ok := keys[field]
		if !ok {
			return err // of no setting, such as Go that is missing
		}
		want := f.Want
		if say := sayings[f.Code]; say != nil {
			want = say(f)
		} else if f.Code != "" {
			return err // of props that no setting reaches
		}
		faults[i] = &defender.FieldError{Field: prefix + key, Value: f.Value, Want: want}
	}
	return conflict(faults...)
}

func conflict(faults ...error) error {
	return fmt.Errorf("defenderhub: settings that cannot be combined (cdk.json, or -c KEY=VALUE):\n%w", errors.Join(faults...))
}

// keys are the settings that may be wrong together, by the prop that they set.
var keys = map[string]string{
	"Audit.Disabled":                     "audit-disabled",
	"Audit.Except":                       "audit-except",
	"Correlate":                          "correlate",
	"Correlate.Attributes":               "correlate-attributes",
	"Detect.Behaviors":                   "profile",
	"Detect.SelfManaged.ReportTopic":     "report-topic",
	"Detect.SelfManaged.ReportsRuleName": "reports-rule",
	"Forward":                            "forward",
	"Notify.Emails":                      "notify-emails",
	"Notify.Slack.ChannelID":             "notify-slack",
	"Notify.Slack.WorkspaceID":           "notify-slack",
	"Subscriptions.Audit":                "audit-subscription",
}

// sayings say in settings what the construct's faults want, by code. A fault without a code
// speaks of no other prop.
var sayings = map[string]func(f *defender.FieldError) string{
	defenderhub.CodeNoBehaviors: func(f *defender.FieldError) string {
		return "at least one behavior, such as those of demo, or " + ways(f, ", or ")
	},
	defenderhub.CodeNoReports: func(f *defender.FieldError) string {
		return "nothing here, because no behavior uses device reports: add one, such as those of starter, or set " + ways(f, ", or ")
	},
	defenderhub.CodeSharedTopic: func(f *defender.FieldError) string {
		return fmt.Sprintf("a topic filter that shares no topic with %s, which is %s: every report, or answer to one, would also arrive as an event, and become a dead letter",
			ways(f, ", "), f.Alternatives[0].Value)
	},
	defenderhub.CodeSentAlready: func(f *defender.FieldError) string {
		return "no source that Device Defender's own integration sends already: leave it out, or set " + ways(f, ", or ")
	},
	defenderhub.CodeNoEngine: func(f *defender.FieldError) string {
		return "this source left out, or " + ways(f, ", or ")
	},
	defenderhub.CodeNoTransitions: func(f *defender.FieldError) string {
		return fmt.Sprintf("%s as well: without it the alarms of %sengine self-managed are lost", defender.BehaviorTransitions, prefix)
	},
	defenderhub.CodeNoForwarder: func(f *defender.FieldError) string {
		return "a forwarder, which sends its findings: " + prefix + "forward with sources, or left out"
	},
	defenderhub.CodeNoAuditTopic: func(f *defender.FieldError) string {
		return "it left out with " + existingAudit
	},
	defenderhub.CodeLostAudits: func(f *defender.FieldError) string {
		return fmt.Sprintf("create or existing with %s. Otherwise nobody would import the findings of audits. If that is meant, name the other sources in %s", existingAudit, ways(f, ", or "))
	},
	defenderhub.CodeNothingScheduled: func(f *defender.FieldError) string { return "at least one check left to schedule" },
}

const existingAudit = prefix + "audit-configuration existing: the topic of its results is a prop of the construct, Audit.Topic"

// settingOf is the setting that changes a prop, by the alternative of a fault.
var settingOf = map[defender.Alternative]string{
	{Field: "Detect.Native"}:                      "engine native",
	{Field: "Detect.Native", Value: "nil"}:        "engine none",
	{Field: "Detect.SelfManaged"}:                 "engine self-managed",
	{Field: "Detect.SelfManaged", Value: "nil"}:   "engine none",
	{Field: "Detect.SelfManaged.ReportsEvery"}:    "reports-every",
	{Field: "Forward"}:                            "forward",
	{Field: "NoForwarder", Value: "true"}:         "forward none",
	{Field: "Rules.EventTopic"}:                   "event-topic",
	{Field: "Subscriptions.Audit", Value: "Off"}:  "audit-subscription to off",
	{Field: "Subscriptions.Detect", Value: "Off"}: "detect-subscription to off",
}

// ways are the settings that end a fault. A prop that no setting changes is left out.
func ways(f *defender.FieldError, between string) string {
	var all []string
	for _, a := range f.Alternatives {
		key := settingOf[a]
		if key == "" {
			key = settingOf[defender.Alternative{Field: a.Field}]
		}
		if key != "" {
			all = append(all, prefix+key)
		}
	}
	return strings.Join(all, between)
}

// newStack is environment-agnostic: the account and Region of the credentials decide.
func newStack(app awscdk.App, c *config) awscdk.Stack {
	stack := awscdk.NewStack(app, &c.stack, &awscdk.StackProps{
		Description: jsii.String("AWS IoT Device Defender and the security events of an AWS IoT fleet in AWS Security Hub"),
	})
	if c.alarmTopic != "" {
		c.hub.AlarmTopic = awssns.Topic_FromTopicArn(stack, jsii.String("AlarmTopic"), &c.alarmTopic)
	}
	for _, key := range c.unread {
		awscdk.Annotations_Of(stack).AddWarningV2(jsii.String(key), jsii.String(fmt.Sprintf(
			"%s is not read with %sengine %s: it is for self-managed", key, prefix, c.engine)))
	}
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &c.hub)
	if c.demo {
		newDemoPolicy(hub)
	}
	output := func(id, description string, value *string) {
		awscdk.NewCfnOutput(stack, &id, &awscdk.CfnOutputProps{Description: &description, Value: value})
	}
	if topic := hub.Audit().Topic(); topic != nil {
		output("AuditTopicArn", "Receives the result of each audit", topic.TopicArn())
	}
	if e := hub.Detect().SelfManaged(); e != nil && e.ReportsRuleName() != nil {
		output("ReportsRuleName", "The rule that brings device reports in", e.ReportsRuleName())
		output("ReportTopic", "Where devices publish their reports", e.ReportTopic())
	}
	if d := hub.Detect().Native(); d != nil {
		output("AlertTopicArn", "Receives the alerts of Device Defender Detect", d.Topic().TopicArn())
	}
	if f := hub.Forwarder(); f != nil {
		output("QueueUrl", "Where the rules' messages arrive", f.Queue().QueueUrl())
		output("DeadLetterQueueUrl", "What could not be imported, with its reason", f.DeadLetterQueue().QueueUrl())
		output("ForwarderName", "The function that imports findings", f.Function().FunctionName())
	}
	if n := hub.Notify(); n != nil {
		output("MessageTopicArn", "Receives the messages for people", n.Topic().TopicArn())
		output("ChatTopicArn", "Receives the messages for chat", n.ChatTopic().TopicArn())
	}
	return stack
}

// newDemoPolicy makes the IoT policy of AWS's first experiment, which the check
// IOT_POLICY_OVERLY_PERMISSIVE_CHECK finds. It is attached to nothing.
func newDemoPolicy(scope constructs.Construct) {
	awsiot.NewCfnPolicy(scope, jsii.String("OverlyPermissivePolicy"), &awsiot.CfnPolicyProps{
		PolicyDocument: map[string]any{
			"Version":   "2012-10-17",
			"Statement": []any{map[string]any{"Effect": "Allow", "Action": "*", "Resource": "*"}},
		},
	})
}
