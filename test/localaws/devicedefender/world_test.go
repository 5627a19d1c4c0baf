package devicedefender_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/devicedefender"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
)

const (
	account  = "123456789012"
	allowAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	// tidy is a policy that AWS's documentation shows as compliant.
	tidy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect",
		"Resource":"arn:aws:iot:us-east-1:123456789012:client/${iot:Connection.Thing.ThingName}"}]}`
	auditRole = "arn:aws:iam::123456789012:role/audit"
	topic     = "arn:aws:sns:us-east-1:123456789012:audits"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// world is a Device Defender with real clients, on a clock that tests step.
// On-demand audits run when they are started, unless held is set.
type world struct {
	*iot.Client
	t        *testing.T
	registry *iotcore.Service
	handler  *iotcore.Handler
	service  *devicedefender.Service
	hub      *securityhubtest.Hub
	broker   *mqtt.Broker
	endpoint string
	region   string

	mu       sync.Mutex
	now      time.Time
	held     bool
	audits   []func()
	messages []string // to SNS
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// useBroker makes newWorld start a broker.
var useBroker = devicedefender.Connections((*mqtt.Broker)(nil))

// step moves the clock and runs the audits that are due.
func (w *world) step(d time.Duration) {
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	w.service.RunDue()
}

// run runs the audits that were held.
func (w *world) run() {
	held := w.audits
	w.audits = nil
	for _, audit := range held {
		audit()
	}
}

func newWorld(t *testing.T, config devicedefender.Config) *world {
	t.Helper()
	w := &world{t: t, now: start, region: config.Region}
	if w.region == "" {
		w.region = "us-east-1"
	}
	w.registry = must[*iotcore.Service](t)(iotcore.New(iotcore.Config{Region: w.region, Now: w.clock}))
	hub := securityhubtest.New(securityhubtest.Config{Now: w.clock})
	w.hub = hub.Hub(account, w.region)
	if config.Registry == nil {
		config.Registry = w.registry
	}
	if config.Connections == useBroker {
		w.broker = must[*mqtt.Broker](t)(mqtt.Start(mqtt.Config{Registry: w.registry, Now: w.clock, PlainAddress: "127.0.0.1:0"}))
		t.Cleanup(func() { w.broker.Close() })
		config.Connections = w.broker
	}
	config.Now = w.clock
	config.SecurityHub = w.hub
	config.Go = func(audit func()) {
		if w.held {
			w.audits = append(w.audits, audit)
			return
		}
		audit()
	}
	config.Notify = func(_ context.Context, _, topicARN, message string) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.messages = append(w.messages, topicARN+" "+message)
		return nil
	}
	w.service = must[*devicedefender.Service](t)(devicedefender.New(config))
	w.handler = iotcore.NewHandler(w.registry, nil)
	devicedefender.Register(w.handler, w.service)
	server := httptest.NewServer(w.handler)
	t.Cleanup(server.Close)
	w.endpoint = server.URL
	w.Client = iot.New(iot.Options{
		Region: w.region, BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
		HTTPClient: awsapi.HTTPClient,
	})
	return w
}

// enable configures the checks, all when none is named, and the SNS topic.
func (w *world) enable(checks ...defender.Check) {
	w.t.Helper()
	if len(checks) == 0 {
		checks = defender.Checks()
	}
	enabled := map[string]types.AuditCheckConfiguration{}
	for _, c := range checks {
		enabled[c.String()] = types.AuditCheckConfiguration{Enabled: true}
	}
	must[*iot.UpdateAccountAuditConfigurationOutput](w.t)(w.UpdateAccountAuditConfiguration(context.Background(), &iot.UpdateAccountAuditConfigurationInput{
		RoleArn: aws.String(auditRole), AuditCheckConfigurations: enabled,
		AuditNotificationTargetConfigurations: map[string]types.AuditNotificationTarget{
			"SNS": {Enabled: true, TargetArn: aws.String(topic), RoleArn: aws.String(auditRole)},
		},
	}))
}

// enabled returns the names of the enabled checks and the topic for notifications.
func (w *world) enabled() (names []string, target string) {
	w.t.Helper()
	got := must[*iot.DescribeAccountAuditConfigurationOutput](w.t)(w.DescribeAccountAuditConfiguration(w.t.Context(), nil))
	for _, name := range slices.Sorted(maps.Keys(got.AuditCheckConfigurations)) {
		if got.AuditCheckConfigurations[name].Enabled {
			names = append(names, name)
		}
	}
	return names, aws.ToString(got.AuditNotificationTargetConfigurations["SNS"].TargetArn)
}

// accept makes Security Hub accept the native findings.
func (w *world) accept() {
	w.t.Helper()
	if err := w.hub.Enable(securityhubtest.Settings{}); err != nil {
		w.t.Fatal(err)
	}
	must[string](w.t)(w.hub.EnableProduct("arn:aws:securityhub:" + w.region + "::product/aws/iot-device-defender-audit"))
}

// audit starts an on-demand audit and returns its task.
func (w *world) audit(checks ...defender.Check) string {
	w.t.Helper()
	var names []string
	for _, c := range checks {
		names = append(names, c.String())
	}
	out := must[*iot.StartOnDemandAuditTaskOutput](w.t)(w.StartOnDemandAuditTask(context.Background(), &iot.StartOnDemandAuditTaskInput{TargetCheckNames: names}))
	return *out.TaskId
}

func (w *world) describe(task string) *iot.DescribeAuditTaskOutput {
	w.t.Helper()
	return must[*iot.DescribeAuditTaskOutput](w.t)(w.DescribeAuditTask(context.Background(), &iot.DescribeAuditTaskInput{TaskId: &task}))
}

// findings returns all findings of a task, as a client pages through them.
func (w *world) findings(task string) []types.AuditFinding {
	w.t.Helper()
	var all []types.AuditFinding
	pages := iot.NewListAuditFindingsPaginator(w, &iot.ListAuditFindingsInput{TaskId: &task, MaxResults: aws.Int32(250)})
	for pages.HasMorePages() {
		all = append(all, must[*iot.ListAuditFindingsOutput](w.t)(pages.NextPage(context.Background())).Findings...)
	}
	return all
}

// result audits one check and returns its status, its counts as non-compliant/total, and each
// finding as resource:code.
func (w *world) result(check defender.Check) (status, counts string, found []string) {
	w.t.Helper()
	task := w.audit(check)
	d := w.describe(task).AuditDetails[check.String()]
	counts = fmt.Sprintf("%d/%d", aws.ToInt64(d.NonCompliantResourcesCount), aws.ToInt64(d.TotalResourcesCount))
	for _, f := range w.findings(task) {
		found = append(found, identifier(f.NonCompliantResource.ResourceIdentifier)+":"+*f.ReasonForNonComplianceCode)
	}
	return string(d.CheckRunStatus), counts, found
}

func identifier(r *types.ResourceIdentifier) string {
	switch {
	case r.PolicyVersionIdentifier != nil:
		return *r.PolicyVersionIdentifier.PolicyName + "/" + *r.PolicyVersionIdentifier.PolicyVersionId
	case r.ClientId != nil:
		return *r.ClientId
	case r.Account != nil:
		return *r.Account
	}
	return aws.ToString(r.DeviceCertificateId)
}

func (w *world) policy(name, document string) {
	w.t.Helper()
	must[*iot.CreatePolicyOutput](w.t)(w.CreatePolicy(context.Background(), &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: &document}))
}

func (w *world) newVersion(name, document string) {
	w.t.Helper()
	must[*iot.CreatePolicyVersionOutput](w.t)(w.CreatePolicyVersion(context.Background(), &iot.CreatePolicyVersionInput{
		PolicyName: &name, PolicyDocument: &document, SetAsDefault: true,
	}))
}

// must returns a function that returns the first of two results, or ends the test.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantCode(t *testing.T, err error, code, text string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), text) {
		t.Errorf("error %v, want %s and %q", err, code, text)
	}
}

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	return must[[]byte](t)(os.ReadFile(filepath.Join("testdata", name)))
}

// replaced reads a sample and replaces the values of the given keys at any depth.
func replaced(t testing.TB, name string, values map[string]any) any {
	t.Helper()
	var sample any
	if err := json.Unmarshal(testdata(t, name), &sample); err != nil {
		t.Fatal(err)
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for k := range v {
				if want, ok := values[k]; ok {
					v[k] = want
				} else {
					walk(v[k])
				}
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(sample)
	return sample
}

// differences compares two JSON values and returns the paths at which they differ.
func differences(path string, got, want any) []string {
	g, isObject := got.(map[string]any)
	wo, wantObject := want.(map[string]any)
	if isObject && wantObject {
		var out []string
		keys := maps.Clone(g)
		maps.Copy(keys, wo)
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			out = append(out, differences(path+"."+k, g[k], wo[k])...)
		}
		return out
	}
	ga, isArray := got.([]any)
	wa, wantArray := want.([]any)
	if isArray && wantArray && len(ga) == len(wa) {
		var out []string
		for i := range ga {
			out = append(out, differences(fmt.Sprintf("%s[%d]", path, i), ga[i], wa[i])...)
		}
		return out
	}
	if fmt.Sprint(got) == fmt.Sprint(want) {
		return nil
	}
	return []string{fmt.Sprintf("%s: %v, want %v", path, got, want)}
}

func object(t testing.TB, text []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}
