package importer_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/importer"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
	"github.com/defenderhub/defenderhub/lambda/internal/inprocess"
)

const (
	account = "123456789012"
	region  = "us-east-1"
)

// rig has an importer with the SDK's client, and a local Security Hub that is enabled.
type rig struct {
	*securityhubtest.Service
	hub      *securityhubtest.Hub
	importer *importer.Importer
}

func newRig(t *testing.T, config securityhubtest.Config) rig {
	t.Helper()
	service := securityhubtest.New(config)
	hub := service.Hub(account, region)
	if err := hub.Enable(securityhubtest.Settings{}); err != nil {
		t.Fatal(err)
	}
	client := securityhub.NewFromConfig(inprocess.Config(service, account, region))
	return rig{service, hub, importer.New(client, func(n int64) int64 { return n / 2 })}
}

func findings(n int) []asff.Finding {
	all := make([]asff.Finding, n)
	for i := range all {
		all[i] = finding(fmt.Sprintf("f%04d", i))
	}
	return all
}

func finding(id string) asff.Finding {
	f := asff.Finding{
		ID: id, ProductARN: asff.DefaultProductARN("aws", region, account), GeneratorID: "test", AWSAccountID: account,
		Title: "title", Description: "description", RecordState: asff.Active,
		CreatedAt: asff.Milliseconds(1789441198000), UpdatedAt: asff.Milliseconds(1789441198000),
		Resources: []asff.Resource{{Type: "Other", ID: "thing"}},
	}
	f.FindingProviderFields.Severity.Label = "MEDIUM"
	f.FindingProviderFields.Types = []string{asff.TypeUnusualBehaviors}
	return f.Fit()
}

// verdicts counts the results.
func verdicts(results map[string]outcome.Outcome) map[outcome.Verdict]int {
	counts := map[outcome.Verdict]int{}
	for _, r := range results {
		counts[r.Verdict]++
	}
	return counts
}

func TestBatchesKeepTheMaximumNumberOfFindings(t *testing.T) {
	r := newRig(t, securityhubtest.Config{})
	results := r.importer.Import(context.Background(), findings(250))
	if n := verdicts(results)[outcome.Done]; n != 250 {
		t.Errorf("%d imported, want 250: %v", n, results)
	}
	var sizes []int
	for _, c := range r.Calls("BatchImportFindings") {
		sizes = append(sizes, len(c.Findings))
	}
	if fmt.Sprint(sizes) != "[100 100 50]" {
		t.Errorf("calls of %v findings, want [100 100 50]", sizes)
	}
}

func TestRelatedFindingsAreImported(t *testing.T) {
	r := newRig(t, securityhubtest.Config{})
	f := finding("f")
	f.FindingProviderFields.RelatedFindings = []asff.RelatedFinding{{ProductARN: f.ProductARN, ID: "summary"}}
	r.importer.Import(context.Background(), []asff.Finding{f})
	if stored := r.hub.Findings(); len(stored) != 1 || !strings.Contains(string(stored[0].JSON), `"RelatedFindings":[{"Id":"summary","ProductArn":"`+f.ProductARN+`"}]`) {
		t.Errorf("stored %+v", stored)
	}
}

func TestBatchesKeepTheMaximumSize(t *testing.T) {
	r := newRig(t, securityhubtest.Config{})
	large := findings(60)
	for i := range large {
		large[i].ProductFields = map[string]string{}
		for k := range 45 {
			large[i].ProductFields[fmt.Sprintf("field%02d", k)] = strings.Repeat("€", 1600)
		}
		large[i] = large[i].Fit()
	}
	if n := verdicts(r.importer.Import(context.Background(), large))[outcome.Done]; n != 60 {
		t.Errorf("%d imported, want 60", n)
	}
	calls := r.Calls("BatchImportFindings")
	if len(calls) < 2 {
		t.Fatalf("%d calls, want at least two", len(calls))
	}
	for _, c := range calls {
		if c.Bytes > asff.MaxImportBytes {
			t.Errorf("a call of %d bytes, want at most %d", c.Bytes, asff.MaxImportBytes)
		}
	}
}

func TestThrottledCallsAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, securityhubtest.Config{})
		r.Inject(securityhubtest.Fault{Times: 4, Answer: securityhubtest.Throttled()})
		start := time.Now()
		results := r.importer.Import(context.Background(), findings(3))
		if n := verdicts(results)[outcome.Done]; n != 3 {
			t.Errorf("results %v", results)
		}
		// Half of 200, 400, 800 and 1600 ms.
		if waited := time.Since(start); waited != 1500*time.Millisecond {
			t.Errorf("waited %v, want 1.5s", waited)
		}
	})
}

func TestEveryTemporaryFaultIsRetried(t *testing.T) {
	for name, fault := range map[string]securityhubtest.Fault{
		"5xx":          {Answer: securityhubtest.Unavailable()},
		"lost request": {LoseRequest: true},
		"lost answer":  {LoseAnswer: true},
		"SDK throttle": {Answer: &securityhubtest.Error{Code: "ThrottlingException", Status: 400, Message: "Rate exceeded"}},
		"unknown code": {FailFinding: func(id string) *securityhubtest.FindingError {
			if id == "f0001" {
				return &securityhubtest.FindingError{ID: id, Code: "SomethingNew", Message: "try again"}
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, securityhubtest.Config{})
				fault.Times = 2
				r.Inject(fault)
				results := r.importer.Import(context.Background(), findings(3))
				if n := verdicts(results)[outcome.Done]; n != 3 {
					t.Errorf("results %v", results)
				}
			})
		})
	}
}

func TestImportedFindingIsNotSentAgainIfAnotherFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, securityhubtest.Config{})
		r.Inject(securityhubtest.Fault{Times: 2, FailFinding: func(id string) *securityhubtest.FindingError {
			if id == "f0001" {
				return &securityhubtest.FindingError{ID: id, Code: "InternalFailure", Message: "oops"}
			}
			return nil
		}})
		r.importer.Import(context.Background(), findings(3))
		sent := map[string]int{}
		for _, c := range r.Calls("BatchImportFindings") {
			for _, id := range c.Findings {
				sent[id]++
			}
		}
		if sent["f0000"] != 1 || sent["f0001"] != 3 || sent["f0002"] != 1 {
			t.Errorf("imports by finding: %v, want 1, 3 and 1", sent)
		}
	})
}

func TestInvalidFindingIsRefused(t *testing.T) {
	r := newRig(t, securityhubtest.Config{})
	bad := findings(3)
	bad[1].Title = strings.Repeat("x", 300)
	results := r.importer.Import(context.Background(), bad)
	if results["f0001"].Verdict != outcome.Refused || !strings.Contains(results["f0001"].Reason, "InvalidInput") || verdicts(results)[outcome.Done] != 2 {
		t.Errorf("results %v", results)
	}
	r.Inject(securityhubtest.Fault{FailFinding: func(id string) *securityhubtest.FindingError {
		return &securityhubtest.FindingError{ID: id, Code: "FindingSizeExceeded", Message: "240 KB"}
	}})
	if results := r.importer.Import(context.Background(), findings(1)); results["f0000"].Verdict != outcome.Refused {
		t.Errorf("results %v", results)
	}
}

// Security Hub fails one finding. If the reason is unknown, the finding is not retried until the
// deadline. A throttled finding is.
func TestFindingThatAlwaysFailsIsFailing(t *testing.T) {
	for code, want := range map[string]outcome.Verdict{"SomethingNew": outcome.Failing, "InternalFailure": outcome.Failing, "ThrottlingException": outcome.Retry} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, securityhubtest.Config{})
			r.Inject(securityhubtest.Fault{FailFinding: func(id string) *securityhubtest.FindingError {
				if id == "f0001" {
					return &securityhubtest.FindingError{ID: id, Code: code, Message: "no"}
				}
				return nil
			}})
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			begin := time.Now()
			results := r.importer.Import(ctx, findings(3))
			if results["f0001"].Verdict != want || !strings.Contains(results["f0001"].Reason, code+": no") || verdicts(results)[outcome.Done] != 2 {
				t.Errorf("%s: results %v, want f0001 as %v", code, results, want)
			}
			if took := time.Since(begin); want == outcome.Failing && took > 5*time.Second {
				t.Errorf("%s: took %v, want at most 5s", code, took)
			}
		})
	}
}

// unnamed is a Security Hub that returns how many findings failed, but not which.
type unnamed struct {
	importer.API
	calls int
}

func (u *unnamed) BatchImportFindings(ctx context.Context, in *securityhub.BatchImportFindingsInput, o ...func(*securityhub.Options)) (*securityhub.BatchImportFindingsOutput, error) {
	out, err := u.API.BatchImportFindings(ctx, in, o...)
	if u.calls++; u.calls == 1 {
		out.FailedCount = aws.Int32(1)
	}
	return out, err
}

func TestUnnamedFailureIsNotSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, securityhubtest.Config{})
		api := &unnamed{API: securityhub.NewFromConfig(inprocess.Config(r.Service, account, region))}
		results := importer.New(api, func(int64) int64 { return 0 }).Import(context.Background(), findings(3))
		if verdicts(results)[outcome.Done] != 3 || api.calls != 2 {
			t.Errorf("results %v after %d calls, want all imported in two", results, api.calls)
		}
	})
}

func TestFindingThatFailsItsWholeCallIsIsolated(t *testing.T) {
	r := newRig(t, securityhubtest.Config{})
	spoils := func(c securityhubtest.Call) bool { return strings.Contains(strings.Join(c.Findings, " "), "f0042") }
	r.Inject(securityhubtest.Fault{Match: spoils, Answer: &securityhubtest.Error{Code: "InvalidInputException", Message: "no"}})
	results := r.importer.Import(context.Background(), findings(100))
	if results["f0042"].Verdict != outcome.Refused || verdicts(results)[outcome.Done] != 99 {
		t.Errorf("results %v, f0042 %v; want only f0042 refused", verdicts(results), results["f0042"])
	}
	if n := len(r.Calls("BatchImportFindings")); n > 20 {
		t.Errorf("%d calls, want at most 20", n)
	}
}

func TestSecurityHubOffRefusesNoFinding(t *testing.T) {
	r := newRig(t, securityhubtest.Config{})
	if err := r.hub.Disable(); err != nil {
		t.Fatal(err)
	}
	results := r.importer.Import(context.Background(), findings(250))
	if n := verdicts(results)[outcome.HubOff]; n != 250 {
		t.Errorf("results %v", verdicts(results))
	}
	if n := len(r.Calls("")); n != 1 {
		t.Errorf("%d calls while Security Hub is off, want one", n)
	}
}

func TestInvalidAccessMeansThatSecurityHubIsOff(t *testing.T) {
	r := newRig(t, securityhubtest.Config{})
	r.Inject(securityhubtest.Fault{FailFinding: func(id string) *securityhubtest.FindingError {
		return &securityhubtest.FindingError{ID: id, Code: "InvalidAccess", Message: "not enabled"}
	}})
	results := r.importer.Import(context.Background(), findings(120))
	if n := verdicts(results)[outcome.HubOff]; n != 120 {
		t.Errorf("results %v", verdicts(results))
	}
}

func TestMissingPermissionIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, securityhubtest.Config{})
		r.Inject(securityhubtest.Fault{Answer: &securityhubtest.Error{Code: "AccessDeniedException", Status: http.StatusForbidden, Message: "no"}})
		start := time.Now()
		if n := verdicts(r.importer.Import(context.Background(), findings(2)))[outcome.Retry]; n != 2 || time.Since(start) > 0 {
			t.Errorf("%d to retry after %v, want 2 at once", n, time.Since(start))
		}
	})
}

// Security Hub's error does not name the account, so the reason does.
func TestForeignAccountIsNamed(t *testing.T) {
	r := newRig(t, securityhubtest.Config{})
	foreign := findings(1)
	foreign[0].AWSAccountID, foreign[0].ProductARN = "999999999999", strings.ReplaceAll(foreign[0].ProductARN, account, "999999999999")
	result := r.importer.Import(context.Background(), foreign)[foreign[0].ID]
	if result.Verdict != outcome.Retry || !strings.Contains(result.Reason, "AccessDenied") || !strings.Contains(result.Reason, "does not run in account 999999999999") {
		t.Errorf("%+v, want the account named as a cause", result)
	}
	r.Inject(securityhubtest.Fault{Answer: &securityhubtest.Error{Code: "ExpiredTokenException", Status: http.StatusForbidden, Message: "no"}})
	if result := r.importer.Import(context.Background(), foreign)[foreign[0].ID]; strings.Contains(result.Reason, "does not run in account") {
		t.Errorf("%+v names the account, which is not the cause", result)
	}
}

func TestDeadlineIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, securityhubtest.Config{})
		r.Inject(securityhubtest.Fault{Answer: securityhubtest.Throttled()})
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		start := time.Now()
		results := r.importer.Import(ctx, findings(150))
		if n := verdicts(results)[outcome.Retry]; n != 150 {
			t.Errorf("results %v", verdicts(results))
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("took %v, want at most 20s", took)
		}
		if !strings.Contains(results["f0000"].Reason, "Rate exceeded") {
			t.Errorf("reason %q, want the last error", results["f0000"].Reason)
		}
	})
}

func TestManyFindingsAreImportedWithinTheQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, securityhubtest.Config{RateLimits: true})
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if n := verdicts(r.importer.Import(ctx, findings(6000)))[outcome.Done]; n != 6000 {
			t.Errorf("%d imported, want 6000", n)
		}
	})
}

// A finding that Security Hub cannot accept now, or that fails its whole call, does not block
// the batches behind it.
func TestFailedBatchDoesNotBlockLaterBatches(t *testing.T) {
	for name, fault := range map[string]securityhubtest.Fault{
		"a finding fails": {FailFinding: func(id string) *securityhubtest.FindingError {
			if id != "f0000" {
				return nil
			}
			return &securityhubtest.FindingError{Code: "InternalFailure", Message: "text of the service"}
		}},
		"its call fails": {
			Match: func(c securityhubtest.Call) bool {
				return slices.Contains(c.Findings, "f0000")
			},
			Answer: &securityhubtest.Error{Code: "InternalException", Status: http.StatusInternalServerError},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, securityhubtest.Config{})
				r.Inject(fault)
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				results := r.importer.Import(ctx, findings(300))
				if n := verdicts(results)[outcome.Done]; n < 200 || results["f0000"].Verdict == outcome.Done {
					t.Errorf("%d imported, want at least 200; f0000 %v, want a failure", n, results["f0000"])
				}
			})
		})
	}
}
