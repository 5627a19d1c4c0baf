package functions

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"github.com/defenderhub/defenderhub/test/localaws/edge"
)

// maximumPayload is Lambda's limit for synchronous invocations.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const maximumPayload = 6 << 20

var (
	invokePath = regexp.MustCompile(`^/2015-03-31/functions/([^/]+)/invocations$`)
	// takenPath matches what can change outside of stacks: permissions to invoke, and tags.
	takenPath = regexp.MustCompile(`^/2015-03-31/functions/[^/]+/policy(/|$)|^/2017-03-31/tags/`)
)

// API serves Lambda's Invoke, and passes other operations to next, the emulator. It refuses changes
// outside of stacks, because functions run as their stack declares, and event source mappings,
// which the emulator does not have.
type API struct {
	runner *Runner
	next   http.Handler
	ctx    context.Context
	events sync.WaitGroup
}

// NewAPI returns an [API] whose asynchronous invocations end with ctx.
func NewAPI(ctx context.Context, runner *Runner, next http.Handler) *API {
	return &API{runner: runner, next: next, ctx: ctx}
}

// Wait returns when no asynchronous invocation runs.
func (a *API) Wait() { a.events.Wait() }

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, settingsPath) {
		a.settings(w)
		return
	}
	match := invokePath.FindStringSubmatch(r.URL.EscapedPath())
	if match == nil || r.Method != http.MethodPost {
		mappings := strings.Contains(r.URL.Path, "/event-source-mappings") // which the emulator does not have
		if mappings || r.Method != http.MethodGet && !takenPath.MatchString(r.URL.EscapedPath()) {
			edge.Refuse(w, r, "functions, their settings and event source mappings come only from CloudFormation stacks")
			return
		}
		a.next.ServeHTTP(w, r)
		return
	}
	name, err := url.PathUnescape(match[1])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.invoke(w, r, name)
}

// settingsPath is the path of GetAccountSettings.
const settingsPath = "/2016-08-19/account-settings"

// standardConcurrency is the default quota of concurrent executions.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const standardConcurrency = 1000

// settings serves GetAccountSettings.
func (a *API) settings(w http.ResponseWriter) {
	all := cmp.Or(a.runner.Concurrency, standardConcurrency)
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"AccountLimit":{"ConcurrentExecutions":%d,"UnreservedConcurrentExecutions":%d},"AccountUsage":{}}`, all, all)
}

func (a *API) invoke(w http.ResponseWriter, r *http.Request, name string) {
	payload, err := io.ReadAll(io.LimitReader(r.Body, maximumPayload+1))
	switch {
	case err != nil:
		refuse(w, http.StatusBadRequest, "InvalidRequestContentException", err.Error())
		return
	case len(payload) > maximumPayload:
		refuse(w, http.StatusRequestEntityTooLarge, "RequestTooLargeException", "the payload exceeds 6291456 bytes")
		return
	}
	if _, err := a.runner.Lookup(Name(name)); err != nil {
		refuse(w, http.StatusNotFound, "ResourceNotFoundException", err.Error())
		return
	}
	switch r.Header.Get("X-Amz-Invocation-Type") {
	case "DryRun":
		w.WriteHeader(http.StatusNoContent)
	case "Event":
		a.events.Go(func() { a.InvokeEvent(name, payload) })
		w.WriteHeader(http.StatusAccepted)
	default:
		result, err := a.runner.Invoke(r.Context(), name, payload)
		if err != nil {
			refuse(w, http.StatusInternalServerError, "ServiceException", err.Error())
			return
		}
		if result.FunctionError != "" {
			w.Header().Set("X-Amz-Function-Error", result.FunctionError)
		}
		w.Header().Set("X-Amz-Executed-Version", "$LATEST")
		w.Write(result.Payload)
	}
}

// InvokeEvent runs an asynchronous invocation to its end. A failed invocation is retried as often as
// the function is configured for, and then dropped. Lambda waits one and two minutes before the
// retries. The error is that of the last attempt.
// https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
func (a *API) InvokeEvent(name string, payload []byte) error {
	function, err := a.runner.Lookup(Name(name))
	if err != nil {
		return err
	}
	var last error
	for range 1 + function.Retries {
		result, err := a.runner.Invoke(a.ctx, name, payload)
		if err == nil && result.FunctionError != "" {
			err = fmt.Errorf("function %s failed: %s", Name(name), result.Reason())
		}
		if err == nil || a.ctx.Err() != nil {
			return err
		}
		last = err
	}
	a.runner.failed(function.Name, true)
	return last
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	body, _ := json.Marshal(map[string]string{"Type": "User", "Message": message}) // strings always encode
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", code)
	w.WriteHeader(status)
	w.Write(body)
}
