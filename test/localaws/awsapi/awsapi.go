// Package awsapi sends signed AWS requests to one endpoint, in three protocols: REST with JSON, JSON
// with a target header, and Query. It is for CloudFormation properties that are sent unchanged.
// Use a typed client for everything else.
package awsapi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// Credentials are valid only for the local AWS.
var Credentials = aws.Credentials{AccessKeyID: "local", SecretAccessKey: "local", Source: "local AWS"}

// Client calls services at one endpoint.
type Client struct {
	// Endpoint is the base URL, without a final slash.
	Endpoint string
	Region   string
}

// Error is an error of a service.
type Error struct {
	Status  int
	Code    string
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s (status %d)", e.Code, e.Message, e.Status) }

// HasCode reports whether err is an [*Error] with this code.
func HasCode(err error, code string) bool {
	var refusal *Error
	return errors.As(err, &refusal) && refusal.Code == code
}

// REST sends body as JSON, or no body if it is nil, and decodes the answer into out unless out is
// nil. path may have a query.
func (c Client) REST(ctx context.Context, service, method, path string, body, out any) error {
	return c.sendJSON(ctx, service, method, path, "application/json", nil, body, out)
}

// Target sends an operation in AWS's JSON 1.0 format.
func (c Client) Target(ctx context.Context, service, target string, body, out any) error {
	return c.sendJSON(ctx, service, http.MethodPost, "/", "application/x-amz-json-1.0", http.Header{"X-Amz-Target": {target}}, body, out)
}

func (c Client) sendJSON(ctx context.Context, service, method, path, contentType string, header http.Header, body, out any) error {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encode %s %s %s: %w", service, method, path, err)
		}
	}
	answer, err := c.Send(ctx, service, method, path, contentType, payload, header)
	if err == nil && out != nil {
		if err = json.Unmarshal(answer, out); err != nil {
			err = fmt.Errorf("decode the answer of %s %s: %w", service, path, err)
		}
	}
	return err
}

// Query sends an action with its parameters as a form, and decodes the XML answer into out unless out
// is nil.
func (c Client) Query(ctx context.Context, service, version, action string, parameters url.Values, out any) error {
	form := url.Values{"Action": {action}, "Version": {version}}
	maps.Copy(form, parameters)
	answer, err := c.Send(ctx, service, http.MethodPost, "/", "application/x-www-form-urlencoded; charset=utf-8", []byte(form.Encode()), nil)
	if err == nil && out != nil {
		if err = xml.Unmarshal(answer, out); err != nil {
			err = fmt.Errorf("decode the answer of %s %s: %w", service, action, err)
		}
	}
	return err
}

// Send signs and sends a request, and returns the body of a successful answer. Any other answer is an
// [*Error].
func (c Client) Send(ctx context.Context, service, method, path, contentType string, body []byte, header http.Header) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.Endpoint+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", service, err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	if err := v4.NewSigner().SignHTTP(ctx, Credentials, req, hash, service, c.Region, time.Now()); err != nil {
		return nil, fmt.Errorf("sign %s request: %w", service, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", service, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s %s: %w", service, path, err)
	}
	if resp.StatusCode >= 300 {
		return nil, refusal(resp, answer)
	}
	return answer, nil
}

func refusal(resp *http.Response, body []byte) *Error {
	e := &Error{Status: resp.StatusCode, Code: resp.Header.Get("X-Amzn-Errortype"), Message: strings.TrimSpace(string(body))}
	var asJSON struct {
		Type    string `json:"__type"`
		Code    string `json:"code"`
		Message string `json:"message"` // matches Message too
	}
	var asXML struct {
		Code    string `xml:"Code"`
		Message string `xml:"Message"`
		Error   struct {
			Code    string `xml:"Code"`
			Message string `xml:"Message"`
		} `xml:"Error"`
	}
	switch {
	case json.Unmarshal(body, &asJSON) == nil:
		e.Code = cmp.Or(e.Code, asJSON.Type, asJSON.Code)
		e.Message = cmp.Or(asJSON.Message, e.Message)
	case xml.Unmarshal(body, &asXML) == nil:
		e.Code = cmp.Or(e.Code, asXML.Error.Code, asXML.Code)
		e.Message = cmp.Or(asXML.Error.Message, asXML.Message, e.Message)
	}
	e.Code = cmp.Or(e.Code, http.StatusText(resp.StatusCode))
	// The code may have the form "prefix#Code" or "Code:http://...".
	e.Code = e.Code[strings.LastIndex(e.Code, "#")+1:]
	e.Code, _, _ = strings.Cut(e.Code, ":")
	return e
}

// HTTPClient is for AWS SDK clients of services on the same machine. The SDK closes a request's body
// when the answer's headers arrive, and WriteTo of smithy-go 1.28.9 then returns io.EOF instead of
// nil. So net/http drops the connection while the answer is being read, and the SDK retries a call
// that succeeded: messages in the lost answer stay hidden, and arrive twice. HTTPClient hides
// WriteTo.
var HTTPClient aws.HTTPClient = plainBody{awshttp.NewBuildableClient()}

type plainBody struct{ client aws.HTTPClient }

func (p plainBody) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return p.client.Do(r)
}
