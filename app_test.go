package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
)

// requires maps a setting to the one that it requires.
var requires = map[string]string{
	"profile": "engine", "known-networks": "engine", "correlate-attributes": "correlate", "notify-emails": "notify", "notify-hold": "notify", "notify-severity": "notify", "notify-slack": "notify",
}

func TestEverySettingReachesTheProps(t *testing.T) {
	cases := map[string]struct {
		value any
		holds func(c *config) bool
	}{
		"stack":  {"Fleet", func(c *config) bool { return c.stack == "Fleet" }},
		"engine": {"native", func(c *config) bool { return c.engine == nativeEngine }},
		"transport": {"kinesis", func(c *config) bool {
			return c.selfManaged.Transport == defenderhub.TransportKinesis
		}},
		"report-topic":          {"fleet/+/report", func(c *config) bool { return c.selfManaged.ReportTopic == "fleet/+/report" }},
		"reports-rule":          {"fleet_reports", func(c *config) bool { return c.selfManaged.ReportsRuleName == "fleet_reports" }},
		"confirm-first-traffic": {true, func(c *config) bool { return c.selfManaged.ConfirmFirstTraffic }},
		"report-interval":       {"60s", func(c *config) bool { return c.selfManaged.ReportInterval == time.Minute }},
		"reports-every":         {"15m", func(c *config) bool { return c.selfManaged.ReportsEvery == 15*time.Minute }},
		"audit-schedule":        {"weekly:SUN", func(c *config) bool { return c.hub.Audit.Schedule == defender.Weekly(time.Sunday) }},
		"audit-configuration":   {"existing", func(c *config) bool { return c.hub.Audit.Configuration == defenderhub.Existing }},
		"audit-except": {"LOGGING_DISABLED_CHECK, CONFLICTING_CLIENT_IDS_CHECK", func(c *config) bool {
			return slices.Equal(c.hub.Audit.Except, []defender.Check{defender.LoggingDisabled, defender.ConflictingClientIDs})
		}},
		"audit-disabled": {[]any{"LOGGING_DISABLED_CHECK"}, func(c *config) bool {
			return slices.Equal(c.hub.Audit.Disabled, []defender.Check{defender.LoggingDisabled})
		}},
		"audit-on-deploy":     {true, func(c *config) bool { return c.hub.Audit.RunOnDeploy }},
		"audit-subscription":  {"off", func(c *config) bool { return c.hub.Subscriptions.Audit == defenderhub.Off }},
		"detect-subscription": {"existing", func(c *config) bool { return c.hub.Subscriptions.Detect == defenderhub.Existing }},
		"enable-security-hub": {"true", func(c *config) bool { return c.hub.Subscriptions.EnableSecurityHub }},
		"forward": {"device-event,rejected-report", func(c *config) bool {
			return !c.hub.NoForwarder && slices.Equal(c.hub.Forward, []defender.Source{defender.DeviceEvents, defender.RejectedReports})
		}},
		"client-pattern": {"(.+)-agent", func(c *config) bool { return c.hub.Forwarder.ClientPattern == "(.+)-agent" }},
		"event-topic":    {"fleet/+/security", func(c *config) bool { return c.hub.Rules.EventTopic == "fleet/+/security" }},
		"alarm-topic":    {"arn:aws-cn:sns:cn-north-1:123456789012:on-call", func(c *config) bool { return c.alarmTopic == "arn:aws-cn:sns:cn-north-1:123456789012:on-call" }},
		"architecture":   {"amd64", func(c *config) bool { return c.hub.Function.Architecture == defenderhub.AMD64 }},
		"known-networks": {"10.0.0.0/8, 2001:db8::/32", func(c *config) bool { return fmt.Sprint(c.networks) == "[10.0.0.0/8 2001:db8::/32]" }},
		"correlate-attributes": {"instanceId,backup", func(c *config) bool {
			return slices.Equal(c.hub.Correlate.Attributes, []string{"instanceId", "backup"})
		}},
		"correlate": {"true", func(c *config) bool { return c.hub.Correlate != nil }},
		"dashboard": {"true", func(c *config) bool { return c.hub.Dashboard != nil }},
		"demo":      {"true", func(c *config) bool { return c.demo }},
		"profile":   {"starter", func(c *config) bool { return len(c.hub.Detect.Behaviors) == len(defender.StarterBehaviors()) }},
		"notify":    {"true", func(c *config) bool { return c.hub.Notify != nil }},
		"notify-emails": {"a@example.com,b@example.com", func(c *config) bool {
			return slices.Equal(c.hub.Notify.Emails, []string{"a@example.com", "b@example.com"})
		}},
		"notify-slack": {"T0123ABCD/C0123ABCD", func(c *config) bool {
			return *c.hub.Notify.Slack == defenderhub.SlackProps{WorkspaceID: "T0123ABCD", ChannelID: "C0123ABCD"}
		}},
		"notify-hold":     {"90s", func(c *config) bool { return c.hub.Notify.Hold == 90*time.Second }},
		"notify-severity": {"HIGH", func(c *config) bool { return c.hub.Notify.Filters[0].Severity == defender.High }},
	}
	for key := range settings {
		if _, tested := cases[key]; !tested {
			t.Errorf("the test has no case for defenderhub:%s", key)
		}
	}
	for key, tc := range cases {
		t.Run(key, func(t *testing.T) {
			context := map[string]any{prefix + key: tc.value, "aws:cdk:version": 2}
			if required := requires[key]; required == "engine" {
				context[prefix+required] = "native"
			} else if required != "" {
				context[prefix+required] = true
			}
			c, err := readConfig(context)
			if err != nil || !tc.holds(c) {
				t.Errorf("%v did not reach the props; error %v", tc.value, err)
			}
		})
	}
}

func TestAlarmsNotifyTheTopic(t *testing.T) {
	defer jsii.Close()
	const topic = "arn:aws:sns:eu-central-1:123456789012:on-call"
	c, err := readConfig(map[string]any{prefix + "alarm-topic": topic, prefix + "engine": "self-managed", prefix + "profile": "demo"})
	if err != nil {
		t.Fatal(err)
	}
	const prebuilt = "constructs/defenderhub/testdata/prebuilt/bootstrap"
	c.hub.Forwarder.Prebuilt, c.selfManaged.Prebuilt = prebuilt, prebuilt
	template := *assertions.Template_FromStack(newStack(awscdk.NewApp(nil), c), nil).ToJSON()
	alarms := 0
	for id, r := range template["Resources"].(map[string]any) {
		if r := r.(map[string]any); r["Type"] == "AWS::CloudWatch::Alarm" {
			alarms++
			if p := r["Properties"].(map[string]any); fmt.Sprint(p["AlarmActions"], p["OKActions"]) != "["+topic+"] ["+topic+"]" {
				t.Errorf("%s notifies %v and %v, want %s for both", id, p["AlarmActions"], p["OKActions"], topic)
			}
		}
	}
	if alarms != 19 {
		t.Errorf("%d alarms, want 19: those of the forwarder, its rules and the engine", alarms)
	}
}

func TestDemoAddsThePolicyThatAllowsEverything(t *testing.T) {
	defer jsii.Close()
	for _, demo := range []bool{false, true} {
		c, err := readConfig(map[string]any{prefix + "demo": demo})
		if err != nil {
			t.Fatal(err)
		}
		c.hub.Forwarder.Prebuilt = "constructs/defenderhub/testdata/prebuilt/bootstrap"
		template := assertions.Template_FromStack(newStack(awscdk.NewApp(nil), c), nil)
		want := 0.0
		if demo {
			want = 1
			template.HasResourceProperties(jsii.String("AWS::IoT::Policy"), map[string]any{"PolicyDocument": map[string]any{
				"Statement": []any{map[string]any{"Effect": "Allow", "Action": "*", "Resource": "*"}},
			}})
		}
		template.ResourceCountIs(jsii.String("AWS::IoT::Policy"), &want)
	}
}

func TestProfileNeedsAnEngine(t *testing.T) {
	for engine, want := range map[string]int{"native": 1, "self-managed": 1, "none": 0} {
		c, err := readConfig(map[string]any{prefix + "profile": "demo", prefix + "engine": engine})
		if err != nil || len(c.hub.Detect.Behaviors) != want {
			t.Errorf("engine %s: %d behaviors, error %v; want %d", engine, len(c.hub.Detect.Behaviors), err, want)
		}
	}
}

func TestSettingsOfAnotherEngineCauseAWarning(t *testing.T) {
	defer jsii.Close()
	for engine, want := range map[string]string{"none": "[defenderhub:reports-every defenderhub:transport]", "native": "[defenderhub:reports-every defenderhub:transport]", "self-managed": "[]"} {
		c, err := readConfig(map[string]any{prefix + "engine": engine, prefix + "profile": "demo",
			prefix + "reports-every": "15m", prefix + "transport": "kinesis", prefix + "report-topic": "basic-ingest"})
		if err != nil || fmt.Sprint(c.unread) != want {
			t.Errorf("engine %s: unread settings %v, error %v; want %s", engine, c.unread, err, want)
		}
	}
	c, err := readConfig(map[string]any{prefix + "reports-every": "15m"})
	if err != nil {
		t.Fatal(err)
	}
	c.hub.Forwarder.Prebuilt = "constructs/defenderhub/testdata/prebuilt/bootstrap"
	warned := *assertions.Annotations_FromStack(newStack(awscdk.NewApp(nil), c)).FindWarning(jsii.String("*"), assertions.Match_AnyValue())
	//lint:ignore SA1019 the type's new module does not exist in Go
	if len(warned) != 1 || !strings.Contains(fmt.Sprint(warned[0].Entry.Data), "defenderhub:reports-every has no effect with defenderhub:engine none: only the engine self-managed reads it") {
		t.Errorf("warnings %v, want one about defenderhub:reports-every", warned)
	}
}

func TestProfilesAreCombined(t *testing.T) {
	for value, want := range map[string]int{"none": 0, "demo": 1, "starter": 4, "demo,starter": 5} {
		c, err := readConfig(map[string]any{prefix + "profile": value, prefix + "engine": "self-managed"})
		if err != nil || len(c.hub.Detect.Behaviors) != want || (defender.SecurityProfile{Behaviors: c.hub.Detect.Behaviors}).Validate() != nil {
			t.Errorf("profile %s: %d behaviors, error %v; want %d", value, len(c.hub.Detect.Behaviors), err, want)
		}
	}
}

func TestSettingsWithTheirDefaultsSetNoProp(t *testing.T) {
	c, err := readConfig(map[string]any{prefix + "report-topic": "basic-ingest", prefix + "reports-every": "off", prefix + "report-interval": "5m", prefix + "confirm-first-traffic": false, prefix + "transport": "sqs"})
	if err != nil || !reflect.DeepEqual(c.selfManaged, defenderhub.SelfManagedProps{}) {
		t.Errorf("got %+v, error %v, want no props", c, err)
	}
}

func TestOneErrorListsAllWrongSettingsAndTheirAllowedValues(t *testing.T) {
	wrong := map[string]any{
		prefix + "engine": "flink", prefix + "engin": "native", "DefenderHub:engine": "native", "defenderhub.demo": "true", prefix + "demo": 1.5, prefix + "audit-except": "NO_SUCH_CHECK",
		prefix + "audit-schedule": "hourly", prefix + "event-topic": "a/#/b", prefix + "stack": "my stack", prefix + "forward": "everything",
		prefix + "transport": "mqtt", prefix + "report-topic": "a/#/c", prefix + "reports-every": "90s", prefix + "report-interval": "5s", prefix + "reports-rule": "fleet-reports",
		prefix + "profile": "demo,none", prefix + "alarm-topic": "on-call",
	}
	_, err := readConfig(wrong)
	if err == nil {
		t.Fatal("wrong settings were accepted")
	}
	if _, err := readConfig(map[string]any{prefix + "alarm-topic": "arn:aws:sns:eu-central-1:123456789012:on-call.fifo"}); err == nil || !strings.Contains(err.Error(), "not FIFO") {
		t.Errorf("alarms to a FIFO topic: error %v, want one that says not FIFO", err)
	}
	for topic, why := range map[string]string{
		"$aws/rules/r/+": "a topic outside Basic Ingest", "fleet/${iot:ClientId}": "without variables", "$share/g/fleet/+": "$share/GROUP/",
		"#": "at least one level that is not a wildcard", "$aws/events/presence/#": "AWS's ",
	} {
		for _, key := range []string{"event-topic", "report-topic"} {
			if _, err := readConfig(map[string]any{prefix + key: topic}); err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "7 slashes") {
				t.Errorf("%s %s: error %v, want one that says %q and 7 slashes", key, topic, err, why)
			}
		}
	}
	for _, want := range append(slices.Collect(maps.Keys(wrong)), "none", "true or false", "audit-on-deploy", `"flink"`, "LOGGING_DISABLED_CHECK", "refused-connection", "7 slashes", "monthly:31") {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %q:\n%v", want, err)
		}
	}
}

// An empty prop means its default, such as all sources.
func TestEmptyListsAreErrors(t *testing.T) {
	for _, key := range []string{"forward", "known-networks", "profile", "audit-except", "audit-disabled", "correlate-attributes", "notify-emails"} {
		for _, value := range []any{"", " , ", []any{}} {
			if _, err := readConfig(map[string]any{prefix + key: value}); err == nil || !strings.Contains(err.Error(), prefix+key) {
				t.Errorf("%s %q: error %v, want one that names the setting", key, value, err)
			}
		}
	}
}

// A source that only the construct adds is not one of the setting's values.
func TestCorrelationIsNoSourceToForward(t *testing.T) {
	_, err := readConfig(map[string]any{prefix + "forward": "device-event,correlation"})
	if err == nil || !strings.Contains(err.Error(), prefix+`forward: "device-event,correlation", want none, or any of `) {
		t.Errorf("error %v, want one that names the setting and its values", err)
	}
}

func TestDuplicateNetworkIsAnErrorOfItsSetting(t *testing.T) {
	_, err := readConfig(map[string]any{prefix + "engine": "self-managed", prefix + "known-networks": "10.0.0.0/8,10.0.0.0/8"})
	if err == nil || !strings.Contains(err.Error(), prefix+`known-networks: "10.0.0.0/8,10.0.0.0/8", want `) || strings.Contains(err.Error(), "profile") {
		t.Errorf("error %v, want one that names known-networks alone", err)
	}
}

// TestConflictingSettingsEndTheAppWithOneError runs the app as the CDK CLI does. Each setting is
// valid alone.
func TestConflictingSettingsEndTheAppWithOneError(t *testing.T) {
	app := filepath.Join(t.TempDir(), "app")
	if output, err := exec.Command("go", "build", "-o", app, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	const integration = ", want no source that Device Defender's own integration sends already: leave it out, or set defenderhub:"
	for context, want := range map[string][]string{
		`"engine":"native","forward":"audit"`: {
			`profile: missing, want at least one behavior, such as those of starter, or defenderhub:engine none`,
			`forward: "audit"` + integration + `audit-subscription to off`,
		},
		`"engine":"native","profile":"demo","forward":"detect"`: {`forward: "detect"` + integration + `detect-subscription to off`},
		`"forward":"detect,behavior"`: {
			`forward: "detect", want a source that the engine provides: leave this one out, or set defenderhub:engine native`,
			`forward: "behavior", want a source that the engine provides: leave this one out, or set defenderhub:engine self-managed`,
		},
		`"engine":"self-managed","forward":"device-event,device-event"`: {
			`profile: missing, want at least one behavior, such as those of starter, or defenderhub:reports-every, or defenderhub:engine none`,
			`forward: "device-event", want each source once`,
			`forward: "[device-event device-event]", want behavior as well: without it the alarms of defenderhub:engine self-managed are lost`,
		},
		`"engine":"self-managed","profile":"starter","report-topic":"fleet/+/report","event-topic":"fleet/#"`: {
			`report-topic: "fleet/+/report", want a topic filter that shares no topic with defenderhub:event-topic, which is fleet/#: each report, or answer to a report, would also arrive as a device event and become a dead letter`,
		},
		`"audit-configuration":"existing","audit-disabled":"LOGGING_DISABLED_CHECK","audit-subscription":"off","forward":"audit"`: {
			`audit-disabled: "set", want nothing here: the existing audit configuration decides; change it where it is owned`,
			`forward: "audit", want other sources with defenderhub:audit-configuration existing: the topic of its results is a prop of the construct, Audit.Topic`,
		},
		`"audit-configuration":"existing","audit-subscription":"off"`: {
			`audit-subscription: "off", want create or existing with defenderhub:audit-configuration existing: the topic of its results is a prop of the construct, Audit.Topic. Otherwise nothing imports the findings of audits. If you want that, name the other sources in defenderhub:forward, or defenderhub:forward none`,
		},
		`"engine":"self-managed","profile":"demo","report-topic":"fleet/+/report","reports-rule":"fleet_reports"`: {
			`report-topic: "set", want nothing here, because no behavior uses device reports: add one, such as those of starter, or set defenderhub:reports-every`,
			`reports-rule: "set", want nothing here, because no behavior uses device reports: add one, such as those of starter, or set defenderhub:reports-every`,
		},
		`"audit-except":"` + strings.Join(names(defender.Checks()), ",") + `"`:   {`audit-except: "17 checks", want at least one check left to schedule`},
		`"audit-disabled":"` + strings.Join(names(defender.Checks()), ",") + `"`: {`audit-disabled: "17 checks", want at least one check enabled`},
		`"correlate-attributes":"instanceId","known-networks":"10.0.0.0/8"`: {
			`known-networks: "[10.0.0.0/8]", want defenderhub:engine native or self-managed as well`,
			`correlate-attributes: "instanceId", want defenderhub:correlate true as well`,
		},
		`"notify-emails":"a@example.com","notify-slack":"T1/C1","notify-severity":"LOW"`: {
			`notify-emails: "set", want defenderhub:notify true as well`,
			`notify-severity: "set", want defenderhub:notify true as well`,
			`notify-slack: "set", want defenderhub:notify true as well`,
		},
		`"notify":"true","notify-emails":"nobody","notify-slack":"t1/C1"`: {
			`notify-emails: "nobody", want an address such as security@example.com, without a name`,
			`notify-slack: "t1", want the ID of a workspace that is authorized in the console, 1 to 255 of A-Z 0-9, such as T0123ABCD`,
		},
		`"correlate":"true","correlate-attributes":"a b","forward":"device-event"`: {`correlate-attributes: "a b", want 1 to 128 of A-Z a-z 0-9 _ . , @ / : # -`},
		`"correlate":"true","forward":"none"`:                                      {`correlate: "set", want a forwarder to import its findings: name sources in defenderhub:forward, or leave that setting out`},
	} {
		command := exec.Command(app)
		command.Env = append(os.Environ(), "CDK_CONTEXT_JSON={"+strings.ReplaceAll(`,`+context, `,"`, `,"defenderhub:`)[1:]+"}")
		var stderr strings.Builder
		command.Stderr = &stderr
		err := command.Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("%s: ended with %v, want exit status 1", context, err)
		}
		text := "defenderhub: settings that cannot be combined (cdk.json, or -c KEY=VALUE):\n"
		for _, line := range want {
			text += "defenderhub:" + line + "\n"
		}
		// With an old Node.js, jsii first prints a warning.
		if printed := stderr.String(); !strings.HasSuffix(printed, text) || strings.Contains(printed, "goroutine") {
			t.Errorf("%s: stderr:\n%s\nwant:\n%s", context, printed, text)
		}
	}
}

func TestErrorsThatNoSettingCausedAreUnchanged(t *testing.T) {
	fault := fmt.Errorf("defenderhub: invalid props of DefenderHub/Hub:\n%w", &defender.FieldError{Field: "Forwarder.Prebuilt", Want: "Go on PATH"})
	if got := wrongProps(fault); got != fault {
		t.Errorf("got %v, want %v", got, fault)
	}
}

func TestOtherPanicsContinue(t *testing.T) {
	fault := errors.New("the kernel is gone")
	defer func() {
		if recover() != any(fault) {
			t.Error("the panic was swallowed or changed")
		}
	}()
	_ = wrongProps(fault)
}

// With the profile demo, each device that sends a message of 8 bytes or more would raise an alarm.
func TestCDKJSONIsValidAndSelectsTheStarterProfile(t *testing.T) {
	data, err := os.ReadFile("cdk.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Context map[string]any }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	c, err := readConfig(file.Context)
	if err != nil || !reflect.DeepEqual(c.hub.Detect.Behaviors, defender.StarterBehaviors()) {
		t.Errorf("config %+v, error %v, want the behaviors of starter", c, err)
	}
}

func TestDocsListEverySetting(t *testing.T) {
	page, err := os.ReadFile("docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range settings {
		if !strings.Contains(string(page), "`"+prefix+name+"`") {
			t.Errorf("docs/settings.md does not list %s%s", prefix, name)
		}
	}
}
