package devicedefender_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/devicedefender"
)

const permissive = "IOT_POLICY_OVERLY_PERMISSIVE_CHECK"

func policyVersion(name, version string) *types.ResourceIdentifier {
	return &types.ResourceIdentifier{PolicyVersionIdentifier: &types.PolicyVersionIdentifier{PolicyName: &name, PolicyVersionId: &version}}
}

func (w *world) suppress(check string, r *types.ResourceIdentifier, until *time.Time) {
	w.t.Helper()
	in := &iot.CreateAuditSuppressionInput{CheckName: &check, ResourceIdentifier: r, ExpirationDate: until}
	if until == nil {
		in.SuppressIndefinitely = aws.Bool(true)
	}
	must[*iot.CreateAuditSuppressionOutput](w.t)(w.CreateAuditSuppression(w.t.Context(), in))
}

// post sends a body that no client of the SDK can send.
func (w *world) post(path, body string) (int, string) {
	w.t.Helper()
	response := must[*http.Response](w.t)(http.Post(w.endpoint+path, "application/json", strings.NewReader(body)))
	defer response.Body.Close()
	return response.StatusCode, string(must[[]byte](w.t)(io.ReadAll(response.Body)))
}

func TestFieldsOfAFinding(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	w.policy("p", allowAll)
	w.held = true
	task := w.audit(defender.IoTPolicyOverlyPermissive)
	w.step(387 * time.Millisecond)
	w.run()
	f := w.findings(task)[0]
	if len(*f.FindingId) != 32 || *f.TaskId != task || *f.CheckName != permissive || !f.TaskStartTime.Equal(start) || !f.FindingTime.Equal(start.Add(387*time.Millisecond)) ||
		f.Severity != types.AuditFindingSeverityCritical || f.NonCompliantResource.ResourceType != types.ResourceTypeIotPolicy || f.IsSuppressed == nil || *f.IsSuppressed || f.RelatedResources == nil {
		t.Errorf("finding %+v, want the fields of the task, the check and the policy", f)
	}
	_, err := w.DescribeAuditFinding(t.Context(), &iot.DescribeAuditFindingInput{FindingId: f.FindingId})
	wantCode(t, err, "NotImplementedException", "DescribeAuditFinding")
}

func TestFindingsAreFiltered(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	for _, name := range []string{"a", "b", "c"} {
		w.policy(name, allowAll)
	}
	w.suppress(permissive, policyVersion("b", "1"), nil)
	first := w.audit(defender.IoTPolicyOverlyPermissive, defender.LoggingDisabled)
	w.step(time.Hour)
	w.audit(defender.LoggingDisabled)
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.3f", float64(start.Add(d).UnixMilli())/1000) }
	for _, tt := range []struct{ name, body, want string }{
		{"of a task", `{"taskId":"` + first + `"}`, "a/1 b/1 c/1 " + account},
		{"only suppressed", `{"taskId":"` + first + `","listSuppressedFindings":true}`, "b/1"},
		{"only unsuppressed", `{"taskId":"` + first + `","listSuppressedFindings":false}`, "a/1 c/1 " + account},
		{"of a check", `{"taskId":"` + first + `","checkName":"` + logging + `"}`, account},
		{"of a resource", `{"taskId":"` + first + `","resourceIdentifier":{"policyVersionIdentifier":{"policyName":"c","policyVersionId":"1"}}}`, "c/1"},
		{"of a period", `{"startTime":` + seconds(0) + `,"endTime":` + seconds(time.Hour) + `}`, "a/1 b/1 c/1 " + account + " " + account},
		{"of a later period", `{"startTime":` + seconds(time.Millisecond) + `,"endTime":` + seconds(time.Hour) + `}`, account},
		{"of no task", `{"taskId":"none"}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, text := w.post("/audit/findings", tt.body)
			out, _ := object(t, []byte(text)).(map[string]any)
			found, ok := out["findings"].([]any)
			if status != 200 || !ok || out["nextToken"] != nil {
				t.Fatalf("%d %s", status, text)
			}
			var ids []string
			for _, f := range found {
				r := f.(map[string]any)["nonCompliantResource"].(map[string]any)["resourceIdentifier"].(map[string]any)
				if p, ok := r["policyVersionIdentifier"].(map[string]any); ok {
					ids = append(ids, fmt.Sprint(p["policyName"], "/", p["policyVersionId"]))
				} else {
					ids = append(ids, fmt.Sprint(r["account"]))
				}
			}
			if got := strings.Join(ids, " "); got != tt.want {
				t.Errorf("found %q, want %q", got, tt.want)
			}
		})
	}
}

func TestWrongListingsAreRefused(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	for _, tt := range []struct{ name, body, want string }{
		{"neither task nor period", `{}`, "either taskId"},
		{"both", `{"taskId":"x","startTime":1,"endTime":2}`, "either taskId"},
		{"half a period", `{"startTime":1}`, "must be set together"},
		{"task and half a period", `{"taskId":"x","endTime":1}`, "must be set together"},
		{"period that ends before it begins", `{"startTime":2,"endTime":1}`, "before"},
		{"milliseconds", `{"startTime":1667772700554,"endTime":1667772700555}`, "not in seconds"},
		{"text", `{"startTime":"now","endTime":1}`, "not a time"},
		{"0 results", `{"taskId":"x","maxResults":0}`, "1 to 250"},
		{"251 results", `{"taskId":"x","maxResults":251}`, "1 to 250"},
		{"foreign token", `{"taskId":"x","nextToken":"%"}`, "nextToken"},
		{"unknown check", `{"taskId":"x","checkName":"WEATHER_CHECK"}`, "WEATHER_CHECK"},
		{"no identifier", `{"taskId":"x","resourceIdentifier":{}}`, "0 identifiers"},
		{"two identifiers", `{"taskId":"x","resourceIdentifier":{"account":"123456789012","clientId":"c"}}`, "account, clientId"},
		{"unknown member", `{"taskId":"x","colour":"red"}`, "colour"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, text := w.post("/audit/findings", tt.body)
			if status != 400 && status != 501 || !strings.Contains(text, tt.want) {
				t.Errorf("status %d, answer %s, want an error with %q", status, text, tt.want)
			}
		})
	}
}

func TestSuppressedFindingsDoNotCount(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	w.policy("a", allowAll)
	w.policy("b", allowAll)
	w.suppress(permissive, policyVersion("a", "1"), nil)
	w.suppress(permissive, policyVersion("b", "1"), aws.Time(start.Add(time.Hour)))
	task := w.audit(defender.IoTPolicyOverlyPermissive)
	d := w.describe(task).AuditDetails[permissive]
	if d.CheckRunStatus != types.AuditCheckRunStatusCompletedCompliant || *d.NonCompliantResourcesCount != 0 || *d.SuppressedNonCompliantResourcesCount != 2 || *d.TotalResourcesCount != 2 {
		t.Errorf("check %+v, want it compliant with 2 suppressed of 2", d)
	}
	for _, f := range w.findings(task) {
		if !*f.IsSuppressed {
			t.Errorf("finding %+v, want it suppressed", f)
		}
	}
	w.step(time.Hour)
	if _, counts, _ := w.result(defender.IoTPolicyOverlyPermissive); counts != "1/2" {
		t.Errorf("after one suppression has expired: counts %s, want 1/2", counts)
	}
	w.newVersion("a", allowAll)
	if _, counts, _ := w.result(defender.IoTPolicyOverlyPermissive); counts != "2/2" {
		t.Errorf("with another version of the suppressed policy: counts %s, want 2/2", counts)
	}
}

func TestSuppressionsAreReadBackAndChanged(t *testing.T) {
	w, ctx := newWorld(t, devicedefender.Config{}), t.Context()
	w.enable()
	id := policyVersion("p", "1")
	end := start.Add(24*time.Hour + 250*time.Millisecond)
	must[*iot.CreateAuditSuppressionOutput](t)(w.CreateAuditSuppression(ctx, &iot.CreateAuditSuppressionInput{
		CheckName: aws.String(permissive), ResourceIdentifier: id, ExpirationDate: &end, Description: aws.String("until fixed"), ClientRequestToken: aws.String("t-1"),
	}))
	describe := func() *iot.DescribeAuditSuppressionOutput {
		t.Helper()
		return must[*iot.DescribeAuditSuppressionOutput](t)(w.DescribeAuditSuppression(ctx, &iot.DescribeAuditSuppressionInput{CheckName: aws.String(permissive), ResourceIdentifier: id}))
	}
	if got := describe(); !got.ExpirationDate.Equal(end) || *got.SuppressIndefinitely || *got.Description != "until fixed" || identifier(got.ResourceIdentifier) != "p/1" {
		t.Errorf("created: %+v", got)
	}
	must[*iot.UpdateAuditSuppressionOutput](t)(w.UpdateAuditSuppression(ctx, &iot.UpdateAuditSuppressionInput{CheckName: aws.String(permissive), ResourceIdentifier: id, SuppressIndefinitely: aws.Bool(true)}))
	if got := describe(); got.ExpirationDate != nil || !*got.SuppressIndefinitely || *got.Description != "until fixed" {
		t.Errorf("changed: %+v", got)
	}
	_, err := w.CreateAuditSuppression(ctx, &iot.CreateAuditSuppressionInput{CheckName: aws.String(permissive), ResourceIdentifier: id, SuppressIndefinitely: aws.Bool(true)})
	wantCode(t, err, "ResourceAlreadyExistsException", "p:1")
	_, err = w.CreateAuditSuppression(ctx, &iot.CreateAuditSuppressionInput{
		CheckName: aws.String(permissive), ResourceIdentifier: policyVersion("q", "1"), SuppressIndefinitely: aws.Bool(true), ClientRequestToken: aws.String("t-1"),
	})
	wantCode(t, err, "ResourceAlreadyExistsException", "t-1")
	must[*iot.DeleteAuditSuppressionOutput](t)(w.DeleteAuditSuppression(ctx, &iot.DeleteAuditSuppressionInput{CheckName: aws.String(permissive), ResourceIdentifier: id}))
	_, err = w.DescribeAuditSuppression(ctx, &iot.DescribeAuditSuppressionInput{CheckName: aws.String(permissive), ResourceIdentifier: id})
	wantCode(t, err, "ResourceNotFoundException", "p:1")
	_, err = w.UpdateAuditSuppression(ctx, &iot.UpdateAuditSuppressionInput{CheckName: aws.String(permissive), ResourceIdentifier: id})
	wantCode(t, err, "ResourceNotFoundException", "p:1")
}

func TestWrongSuppressionsAreRefused(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable(defender.LoggingDisabled, defender.DeviceCertificateAge)
	settings := &types.ResourceIdentifier{Account: aws.String(account)}
	for _, tt := range []struct {
		name   string
		change func(*iot.CreateAuditSuppressionInput)
		want   string
	}{
		{"no end", func(in *iot.CreateAuditSuppressionInput) { in.SuppressIndefinitely = nil }, "expirationDate or suppressIndefinitely"},
		{"false end", func(in *iot.CreateAuditSuppressionInput) { in.SuppressIndefinitely = aws.Bool(false) }, "expirationDate or suppressIndefinitely"},
		{"two ends", func(in *iot.CreateAuditSuppressionInput) { in.ExpirationDate = aws.Time(start.Add(time.Hour)) }, "either"},
		{"end in the past", func(in *iot.CreateAuditSuppressionInput) {
			in.SuppressIndefinitely, in.ExpirationDate = nil, aws.Time(start.Add(-time.Hour))
		}, "in the past"},
		{"description too long", func(in *iot.CreateAuditSuppressionInput) { in.Description = aws.String(strings.Repeat("a", 1001)) }, "1000"},
		{"line break", func(in *iot.CreateAuditSuppressionInput) { in.Description = aws.String("a\nb") }, "printable"},
		{"unknown check", func(in *iot.CreateAuditSuppressionInput) { in.CheckName = aws.String("X") }, "X"},
		{"disabled check", func(in *iot.CreateAuditSuppressionInput) {
			in.CheckName, in.ResourceIdentifier = aws.String(permissive), policyVersion("p", "1")
		}, "not enabled"},
		{"resource of another check", func(in *iot.CreateAuditSuppressionInput) { in.ResourceIdentifier = policyVersion("p", "1") }, "needs the resource identifier account"},
		{"account", func(in *iot.CreateAuditSuppressionInput) {
			in.ResourceIdentifier = &types.ResourceIdentifier{Account: aws.String("me")}
		}, "12 digits"},
		{"certificate id", func(in *iot.CreateAuditSuppressionInput) {
			in.CheckName, in.ResourceIdentifier = aws.String("DEVICE_CERTIFICATE_AGE_CHECK"), &types.ResourceIdentifier{DeviceCertificateId: aws.String("abc")}
		}, "64 hex digits"},
		{"policy without a version", func(in *iot.CreateAuditSuppressionInput) {
			in.CheckName = aws.String(permissive)
			in.ResourceIdentifier = &types.ResourceIdentifier{PolicyVersionIdentifier: &types.PolicyVersionIdentifier{PolicyName: aws.String("p")}}
		}, "policyVersionId"},
		{"token", func(in *iot.CreateAuditSuppressionInput) { in.ClientRequestToken = aws.String("a b") }, "clientRequestToken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := &iot.CreateAuditSuppressionInput{CheckName: aws.String(logging), ResourceIdentifier: settings, SuppressIndefinitely: aws.Bool(true)}
			tt.change(in)
			_, err := w.CreateAuditSuppression(t.Context(), in)
			wantCode(t, err, "InvalidRequestException", tt.want)
		})
	}
}

func TestOldNamesOfChecksAreRefused(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	for _, c := range defender.Checks() {
		if old := c.Info().OldName; old != "" {
			_, err := w.DescribeAuditSuppression(t.Context(), &iot.DescribeAuditSuppressionInput{CheckName: &old, ResourceIdentifier: &types.ResourceIdentifier{Account: aws.String(account)}})
			wantCode(t, err, "InvalidRequestException", old)
		}
	}
}

func TestSuppressionEnds(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	describe := func(policy string) error {
		_, err := w.DescribeAuditSuppression(t.Context(), &iot.DescribeAuditSuppressionInput{CheckName: aws.String(permissive), ResourceIdentifier: policyVersion(policy, "1")})
		return err
	}
	w.suppress(permissive, policyVersion("one", "1"), aws.Time(start.Add(time.Hour)))
	w.suppress(permissive, policyVersion("two", "1"), aws.Time(start.Add(2*time.Hour)))
	w.step(time.Hour) // ends the suppression of one
	wantCode(t, describe("one"), "ResourceNotFoundException", "one")
	if err := describe("two"); err != nil {
		t.Error(err)
	}
	_, err := w.ListAuditSuppressions(t.Context(), &iot.ListAuditSuppressionsInput{})
	wantCode(t, err, "NotImplementedException", "ListAuditSuppressions")
}
