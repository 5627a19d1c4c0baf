package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	hubtypes "github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
)

const (
	policies = "IOT_POLICY_OVERLY_PERMISSIVE_CHECK"
	logging  = "LOGGING_DISABLED_CHECK"
)

// account is an account in which an audit takes one minute. Its findings are in Security Hub five
// minutes later.
type account struct {
	begin     time.Time
	enabled   []string
	details   map[string]types.AuditCheckDetails
	status    types.AuditTaskStatus
	findings  []types.AuditFinding
	delivered map[string]hubtypes.RecordState
	earlier   []hubtypes.AwsSecurityFinding // of an earlier audit
	started   []string
	hubErr    error
}

func (a *account) DescribeAccountAuditConfiguration(context.Context, *iot.DescribeAccountAuditConfigurationInput, ...func(*iot.Options)) (*iot.DescribeAccountAuditConfigurationOutput, error) {
	out := &iot.DescribeAccountAuditConfigurationOutput{AuditCheckConfigurations: map[string]types.AuditCheckConfiguration{"CA_CERTIFICATE_EXPIRING_CHECK": {}}}
	for _, name := range a.enabled {
		out.AuditCheckConfigurations[name] = types.AuditCheckConfiguration{Enabled: true}
	}
	return out, nil
}

func (a *account) StartOnDemandAuditTask(_ context.Context, in *iot.StartOnDemandAuditTaskInput, _ ...func(*iot.Options)) (*iot.StartOnDemandAuditTaskOutput, error) {
	a.begin, a.started = time.Now(), in.TargetCheckNames
	return &iot.StartOnDemandAuditTaskOutput{TaskId: aws.String("task-1")}, nil
}

func (a *account) DescribeAuditTask(context.Context, *iot.DescribeAuditTaskInput, ...func(*iot.Options)) (*iot.DescribeAuditTaskOutput, error) {
	out := &iot.DescribeAuditTaskOutput{TaskStatus: types.AuditTaskStatusInProgress, AuditDetails: map[string]types.AuditCheckDetails{}}
	for name, d := range a.details {
		if time.Since(a.begin) < time.Minute {
			d = types.AuditCheckDetails{CheckRunStatus: types.AuditCheckRunStatusInProgress}
		}
		out.AuditDetails[name] = d
	}
	if time.Since(a.begin) >= time.Minute {
		out.TaskStatus = a.status
	}
	return out, nil
}

// ListAuditFindings returns one finding per page.
func (a *account) ListAuditFindings(_ context.Context, in *iot.ListAuditFindingsInput, _ ...func(*iot.Options)) (*iot.ListAuditFindingsOutput, error) {
	if aws.ToString(in.TaskId) != "task-1" {
		return nil, errors.New("another task")
	}
	n := len(aws.ToString(in.NextToken))
	if n >= len(a.findings) {
		return &iot.ListAuditFindingsOutput{}, nil
	}
	out := &iot.ListAuditFindingsOutput{Findings: a.findings[n : n+1]}
	if n+1 < len(a.findings) {
		out.NextToken = aws.String(strings.Repeat("x", n+1))
	}
	return out, nil
}

func (a *account) GetFindings(_ context.Context, in *securityhub.GetFindingsInput, _ ...func(*securityhub.Options)) (*securityhub.GetFindingsOutput, error) {
	out := &securityhub.GetFindingsOutput{}
	if in.Filters.ProductFields != nil {
		if in.Filters.ProductArn == nil && *in.Filters.RecordState[0].Value == "ACTIVE" {
			out.Findings = a.earlier
		}
		return out, a.hubErr
	}
	if n := len(in.Filters.GeneratorId); n > 20 {
		return nil, errors.New("more than 20 values")
	}
	for _, g := range in.Filters.GeneratorId {
		state, ok := a.delivered[aws.ToString(g.Value)]
		if ok && time.Since(a.begin) >= 6*time.Minute {
			out.Findings = append(out.Findings, hubtypes.AwsSecurityFinding{GeneratorId: g.Value, RecordState: state})
		}
	}
	return out, a.hubErr
}

func finding(id, check, resource string, s types.AuditFindingSeverity) types.AuditFinding {
	return types.AuditFinding{
		FindingId: aws.String(id), CheckName: aws.String(check), Severity: s, ReasonForNonComplianceCode: aws.String("REASON"),
		NonCompliantResource: &types.NonCompliantResource{ResourceType: types.ResourceTypeIotPolicy, ResourceIdentifier: &types.ResourceIdentifier{
			PolicyVersionIdentifier: &types.PolicyVersionIdentifier{PolicyName: aws.String(resource), PolicyVersionId: aws.String("1")},
		}},
	}
}

func fleet() *account {
	hidden := finding("f3", logging, "hidden", types.AuditFindingSeverityLow)
	hidden.IsSuppressed = aws.Bool(true)
	return &account{
		enabled: []string{policies, logging},
		status:  types.AuditTaskStatusCompleted,
		details: map[string]types.AuditCheckDetails{
			policies: {CheckRunStatus: types.AuditCheckRunStatusCompletedNonCompliant, TotalResourcesCount: aws.Int64(9), NonCompliantResourcesCount: aws.Int64(2)},
			logging:  {CheckRunStatus: types.AuditCheckRunStatusCompletedCompliant, TotalResourcesCount: aws.Int64(1)},
		},
		findings: []types.AuditFinding{
			hidden, finding("f1", policies, "too-open\x1b[2J", types.AuditFindingSeverityCritical), finding("f2", policies, "open", types.AuditFindingSeverityCritical),
		},
		delivered: map[string]hubtypes.RecordState{"f1": hubtypes.RecordStateActive, "f2": hubtypes.RecordStateActive},
	}
}

// audit runs the command with --yes, in virtual time. It returns its output, its progress and its
// error.
func audit(t *testing.T, a *account, wait time.Duration, args ...string) (result, string, error) {
	t.Helper()
	var out, errs bytes.Buffer
	var got result
	var err error
	synctest.Test(t, func(t *testing.T) {
		s := &cli.Session{Out: &out, Err: &errs, In: strings.NewReader(""), JSON: true, Yes: true}
		err = run{iot: a, hub: a, wait: wait, poll: 5 * time.Second, region: "eu-west-1", account: "123456789012"}.do(t.Context(), s, args)
	})
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
	}
	return got, errs.String(), err
}

type result struct {
	Checks   []Check
	Findings []Finding
}

func TestAuditIsFollowedToSecurityHub(t *testing.T) {
	a := fleet()
	got, progress, err := audit(t, a, time.Hour)
	if err == nil || err.Error() != "non-compliant: 2 resources" || !errors.As(err, new(cli.Todo)) {
		t.Errorf("error %v, want a cli.Todo about 2 resources", err)
	}
	if want := policies + " " + logging; strings.Join(a.started, " ") != want {
		t.Errorf("started the checks %v, want %s", a.started, want)
	}
	var rows []string
	for _, f := range got.Findings {
		rows = append(rows, f.Resource+" "+string(f.Hub))
	}
	if want := "open:1 ACTIVE|too-open\x1b[2J:1 ACTIVE|hidden:1 suppressed"; strings.Join(rows, "|") != want {
		t.Errorf("findings %q, want %q", rows, want)
	}
	if len(got.Checks) != 2 || got.Checks[0].NonCompliant != 2 || got.Checks[1].Status != "COMPLETED_COMPLIANT" {
		t.Errorf("checks %+v", got.Checks)
	}
	for _, want := range []string{policies + ": IN_PROGRESS", policies + ": COMPLETED_NON_COMPLIANT", "in progress for ", "all findings are in Security Hub after "} {
		if !strings.Contains(progress, want) {
			t.Errorf("progress lacks %q:\n%s", want, progress)
		}
	}
}

// known is the active finding of an earlier audit about the resource open.
func known() hubtypes.AwsSecurityFinding {
	at := aws.String("2026-11-30T03:00:00Z")
	return hubtypes.AwsSecurityFinding{
		Id: aws.String("defenderhub/audit/x"), ProductArn: aws.String("own"), GeneratorId: aws.String("f-before"), CreatedAt: at, UpdatedAt: at,
		AwsAccountId: aws.String("123456789012"), Region: aws.String("eu-west-1"), RecordState: hubtypes.RecordStateActive,
		Resources:     []hubtypes.Resource{{Id: aws.String("open"), Type: aws.String("AwsIotPolicy")}},
		ProductFields: map[string]string{"CheckName": policies, "ReasonForNonComplianceCode": "REASON", "PolicyVersionId": "1"},
	}
}

// The forwarder does not import an unchanged finding again, so its generator is that of an earlier
// audit.
func TestFindingOfAnEarlierAuditIsNotMissing(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*hubtypes.AwsSecurityFinding)
		want   string
	}{
		"the same":                      {func(*hubtypes.AwsSecurityFinding) {}, "ACTIVE"},
		"another check":                 {func(f *hubtypes.AwsSecurityFinding) { f.ProductFields["CheckName"] = logging }, "missing"},
		"another reason":                {func(f *hubtypes.AwsSecurityFinding) { f.ProductFields["ReasonForNonComplianceCode"] = "OTHER" }, "missing"},
		"another policy":                {func(f *hubtypes.AwsSecurityFinding) { f.Resources[0].Id = aws.String("narrow") }, "missing"},
		"another version of the policy": {func(f *hubtypes.AwsSecurityFinding) { f.ProductFields["PolicyVersionId"] = "2" }, "missing"},
		"a member account":              {func(f *hubtypes.AwsSecurityFinding) { f.AwsAccountId = aws.String("210987654321") }, "missing"},
		"an aggregated Region":          {func(f *hubtypes.AwsSecurityFinding) { f.Region = aws.String("us-east-1") }, "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			a := fleet()
			delete(a.delivered, "f2")
			f := known()
			tt.change(&f)
			a.earlier = []hubtypes.AwsSecurityFinding{f}
			got, progress, _ := audit(t, a, time.Hour)
			if len(got.Findings) != 3 || got.Findings[0].Resource != "open:1" || string(got.Findings[0].Hub) != tt.want {
				t.Errorf("findings %+v, want that of open:1 %s; progress:\n%s", got.Findings, tt.want, progress)
			}
		})
	}
}

func TestErrorsOfAnAudit(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*account)
		args   []string
		wait   time.Duration
		want   string
		todo   bool
	}{
		"all compliant": {change: func(a *account) { a.findings = nil }, wait: time.Hour},
		"check failed in a completed task": {change: func(a *account) {
			a.findings = nil
			a.details[logging] = types.AuditCheckDetails{CheckRunStatus: types.AuditCheckRunStatusFailed, ErrorCode: aws.String("INSUFFICIENT_PERMISSIONS")}
		}, want: logging + " failed: INSUFFICIENT_PERMISSIONS", todo: true},
		"check canceled": {change: func(a *account) {
			a.findings = nil
			a.details[logging] = types.AuditCheckDetails{CheckRunStatus: types.AuditCheckRunStatusCanceled}
		}, want: logging + " was canceled", todo: true},
		"task failed":       {change: func(a *account) { a.findings, a.status = nil, types.AuditTaskStatusFailed }, want: "audit task-1 ended FAILED"},
		"finding missing":   {change: func(a *account) { delete(a.delivered, "f2") }, wait: time.Hour, want: "missing in Security Hub after 1h0m0s: 1 finding.", todo: true},
		"Security Hub off":  {change: func(a *account) { a.hubErr = &hubtypes.InvalidAccessException{} }, wait: time.Hour, want: "enable-security-hub", todo: true},
		"no wait":           {change: func(a *account) { a.hubErr = errors.New("was called") }, want: "non-compliant: 2 resources", todo: true},
		"nothing enabled":   {change: func(a *account) { a.enabled = nil }, want: "no audit check is enabled", todo: true},
		"check not enabled": {args: []string{"DEVICE_CERTIFICATE_SHARED_CHECK"}, want: "DEVICE_CERTIFICATE_SHARED_CHECK is not enabled", todo: true},
		"unknown check":     {args: []string{"SHARED"}, want: `"SHARED"`},
	} {
		t.Run(name, func(t *testing.T) {
			a := fleet()
			if tt.change != nil {
				tt.change(a)
			}
			_, _, err := audit(t, a, tt.wait, tt.args...)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.As(err, new(cli.Todo)) != tt.todo {
				t.Errorf("error %v, want one that says %q; a cli.Todo: %v", err, tt.want, tt.todo)
			}
		})
	}
}

func TestAuditOfOneCheckStartsNoOther(t *testing.T) {
	a := fleet()
	_, _, _ = audit(t, a, 0, logging, logging)
	if strings.Join(a.started, " ") != logging {
		t.Errorf("started the checks %v, want %s", a.started, logging)
	}
}

func TestEachIdentifierIsNamed(t *testing.T) {
	for want, r := range map[string]*types.ResourceIdentifier{
		"":         nil,
		"cert":     {DeviceCertificateId: aws.String("cert")},
		"ca":       {CaCertificateId: aws.String("ca")},
		"pool":     {CognitoIdentityPoolId: aws.String("pool")},
		"c#2":      {ClientId: aws.String("c#2")},
		"alias":    {RoleAliasArn: aws.String("alias")},
		"role":     {IamRoleArn: aws.String("role")},
		"arn":      {DeviceCertificateArn: aws.String("arn")},
		"1234":     {Account: aws.String("1234")},
		"CN=x":     {IssuerCertificateIdentifier: &types.IssuerCertificateIdentifier{IssuerCertificateSubject: aws.String("CN=x")}},
		"i/7/CN=x": {IssuerCertificateIdentifier: &types.IssuerCertificateIdentifier{IssuerId: aws.String("i"), IssuerCertificateSerialNumber: aws.String("7"), IssuerCertificateSubject: aws.String("CN=x")}},
		"p:2":      {PolicyVersionIdentifier: &types.PolicyVersionIdentifier{PolicyName: aws.String("p"), PolicyVersionId: aws.String("2")}},
	} {
		if got := resource(r); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
