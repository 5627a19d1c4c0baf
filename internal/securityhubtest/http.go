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
	"strconv"
	"strings"
)

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
	s.logCall(call)
	if loseAnswer {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-RequestId", id)
	if call.Code != "" {
		w.Header().Set("X-Amzn-ErrorType", call.Code)
	}
	w.WriteHeader(call.Status)
	_, _ = w.Write(encode(output)) // an error means that the caller has disconnected
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

// firstRefusal returns a function that returns the first error that the faults have for a finding.
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

// input decodes the body into a struct. It refuses unknown members.
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

// route is an operation of the API. A path with a trailing "/" is followed by an ARN.
type route struct {
	method, path, operation string
	serve                   func(*request) (output any, err error)
}

var none = struct{}{}

var routes = []route{
	{"POST", "/findings/import", "BatchImportFindings", batchImportFindings},
	{"PATCH", "/findings/batchupdate", "BatchUpdateFindings", batchUpdateFindings},
	{"POST", "/findings", "GetFindings", getFindings},

	{"POST", "/accounts", "EnableSecurityHub", enableSecurityHub},
	{"GET", "/accounts", "DescribeHub", describeHub},
	{"GET", "/administrator", "GetAdministratorAccount", getAdministratorAccount},
	{"GET", "/hubv2", "DescribeSecurityHubV2", describeSecurityHubV2},
	{"POST", "/findingsv2", "GetFindingsV2", getFindingsV2},
	{"DELETE", "/accounts", "DisableSecurityHub", func(r *request) (any, error) { return none, r.hub.Disable() }},

	{"POST", "/productSubscriptions", "EnableImportFindingsForProduct", enableImportFindingsForProduct},
	{"GET", "/productSubscriptions", "ListEnabledProductsForImport", listEnabledProductsForImport},
	{"DELETE", "/productSubscriptions/", "DisableImportFindingsForProduct", func(r *request) (any, error) { return none, r.hub.DisableProduct(r.arn) }},

	{"POST", "/insights", "CreateInsight", onSaved("Insight", insights, createInsight)},
	{"POST", "/insights/get", "GetInsights", onSaved("Insight", insights, getSaved[insight]("Insights"))},
	{"PATCH", "/insights/", "UpdateInsight", onSaved("Insight", insights, updateInsight)},
	{"DELETE", "/insights/", "DeleteInsight", onSaved("Insight", insights, deleteSaved[insight]("InsightArn"))},

	{"POST", "/actionTargets", "CreateActionTarget", onSaved(action, actionTargets, createActionTarget)},
	{"POST", "/actionTargets/get", "DescribeActionTargets", onSaved(action, actionTargets, getSaved[actionTarget]("ActionTargets"))},
	{"DELETE", "/actionTargets/", "DeleteActionTarget", onSaved(action, actionTargets, deleteSaved[actionTarget]("ActionTargetArn"))},
}

const action = "Action target"

// routeOf returns the operation of a request and the ARN in its path. SDKs escape the slashes of
// an ARN for some operations only.
func routeOf(r *http.Request) (route, string, error) {
	path := r.URL.EscapedPath()
	for _, each := range routes {
		if each.method != r.Method {
			continue
		}
		if path == each.path {
			return each, "", nil
		}
		rest, ok := strings.CutPrefix(path, each.path)
		if !ok || !strings.HasSuffix(each.path, "/") || !isARN(rest) {
			continue
		}
		arn, err := url.PathUnescape(rest)
		return each, arn, err
	}
	return route{}, "", &Error{"NotImplementedException", http.StatusNotImplemented,
		"the local Security Hub has no operation at " + r.Method + " " + path}
}

func isARN(escaped string) bool {
	return strings.HasPrefix(escaped, "arn:") || strings.HasPrefix(strings.ToLower(escaped), "arn%3a")
}

func batchImportFindings(r *request) (any, error) {
	submissions, err := decodeImportBody(r.body)
	if err != nil {
		return nil, err
	}
	result, err := r.hub.importOwn(submissions, r.refuse)
	if err != nil {
		return nil, err
	}
	answer := struct {
		FailedCount, SuccessCount int
		FailedFindings            []FindingError
	}{len(result.Failed), result.Succeeded, append([]FindingError{}, result.Failed...)}
	for _, f := range result.Failed {
		r.failed(f.ID, f.Code)
	}
	return answer, nil
}

func (r *request) failed(id, code string) {
	if r.call.Failed == nil {
		r.call.Failed = map[string]string{}
	}
	r.call.Failed[id] = code
}

func batchUpdateFindings(r *request) (any, error) {
	request, err := decodeUpdate(r.body)
	if err != nil {
		return nil, err
	}
	answer, err := r.hub.update(request, r.refuse)
	for _, f := range answer.UnprocessedFindings {
		r.failed(f.FindingIdentifier.ID, f.ErrorCode)
	}
	return answer, err
}

func enableSecurityHub(r *request) (any, error) {
	input := struct {
		Tags                    map[string]string
		EnableDefaultStandards  bool
		ControlFindingGenerator string
	}{EnableDefaultStandards: true}
	if err := r.input(&input); err != nil {
		return nil, err
	}
	return none, r.hub.Enable(Settings{
		ControlFindingGenerator: input.ControlFindingGenerator, DefaultStandards: input.EnableDefaultStandards, Tags: input.Tags,
	})
}

func describeHub(r *request) (any, error) {
	settings, on := r.hub.Settings()
	if !on {
		return nil, notSubscribed(r.hub.account)
	}
	if arn := r.query.Get("HubArn"); arn != "" && arn != r.hub.ARN() {
		return nil, notFound("Hub %s not found", arn)
	}
	return object{
		"HubArn": r.hub.ARN(), "SubscribedAt": formatInstant(settings.SubscribedAt), "AutoEnableControls": true,
		"ControlFindingGenerator": settings.ControlFindingGenerator,
	}, nil
}

func enableImportFindingsForProduct(r *request) (any, error) {
	var input struct{ ProductArn string }
	if err := r.input(&input); err != nil {
		return nil, err
	}
	arn, err := r.hub.EnableProduct(input.ProductArn)
	return object{"ProductSubscriptionArn": arn}, err
}

func listEnabledProductsForImport(r *request) (any, error) {
	if _, on := r.hub.Settings(); !on {
		return nil, notSubscribed(r.hub.account)
	}
	var size *int
	if text := r.query.Get("MaxResults"); text != "" {
		size = whole(text)
	}
	return page(r, "ProductSubscriptions", r.hub.Subscriptions(), "", r.query.Get("NextToken"), size)
}

// whole parses a number of results. Text that is not a number becomes 0, which is refused.
func whole(text string) *int {
	n, _ := strconv.Atoi(text)
	return &n
}
