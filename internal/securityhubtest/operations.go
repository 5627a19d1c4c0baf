package securityhubtest

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

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
	{"DELETE", "/accounts", "DisableSecurityHub", func(r *request) (any, error) { return none, r.hub.Disable() }},

	{"POST", "/productSubscriptions", "EnableImportFindingsForProduct", enableImportFindingsForProduct},
	{"GET", "/productSubscriptions", "ListEnabledProductsForImport", listEnabledProductsForImport},
	{"DELETE", "/productSubscriptions/", "DisableImportFindingsForProduct", func(r *request) (any, error) { return none, r.hub.DisableProduct(r.arn) }},

	{"GET", "/tags/", "ListTagsForResource", listTagsForResource},

	{"POST", "/insights", "CreateInsight", onInsights(createInsight)},
	{"POST", "/insights/get", "GetInsights", onInsights(getInsights)},
	{"GET", "/insights/results/", "GetInsightResults", onInsights(getInsightResults)},
	{"PATCH", "/insights/", "UpdateInsight", onInsights(updateInsight)},
	{"DELETE", "/insights/", "DeleteInsight", onInsights(deleteInsight)},

	{"POST", "/actionTargets", "CreateActionTarget", createActionTarget},
	{"POST", "/actionTargets/get", "DescribeActionTargets", describeActionTargets},
	{"PATCH", "/actionTargets/", "UpdateActionTarget", updateActionTarget},
	{"DELETE", "/actionTargets/", "DeleteActionTarget", deleteActionTarget},
}

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

type failedFinding struct {
	ID                      string `json:"Id"`
	ErrorCode, ErrorMessage string
}

type importAnswer struct {
	FailedCount, SuccessCount int
	FailedFindings            []failedFinding
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
	answer := importAnswer{len(result.Failed), result.Succeeded, []failedFinding{}}
	for _, f := range result.Failed {
		answer.FailedFindings = append(answer.FailedFindings, failedFinding{f.ID, f.Code, f.Message})
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

func getFindings(r *request) (any, error) {
	q, err := decodeQuery(r.body)
	if err != nil {
		return nil, err
	}
	return r.hub.get(q)
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
	return struct {
		HubArn, SubscribedAt    string
		AutoEnableControls      bool
		ControlFindingGenerator string
	}{r.hub.ARN(), formatInstant(settings.SubscribedAt), true, settings.ControlFindingGenerator}, nil
}

// page returns the page that the query requests.
func page[T any](r *request, all []T, token, size string) ([]T, string, error) {
	n := MaxFindings
	if size != "" {
		var err error
		if n, err = pageSize(size); err != nil {
			return nil, "", err
		}
	}
	part, next, err := pageOf(all, token, n, fmt.Sprint(r.call.Operation, r.call.Account, r.call.Region))
	return append([]T{}, part...), next, err
}

func enableImportFindingsForProduct(r *request) (any, error) {
	var input struct{ ProductArn string }
	if err := r.input(&input); err != nil {
		return nil, err
	}
	arn, err := r.hub.EnableProduct(input.ProductArn)
	return struct{ ProductSubscriptionArn string }{arn}, err
}

func listEnabledProductsForImport(r *request) (any, error) {
	if _, on := r.hub.Settings(); !on {
		return nil, notSubscribed(r.hub.account)
	}
	part, next, err := page(r, r.hub.Subscriptions(), r.query.Get("NextToken"), r.query.Get("MaxResults"))
	return struct {
		ProductSubscriptions []string
		NextToken            string `json:",omitempty"`
	}{part, next}, err
}
