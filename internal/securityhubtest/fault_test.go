package securityhubtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/smithy-go"
)

func TestInjectedErrorsFailTheCall(t *testing.T) {
	for _, answer := range []*Error{
		Throttled(), Unavailable(),
		{Code: "InvalidAccessException", Status: http.StatusUnauthorized, Message: "off"},
		{Code: "ServiceUnavailableException", Status: http.StatusServiceUnavailable, Message: "later"},
		{Code: "AnythingException", Message: "400 by default"},
	} {
		c, h, client := enabled(t)
		remove := c.Inject(Fault{Operation: "BatchImportFindings", Answer: answer})
		for range 2 {
			_, err := tryImport(t, client, sample("1"))
			status := answer.Status
			if status == 0 {
				status = http.StatusBadRequest
			}
			wantError(t, err, answer.Code, status)
		}
		if _, err := client.GetFindings(context.Background(), nil); err != nil {
			t.Errorf("%s fails another operation: %v", answer.Code, err)
		}
		if len(h.Findings()) != 0 {
			t.Errorf("%s: the failed call imported %v", answer.Code, idsOf(h.Findings()))
		}
		remove()
		mustImport(t, client, sample("1"))
	}
}

func TestSDKRetriesThrottledCalls(t *testing.T) {
	for name, answer := range map[string]*Error{"throttled": Throttled(), "unavailable": Unavailable()} {
		c, h, _ := enabled(t)
		c.Inject(Fault{Times: 2, Answer: answer})
		client := securityhub.New(c.client(account, region).Options(), func(o *securityhub.Options) {
			o.RetryMaxAttempts = 3
			o.Retryer = noDelay{o.Retryer}
		})
		mustImport(t, client, sample("1"))
		if calls := c.Calls("BatchImportFindings"); len(calls) != 3 || calls[0].Code != answer.Code || calls[0].Status != answer.Status || calls[2].Status != 200 || len(h.Findings()) != 1 {
			t.Errorf("%s: calls %+v, findings %v, want two with %s and one success", name, calls, idsOf(h.Findings()), answer.Code)
		}
	}
}

// noDelay makes the SDK retry immediately, at most three times.
type noDelay struct{ aws.Retryer }

func (noDelay) MaxAttempts() int                             { return 3 }
func (noDelay) RetryDelay(int, error) (time.Duration, error) { return 0, nil }

func TestSingleFindingsFailWithAnyCode(t *testing.T) {
	c, h, client := enabled(t)
	c.Inject(Fault{Times: 1, FailFinding: func(id string) *FindingError {
		if id == "good" {
			return nil
		}
		return &FindingError{Code: id, Message: "as injected"}
	}})
	out := importAll(t, client, sample("InvalidAccess"), sample("good"), sample("InternalFailure"), sample("FindingSizeExceeded"))
	if *out.FailedCount != 3 || *out.SuccessCount != 1 {
		t.Errorf("got %s, want 3 failed findings and 1 imported", raw(out))
	}
	for _, f := range out.FailedFindings {
		if *f.Id != *f.ErrorCode || *f.ErrorMessage != "as injected" {
			t.Errorf("failed finding %s, want the injected code and message", raw(f))
		}
	}
	if ids := idsOf(h.Findings()); fmt.Sprint(ids) != "[good]" {
		t.Errorf("findings %v, want good alone", ids)
	}
	call := c.Calls("")[0]
	if call.Status != 200 || call.Code != "" || len(call.Failed) != 3 || call.Failed["InvalidAccess"] != "InvalidAccess" || len(call.Findings) != 4 || call.Bytes == 0 ||
		call.Account != account || call.Region != region || !call.Time.Equal(c.now()) {
		t.Errorf("recorded call %+v, want 4 findings, 3 of them failed", call)
	}
	mustImport(t, client, sample("InvalidAccess"))
}

func TestOnlyALostRequestImportsNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		fault Fault
		want  int
	}{
		"answer":  {Fault{Times: 1, LoseAnswer: true}, 1},
		"request": {Fault{Times: 1, LoseRequest: true}, 0},
	} {
		c, h, client := enabled(t)
		c.Inject(tt.fault)
		_, err := tryImport(t, client, sample("1"))
		var api smithy.APIError
		if err == nil || errors.As(err, &api) {
			t.Errorf("lost %s: error %v, want a broken connection", name, err)
		}
		if len(h.Findings()) != tt.want {
			t.Errorf("lost %s: %d findings, want %d", name, len(h.Findings()), tt.want)
		}
		mustImport(t, client, sample("1"))
	}
}

func TestBeforeOfAFaultCanChangeTheService(t *testing.T) {
	c, h, client := enabled(t)
	c.Inject(Fault{
		Match: func(call Call) bool { return len(call.Findings) == 1 && call.Findings[0] == "1" },
		Before: func(Call) {
			c.pass(time.Minute)
			if err := h.Disable(); err != nil {
				t.Error(err)
			}
		},
	})
	mustImport(t, client, sample("2"))
	_, err := tryImport(t, client, sample("1"))
	wantError(t, err, "InvalidAccessException", http.StatusUnauthorized)
}

func TestOnImportedCanCallTheService(t *testing.T) {
	var s *Service
	var seen []string
	s = New(Config{OnImported: func(i Imported) {
		f, ok := s.Hub(i.Account, i.Region).Finding(i.Finding.ProductARN, i.Finding.ID)
		seen = append(seen, fmt.Sprint(f.ID, ok))
	}})
	h := s.Hub(account, region)
	if err := h.Enable(Settings{}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.EnableProduct(audit); err != nil {
		t.Fatal(err)
	}
	native := with(sample("1"), object{"ProductArn": audit})
	if _, err := h.ImportNative(raw(native), raw(with(native, object{"Id": "2"}))); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(seen) != "[1true 2true]" {
		t.Errorf("OnImported found %v, want both findings", seen)
	}
}

func TestRateLimits(t *testing.T) {
	c := newCloud(t, Config{RateLimits: true})
	if err := c.Hub(account, region).Enable(Settings{}); err != nil {
		t.Fatal(err)
	}
	client := c.client(account, region)
	passed := func(call func() error) (n int) {
		for range 50 {
			err := call()
			if err == nil {
				n++
				continue
			}
			wantError(t, err, "LimitExceededException", http.StatusTooManyRequests)
		}
		return n
	}
	imports := func() error { _, err := tryImport(t, client, sample("1")); return err }
	gets := func() error { _, err := client.GetFindings(context.Background(), nil); return err }
	for _, tt := range []struct {
		pause         time.Duration
		imports, gets int
	}{{0, 30, 6}, {0, 0, 0}, {time.Second, 10, 3}, {500 * time.Millisecond, 5, 1}, {time.Hour, 30, 6}} {
		c.pass(tt.pause)
		if i, g := passed(imports), passed(gets); i != tt.imports || g != tt.gets {
			t.Errorf("after %v: %d imports and %d gets succeed, want %d and %d", tt.pause, i, g, tt.imports, tt.gets)
		}
	}
	if err := c.Hub(account, "us-east-1").Enable(Settings{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.client(account, "us-east-1").GetFindings(context.Background(), nil); err != nil {
		t.Errorf("another Region shares the limit: %v", err)
	}
}

func TestErrorOfAnUnknownOperationNamesIt(t *testing.T) {
	c, _, client := enabled(t)
	_, err := client.DescribeStandards(context.Background(), nil)
	wantError(t, err, "NotImplementedException", http.StatusNotImplemented)
	for _, path := range []string{"POST /findings/", "POST /findingsv2/statistics", "GET /findings", "POST /", "DELETE /insights/x", "PATCH /findings"} {
		method, path, _ := strings.Cut(path, " ")
		if status, code, answer := c.signed(t, method, path, "{}"); status != http.StatusNotImplemented || code != "NotImplementedException" || !strings.Contains(answer, path) {
			t.Errorf("%s %s: status %d, %s, want NotImplementedException with the path", method, path, status, answer)
		}
	}
}

func TestRequestsWithoutAValidSignatureFail(t *testing.T) {
	c, _, _ := enabled(t)
	for authorization, want := range map[string]string{
		"": "MissingAuthenticationTokenException",
		"AWS4-HMAC-SHA256 Credential=AKID/20260915/eu-west-1/securityhub, Signature=0":      "MissingAuthenticationTokenException",
		"AWS4-HMAC-SHA256 Credential=AKID/20260915/eu-west-1/iot/aws4_request, Signature=0": "InvalidSignatureException",
	} {
		r, err := http.NewRequest("POST", c.server.URL+"/findings", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", authorization)
		if status, code, _ := c.do(t, r); status != http.StatusForbidden || code != want {
			t.Errorf("%q: status %d, %s, want 403, %s", authorization, status, code, want)
		}
	}
}

func TestOnlyTheLastCallsAreKept(t *testing.T) {
	s := New(Config{})
	for i := range maxCalls + 1 {
		s.logCall(Call{Operation: fmt.Sprint(i)})
	}
	calls := s.Calls("")
	if len(calls) > maxCalls || calls[len(calls)-1].Operation != fmt.Sprint(maxCalls) {
		t.Errorf("%d calls are kept, the last is %s, want at most %d and the newest", len(calls), calls[len(calls)-1].Operation, maxCalls)
	}
}
