package defenderhub_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine"
)

func TestWrongSelfManagedPropsAreErrors(t *testing.T) {
	token := *awscdk.Fn_ImportValue(jsii.String("Name"))
	received := defender.Behavior{Name: "quiet", Criteria: defender.MessagesReceived.LessThan(5, defender.Window5m)}
	many := make([]defender.SecurityProfile, 4)
	for i := range many {
		many[i].Name = fmt.Sprintf("p%d", i)
		for j := range 75 {
			many[i].Behaviors = append(many[i].Behaviors, defender.Behavior{Name: fmt.Sprintf("b%d", j), Criteria: defender.MessageByteSize.LessThan(8)})
		}
	}
	longGroups := make([]defender.Target, 20)
	for i := range longGroups {
		longGroups[i] = defender.ThingGroup(fmt.Sprintf("%0127d", i))
	}
	for name, c := range map[string]struct {
		change func(*defenderhub.DetectProps)
		want   []string
	}{
		"every prop": {func(p *defenderhub.DetectProps) {
			*p.SelfManaged = defenderhub.SelfManagedProps{
				Transport: 7, Shards: 201, ReportTopic: "a/+b", ReportsRuleName: "fleet-reports", ReportInterval: time.Second, ReportsEvery: 90 * time.Second, ReportsSeverity: 9, MinDatapoints: -1, MembershipAge: 25 * time.Hour, UnregisteredLifetime: time.Minute,
				BatchSize: 10001, BatchWindow: 301 * time.Second, Closers: 17, Prebuilt: "testdata", MemoryMiB: 64,
				Timeout: time.Second, Function: &defenderhub.FunctionProps{Architecture: 2, LogLevel: 3, LogRetention: "1 day", VPCSubnets: &awsec2.SubnetSelection{SubnetType: awsec2.SubnetType_PUBLIC}}, StateRemovalPolicy: awscdk.RemovalPolicy_SNAPSHOT,
				Alarms: &defenderhub.SelfManagedAlarmsProps{Errors: defenderhub.Alarm{Above: -1}, CloserStopped: defenderhub.InactivityAlarm{Periods: 289}},
			}
		}, []string{
			"SelfManaged.Transport", "SelfManaged.Shards", "SelfManaged.ReportTopic", "SelfManaged.ReportsRuleName", "SelfManaged.ReportInterval", "SelfManaged.ReportsEvery", "SelfManaged.ReportsSeverity", "SelfManaged.MinDatapoints", "SelfManaged.MembershipAge", "SelfManaged.UnregisteredLifetime",
			"SelfManaged.BatchSize", "SelfManaged.BatchWindow", "SelfManaged.Closers", "SelfManaged.Function.Architecture", "SelfManaged.Function.LogLevel", "SelfManaged.Function.LogRetention", "SelfManaged.Function.VPCSubnets", "SelfManaged.Function.VPCSubnets.SubnetType", "SelfManaged.Prebuilt", "SelfManaged.MemoryMiB",
			"SelfManaged.Timeout", "SelfManaged.StateRemovalPolicy", "SelfManaged.Alarms.Errors.Above", "SelfManaged.Alarms.CloserStopped.Periods",
		}},
		"shards without stream": {func(p *defenderhub.DetectProps) { p.SelfManaged.Shards = 2 }, []string{"SelfManaged.Shards"}},
		"concurrency of a stream": {func(p *defenderhub.DetectProps) {
			p.SelfManaged.Transport, p.SelfManaged.MaxConcurrency = defenderhub.TransportKinesis, 5
		}, []string{"SelfManaged.MaxConcurrency"}},
		"Basic Ingest":           {func(p *defenderhub.DetectProps) { p.SelfManaged.ReportTopic = "$aws/rules/r/+" }, []string{"SelfManaged.ReportTopic"}},
		"AWS's topics":           {func(p *defenderhub.DetectProps) { p.SelfManaged.ReportTopic = "$aws/events/presence/#" }, []string{"SelfManaged.ReportTopic"}},
		"every topic":            {func(p *defenderhub.DetectProps) { p.SelfManaged.ReportTopic = "+/#" }, []string{"SelfManaged.ReportTopic"}},
		"variable":               {func(p *defenderhub.DetectProps) { p.SelfManaged.ReportTopic = "fleet/${iot:ClientId}" }, []string{"SelfManaged.ReportTopic"}},
		"topic of device events": {func(p *defenderhub.DetectProps) { p.SelfManaged.ReportTopic = "defenderhub/#" }, []string{"SelfManaged.ReportTopic"}},
		"reserved topic": {func(p *defenderhub.DetectProps) {
			p.SelfManaged.ReportTopic = defenderhub.ReservedReportTopic
		}, nil},
		"token as topic":     {func(p *defenderhub.DetectProps) { p.SelfManaged.ReportTopic = token }, []string{"SelfManaged.ReportTopic"}},
		"no behavior":        {func(p *defenderhub.DetectProps) { p.Behaviors = nil }, []string{"Behaviors"}},
		"unsupported metric": {func(p *defenderhub.DetectProps) { p.Behaviors = append(p.Behaviors, received) }, []string{"Behaviors[2].Criteria"}},
		"all at once": {func(p *defenderhub.DetectProps) {
			p.Behaviors = []defender.Behavior{received}
			p.Profiles = []defender.SecurityProfile{{Behaviors: []defender.Behavior{{Name: token, Criteria: defender.MessagesReceived.LessThan(5, defender.Window5m), Dimension: &defender.Dimension{TopicFilters: []string{"a", token}}}}}}
		}, []string{"Behaviors[0].Criteria", "Profiles[0].Behaviors[0].Name", "Profiles[0].Behaviors[0].Dimension.TopicFilters[1]", "Profiles[0].Behaviors[0].Criteria", "Profiles[0].Name"}},
		"reserved names": {func(p *defenderhub.DetectProps) {
			p.Profiles = []defender.SecurityProfile{{Name: defenderhub.DefaultProfile, Behaviors: defender.DemoBehaviors()}, {Name: engine.AgentProfile, Behaviors: defender.DemoBehaviors()}}
		}, []string{"Profiles[0].Name", "Profiles[1].Name"}},
		"settings of unused reports": {func(p *defenderhub.DetectProps) {
			p.Behaviors = defender.DemoBehaviors()
			p.SelfManaged.ReportTopic, p.SelfManaged.ReportsRuleName, p.SelfManaged.ReportsSeverity = "fleet/+/report", "fleet_reports", defender.High
		}, []string{"SelfManaged.ReportTopic", "SelfManaged.ReportsRuleName", "SelfManaged.ReportsSeverity"}},
		"reports without behavior": {func(p *defenderhub.DetectProps) {
			p.Behaviors = defender.DemoBehaviors()
			p.SelfManaged.ReportsEvery, p.SelfManaged.ReportsRuleName = 15*time.Minute, "fleet_reports"
		}, nil},
		"retained metric": {func(p *defenderhub.DetectProps) {
			p.Profiles = []defender.SecurityProfile{{Name: "p", Behaviors: defender.DemoBehaviors(), RetainedMetrics: []defender.Metric{defender.Disconnects}}}
		}, []string{"Profiles[0].RetainedMetrics"}},
		"too many":    {func(p *defenderhub.DetectProps) { p.Profiles = many }, []string{"Behaviors"}},
		"long groups": {func(p *defenderhub.DetectProps) { p.Targets = longGroups }, []string{"Targets"}},
	} {
		t.Run(name, func(t *testing.T) {
			props := selfManaged(defenderhub.SelfManagedProps{})
			c.change(props)
			stack := newStack()
			connected(stack, props)
			got, _ := faults(t, func() { defenderhub.NewDetect(stack, jsii.String("Detect"), props) })
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %v\nwant %v", got, c.want)
			}
		})
	}
}

func TestBehaviorTransitionsNeedForwarderAndEngine(t *testing.T) {
	for name, c := range map[string]struct {
		props defenderhub.DefenderHubProps
		want  []string
	}{
		"transitions not forwarded": {defenderhub.DefenderHubProps{Detect: selfManaged(defenderhub.SelfManagedProps{}), Forward: []defender.Source{defender.DeviceEvents}}, []string{"Forward"}},
		"nothing forwarded":         {defenderhub.DefenderHubProps{Detect: selfManaged(defenderhub.SelfManagedProps{}), NoForwarder: true}, []string{"Forward"}},
		"only transitions":          {defenderhub.DefenderHubProps{Detect: selfManaged(defenderhub.SelfManagedProps{}), Forward: []defender.Source{defender.BehaviorTransitions}}, nil},
		"without engine":            {defenderhub.DefenderHubProps{Forward: []defender.Source{defender.BehaviorTransitions}}, []string{"Forward[0]"}},
		"with native engine":        {defenderhub.DefenderHubProps{Detect: nativeDetect(), Forward: []defender.Source{defender.BehaviorTransitions}}, []string{"Forward[0]"}},
		"other forwarder":           {defenderhub.DefenderHubProps{Detect: connected(newStack(), selfManaged(defenderhub.SelfManagedProps{}))}, []string{"Detect.Forwarder"}},
		"unsupported metric": {defenderhub.DefenderHubProps{Detect: &defenderhub.DetectProps{SelfManaged: &defenderhub.SelfManagedProps{}, Behaviors: []defender.Behavior{
			{Name: "quiet", Criteria: defender.MessagesReceived.LessThan(5, defender.Window5m)},
		}}}, []string{"Detect.Behaviors[0].Criteria"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := faults(t, func() {
				defenderhub.NewDefenderHub(newStack(), jsii.String("Hub"), withPrebuilt(&c.props))
			})
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// A topic filter of reports must not overlap with that of device events.
func TestReportsAndEventsShareNoTopic(t *testing.T) {
	for _, c := range []struct {
		reports, events string
		forward         []defender.Source
		wrong           bool
	}{
		{"fleet/+/report", "fleet/+/security", nil, false},
		{"fleet/+/report", "fleet/+/+", nil, true},
		{"fleet/#", "fleet/+/security", nil, true},
		{"defenderhub/#", "", nil, true},
		{"defenderhub/#", "", []defender.Source{defender.BehaviorTransitions}, false},
		{"fleet/+/report", "fleet/+/report/+", nil, true}, // the evaluator publishes its answers there
		{"fleet/+/report", "fleet/" + *awscdk.Aws_REGION() + "/#", nil, false},
		{"", "fleet/#", nil, false},
	} {
		props := withPrebuilt(&defenderhub.DefenderHubProps{
			Detect: selfManaged(defenderhub.SelfManagedProps{ReportTopic: c.reports}), Rules: &defenderhub.RulesProps{EventTopic: c.events}, Forward: c.forward,
		})
		got, message := faults(t, func() { defenderhub.NewDefenderHub(newStack(), jsii.String("Hub"), props) })
		if (got != nil) != c.wrong || c.wrong && !slices.Equal(got, []string{"Detect.SelfManaged.ReportTopic"}) {
			t.Errorf("reports on %q, events on %q: faults of %v, want one: %v\n%s", c.reports, c.events, got, c.wrong, message)
		}
	}
}
