package audit_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/audit"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/delivery"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/importer"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger/ledgertest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
	"github.com/defenderhub/defenderhub/lambda/internal/inprocess"
)

const (
	account = "123456789012"
	region  = "us-east-1"

	policies     = "IOT_POLICY_OVERLY_PERMISSIVE_CHECK"
	certificates = "DEVICE_CERTIFICATE_SHARED_CHECK"
	logging      = "LOGGING_DISABLED_CHECK"
	intermediate = "INTERMEDIATE_CA_REVOKED_FOR_ACTIVE_DEVICE_CERTIFICATES_CHECK"
)

// rig has an auditor, a ledger in memory, a local Security Hub behind the SDK's client, and an
// AWS IoT whose audit findings the test sets.
type rig struct {
	t       *testing.T
	iot     *fakeIoT
	table   *ledgertest.Table
	service *securityhubtest.Service
	hub     *securityhubtest.Hub
	auditor *audit.Auditor
	// importTakes is how long a call of BatchImportFindings takes.
	importTakes time.Duration
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, iot: &fakeIoT{findings: map[string][]types.AuditFinding{}}, table: &ledgertest.Table{}}
	r.service = securityhubtest.New(securityhubtest.Config{})
	r.hub = r.service.Hub(account, region)
	if err := r.hub.Enable(securityhubtest.Settings{}); err != nil {
		t.Fatal(err)
	}
	r.service.Inject(securityhubtest.Fault{Before: func(securityhubtest.Call) { time.Sleep(r.importTakes) }})
	half := func(n int64) int64 { return n / 2 }
	log := slog.New(slog.DiscardHandler)
	book := ledger.New(r.table, region, contract.DefaultQuietTime)
	r.auditor = &audit.Auditor{
		IoT: r.iot, Table: r.table, Findings: book, Region: region, Random: half, Log: log,
		Deliver: &delivery.Delivery{
			Ledger:   book,
			Importer: importer.New(securityhub.NewFromConfig(inprocess.Config(r.service, account, region)), half),
			Metrics:  emf.New(contract.MetricDimensionForwarder, "f", io.Discard, time.Now), Log: log,
		},
	}
	return r
}

// process runs one invocation for a task.
func (r *rig) process(t mapping.AuditTask, timeout time.Duration) outcome.Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return r.auditor.Process(ctx, time.Now(), mapping.Mapper{Account: account, Partition: "aws", Region: region}, t)
}

// must processes a task and requires that it is done.
func (r *rig) must(t mapping.AuditTask) {
	r.t.Helper()
	if o := r.process(t, time.Hour); o.Verdict != outcome.Done {
		r.t.Fatalf("task %s: %+v", t.ID, o)
	}
}

// states returns the record states of audit findings, by policy or certificate.
func (r *rig) states() map[string]string {
	states := map[string]string{}
	for _, f := range r.hub.Findings() {
		if f.ProductFields["ReportType"] == "AuditFinding" {
			states[f.ProductFields["PolicyName"]+f.ProductFields["DeviceCertificateId"]] = f.RecordState
		}
	}
	return states
}

func (r *rig) want(want map[string]string) {
	r.t.Helper()
	if got := r.states(); fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("Security Hub shows %v, want %v", got, want)
	}
}

// task returns a task that ran at a minute after the start of the test, with a status for each
// check.
func task(id string, minute int, checks map[string]string) mapping.AuditTask {
	started := time.Now().Add(time.Duration(minute-1000) * time.Minute)
	t := mapping.AuditTask{ID: id, Status: "COMPLETED", Type: "ON_DEMAND_AUDIT_TASK", Started: started.UnixMilli(), Ended: started.Add(time.Minute).UnixMilli()}
	for _, name := range []string{policies, certificates, logging, intermediate} {
		if status, ok := checks[name]; ok {
			t.Checks = append(t.Checks, mapping.AuditCheck{Name: name, Status: status, NonCompliant: 1, Total: 9})
		}
	}
	return t
}

// bad returns the status of non-compliant checks.
func bad(checks ...string) map[string]string {
	m := map[string]string{}
	for _, c := range checks {
		m[c] = "COMPLETED_NON_COMPLIANT"
	}
	return m
}

func policy(name string) types.AuditFinding {
	return types.AuditFinding{
		CheckName: aws.String(policies), FindingId: aws.String("finding-" + name), Severity: "CRITICAL",
		ReasonForNonComplianceCode: aws.String("ALLOWS_BROAD_ACCESS_TO_IOT_DATA_PLANE_ACTIONS"),
		NonCompliantResource: &types.NonCompliantResource{ResourceType: types.ResourceTypeIotPolicy, ResourceIdentifier: &types.ResourceIdentifier{
			PolicyVersionIdentifier: &types.PolicyVersionIdentifier{PolicyName: &name, PolicyVersionId: aws.String("1")}}},
	}
}

func certificate(id string) types.AuditFinding {
	return types.AuditFinding{
		CheckName: aws.String(certificates), FindingId: aws.String("finding-" + id), Severity: "CRITICAL",
		NonCompliantResource: &types.NonCompliantResource{ResourceType: types.ResourceTypeDeviceCertificate, ResourceIdentifier: &types.ResourceIdentifier{DeviceCertificateId: &id}},
	}
}

func suppressed(f types.AuditFinding) types.AuditFinding {
	f.IsSuppressed = aws.Bool(true)
	return f
}

// fakeIoT lists findings in pages. A token is the task and a position.
type fakeIoT struct {
	findings map[string][]types.AuditFinding
	takes    time.Duration
	// fail, if set, may fail the nth call.
	fail  func(n int, in *iot.ListAuditFindingsInput) error
	calls int
	// listed counts how often each position was listed.
	listed map[int]int
	// between runs after each page.
	between func(page int)

	// disabled has the checks that the account's configuration disables. configuration, if set, may
	// fail the call.
	disabled      []string
	configuration func() error

	// related has the related resources of each finding. failRelated, if set, may fail the nth call.
	related      map[string][]types.RelatedResource
	failRelated  func(n int) error
	relatedCalls int
}

// ListRelatedResourcesForAuditFinding returns at most 20 resources per page.
func (f *fakeIoT) ListRelatedResourcesForAuditFinding(ctx context.Context, in *iot.ListRelatedResourcesForAuditFindingInput, _ ...func(*iot.Options)) (*iot.ListRelatedResourcesForAuditFindingOutput, error) {
	f.relatedCalls++
	if f.failRelated != nil {
		if err := f.failRelated(f.relatedCalls); err != nil {
			return nil, err
		}
	}
	if n := aws.ToInt32(in.MaxResults); n < 1 || n > 250 {
		return nil, fmt.Errorf("unexpected input %+v", in)
	}
	all, from := f.related[*in.FindingId], 0
	if in.NextToken != nil {
		from, _ = strconv.Atoi(*in.NextToken)
	}
	to := min(len(all), from+20)
	out := &iot.ListRelatedResourcesForAuditFindingOutput{RelatedResources: all[from:to]}
	if to < len(all) {
		out.NextToken = aws.String(strconv.Itoa(to))
	}
	return out, nil
}

func (f *fakeIoT) DescribeAccountAuditConfiguration(context.Context, *iot.DescribeAccountAuditConfigurationInput, ...func(*iot.Options)) (*iot.DescribeAccountAuditConfigurationOutput, error) {
	if f.configuration != nil {
		if err := f.configuration(); err != nil {
			return nil, err
		}
	}
	out := &iot.DescribeAccountAuditConfigurationOutput{AuditCheckConfigurations: map[string]types.AuditCheckConfiguration{}}
	for _, c := range defender.Checks() {
		out.AuditCheckConfigurations[c.String()] = types.AuditCheckConfiguration{Enabled: !slices.Contains(f.disabled, c.String())}
	}
	return out, nil
}

func throttled() error {
	return &smithy.GenericAPIError{Code: "ThrottlingException", Message: "Rate exceeded"}
}

func (f *fakeIoT) ListAuditFindings(ctx context.Context, in *iot.ListAuditFindingsInput, _ ...func(*iot.Options)) (*iot.ListAuditFindingsOutput, error) {
	f.calls++
	time.Sleep(f.takes)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if f.fail != nil {
		if err := f.fail(f.calls, in); err != nil {
			return nil, err
		}
	}
	if aws.ToInt32(in.MaxResults) != 250 || in.ListSuppressedFindings || in.StartTime != nil {
		return nil, fmt.Errorf("unexpected input %+v", in)
	}
	all, from := f.findings[*in.TaskId], 0
	if in.NextToken != nil {
		from, _ = strconv.Atoi(*in.NextToken)
	}
	if f.listed == nil {
		f.listed = map[int]int{}
	}
	f.listed[from]++
	to := min(len(all), from+250)
	out := &iot.ListAuditFindingsOutput{Findings: all[from:to]}
	if to < len(all) {
		out.NextToken = aws.String(strconv.Itoa(to))
	}
	if f.between != nil {
		f.between(from / 250)
	}
	return out, nil
}
