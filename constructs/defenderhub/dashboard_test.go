package defenderhub_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// widget is a widget of a dashboard's body. Deploy-time values in the body begin with "REF:".
type widget struct {
	Type       string
	Properties struct {
		Title   string
		Metrics [][]any
		Alarms  []string
		View    string
	}
}

// widgets returns the widgets of the only dashboard, by title.
func widgets(t *testing.T, tp template) map[string]widget {
	t.Helper()
	var body strings.Builder
	parts, _ := path(tp.one(t, "AWS::CloudWatch::Dashboard").Properties["DashboardBody"], "Fn::Join").([]any)
	if len(parts) != 2 {
		t.Fatal("the body of the dashboard is no Fn::Join of texts and references")
	}
	for _, part := range parts[1].([]any) {
		if s, ok := part.(string); ok {
			body.WriteString(s)
		} else {
			body.WriteString("REF:" + strings.NewReplacer(`"`, "", `\`, "").Replace(text(part)))
		}
	}
	var out struct{ Widgets []widget }
	if err := json.Unmarshal([]byte(body.String()), &out); err != nil {
		t.Fatalf("%v in %s", err, body.String())
	}
	byTitle := map[string]widget{}
	for _, w := range out.Widgets {
		if w.Properties.Title == "" || byTitle[w.Properties.Title].Type != "" {
			t.Errorf("the title of a widget is missing or repeated: %+v", w)
		}
		byTitle[w.Properties.Title] = w
	}
	return byTitle
}

func TestDashboardShowsEveryPart(t *testing.T) {
	for transport, telemetry := range map[defenderhub.Transport]string{defenderhub.TransportSQS: "ApproximateAgeOfOldestMessage", defenderhub.TransportKinesis: "GetRecords.IteratorAgeMilliseconds"} {
		tp := hubTemplate(t, &defenderhub.DefenderHubProps{
			Subscriptions: &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Off},
			Detect:        selfManaged(defenderhub.SelfManagedProps{Transport: transport}), Dashboard: &defenderhub.DashboardProps{},
			Correlate: &defenderhub.CorrelateProps{Prebuilt: prebuilt},
		})
		shown := widgets(t, tp)
		for title, want := range map[string][]string{
			"Active findings imported, by source":                          {`"Source","behavior"`, `"Source","audit"`, `"Source","device-event"`, "HubForwarderFunction", "HubForwarderAuditFunction"},
			"Active findings imported, by severity":                        {`"Severity","CRITICAL"`, `"Severity","INFORMATIONAL"`},
			"Oldest message, seconds":                                      {"HubForwarderQueue", "HubForwarderErrorQueue", "HubForwarderAuditQueue", "HubDetectErrorQueue", "HubCorrelateQueue"},
			"Calls of BatchImportFindings per second, average of a minute": {contract.MetricImportCalls, "calls / 60"},
			"Incidents":                                {contract.MetricOpened, contract.MetricEnded},
			"Dead letters":                             {"HubForwarderDeadLetters", "HubDetectDeadLetters", "HubCorrelateDeadLetters"},
			"Engine: oldest telemetry, seconds":        {telemetry},
			"Engine: transitions, and unfinished work": {contract.MetricTransitions, contract.MetricBlind, contract.MetricUnfinished, contract.MetricUnsent, contract.MetricFailed, "RuleMessageThrottled"},
			"Findings retried, messages refused or throttled, Security Hub off": {contract.MetricFailed, contract.MetricRefused, contract.MetricHubOff, "RuleMessageThrottled"},
		} {
			metrics := text(shown[title].Properties.Metrics)
			for _, part := range want {
				if !strings.Contains(metrics, part) {
					t.Errorf("%q lacks %s: %s", title, part, metrics)
				}
			}
			delete(shown, title)
		}
		if n, want := len(shown["Alarms"].Properties.Alarms), len(tp.ids("AWS::CloudWatch::Alarm")); n != want || want != 1+6+12+9 {
			t.Errorf("the dashboard shows %d alarms, want %d", n, want)
		}
		if delete(shown, "Alarms"); len(shown) > 0 {
			t.Errorf("unexpected widgets: %v", shown)
		}
		for _, function := range []string{"HubForwarderFunction", "HubForwarderAuditFunction"} {
			if got := path(tp.named(t, "AWS::Lambda::Function", function).Properties, "Environment", "Variables", contract.EnvDetailedMetrics); got != "true" {
				t.Errorf("%s has %v for %s, want true", function, got, contract.EnvDetailedMetrics)
			}
		}
	}
}

func TestDashboardOfFewerParts(t *testing.T) {
	for name, c := range map[string]struct {
		props defenderhub.DefenderHubProps
		want  []string
	}{
		"no engine": {defenderhub.DefenderHubProps{Forward: []defender.Source{defender.DeviceEvents}}, []string{
			"Active findings imported, by severity", "Active findings imported, by source", "Alarms", "Calls of BatchImportFindings per second, average of a minute", "Dead letters",
			"Findings retried, messages refused or throttled, Security Hub off", "Oldest message, seconds",
		}},
		"no forwarder": {defenderhub.DefenderHubProps{NoForwarder: true}, nil},
	} {
		c.props.Dashboard = &defenderhub.DashboardProps{}
		tp := hubTemplate(t, &c.props)
		var got []string
		if len(tp.ids("AWS::CloudWatch::Dashboard")) > 0 {
			for title, w := range widgets(t, tp) {
				got = append(got, title)
				if metrics := text(w.Properties.Metrics); strings.Contains(metrics, `"Source","behavior"`) {
					t.Errorf("%s: %q shows a source that is not forwarded", name, title)
				}
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		if n := len(tp.ids("AWS::SecurityHub::Insight")); n != 4 {
			t.Errorf("%s: %d insights, want 4", name, n)
		}
	}
	without := hubTemplate(t, &defenderhub.DefenderHubProps{})
	if n := len(without.ids("AWS::CloudWatch::Dashboard")) + len(without.ids("AWS::SecurityHub::Insight")); n > 0 || strings.Contains(text(without), contract.EnvDetailedMetrics) {
		t.Error("without Dashboard there is a dashboard, an insight or a detailed metric")
	}
}

func TestInsightsAreAboutAWSIoTAndWaitForSecurityHub(t *testing.T) {
	tp := hubTemplate(t, &defenderhub.DefenderHubProps{Subscriptions: &defenderhub.ProductSubscriptionsProps{EnableSecurityHub: true}, Dashboard: &defenderhub.DashboardProps{}})
	group := map[string]int{}
	for _, id := range tp.ids("AWS::SecurityHub::Insight") {
		p := tp[id].Properties
		group[p["GroupByAttribute"].(string)]++
		filters := text(p["Filters"])
		for _, want := range []string{":product/aws/iot-device-defender-audit", ":product/aws/iot-device-defender-detect", "/default", `{"Comparison":"PREFIX","Value":"AwsIot"}`} {
			if !strings.Contains(filters, want) {
				t.Errorf("%s does not filter by %s: %s", id, want, filters)
			}
		}
		if !slices.Equal(tp[id].DependsOn, tp.ids("AWS::SecurityHub::Hub")) {
			t.Errorf("%s depends on %v, want Security Hub alone", id, tp[id].DependsOn)
		}
	}
	if want := map[string]int{"ResourceId": 1, "Title": 3}; fmt.Sprint(group) != fmt.Sprint(want) {
		t.Errorf("grouped by %v, want %v", group, want)
	}
	checks := tp.named(t, "AWS::SecurityHub::Insight", "HubDashboardChecksInsight").Properties
	if got := text(path(checks, "Filters", "ProductFields")); got != `[{"Comparison":"EQUALS","Key":"ReportType","Value":"AuditFinding"}]` {
		t.Errorf("the insight about checks filters by %s, want findings of audits", got)
	}
}

// The dashboard shows only metrics that the forwarder writes.
func TestDashboardOfAForwarderWithoutDetailedMetrics(t *testing.T) {
	stack := newStack()
	forwarder := defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: prebuilt})
	board := defenderhub.NewDashboard(stack, jsii.String("Board"), &defenderhub.DashboardProps{Name: "fleet", NoInsights: true, Forwarder: forwarder})
	if board.Dashboard() == nil || len(board.Insights()) > 0 {
		t.Error("the dashboard is missing, or has insights")
	}
	tp := synth(t, stack)
	shown := widgets(t, tp)
	if _, ok := shown["Active and archived findings imported"]; !ok || tp.one(t, "AWS::CloudWatch::Dashboard").Properties["DashboardName"] != "fleet" {
		t.Errorf("the dashboard fleet shows %v", shown)
	}
	if _, ok := shown["Active findings imported, by severity"]; ok {
		t.Error("the dashboard shows a metric that the forwarder does not write")
	}
	nothing := defenderhub.NewDashboard(newStack(), jsii.String("Board"), nil)
	if nothing.Dashboard() != nil || len(nothing.Insights()) != 4 {
		t.Error("without parts: a dashboard, or not 4 insights")
	}
}

func TestWrongDashboardPropsAreErrors(t *testing.T) {
	stack := newStack()
	forwarder := defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: prebuilt})
	detect := defenderhub.NewDetect(stack, jsii.String("Detect"), nil)
	rules := defenderhub.NewRules(stack, jsii.String("Rules"), nil)
	defenderhub.NewDashboard(stack, jsii.String("First"), &defenderhub.DashboardProps{Name: "taken", Forwarder: forwarder})
	token := *awscdk.Fn_ImportValue(jsii.String("Name"))
	for name, c := range map[string]struct {
		construct func(id string)
		want      []string
	}{
		"name and sources": {func(id string) {
			defenderhub.NewDashboard(stack, &id, &defenderhub.DashboardProps{Name: "a b", Sources: []defender.Source{defender.DeviceEvents, defender.DeviceEvents}})
		}, []string{"Name", "Sources[1]"}},
		"taken": {func(id string) { defenderhub.NewDashboard(stack, &id, &defenderhub.DashboardProps{Name: "taken"}) }, []string{"Name"}},
		"token": {func(id string) { defenderhub.NewDashboard(stack, &id, &defenderhub.DashboardProps{Name: token}) }, nil},
		"props that the facade sets": {func(id string) {
			defenderhub.NewDefenderHub(stack, &id, withPrebuilt(&defenderhub.DefenderHubProps{Dashboard: &defenderhub.DashboardProps{
				Name: "a b", Rules: rules, Forwarder: forwarder, Sources: []defender.Source{defender.DeviceEvents}, Detect: detect,
			}}))
		}, []string{"Dashboard.Name", "Dashboard.Rules", "Dashboard.Forwarder", "Dashboard.Sources", "Dashboard.Detect"}},
	} {
		got, _ := faults(t, func() { c.construct(strings.ReplaceAll(name, " ", "")) })
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestDashboardShowsMessagesAndIncidentsOnlyWithTheirParts(t *testing.T) {
	stack := newStack()
	board := defenderhub.NewDashboard(stack, jsii.String("Board"), &defenderhub.DashboardProps{Notify: newNotify(stack, defenderhub.NotifyProps{})})
	tp := synth(t, stack)
	shown := widgets(t, tp)
	for title, want := range map[string]string{
		"Messages to people": contract.MetricSent, "Oldest message, seconds": "NotifyQueue", "Dead letters": "NotifyDeadLetters",
	} {
		if metrics := text(shown[title].Properties.Metrics); !strings.Contains(metrics, want) {
			t.Errorf("%q lacks %s: %s", title, want, metrics)
		}
	}
	if len(shown) != 4 || len(board.Insights()) != 4 {
		t.Errorf("%d widgets and %d insights, want 4 and 4", len(shown), len(board.Insights()))
	}
	incidents := hubTemplate(t, &defenderhub.DefenderHubProps{Dashboard: &defenderhub.DashboardProps{}, Correlate: &defenderhub.CorrelateProps{Prebuilt: prebuilt}})
	insight := incidents.named(t, "AWS::SecurityHub::Insight", "HubDashboardIncidentsInsight")
	if n := len(incidents.ids("AWS::SecurityHub::Insight")); n != 5 || !strings.Contains(text(insight.Properties["Filters"]), `"GeneratorId":[{"Comparison":"PREFIX","Value":"defenderhub/correlation/"}]`) {
		t.Errorf("%d insights, want 5; that of incidents is %s", n, text(insight.Properties))
	}
}
