package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cfntypes "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	hubtypes "github.com/aws/aws-sdk-go-v2/service/securityhub/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"golang.org/x/net/html"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/hub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/findingevent"
)

var now = time.Date(2026, 11, 30, 7, 0, 0, 0, time.UTC)

const hostile = "</td><script src=//evil.example/x.js></script><img src=x onerror=alert(1)>\x1b[2J\u202e"

func finding(device, kind string, s defender.Severity, state asff.RecordState, created, updated time.Duration) hub.Finding {
	return hub.Finding{
		Event: findingevent.Event{
			ID: device + kind, Severity: s, RecordState: state, CreatedAt: now.Add(-created), Title: "title of " + device,
			Order: findingevent.Order{Updated: now.Add(-updated)},
		},
		Source: "behavior", Device: device, Behavior: kind,
	}
}

func fleet() data {
	const day = 24 * time.Hour
	d := data{Now: now, Since: now.Add(-7 * day), Days: 7, Region: "eu-west-1", Stack: "DefenderHub",
		Audit:  &auditTask{"task-1", now.Add(-day), "COMPLETED", []auditCheck{{"LOGGING_DISABLED_CHECK", "COMPLETED_NON_COMPLIANT", 1, 1, 0}}},
		Queues: []queueState{{"DefenderHub-DeadLetters", 3, true}, {"DefenderHub-Queue", 12, false}},
		Counts: map[string]float64{"Imported": 1_002_334, "Unchanged": 2_000_000},
	}
	d.Findings = []hub.Finding{
		finding("pump-7", "telnet", defender.Critical, asff.Active, 2*day, day),
		finding("pump-7", "ports", defender.High, asff.Active, 3*day, day),
		finding(hostile, "ports", defender.Low, asff.Active, 40*day, day),
		finding("pump-8", "ports", defender.High, asff.Archived, 5*day, 5*day-time.Hour),
		finding("pump-9", "ports", defender.High, asff.Archived, 5*day, 5*day-3*time.Hour),
		finding("pump-10", "ports", defender.High, asff.Archived, 5*day, 3*day),
	}
	incident := finding("pump-7", "", defender.Critical, asff.Active, day, day)
	incident.Rule, incident.Title = "compromise-chain", hostile
	d.Findings = append(d.Findings, incident)
	return d
}

func TestSummary(t *testing.T) {
	s := summarize(fleet())
	if got := fmt.Sprint(s.Active, s.Cleared); got != "[2 1 0 1 0] 3" {
		t.Errorf("active and cleared: %s", got)
	}
	if len(s.ByDay) != 8 || s.ByDay[2].Name != "2026-11-25" || fmt.Sprint(s.ByDay[2].Counts) != "[0 3 0 0 0]" {
		t.Errorf("by day: %+v", s.ByDay)
	}
	if s.Devices[0].Name != "pump-7" || s.Devices[0].Total() != 3 || len(s.Devices) != 2 {
		t.Errorf("devices: %+v", s.Devices)
	}
	for _, p := range s.Paces {
		if p.Name == "ports" && (p.Cleared != 3 || p.Open != 2 || p.Median != 3*time.Hour || p.Slow != 48*time.Hour || p.OldestOpen != 40*24*time.Hour) {
			t.Errorf("ports: %+v", p)
		}
	}
	// 2,333 findings are free in a week: a million cost 30 USD, and a million signals 10 USD.
	if fmt.Sprintf("%.2f %.2f", s.Low, s.High) != "44.02 50.02" {
		t.Errorf("cost %.2f to %.2f: %+v", s.Low, s.High, s.Charges)
	}
	if len(s.Incidents) != 1 || s.Incidents[0].Rule != "compromise-chain" {
		t.Errorf("incidents: %+v", s.Incidents)
	}
}

// TestPageLoadsAndRunsNothing parses the page and looks for each element that would load or run
// something.
func TestPageLoadsAndRunsNothing(t *testing.T) {
	d := fleet()
	d.Missing = []string{hostile}
	d.Stack, d.Queues[0].Name, d.Audit.ID = hostile, hostile, hostile
	var out bytes.Buffer
	if err := write(&out, d); err != nil {
		t.Fatal(err)
	}
	if path := os.Getenv("DEFENDERHUB_REPORT"); path != "" {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := html.Parse(&out)
	if err != nil {
		t.Fatal(err)
	}
	charts, tables := 0, 0
	for n := range root.Descendants() {
		if n.Type == html.TextNode && strings.ContainsAny(n.Data, "\x1b\u202e") {
			t.Errorf("text %q is not escaped", n.Data)
		}
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "script", "img", "link", "iframe", "object", "embed", "base", "form":
			t.Errorf("the page has <%s>", n.Data)
		case "table":
			tables++
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || (a.Key == "href" || a.Key == "src" || a.Key == "style") && !strings.HasPrefix(a.Val, "#") {
				t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
			}
			if a.Key == "role" && a.Val == "img" {
				charts++
			}
		}
	}
	if charts != 3 || tables != 8 {
		t.Errorf("%d charts, %d tables: want 3, each with its table, and 5 more tables", charts, tables)
	}
}

func TestChartsHaveAllNumbers(t *testing.T) {
	rows := []row{{"a", []int{1, 0, 2, 0, 0}}, {"b", []int{0, 0, 0, 0, 6}}}
	for _, columns := range []bool{true, false} {
		c := bars("x", columns, rows)
		if c.Top != 6 || len(c.Bars) != 2 || len(c.Bars[0].Parts) != 2 || c.Bars[0].Total != 3 {
			t.Errorf("columns %v: chart %+v, want two bars, of 3 and 6", columns, c)
		}
		for _, b := range c.Bars {
			for _, p := range b.Parts {
				if p.X < 0 || p.Y < 0 || p.X+p.Width > float64(c.Width) || p.Y+p.Height > float64(c.Height) {
					t.Errorf("columns %v: the part %+v is outside %d x %d", columns, p, c.Width, c.Height)
				}
			}
		}
	}
	if c := bars("x", true, nil); len(c.Bars) != 0 || c.Height == 0 {
		t.Errorf("no rows: chart %+v, want no bar and a height", c)
	}
}

func TestEmptyAccountHasAPage(t *testing.T) {
	var out bytes.Buffer
	if err := write(&out, data{Now: now, Since: now.AddDate(0, 0, -1), Days: 1}); err != nil || !strings.Contains(out.String(), "No audit completed") {
		t.Errorf("error %v, page %s, want one that says No audit completed", err, out.String())
	}
}

// account is an account with one finding, one queue and two audits. The calls for the part in fail
// are denied.
type account struct{ fail string }

func (a account) err(part string) error {
	if a.fail == "hub" && part == "findings" {
		return &hubtypes.InvalidAccessException{}
	}
	if a.fail == part {
		return errors.New(part + " is denied")
	}
	return nil
}

func (a account) GetFindings(context.Context, *securityhub.GetFindingsInput, ...func(*securityhub.Options)) (*securityhub.GetFindingsOutput, error) {
	at := aws.String("2026-11-29T07:00:00Z")
	return &securityhub.GetFindingsOutput{Findings: []hubtypes.AwsSecurityFinding{{
		Id: aws.String("defenderhub/x"), ProductArn: aws.String("own"), Title: aws.String("t"), CreatedAt: at, UpdatedAt: at,
	}}}, a.err("findings")
}

func (a account) ListAuditTasks(context.Context, *iot.ListAuditTasksInput, ...func(*iot.Options)) (*iot.ListAuditTasksOutput, error) {
	return &iot.ListAuditTasksOutput{Tasks: []iottypes.AuditTaskMetadata{{TaskId: aws.String("new")}, {TaskId: aws.String("old")}}}, a.err("audit")
}

func (a account) DescribeAuditTask(_ context.Context, in *iot.DescribeAuditTaskInput, _ ...func(*iot.Options)) (*iot.DescribeAuditTaskOutput, error) {
	at := now.Add(-time.Hour)
	if *in.TaskId == "old" {
		at = now.Add(-48 * time.Hour)
	}
	return &iot.DescribeAuditTaskOutput{TaskStatus: iottypes.AuditTaskStatusCompleted, TaskStartTime: &at, AuditDetails: map[string]iottypes.AuditCheckDetails{"C": {}}}, nil
}

func (a account) ListStackResources(context.Context, *cloudformation.ListStackResourcesInput, ...func(*cloudformation.Options)) (*cloudformation.ListStackResourcesOutput, error) {
	resource := func(kind, logical, physical string) cfntypes.StackResourceSummary {
		return cfntypes.StackResourceSummary{ResourceType: &kind, LogicalResourceId: &logical, PhysicalResourceId: &physical}
	}
	return &cloudformation.ListStackResourcesOutput{StackResourceSummaries: []cfntypes.StackResourceSummary{
		resource("AWS::SQS::Queue", "DeadLetters1", "https://sqs/1/dead"), resource("AWS::Lambda::Function", "F", "forwarder"), resource("AWS::SQS::Queue", "Orders", "https://sqs/1/orders"),
	}}, a.err("queues")
}

func (a account) GetTemplate(context.Context, *cloudformation.GetTemplateInput, ...func(*cloudformation.Options)) (*cloudformation.GetTemplateOutput, error) {
	return &cloudformation.GetTemplateOutput{TemplateBody: aws.String(`{"Resources":{
		"F":{"Type":"AWS::Lambda::Function","Properties":{"Environment":{"Variables":{"DEFENDERHUB_DEAD_LETTER_QUEUE_URL":{"Ref":"DeadLetters1"}}}}},
		"DeadLetters1":{"Type":"AWS::SQS::Queue"},"Late":{"Type":"AWS::SQS::Queue"},"Orders":{"Type":"AWS::SQS::Queue"}}}`)}, nil
}

func (a account) GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error) {
	return &sqs.GetQueueAttributesOutput{Attributes: map[string]string{"ApproximateNumberOfMessages": "2", "ApproximateNumberOfMessagesNotVisible": "1"}}, nil
}

// A stack may have many functions of others.
func TestMetricsOfManyFunctions(t *testing.T) {
	functions := make([]string, 100)
	for i := range functions {
		functions[i] = fmt.Sprintf("f%d", i)
	}
	sums, err := counts(t.Context(), account{}, functions, now, now)
	if err != nil || len(sums) != len(counted) || sums[counted[0]] != 300 {
		t.Errorf("sums %v, error %v, want 300 of each", sums, err)
	}
}

func (a account) GetMetricData(_ context.Context, in *cloudwatch.GetMetricDataInput, _ ...func(*cloudwatch.Options)) (*cloudwatch.GetMetricDataOutput, error) {
	if len(in.MetricDataQueries) > 500 {
		return nil, errors.New("ValidationError: the collection MetricDataQueries must not have a size greater than 500")
	}
	out := &cloudwatch.GetMetricDataOutput{}
	for _, q := range in.MetricDataQueries {
		out.MetricDataResults = append(out.MetricDataResults, cwtypes.MetricDataResult{Id: q.Id, Values: []float64{1, 2}})
	}
	return out, a.err("metrics")
}

func TestReadContinuesWithoutADeniedPart(t *testing.T) {
	for _, fail := range []string{"", "findings", "audit", "queues", "metrics"} {
		a := account{fail}
		d, errs := read(t.Context(), sources{a, a, a, a, a}, "eu-west-1", "DefenderHub", 7, now)
		if (len(errs) == 0) != (fail == "") || fail != "" && (len(d.Missing) != 1 || !strings.HasPrefix(d.Missing[0], fail)) {
			t.Errorf("%q denied: missing %v, errors %v", fail, d.Missing, errs)
		}
		if fail != "findings" && len(d.Findings) != 1 || fail != "audit" && d.Audit.ID != "new" ||
			fail != "queues" && (len(d.Queues) != 1 || d.Queues[0] != queueState{"dead", 3, true}) ||
			fail == "" && d.Counts["Imported"] != 3 {
			t.Errorf("%q denied: got %+v, want the other parts", fail, d)
		}
	}
}

// Without findings the report is incomplete, which is an error.
func TestReportWithoutSecurityHubIsIncomplete(t *testing.T) {
	a := account{"hub"}
	d, errs := read(t.Context(), sources{a, a, a, a, a}, "eu-west-1", "DefenderHub", 7, now)
	if len(errs) != 1 || errors.As(errs[0], new(cli.Todo)) || !strings.Contains(errs[0].Error(), "enable-security-hub") || len(d.Missing) != 1 {
		t.Errorf("errors %v, missing %v, want one that is no cli.Todo and names enable-security-hub", errs, d.Missing)
	}
}

func TestReportReplacesTheFileAtOnce(t *testing.T) {
	directory := t.TempDir()
	file, link := filepath.Join(directory, "report.html"), filepath.Join(directory, "link.html")
	if err := os.Symlink("report.html", link); err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		got, err := os.ReadFile(file)
		all, _ := os.ReadDir(directory)
		if string(got) != want || len(all) != 2 {
			t.Errorf("the file has %q, error %v, in a directory of %d entries; want %q and 2", got, err, len(all), want)
		}
	}
	for _, path := range []string{file, link} {
		if err := replace(path, []byte(path)); err != nil {
			t.Fatal(err)
		}
		check(path)
	}
	if err := replace(os.DevNull, []byte("x")); err != nil {
		t.Error(err)
	}

	// A limit on the size of files has the effect of a full disk.
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	small := limit
	small.Cur = 10
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		t.Fatal(err)
	}
	err := replace(link, bytes.Repeat([]byte("x"), 1000))
	if restored := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err == nil || restored != nil {
		t.Errorf("errors %v and %v, want one from the full disk alone", err, restored)
	}
	check(link)
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 seconds", 3 * time.Second: "3 seconds", 5 * time.Minute: "5 minutes", 90 * time.Minute: "90 minutes", 3 * time.Hour: "3 hours", 50 * time.Hour: "2 days",
	} {
		if got := span(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}
