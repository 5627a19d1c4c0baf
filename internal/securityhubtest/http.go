package securityhubtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// request is a call before its operation runs.
type request struct {
	call   *Call
	hub    *Hub
	body   []byte
	query  url.Values
	arn    string // the ARN in the path, for operations that have one
	refuse func(id string) *FindingError
}

// ServeHTTP answers a request of an AWS SDK. The Region is that of the signature's scope, so one
// Service serves all Regions.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := Call{Time: s.config.Now(), Account: s.config.AccountOf(r)}
	id := s.nextRequestID()
	output, loseAnswer, err := s.serve(&call, r)
	call.Status = http.StatusOK
	if err != nil {
		var refusal *Error
		if !errors.As(err, &refusal) {
			refusal = &Error{"InternalException", http.StatusInternalServerError, err.Error()}
		}
		call.Code, call.Status = refusal.Code, refusal.Status
		if call.Status == 0 {
			call.Status = http.StatusBadRequest
		}
		output = map[string]string{"Code": refusal.Code, "Message": refusal.Message}
	}
	s.remember(call)
	if loseAnswer {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-RequestId", id)
	if call.Code != "" {
		w.Header().Set("X-Amzn-ErrorType", call.Code)
	}
	w.WriteHeader(call.Status)
	_, _ = w.Write(encode(output)) // fails only if the caller is gone
}

func (s *Service) nextRequestID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.served++
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", s.served)
}

func (s *Service) serve(call *Call, r *http.Request) (output any, loseAnswer bool, err error) {
	route, arn, err := routeOf(r)
	if err != nil {
		return nil, false, err
	}
	call.Operation = route.operation
	if call.Region, err = signedRegion(r); err != nil {
		return nil, false, err
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxCallBytes+1))
	if err != nil {
		return nil, false, invalidInput("reading the body: %v", err)
	}
	call.Bytes = len(body)
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
	}
	call.Findings = findingIDs(route.operation, body)
	faults := s.faultsFor(*call)
	for _, f := range faults {
		if f.Before != nil {
			f.Before(*call)
		}
		loseAnswer = loseAnswer || f.LoseAnswer
	}
	for _, f := range faults {
		if f.LoseRequest {
			return nil, true, nil
		}
		if f.Answer != nil {
			return nil, loseAnswer, f.Answer
		}
	}
	hub := s.Hub(call.Account, call.Region)
	if err := hub.throttle(route.operation); err != nil {
		return nil, loseAnswer, err
	}
	if call.Bytes > MaxCallBytes {
		return nil, loseAnswer, invalidInput("the body is larger than 6 MB")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, loseAnswer, invalidInput("the query does not parse: %v", err)
	}
	output, err = route.serve(&request{call, hub, body, query, arn, firstRefusal(faults)})
	return output, loseAnswer, err
}

// firstRefusal returns the first Answer of the faults.
func firstRefusal(faults []Fault) func(id string) *FindingError {
	return func(id string) *FindingError {
		for _, f := range faults {
			if f.FailFinding == nil {
				continue
			}
			if refusal := f.FailFinding(id); refusal != nil {
				return &FindingError{id, refusal.Code, refusal.Message}
			}
		}
		return nil
	}
}

// findingIDs returns the finding IDs in a call, for Calls and Match. It ignores parse errors,
// which the operation reports.
func findingIDs(operation string, body []byte) []string {
	type named struct {
		ID string `json:"Id"`
	}
	var input struct{ Findings, FindingIdentifiers []named }
	if operation != "BatchImportFindings" && operation != "BatchUpdateFindings" {
		return nil
	}
	_ = json.Unmarshal(body, &input)
	var ids []string
	for _, f := range append(input.Findings, input.FindingIdentifiers...) {
		ids = append(ids, f.ID)
	}
	return ids
}

var credentialScope = regexp.MustCompile(`^[^/]+/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request$`)

// signedRegion returns the Region that the caller signed for.
func signedRegion(r *http.Request) (string, error) {
	credential := r.URL.Query().Get("X-Amz-Credential")
	if _, rest, ok := strings.Cut(r.Header.Get("Authorization"), "Credential="); ok {
		credential, _, _ = strings.Cut(rest, ",")
	}
	scope := credentialScope.FindStringSubmatch(strings.TrimSpace(credential))
	switch {
	case scope == nil:
		return "", &Error{"MissingAuthenticationTokenException", http.StatusForbidden, "Missing Authentication Token"}
	case scope[2] != "securityhub":
		return "", &Error{"InvalidSignatureException", http.StatusForbidden,
			"Credential should be scoped to correct service: 'securityhub'."}
	}
	return scope[1], nil
}

// input decodes a body into a struct, and refuses unknown members.
func (r *request) input(into any) error {
	decoder := json.NewDecoder(bytes.NewReader(r.body))
	decoder.DisallowUnknownFields()
	decoder.UseNumber()
	err := decoder.Decode(into)
	if _, after := decoder.Token(); err == nil && !errors.Is(after, io.EOF) {
		err = errors.New("data follows the object")
	}
	if err != nil {
		return invalidInput("the body is not the input of %s: %v", r.call.Operation, err)
	}
	return nil
}
