package securityhubtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
	"github.com/aws/smithy-go"
)

const (
	account    = "123456789012"
	region     = "eu-west-1"
	ownProduct = "arn:aws:securityhub:eu-west-1:123456789012:product/123456789012/default"
	audit      = "arn:aws:securityhub:eu-west-1::product/aws/iot-device-defender-audit"
)

// cloud is a Service with an HTTP server, and a clock that tests move.
type cloud struct {
	*Service
	server *httptest.Server

	mu       sync.Mutex
	time     time.Time
	imported []Imported
}

var accessKey = regexp.MustCompile(`Credential=AKID(\d{12})/`)

func newCloud(t *testing.T, config Config) *cloud {
	t.Helper()
	c := &cloud{time: time.Date(2026, 9, 15, 3, 0, 0, 0, time.UTC)}
	config.Now = c.now
	config.AccountOf = func(r *http.Request) string {
		if m := accessKey.FindStringSubmatch(r.Header.Get("Authorization")); m != nil {
			return m[1]
		}
		return ""
	}
	config.OnImported = func(i Imported) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.imported = append(c.imported, i)
	}
	c.Service = New(config)
	c.server = httptest.NewServer(c.Service)
	t.Cleanup(c.server.Close)
	return c
}

func (c *cloud) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time
}

func (c *cloud) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time = c.time.Add(d)
}

// events returns and clears the list of imported findings.
func (c *cloud) events() []Imported {
	c.mu.Lock()
	defer c.mu.Unlock()
	events := c.imported
	c.imported = nil
	return events
}

// client returns an SDK client for an account and a Region. It does not retry.
func (c *cloud) client(account, region string) *securityhub.Client {
	return securityhub.New(securityhub.Options{
		Region:           region,
		BaseEndpoint:     aws.String(c.server.URL),
		Credentials:      credentials.NewStaticCredentialsProvider("AKID"+account, "secret", ""),
		RetryMaxAttempts: 1,
		HTTPClient:       plainBody{c.server.Client()},
	})
}

// plainBody hides the WriteTo of the SDK's request bodies. The SDK closes a body as soon as
// response headers arrive. smithy-go 1.28.9's WriteTo then returns io.EOF instead of nil, and
// net/http drops the connection before the response is read. A server on the same machine is fast
// enough to trigger this.
type plainBody struct{ client *http.Client }

func (p plainBody) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return p.client.Do(r)
}

// enabled returns a cloud whose hub is enabled for the test's account, the hub, and a client.
func enabled(t *testing.T) (*cloud, *Hub, *securityhub.Client) {
	t.Helper()
	c := newCloud(t, Config{})
	h := c.Hub(account, region)
	if err := h.Enable(Settings{}); err != nil {
		t.Fatal(err)
	}
	return c, h, c.client(account, region)
}

// sample returns a valid finding, as decoded from JSON.
func sample(id string) object {
	return object{
		"SchemaVersion": "2018-10-08",
		"Id":            id,
		"ProductArn":    ownProduct,
		"GeneratorId":   "defenderhub",
		"AwsAccountId":  account,
		"CreatedAt":     "2026-09-15T03:00:00.000Z",
		"UpdatedAt":     "2026-09-15T03:00:00.000Z",
		"Title":         "dev-IZWB violates MessagesPub",
		"Description":   "aws:num-messages-sent was 54 in 300 s",
		"FindingProviderFields": object{
			"Severity": object{"Label": "MEDIUM", "Original": "5"},
			"Types":    []any{"Unusual Behaviors"},
		},
		"ProductFields": object{"BehaviorName": "MessagesPub"},
		"Resources": []any{object{
			"Type": "AwsIotRegisteredThing", "Id": "dev-IZWB",
			"Details": object{"Other": object{"ThingName": "dev-IZWB"}},
		}},
	}
}

// with returns o with the members of change; nil removes one.
func with(o, change object) object {
	o = maps.Clone(o)
	maps.Copy(o, change)
	maps.DeleteFunc(o, func(_ string, v any) bool { return v == nil })
	return o
}

func raw(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// sdkFinding converts JSON into the SDK's type, whose members have the ASFF's names.
func sdkFinding(t *testing.T, o object) types.AwsSecurityFinding {
	t.Helper()
	var f types.AwsSecurityFinding
	if err := json.Unmarshal(raw(o), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func importAll(t *testing.T, client *securityhub.Client, findings ...object) *securityhub.BatchImportFindingsOutput {
	t.Helper()
	out, err := tryImport(t, client, findings...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryImport(t *testing.T, client *securityhub.Client, findings ...object) (*securityhub.BatchImportFindingsOutput, error) {
	t.Helper()
	input := &securityhub.BatchImportFindingsInput{}
	for _, f := range findings {
		input.Findings = append(input.Findings, sdkFinding(t, f))
	}
	return client.BatchImportFindings(context.Background(), input)
}

// mustImport requires that all findings are imported.
func mustImport(t *testing.T, client *securityhub.Client, findings ...object) {
	t.Helper()
	out := importAll(t, client, findings...)
	if *out.FailedCount != 0 || int(*out.SuccessCount) != len(findings) || len(out.FailedFindings) != 0 {
		t.Fatalf("import of %d: %d failed, %d succeeded: %s", len(findings), *out.FailedCount, *out.SuccessCount, raw(out.FailedFindings))
	}
}

// stored returns a finding that must exist.
func stored(t *testing.T, h *Hub, id string) Finding {
	t.Helper()
	f, ok := h.Finding(ownProduct, id)
	if !ok {
		t.Fatalf("finding %q does not exist", id)
	}
	return f
}

// wantError requires an API error with this code and HTTP status.
func wantError(t *testing.T, err error, code string, status int) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Fatalf("error %v, want %s", err, code)
	}
	var response interface{ HTTPStatusCode() int }
	if errors.As(err, &response) && response.HTTPStatusCode() != status {
		t.Fatalf("status %d of %v, want %d", response.HTTPStatusCode(), err, status)
	}
}

// signed sends a request with an Authorization header, without the SDK.
func (c *cloud) signed(t *testing.T, method, path, body string) (status int, errorType, answer string) {
	t.Helper()
	r, err := http.NewRequest(method, c.server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=AKID%s/20260915/%s/securityhub/aws4_request, SignedHeaders=host, Signature=0", account, region))
	return c.do(t, r)
}

func (c *cloud) do(t *testing.T, r *http.Request) (status int, errorType, answer string) {
	t.Helper()
	response, err := c.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("X-Amzn-ErrorType"), string(text)
}
