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
	"github.com/defenderhub/defenderhub/test/localaws/iotcore/policy"
)

// maximumPayload is Lambda's limit for synchronous invocations.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const maximumPayload = 6 << 20

var (
	invokePath = regexp.MustCompile(`^/2015-03-31/functions/([^/]+)/invocations$`)
	// takenPath is what can be changed apart from stacks: who may invoke, and tags.
	takenPath = regexp.MustCompile(`^/2015-03-31/functions/[^/]+/policy(/|$)|^/2017-03-31/tags/`)
)

// API answers Lambda's Invoke with the deployed function and hands the other
// operations to next. It refuses changes that no stack declares, and event source mappings, which
// the emulator does not have: functions run as their stack says.
type API struct {
	runner *Runner
	next   http.Handler
	ctx    context.Context
	events sync.WaitGroup
}

// NewAPI is an [API] whose asynchronous invocations end with ctx.
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
			edge.Refuse(w, r, "functions, their settings and event source mappings come from CloudFormation stacks only")
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

// settingsPath is that of GetAccountSettings.
const settingsPath = "/2016-08-19/account-settings"

// standardConcurrency is the quota of concurrent executions that accounts have.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const standardConcurrency = 1000

// settings answers GetAccountSettings.
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

// InvokeEvent is an asynchronous invocation, which other services make too, up to its
// end: a failed one is repeated as often as the function says. Lambda waits one and two
// minutes before it does, and drops the event afterwards. The error is that of the last
// attempt.
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

// MayInvoke reports whether a function's resource policy lets a service, such as
// iot.amazonaws.com, invoke it for something of an account. Only what AWS::Lambda::Permission
// and AddPermission write is understood: other conditions are not met.
// https://docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html
func MayInvoke(document []byte, service, sourceARN, account string) (bool, error) {
	var p struct {
		Statement []struct {
			Effect, Action string
			Principal      json.RawMessage
			Condition      map[string]map[string]string
		}
	}
	if err := json.Unmarshal(document, &p); err != nil {
		return false, fmt.Errorf("resource policy of a function: %w", err)
	}
	for _, s := range p.Statement {
		var principal struct{ Service string }
		if json.Unmarshal(s.Principal, &principal) != nil || principal.Service != service ||
			s.Effect != "Allow" || s.Action != "lambda:InvokeFunction" && s.Action != "lambda:*" {
			continue
		}
		allowed := true
		for operator, keys := range s.Condition {
			for key, want := range keys {
				met, err := conditionMet(operator, key, want, sourceARN, account)
				if err != nil {
					return false, err
				}
				allowed = allowed && met
			}
		}
		if allowed {
			return true, nil
		}
	}
	return false, nil
}

func conditionMet(operator, key, want, sourceARN, account string) (bool, error) {
	switch operator + " " + key {
	case "ArnLike AWS:SourceArn":
		pattern, err := policy.ParsePattern(want)
		if err != nil {
			return false, fmt.Errorf("source ARN of a function's permission: %w", err)
		}
		matched, _ := pattern.Match(sourceARN, nil)
		return matched, nil
	case "StringEquals AWS:SourceAccount":
		return want == account, nil
	}
	return false, nil
}
