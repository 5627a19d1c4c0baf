package edge_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/test/localaws/edge"
)

func TestServiceIsReadFromTheSignature(t *testing.T) {
	for name, tt := range map[string]struct {
		header, query string
		want          edge.Scope
		ok            bool
	}{
		"header": {
			header: "AWS4-HMAC-SHA256 Credential=AKID/20261101/eu-west-1/sqs/aws4_request, SignedHeaders=host, Signature=00",
			want:   edge.Scope{AccessKey: "AKID", Region: "eu-west-1", Service: "sqs"}, ok: true,
		},
		"header without spaces": {
			header: "AWS4-HMAC-SHA256 SignedHeaders=host,Credential=AKID/20261101/us-east-1/SecurityHub/aws4_request,Signature=00",
			want:   edge.Scope{AccessKey: "AKID", Region: "us-east-1", Service: "securityhub"}, ok: true,
		},
		"key with a slash": {
			header: "AWS4-HMAC-SHA256 Credential=a/b/20261101/us-east-1/s3/aws4_request, Signature=00",
			want:   edge.Scope{AccessKey: "a/b", Region: "us-east-1", Service: "s3"}, ok: true,
		},
		"several Regions": {
			header: "AWS4-ECDSA-P256-SHA256 Credential=AKID/20261101/s3/aws4_request, Signature=00",
			want:   edge.Scope{AccessKey: "AKID", Service: "s3"}, ok: true,
		},
		"presigned": {
			query: "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2F20261101%2Fus-east-1%2Fs3%2Faws4_request",
			want:  edge.Scope{AccessKey: "AKID", Region: "us-east-1", Service: "s3"}, ok: true,
		},
		"unsigned":       {},
		"other scheme":   {header: "Bearer AKID/20261101/us-east-1/s3/aws4_request"},
		"no credential":  {header: "AWS4-HMAC-SHA256 SignedHeaders=host"},
		"no terminator":  {header: "AWS4-HMAC-SHA256 Credential=AKID/20261101/us-east-1/s3/other"},
		"too short":      {header: "AWS4-HMAC-SHA256 Credential=AKID/s3/aws4_request"},
		"no service":     {header: "AWS4-HMAC-SHA256 Credential=AKID/20261101/us-east-1//aws4_request"},
		"header decides": {header: "Bearer x", query: "X-Amz-Credential=AKID%2F20261101%2Fus-east-1%2Fs3%2Faws4_request"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/?"+tt.query, nil)
			if tt.header != "" {
				r.Header.Set("Authorization", tt.header)
			}
			got, ok := edge.ScopeOf(r)
			if got != tt.want || ok != tt.ok {
				t.Errorf("got %+v %v, want %+v %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func FuzzScope(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKID/20261101/eu-west-1/sqs/aws4_request, Signature=00")
	f.Add("AWS4-HMAC-SHA256 Credential=/////,,")
	f.Fuzz(func(t *testing.T, header string) {
		r := &http.Request{Header: http.Header{"Authorization": {header}}, URL: &url.URL{}}
		if scope, ok := edge.ScopeOf(r); ok && (scope.Service == "" || !strings.Contains(header, "aws4_request")) {
			t.Errorf("%q gives service %q", header, scope.Service)
		}
	})
}

// answering returns a handler that answers each request with text.
func answering(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, text) })
}

func signed(method, path, service string) *http.Request {
	r := httptest.NewRequest(method, path, nil)
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKID/20261101/us-east-1/"+service+"/aws4_request, Signature=00")
	return r
}

func answer(h http.Handler, r *http.Request) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestRequestsGoToTheirService(t *testing.T) {
	var e edge.Edge
	e.SetEmulator(answering("emulator"), "iot", "sqs")
	e.Handle("securityhub", answering("our Security Hub"))
	e.Wrap("iot", func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/audit/") {
				fmt.Fprint(w, "our audit")
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	e.Wrap("securityhub", func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "before ")
			next.ServeHTTP(w, r)
		})
	})
	if path := e.HandleInternal("hook", answering("hook")); path != "/_localaws/hook" {
		t.Errorf("internal path is %q", path)
	}
	for _, tt := range []struct {
		request *http.Request
		want    string
	}{
		{signed("POST", "/findings/import", "securityhub"), "before our Security Hub"},
		{signed("GET", "/audit/tasks", "iot"), "our audit"},
		{signed("GET", "/things", "iot"), "emulator"},
		{signed("POST", "/", "sqs"), "emulator"},
		{httptest.NewRequest("GET", "/bucket/key", nil), "emulator"},
		{httptest.NewRequest("POST", "/_localaws/hook", nil), "hook"},
		{httptest.NewRequest("POST", "/_localaws/hook/below", nil), "hook"},
	} {
		if _, got := answer(&e, tt.request); got != tt.want {
			t.Errorf("%s %s: answered by %q, want %q", tt.request.Method, tt.request.URL, got, tt.want)
		}
	}
	if code, got := answer(&e, signed("POST", "/", "pipes")); code != http.StatusNotImplemented || !strings.Contains(got, "no service pipes") {
		t.Errorf("an unknown service: got %d %q, want 501 and its name", code, got)
	}
	if code, _ := answer(&e, httptest.NewRequest("GET", "/_localaws/other", nil)); code != http.StatusNotFound {
		t.Errorf("an unknown internal path: got %d, want 404", code)
	}
}

func TestHostHeaderReachesTheEmulator(t *testing.T) {
	emulator := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Host, r.URL, body)
	}))
	defer emulator.Close()
	base, _ := url.Parse(emulator.URL)
	r := httptest.NewRequest("PUT", "http://bucket.localhost:4566/key%20one?x=1", strings.NewReader("body"))
	if _, got := answer(edge.Emulator(base), r); got != "bucket.localhost:4566 /key%20one?x=1 body" {
		t.Errorf("the emulator got %q, want the host, the path and the body of the caller", got)
	}
}

func TestErrorNamesTheOperationThatTheEmulatorLacks(t *testing.T) {
	emulator := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(500)
		fmt.Fprint(w, "<html><head><title>NotImplementedError: describe_audit_task\n // Werkzeug Debugger</title>")
	}))
	defer emulator.Close()
	base, _ := url.Parse(emulator.URL)

	code, body := answer(edge.Emulator(base), signed("GET", "/audit/tasks/1", "iot"))
	var refusal struct{ Message string }
	if err := json.Unmarshal([]byte(body), &refusal); err != nil || code != http.StatusNotImplemented {
		t.Fatalf("got %d %q, want 501 with a message", code, body)
	}
	for _, part := range []string{"iot GET /audit/tasks/1", "describe_audit_task"} {
		if !strings.Contains(refusal.Message, part) {
			t.Errorf("message %q does not name %q", refusal.Message, part)
		}
	}

	query := signed("POST", "/", "sns")
	query.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if _, body := answer(edge.Emulator(base), query); !strings.Contains(body, "<Code>NotImplemented</Code>") {
		t.Errorf("a caller of the Query protocol gets %q, want NotImplemented in XML", body)
	}
}

func TestWithoutEmulatorEverythingIsRefused(t *testing.T) {
	if code, body := answer(&edge.Edge{}, signed("POST", "/", "sqs")); code != http.StatusNotImplemented || !strings.Contains(body, "no emulator runs") {
		t.Errorf("got %d %q, want 501 with the reason", code, body)
	}
}
