package defenderhub_test

import (
	"encoding/json"
	"fmt"
	"os"

	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/correlation"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/notification"
)

func newNotify(stack awscdk.Stack, props defenderhub.NotifyProps) defenderhub.Notify {
	props.Prebuilt = prebuilt
	return defenderhub.NewNotify(stack, jsii.String("Notify"), &props)
}

func notifyTemplate(t *testing.T, props defenderhub.NotifyProps) template {
	t.Helper()
	stack := newStack()
	newNotify(stack, props)
	return synth(t, stack)
}

// notifySettings returns the settings beside the notifier's executable.
func notifySettings(t *testing.T, props defenderhub.NotifyProps) notification.Config {
	t.Helper()
	stack := newStack()
	newNotify(stack, props)
	c, err := notification.ReadFile(assetFile(t, stack, notification.File))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNotifyWithoutPropsHasNoSubscriber(t *testing.T) {
	stack := newStack()
	n := newNotify(stack, defenderhub.NotifyProps{})
	if n.Topic() == nil || n.ChatTopic() == nil || n.Rule() == nil || n.Queue() == nil || n.DeadLetterQueue() == nil || n.Function() == nil || n.RecordTable() == nil || len(n.Alarms()) != 8 {
		t.Errorf("parts %+v, want all of them and 8 alarms", n)
	}
	tp := synth(t, stack)
	for kind, want := range map[string]int{
		"AWS::SNS::Topic": 2, "AWS::SNS::Subscription": 0, "AWS::Chatbot::SlackChannelConfiguration": 0, "AWS::KMS::Key": 0, "AWS::Events::Rule": 1, "AWS::SQS::Queue": 2,
		"AWS::Lambda::Function": 1, "AWS::DynamoDB::Table": 1, "AWS::Scheduler::Schedule": 1, "AWS::CloudWatch::Alarm": 8,
	} {
		if got := len(tp.ids(kind)); got != want {
			t.Errorf("%d of %s, want %d", got, kind, want)
		}
	}
	for _, id := range tp.ids("AWS::SNS::Topic") {
		if !strings.Contains(text(tp[id].Properties["KmsMasterKeyId"]), "alias/aws/sns") {
			t.Errorf("%s is not encrypted with alias/aws/sns: %s", id, text(tp[id]))
		}
	}
	if n := strings.Count(text(tp), `"aws:SecureTransport"`); n != 4 {
		t.Errorf("%d policies require TLS, want those of two topics and two queues", n)
	}
}

func TestNotifySettings(t *testing.T) {
	medium := notification.Filter{Severity: 3}
	for _, c := range []struct {
		name  string
		props defenderhub.NotifyProps
		want  notification.Config
	}{
		{"default", defenderhub.NotifyProps{}, notification.Config{Filters: []notification.Filter{medium}, PerMinute: 20, Remind: 5, MembershipMinutes: 15}},
		{"all", defenderhub.NotifyProps{
			Filters: []defenderhub.NotifyFilter{
				{Severity: defender.Low, Sources: []defender.Source{defender.DeviceEvents}, Checks: []defender.Check{defender.LoggingDisabled}, Behaviors: []string{"b"}, ThingGroups: []string{"g"}},
				{Products: []string{"aws/guardduty"}},
			},
			PerMinute: 5, NoReminder: true, Digest: &defenderhub.DigestProps{}, Hold: 5 * time.Second, MembershipAge: time.Hour,
		}, notification.Config{
			Filters: []notification.Filter{
				{Severity: 2, Sources: []string{"device-event"}, Checks: []string{"LOGGING_DISABLED_CHECK"}, Behaviors: []string{"b"}, ThingGroups: []string{"g"}},
				{Severity: 3, Products: []string{"aws/guardduty"}},
			},
			PerMinute: 5, DigestBelow: 4, MembershipMinutes: 60,
		}},
	} {
		if got := notifySettings(t, c.props); text(got) != text(c.want) {
			t.Errorf("%s: got %s\nwant %s", c.name, text(got), text(c.want))
		}
	}
	got := notifySettings(t, defenderhub.NotifyProps{Correlate: &defenderhub.CorrelateProps{}})
	if got.HoldSeconds != 60 || len(got.Rules) != len(correlation.BuiltIn()) {
		t.Errorf("with Correlate: hold %d s and %d rules, want 60 s and %d", got.HoldSeconds, len(got.Rules), len(correlation.BuiltIn()))
	}
}

func TestNotifyPattern(t *testing.T) {
	tp := notifyTemplate(t, defenderhub.NotifyProps{})
	pattern := text(tp.one(t, "AWS::Events::Rule").Properties["EventPattern"])
	for _, want := range []string{`"AwsAccountId":[{"Ref":"AWS::AccountId"}]`, `"Region":[{"Ref":"AWS::Region"}]`, `{"prefix":"defenderhub/"}`, `["MEDIUM","HIGH","CRITICAL"]`} {
		if !strings.Contains(pattern, want) {
			t.Errorf("the pattern %s lacks %s", pattern, want)
		}
	}
	others := text(notifyTemplate(t, defenderhub.NotifyProps{OtherAccounts: true}).one(t, "AWS::Events::Rule").Properties["EventPattern"])
	if strings.Contains(others, "AwsAccountId") {
		t.Errorf("with OtherAccounts the pattern is %s, want no account in it", others)
	}
	own := map[string]any{"source": []string{"aws.securityhub"}}
	if got := text(notifyTemplate(t, defenderhub.NotifyProps{Pattern: own}).one(t, "AWS::Events::Rule").Properties["EventPattern"]); got != text(own) {
		t.Errorf("got the pattern %s, want that of the props, %s", got, text(own))
	}
}

func TestNotifySubscribers(t *testing.T) {
	tp := notifyTemplate(t, defenderhub.NotifyProps{
		Emails: []string{"security@example.com", "ops@example.com"}, Slack: &defenderhub.SlackProps{WorkspaceID: "T0123ABCD", ChannelID: "C0123ABCD"},
	})
	var addresses []string
	for _, id := range tp.ids("AWS::SNS::Subscription") {
		if tp[id].Properties["Protocol"] != "email" || !strings.HasPrefix(path(tp[id].Properties["TopicArn"], "Ref").(string), "NotifyTopic") {
			t.Errorf("%s is no email subscription to NotifyTopic: %s", id, text(tp[id]))
		}
		addresses = append(addresses, tp[id].Properties["Endpoint"].(string))
	}
	if slices.Sort(addresses); !slices.Equal(addresses, []string{"ops@example.com", "security@example.com"}) {
		t.Errorf("addresses %q, want those of the props", addresses)
	}
	slack := tp.one(t, "AWS::Chatbot::SlackChannelConfiguration").Properties
	if slack["SlackWorkspaceId"] != "T0123ABCD" || slack["SlackChannelId"] != "C0123ABCD" || !strings.HasPrefix(path(slack["SnsTopicArns"].([]any)[0], "Ref").(string), "NotifyChatTopic") {
		t.Errorf("the Slack configuration is %s, want the IDs of the props and NotifyChatTopic", text(slack))
	}
	if got := text(slack["GuardrailPolicies"]); !strings.Contains(got, ":iam::aws:policy/AWSDenyAll") {
		t.Errorf("guardrail policies %s, want AWSDenyAll", got)
	}
	if got := text(slack["ConfigurationName"]); !strings.Contains(got, `{"Ref":"AWS::Region"}`) {
		t.Errorf("name %s, want the Region in it: configurations of all Regions share their names", got)
	}
	role := tp.named(t, "AWS::IAM::Role", "NotifyChatRole")
	if role.Properties["Policies"] != nil || role.Properties["ManagedPolicyArns"] != nil || !strings.Contains(text(role), "aws:SourceAccount") {
		t.Errorf("the role has permissions, or allows other accounts: %s", text(role))
	}
}

// CloudFormation replaces the configuration of another workspace, and creates the new one first: both
// need a name. Another channel is an update, which needs none.
func TestNotifyNamesAConfigurationPerWorkspace(t *testing.T) {
	name := func(workspace, channel string) string {
		tp := notifyTemplate(t, defenderhub.NotifyProps{Slack: &defenderhub.SlackProps{WorkspaceID: workspace, ChannelID: channel}})
		return text(tp.one(t, "AWS::Chatbot::SlackChannelConfiguration").Properties["ConfigurationName"])
	}
	one := name("T0123ABCD", "C1")
	if other := name("T0123ABCD", "C2"); other != one {
		t.Errorf("another channel has the name %s, want %s", other, one)
	}
	if other := name("T4567EFGH", "C1"); other == one {
		t.Errorf("another workspace has the same name, %s", other)
	}
	stack := newStack()
	workspace := awscdk.NewCfnParameter(stack, jsii.String("Workspace"), nil).ValueAsString()
	newNotify(stack, defenderhub.NotifyProps{Slack: &defenderhub.SlackProps{WorkspaceID: *workspace, ChannelID: "C1"}})
	if got := text(synth(t, stack).one(t, "AWS::Chatbot::SlackChannelConfiguration").Properties["ConfigurationName"]); !strings.Contains(got, `{"Ref":"Workspace"}`) {
		t.Errorf("the name is %s, want the workspace's parameter in it", got)
	}
}

func TestNotifyTimeZones(t *testing.T) {
	stack := newStack()
	zone := awscdk.NewCfnParameter(stack, jsii.String("Zone"), nil).ValueAsString()
	newNotify(stack, defenderhub.NotifyProps{TimeZone: *zone})
	if got := synth(t, stack).one(t, "AWS::Scheduler::Schedule").Properties["ScheduleExpressionTimezone"]; path(got, "Ref") != "Zone" {
		t.Errorf("the time zone is %s, want the parameter", text(got))
	}
	for zone, valid := range map[string]bool{
		"Europe/Berlin": true, "America/Argentina/Buenos_Aires": true, "Etc/GMT+5": true, "UTC": true,
		"Europe/Berln": false, "Europe": false, "Local": false, "CEST": false, "../UTC": false, strings.ToLower(*zone): false,
	} {
		fields, message := faults(t, func() { newNotify(newStack(), defenderhub.NotifyProps{TimeZone: zone}) })
		if valid != (fields == nil) || !valid && !slices.Equal(fields, []string{"TimeZone"}) || strings.Contains(strings.ToLower(message), "token") {
			t.Errorf("%s: faults of %v, want one: %v\n%s", zone, fields, !valid, message)
		}
	}
}

// Both queues have one key, so a policy without EventBridge loses events without a dead letter.
func TestLostEventsRaiseAnAlarm(t *testing.T) {
	stack := newStack()
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{
		Detect: withVerification(), Correlate: &defenderhub.CorrelateProps{}, Notify: &defenderhub.NotifyProps{},
	}))
	tp := synth(t, stack)
	for _, part := range []string{"HubDetectVerification", "HubCorrelate", "HubNotify"} {
		alarm := tp.named(t, "AWS::CloudWatch::Alarm", part+"LostEventsAlarm").Properties
		dimensions := text(alarm["Dimensions"])
		if alarm["Namespace"] != "AWS/Events" || alarm["MetricName"] != "InvocationsFailedToBeSentToDlq" || dimensions != `[{"Name":"RuleName","Value":{"Ref":"`+tp.idOf(t, "AWS::Events::Rule", part+"Rule")+`"}}]` {
			t.Errorf("%s watches %s, want the events that its rule lost", part, text(alarm))
		}
		if got := comparison(alarm); got != "> 0 for 1, notBreaching" {
			t.Errorf("%s: condition %s, want one lost event", part, got)
		}
	}
}

// The schedule's expression is made from a time of day, so that a reference cannot be one.
func TestNotifyTimesAreKnownAtSynthesis(t *testing.T) {
	at := *awscdk.NewCfnParameter(newStack(), jsii.String("At"), nil).ValueAsString()
	fields, message := faults(t, func() {
		newNotify(newStack(), defenderhub.NotifyProps{RemindAt: at, Digest: &defenderhub.DigestProps{DailyAt: at}})
	})
	if !slices.Equal(fields, []string{"Digest.DailyAt", "RemindAt"}) || strings.Contains(message, "Token") || strings.Count(message, "known at synthesis") != 2 {
		t.Errorf("faults of %v, want those of both times, without the text of tokens\n%s", fields, message)
	}
}

func TestNotifyUsesGivenTopicsAndKeys(t *testing.T) {
	stack := newStack()
	key := awskms.NewKey(stack, jsii.String("Mine"), nil)
	topic := awssns.NewTopic(stack, jsii.String("People"), &awssns.TopicProps{MasterKey: awskms.NewKey(stack, jsii.String("Theirs"), nil)})
	n := newNotify(stack, defenderhub.NotifyProps{Topic: topic, EncryptionKey: key})
	if n.Topic() != topic {
		t.Error("Topic returns another topic than the given one")
	}
	tp := synth(t, stack)
	if got := len(tp.ids("AWS::SNS::Topic")); got != 2 {
		t.Errorf("%d topics, want the given one and that of the chat", got)
	}
	policy := text(tp.named(t, "AWS::IAM::Policy", "NotifyFunctionRoleDefaultPolicy"))
	for _, id := range []string{tp.idOf(t, "AWS::KMS::Key", "Mine"), tp.idOf(t, "AWS::KMS::Key", "Theirs"), tp.idOf(t, "AWS::SNS::Topic", "People"), tp.idOf(t, "AWS::SNS::Topic", "NotifyChatTopic")} {
		if !strings.Contains(policy, id) {
			t.Errorf("the function cannot use %s: %s", id, policy)
		}
	}
	if chat := text(tp.named(t, "AWS::SNS::Topic", "NotifyChatTopic")); !strings.Contains(chat, tp.idOf(t, "AWS::KMS::Key", "Mine")) {
		t.Errorf("the chat's topic is not encrypted with the given key: %s", chat)
	}
}

func TestNotifySchedules(t *testing.T) {
	tp := notifyTemplate(t, defenderhub.NotifyProps{Digest: &defenderhub.DigestProps{DailyAt: "17:05"}, RemindAt: "00:30", TimeZone: "Europe/Berlin"})
	for prefix, want := range map[string][2]string{
		"NotifyDigest":   {"cron(5 17 * * ? *)", contract.NotifyRequest(contract.NotifyDigest, contract.ScheduledTime)},
		"NotifyReminder": {"cron(30 0 * * ? *)", contract.NotifyRequest(contract.NotifyRemind, contract.ScheduledTime)},
	} {
		found := false
		for _, id := range tp.ids("AWS::Scheduler::Schedule") {
			if !strings.HasPrefix(id, prefix) {
				continue
			}
			found = true
			p := tp[id].Properties
			if p["ScheduleExpression"] != want[0] || p["ScheduleExpressionTimezone"] != "Europe/Berlin" || path(p["Target"], "Input") != want[1] {
				t.Errorf("%s is %s, want the expression %s and the input %s", id, text(p), want[0], want[1])
			}
		}
		if !found {
			t.Errorf("no schedule %s", prefix)
		}
	}
	hourly := notifyTemplate(t, defenderhub.NotifyProps{Digest: &defenderhub.DigestProps{}, NoReminder: true})
	if got := hourly.one(t, "AWS::Scheduler::Schedule").Properties["ScheduleExpression"]; got != "cron(0 * * * ? *)" {
		t.Errorf("a digest without a time: got %v, want it hourly", got)
	}
	if none := notifyTemplate(t, defenderhub.NotifyProps{NoReminder: true}); len(none.ids("AWS::Scheduler::Schedule")) != 0 || len(none.ids("AWS::CloudWatch::Alarm")) != 7 {
		t.Errorf("without digest and reminder: schedules %v, alarms %v, want none and 7", none.ids("AWS::Scheduler::Schedule"), none.ids("AWS::CloudWatch::Alarm"))
	}
}

func TestNotifyReportsAllFaultsAtOnce(t *testing.T) {
	stack := newStack()
	fifo := awssns.NewTopic(stack, jsii.String("Fifo"), &awssns.TopicProps{Fifo: jsii.Bool(true)})
	fields, message := faults(t, func() {
		newNotify(stack, defenderhub.NotifyProps{
			Filters: []defenderhub.NotifyFilter{{
				Severity: 9, Products: []string{"guardduty", "aws/inspector", "aws/inspector"}, Sources: []defender.Source{defender.DeviceEvents}, Behaviors: []string{""},
				ThingGroups: []string{*awscdk.Aws_REGION()},
			}},
			Correlate: &defenderhub.CorrelateProps{Rules: []correlation.Rule{{}}}, Hold: time.Hour, PerMinute: -1, Digest: &defenderhub.DigestProps{Below: 7, DailyAt: "8:00"}, Remind: 8, NoReminder: true, RemindAt: "24:00",
			TimeZone: "Europe/Berln", MembershipAge: time.Second, Topic: fifo, ChatTopic: fifo, Emails: []string{"a@example.com", "Bob <b@example.com>", "a@example.com", "x"},
			Slack: &defenderhub.SlackProps{WorkspaceID: "#security"}, BatchSize: -1, BatchWindow: time.Hour, MaxConcurrency: 1, MemoryMiB: 1, Timeout: time.Hour,
			RecordRemovalPolicy: "x", Alarms: &defenderhub.NotifyAlarmsProps{Unsent: defenderhub.Alarm{Periods: -1}},
		})
	})
	for _, want := range []string{
		"Filters[0].Severity", "Filters[0].Products", "Filters[0].Products[0]", "Filters[0].Products[2]", "Filters[0].Behaviors[0]", "Filters[0].ThingGroups[0]", "Correlate.Rules[0].Name", "Hold", "PerMinute",
		"Digest.Below", "Digest.DailyAt", "Remind", "RemindAt", "TimeZone", "MembershipAge", "Topic", "ChatTopic", "Emails[1]", "Emails[2]", "Emails[3]", "Slack.WorkspaceID", "Slack.ChannelID",
		"BatchSize", "BatchWindow", "MaxConcurrency", "MemoryMiB", "Timeout", "RecordRemovalPolicy", "Alarms.Unsent.Periods",
	} {
		if !slices.Contains(fields, want) {
			t.Errorf("no fault of %s in\n%s", want, message)
		}
	}
	if _, message := faults(t, func() {
		newNotify(newStack(), defenderhub.NotifyProps{Emails: []string{"security"}, Slack: &defenderhub.SlackProps{WorkspaceID: "T1"}})
	}); message != `defenderhub: invalid props of Fleet/Notify:
Emails[0]: "security", want an address such as security@example.com, without a name
Slack.ChannelID: missing, want the ID of a channel, 1 to 256 of A-Z a-z 0-9, such as C0123ABCD` {
		t.Errorf("got\n%s", message)
	}
}

func TestNotifySettingsAreReadFromJSON(t *testing.T) {
	var c notification.Config
	if err := json.Unmarshal([]byte(`{"filters":[{"severity":"HIGH"}],"remind":""}`), &c); err != nil || c.Filters[0].Severity != 4 {
		t.Errorf("got %+v, error %v, want one filter from HIGH on", c, err)
	}
}

func TestDocsListTheNotifyAlarmsAndTheirCost(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	tp := notifyTemplate(t, defenderhub.NotifyProps{})
	watched := 0
	for _, id := range tp.ids("AWS::CloudWatch::Alarm") {
		name := strings.TrimPrefix(id[:len(id)-len("Alarm12345678")], "Notify")
		if !strings.Contains(string(page), "\n| *"+name+"* | Notify |") {
			t.Errorf("docs/operations.md has no row of %s", name)
		}
		watched += max(1, strings.Count(text(tp[id].Properties["Metrics"]), `"MetricStat"`))
	}
	if want := fmt.Sprintf("The notifier's eight alarms watch %d, which is %.2f USD", watched, float64(watched)/10); !strings.Contains(string(page), want) {
		t.Errorf("docs/operations.md does not say %q", want)
	}
}
