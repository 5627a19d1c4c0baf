// This CDK app reads its settings from the CDK context and creates one stack with the
// construct. `cdk.json` runs it. docs/settings.md lists the settings.
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

// wrongProps turns a construct's panic about invalid props into an error that names settings
// instead of props. Users can correct their settings, and a stack trace would hide the error.
// Other panics continue.
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
			return err // not about a setting: for example, Go is not installed
		}
		want := f.Want
		if inSettings := wants[f.Code]; inSettings != nil {
			want = inSettings(f)
		} else if f.Code != "" {
			return err // about props that no setting changes
		}
		faults[i] = &defender.FieldError{Field: prefix + key, Value: f.Value, Want: want}
	}
	return conflict(faults...)
}

// conflict returns the error for settings that are valid alone, but not in combination.
func conflict(faults ...error) error {
	return fmt.Errorf("defenderhub: settings that cannot be combined (cdk.json, or -c KEY=VALUE):\n%w", errors.Join(faults...))
}

// keys maps each prop that can conflict with another prop to the setting that sets it.
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

// wants holds, for each code of a fault, the words of Want with settings instead of props. The
// Want of a fault without a code names no other prop, so it needs no other words.
var wants = map[string]func(f *defender.FieldError) string{
	defenderhub.CodeNoBehaviors: func(f *defender.FieldError) string {
		return "at least one behavior, such as those of starter, or " + ways(f, ", or ")
	},
	defenderhub.CodeNoReports: func(f *defender.FieldError) string {
		return "nothing here, because no behavior uses device reports: add one, such as those of starter, or set " + ways(f, ", or ")
	},
	defenderhub.CodeSharedTopic: func(f *defender.FieldError) string {
		return fmt.Sprintf("a topic filter that shares no topic with %s, which is %s: each report, or answer to a report, would also arrive as a device event and become a dead letter",
			ways(f, ", "), f.Alternatives[0].Value)
	},
	defenderhub.CodeSentAlready: func(f *defender.FieldError) string {
		return "no source that Device Defender's own integration sends already: leave it out, or set " + ways(f, ", or ")
	},
	defenderhub.CodeNoEngine: func(f *defender.FieldError) string {
		return "a source that the engine provides: leave this one out, or set " + ways(f, ", or ")
	},
	defenderhub.CodeNoTransitions: func(f *defender.FieldError) string {
		return fmt.Sprintf("%s as well: without it the alarms of %sengine self-managed are lost", defender.BehaviorTransitions, prefix)
	},
	defenderhub.CodeNoForwarder: func(f *defender.FieldError) string {
		return "a forwarder to import its findings: name sources in " + prefix + "forward, or leave that setting out"
	},
	defenderhub.CodeNoAuditTopic: func(f *defender.FieldError) string {
		return "other sources with " + existingAudit
	},
	defenderhub.CodeLostAudits: func(f *defender.FieldError) string {
		return fmt.Sprintf("create or existing with %s. Otherwise nothing imports the findings of audits. If you want that, name the other sources in %s", existingAudit, ways(f, ", or "))
	},
	defenderhub.CodeNothingScheduled: func(f *defender.FieldError) string { return "at least one check left to schedule" },
}

const existingAudit = prefix + "audit-configuration existing: the topic of its results is a prop of the construct, Audit.Topic"

// settingOf maps a fault's alternative to the setting that makes this change.
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

// ways lists the settings that fix a fault, with a separator between them. It leaves out props
// that no setting changes.
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

// newStack creates a stack without an environment: it is deployed to the account and Region of
// the credentials.
func newStack(app awscdk.App, c *config) awscdk.Stack {
	stack := awscdk.NewStack(app, &c.stack, &awscdk.StackProps{
		Description: jsii.String("AWS IoT Device Defender and the security events of an AWS IoT fleet in AWS Security Hub"),
	})
	if c.alarmTopic != "" {
		c.hub.AlarmTopic = awssns.Topic_FromTopicArn(stack, jsii.String("AlarmTopic"), &c.alarmTopic)
	}
	for _, key := range c.unread {
		awscdk.Annotations_Of(stack).AddWarningV2(jsii.String(key), jsii.String(fmt.Sprintf(
			"%s has no effect with %sengine %s: only the engine self-managed reads it", key, prefix, c.engine)))
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
		output("ReportsRuleName", "The IoT rule that receives device reports", e.ReportsRuleName())
		output("ReportTopic", "Where devices publish their reports", e.ReportTopic())
	}
	if d := hub.Detect().Native(); d != nil {
		output("AlertTopicArn", "Receives the alerts of Device Defender Detect", d.Topic().TopicArn())
	}
	if f := hub.Forwarder(); f != nil {
		output("QueueUrl", "Receives the messages of the IoT rules", f.Queue().QueueUrl())
		output("DeadLetterQueueUrl", "Holds messages that could not be imported, each with the reason", f.DeadLetterQueue().QueueUrl())
		output("ForwarderName", "The function that imports findings", f.Function().FunctionName())
	}
	if n := hub.Notify(); n != nil {
		output("MessageTopicArn", "Receives the messages for people", n.Topic().TopicArn())
		output("ChatTopicArn", "Receives the messages for chat", n.ChatTopic().TopicArn())
	}
	return stack
}

// newDemoPolicy creates the IoT policy of AWS's first experiment, which the check
// IOT_POLICY_OVERLY_PERMISSIVE_CHECK finds. Nothing uses the policy, so it gives no permission.
func newDemoPolicy(scope constructs.Construct) {
	awsiot.NewCfnPolicy(scope, jsii.String("OverlyPermissivePolicy"), &awsiot.CfnPolicyProps{
		PolicyDocument: map[string]any{
			"Version":   "2012-10-17",
			"Statement": []any{map[string]any{"Effect": "Allow", "Action": "*", "Resource": "*"}},
		},
	})
}
