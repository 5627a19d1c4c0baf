package defenderhub

import (
	"errors"
	"regexp"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/aws-cdk-go/awscdk/v2/interfaces/interfacesawscloudwatch"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// DashboardProps configure [Dashboard]. The zero value has only insights. A DefenderHub sets the
// parts to show.
type DashboardProps struct {
	// Name is the dashboard's name, 1 to 255 of A-Z a-z 0-9 _ -. Changing it replaces the
	// dashboard.
	// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutDashboard.html
	// Default: "", a name that CloudFormation generates.
	Name string
	// NoInsights leaves out the insights of Security Hub. Insights require that Security Hub CSPM is
	// already on. An account can have 100 custom insights per Region.
	// https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub_limits.html
	NoInsights bool
	// Rules are the rules whose alarms are shown. A DefenderHub sets them.
	// Default: nil, no alarms of rules are shown.
	Rules Rules
	// Forwarder is the forwarder whose findings, queues and alarms are shown. Set
	// ForwarderProps.DetailedMetrics to see findings by severity and the calls of Security Hub. A
	// DefenderHub sets it.
	// Default: nil, no forwarder is shown.
	Forwarder Forwarder
	// Sources are the sources of findings to show. A DefenderHub sets the sources that its forwarder
	// imports.
	// Default: nil, all sources.
	Sources []defender.Source
	// Detect is the Detect whose self-managed engine is shown with its backlog and alarms. A
	// DefenderHub sets it.
	// Default: nil, no engine is shown.
	Detect Detect
	// Correlate is the Correlate whose incidents, queue and alarms are shown. A DefenderHub sets it.
	// Default: nil, no incidents are shown.
	Correlate Correlate
	// Notify is the Notify whose messages, queue and alarms are shown. A DefenderHub sets it.
	// Default: nil, no messages are shown.
	Notify Notify
}

// dashboardName matches the names that CloudWatch allows.
var dashboardName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,255}$`)

func (p DashboardProps) validate() error {
	var f faults
	if p.Name != "" && !unresolved(p.Name) && !dashboardName.MatchString(p.Name) {
		f.add("Name", p.Name, "1 to 255 of A-Z a-z 0-9 _ -, or empty for a generated name")
	}
	f.sources("Sources", p.Sources)
	return f.err()
}

func (p DashboardProps) taken(scope constructs.Construct) error {
	var f faults
	f.taken(scope, named("dashboard", p.Name), true, "Name", p.Name, "another name, or empty for a generated one")
	return f.err()
}

// Dashboard shows the parts in one CloudWatch dashboard, and their findings in insights of
// Security Hub.
type Dashboard interface {
	constructs.Construct
	// Dashboard is the CloudWatch dashboard; nil without parts to show.
	Dashboard() awscloudwatch.Dashboard
	// Insights are the insights of Security Hub, at most five; empty with NoInsights.
	Insights() []awscdk.CfnResource
}

type dashboard struct {
	constructs.Construct
	board    awscloudwatch.Dashboard
	insights []awscdk.CfnResource
}

func (d *dashboard) Dashboard() awscloudwatch.Dashboard { return d.board }

func (d *dashboard) Insights() []awscdk.CfnResource {
	return append([]awscdk.CfnResource(nil), d.insights...)
}

// NewDashboard creates the dashboard and the insights. It panics with one error that lists every
// fault of props.
func NewDashboard(scope constructs.Construct, id *string, props *DashboardProps) Dashboard {
	d := &dashboard{}
	constructs.NewConstruct_Override(d, scope, id)
	p := value(props)
	must(d, errors.Join(p.validate(), p.taken(d)))

	if rows := p.rows(); len(rows) > 0 {
		take(d, named("dashboard", p.Name))
		d.board = awscloudwatch.NewDashboard(d, new("Dashboard"), &awscloudwatch.DashboardProps{
			DashboardName: orNil(p.Name), Widgets: &rows,
		})
	}
	if !p.NoInsights {
		d.addInsights(p.Correlate != nil)
	}
	return d
}

const (
	// gridWidth is the width of a dashboard, rowHeight the height of our widgets, in CloudWatch's
	// units.
	// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
	gridWidth = 24
	rowHeight = 6
	// importQuota is the number of calls of BatchImportFindings per second, per account and Region.
	// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchImportFindings.html
	importQuota = 10
)

// rows returns the widgets of the parts, two in a row, and a row with all alarms.
func (p DashboardProps) rows() []*[]awscloudwatch.IWidget {
	var engine SelfManagedDetect
	if p.Detect != nil {
		engine = p.Detect.SelfManaged()
	}
	var halves []awscloudwatch.IWidget
	if p.Forwarder != nil {
		halves = append(p.findings(), p.calls(), p.failures())
	}
	if p.Correlate != nil {
		halves = append(halves, incidents(p.Correlate))
	}
	if p.Notify != nil {
		halves = append(halves, messages(p.Notify))
	}
	if engine != nil {
		halves = append(halves, engineBacklog(engine), engineFailures(engine))
	}
	waiting, dead, alarms := p.queues(engine)
	if len(waiting) > 0 {
		halves = append(halves, graph("Oldest message, seconds", false, waiting, line(900, "alarm")), graph("Dead letters", false, dead))
	}
	var rows []*[]awscloudwatch.IWidget
	for row := range slices.Chunk(halves, 2) {
		rows = append(rows, &row)
	}
	if len(alarms) > 0 {
		rows = append(rows, &[]awscloudwatch.IWidget{awscloudwatch.NewAlarmStatusWidget(&awscloudwatch.AlarmStatusWidgetProps{
			Title: new("Alarms"), Alarms: &alarms, Width: new(float64(gridWidth)), Height: new(float64(rowHeight)),
		})})
	}
	return rows
}

// queues returns the metrics of waiting messages and of dead letters of all parts, and their alarms.
func (p DashboardProps) queues(engine SelfManagedDetect) (waiting, dead []awscloudwatch.IMetric, alarms []interfacesawscloudwatch.IAlarmRef) {
	add := func(label string, queue awssqs.IQueue) {
		if queue != nil {
			waiting = append(waiting, queue.MetricApproximateAgeOfOldestMessage(maximum(label)))
		}
	}
	watched := func(own []awscloudwatch.IAlarm) {
		for _, a := range own {
			alarms = append(alarms, a)
		}
	}
	part := func(label string, letters awssqs.IQueue, own []awscloudwatch.IAlarm) {
		dead = append(dead, letters.MetricApproximateNumberOfMessagesVisible(maximum(label)))
		watched(own)
	}
	if p.Rules != nil {
		watched(p.Rules.Alarms())
	}
	if f := p.Forwarder; f != nil {
		add("events", f.Queue())
		add("errors of event rules", f.ErrorQueue())
		add("audits", f.AuditQueue())
		part("forwarder", f.DeadLetterQueue(), f.Alarms())
	}
	if engine != nil {
		add("errors of telemetry rules", engine.ErrorQueue())
		part("engine", engine.DeadLetterQueue(), engine.Alarms())
	}
	if p.Detect != nil && p.Detect.Native() != nil && p.Detect.Native().Verification() != nil {
		v := p.Detect.Native().Verification()
		add("verified alarms", v.Queue())
		part("verification", v.DeadLetterQueue(), v.Alarms())
	}
	if c := p.Correlate; c != nil {
		add("findings to correlate", c.Queue())
		part("correlate", c.DeadLetterQueue(), c.Alarms())
	}
	if n := p.Notify; n != nil {
		add("findings to notify about", n.Queue())
		part("notify", n.DeadLetterQueue(), n.Alarms())
	}
	return waiting, dead, alarms
}

func maximum(label string) *awscloudwatch.MetricOptions {
	options := fiveMinutes("Maximum")
	options.Label = &label
	return options
}

func incidents(c Correlate) awscloudwatch.IWidget {
	return graph("Incidents", false, []awscloudwatch.IMetric{c.MetricOpened(labeled("opened")), c.MetricEnded(labeled("ended"))})
}

func messages(n Notify) awscloudwatch.IWidget {
	return graph("Messages to people", false, []awscloudwatch.IMetric{
		n.MetricSent(labeled("sent alone")), n.MetricCapped(labeled("over the cap")), n.MetricDigested(labeled("in a digest")), n.MetricCovered(labeled("covered by an incident")),
	})
}

// findings shows imported findings by source and, with detailed metrics, by severity.
func (p DashboardProps) findings() []awscloudwatch.IWidget {
	sources := p.Sources
	if len(sources) == 0 {
		sources = defender.Sources()
	}
	var bySource, bySeverity []awscloudwatch.IMetric
	by := func(dimension, label string) awscloudwatch.IMetric {
		dimensions := map[string]*string{dimension: &label}
		return p.Forwarder.MetricImported(&awscloudwatch.MetricOptions{DimensionsMap: &dimensions, Label: &label})
	}
	for _, s := range sources {
		bySource = append(bySource, by(contract.MetricDimensionSource, s.String()))
	}
	if p.Forwarder.MetricImportCalls(nil) == nil {
		return []awscloudwatch.IWidget{graph("Active findings imported, by source", true, bySource)}
	}
	for s := defender.Critical; s >= defender.Informational; s-- {
		bySeverity = append(bySeverity, by(contract.MetricDimensionSeverity, s.String()))
	}
	return []awscloudwatch.IWidget{
		graph("Active findings imported, by source", true, bySource),
		graph("Active findings imported, by severity", true, bySeverity),
	}
}

// calls shows the calls of Security Hub against the quota, which all products share.
func (p DashboardProps) calls() awscloudwatch.IWidget {
	minute := &awscloudwatch.MetricOptions{Period: seconds(60)}
	metric := p.Forwarder.MetricImportCalls(minute)
	if metric == nil {
		return graph("Active and archived findings imported", false,
			[]awscloudwatch.IMetric{p.Forwarder.MetricImported(nil), p.Forwarder.MetricArchived(nil)})
	}
	perSecond := awscloudwatch.NewMathExpression(&awscloudwatch.MathExpressionProps{
		Expression: new("calls / 60"), UsingMetrics: &map[string]awscloudwatch.IMetric{"calls": metric},
		Period: seconds(60), Label: new("calls per second"),
	})
	return graph("Calls of BatchImportFindings per second, average of a minute", false,
		[]awscloudwatch.IMetric{perSecond}, line(importQuota, "quota of the account and Region"))
}

func engineBacklog(e SelfManagedDetect) awscloudwatch.IWidget {
	var oldest awscloudwatch.IMetric
	if queue := e.TelemetryQueue(); queue != nil {
		oldest = queue.MetricApproximateAgeOfOldestMessage(maximum("telemetry"))
	} else {
		oldest = expression("telemetry", "stream / 1000", map[string]awscloudwatch.IMetric{
			"stream": e.Stream().MetricGetRecordsIteratorAgeMilliseconds(fiveMinutes("Maximum")),
		})
	}
	return graph("Engine: oldest telemetry, seconds", false, []awscloudwatch.IMetric{oldest}, line(900, "alarm"))
}

func engineFailures(e SelfManagedDetect) awscloudwatch.IWidget {
	return graph("Engine: transitions, and unfinished work", false, []awscloudwatch.IMetric{
		e.MetricTransitions(labeled("transitions")), e.MetricThrottledMessages(labeled("messages throttled by AWS IoT")), e.MetricFailed(labeled("messages retried")), e.MetricUnsent(labeled("transitions not sent")),
		e.MetricBlind(labeled("minutes without judging")), e.MetricUnfinished(labeled("minutes not finished")),
	})
}

func (p DashboardProps) failures() awscloudwatch.IWidget {
	metrics := []awscloudwatch.IMetric{
		p.Forwarder.MetricFailed(labeled("findings retried")), p.Forwarder.MetricRefused(labeled("messages refused")),
		p.Forwarder.MetricSecurityHubOff(labeled("imports while Security Hub is off")),
	}
	if p.Rules != nil {
		metrics = append(metrics, p.Rules.MetricThrottledMessages(labeled("messages throttled by AWS IoT")))
	}
	return graph("Findings retried, messages refused or throttled, Security Hub off", false, metrics)
}

func graph(title string, stacked bool, metrics []awscloudwatch.IMetric, lines ...*awscloudwatch.HorizontalAnnotation) awscloudwatch.IWidget {
	props := &awscloudwatch.GraphWidgetProps{
		Title: &title, Left: &metrics, Stacked: &stacked, Width: new(float64(gridWidth / 2)), Height: new(float64(rowHeight)),
		LeftYAxis: &awscloudwatch.YAxisProps{Min: new(0.0)},
	}
	if len(lines) > 0 {
		props.LeftAnnotations = &lines
	}
	return awscloudwatch.NewGraphWidget(props)
}

func line(value float64, label string) *awscloudwatch.HorizontalAnnotation {
	return &awscloudwatch.HorizontalAnnotation{Value: &value, Label: &label}
}

func labeled(label string) *awscloudwatch.MetricOptions {
	return &awscloudwatch.MetricOptions{Label: &label}
}
