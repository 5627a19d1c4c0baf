package functions_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/functions"
)

// TestMain is also a fake Runtime Interface Emulator, if the environment has FAKE_RIE. So the tests
// of this package need no real one.
func TestMain(m *testing.M) {
	if os.Getenv("FAKE_RIE") != "" {
		fakeRIE()
		return
	}
	os.Exit(m.Run())
}

// fakeRIE answers as the emulator does. The event selects the answer.
func fakeRIE() {
	address := os.Args[slices.Index(os.Args, "--runtime-interface-emulator-address")+1]
	count := 0
	http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		event, _ := io.ReadAll(r.Body)
		count++
		switch string(event) {
		case `"environment"`:
			env := map[string]string{"count": fmt.Sprint(count), "bootstrap": os.Args[len(os.Args)-1]}
			for _, v := range os.Environ() {
				key, value, _ := strings.Cut(v, "=")
				env[key] = value
			}
			json.NewEncoder(w).Encode(env)
		case `"fail"`:
			fmt.Fprint(w, `{"errorMessage":"boom","errorType":"Error"}`)
		case `"time out"`:
			fmt.Fprint(w, "Task timed out after 3.00 seconds")
		case `"exit"`:
			w.WriteHeader(http.StatusBadGateway)
		case `"die"`:
			os.Exit(1)
		}
	}))
}

func zipOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, content)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// runner runs one function, which the test may change.
func runner(t *testing.T, files map[string]string) (*functions.Runner, *functions.Function) {
	t.Helper()
	f := &functions.Function{
		Name: "forwarder", Runtime: "provided.al2023", Handler: "bootstrap", Bucket: "b", Key: "k", Timeout: 3 * time.Second, MemoryMB: 256,
		Environment: map[string]string{"FAKE_RIE": "1", "QUEUE": "q", "AWS_ENDPOINT_URL": "https://elsewhere"},
	}
	r := &functions.Runner{
		Endpoint: "http://localhost:1", Region: "eu-west-1", Dir: t.TempDir(),
		Lookup: func(name string) (functions.Function, error) {
			if name != f.Name {
				return functions.Function{}, fmt.Errorf("function %s was not deployed", name)
			}
			return *f, nil
		},
		Code: func(_ context.Context, bucket, key string) ([]byte, error) {
			if bucket != "b" || key != "k" {
				t.Errorf("code is read from %s/%s, want b/k", bucket, key)
			}
			return zipOf(t, files), nil
		},
		RIE: func() (string, error) { return os.Args[0], nil },
	}
	t.Cleanup(r.Stop)
	return r, f
}

var script = map[string]string{"bootstrap": "#!/bin/sh\n", "data/table.json": "{}"}

func environment(t *testing.T, r *functions.Runner) map[string]string {
	t.Helper()
	result, err := r.Invoke(t.Context(), "arn:aws:lambda:eu-west-1:123456789012:function:forwarder:live", []byte(`"environment"`))
	if err != nil {
		t.Fatal(err)
	}
	var env map[string]string
	if err := json.Unmarshal(result.Payload, &env); err != nil {
		t.Fatal(err)
	}
	return env
}

func TestFunctionRunsInItsDeployedEnvironment(t *testing.T) {
	r, _ := runner(t, script)
	env := environment(t, r)
	for key, want := range map[string]string{
		"QUEUE": "q", "AWS_REGION": "eu-west-1", "AWS_LAMBDA_FUNCTION_NAME": "forwarder", "AWS_LAMBDA_FUNCTION_TIMEOUT": "3",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", "_HANDLER": "bootstrap", "count": "1",
		"AWS_ENDPOINT_URL": "http://localhost:1", // overrides the function's own value
	} {
		if env[key] != want {
			t.Errorf("%s is %q, want %q", key, env[key], want)
		}
	}
	for _, leaked := range []string{"AWS_PROFILE", "GOFLAGS", "USER"} {
		if value, there := env[leaked]; there {
			t.Errorf("%s=%s leaks into the function", leaked, value)
		}
	}
	if _, err := os.Stat(strings.TrimSuffix(env["bootstrap"], "bootstrap") + "data/table.json"); err != nil {
		t.Errorf("the function's files: %v", err)
	}
}

func TestEnvironmentStaysWarmUntilItBreaksOrTheFunctionChanges(t *testing.T) {
	r, f := runner(t, script)
	environment(t, r)
	if env := environment(t, r); env["count"] != "2" {
		t.Errorf("the second invocation is number %s of its environment, want 2", env["count"])
	}
	f.Environment = maps.Clone(f.Environment)
	f.Environment["QUEUE"] = "other"
	if env := environment(t, r); env["count"] != "1" || env["QUEUE"] != "other" {
		t.Errorf("after an update: %s invocations, queue %s, want a new environment with the queue other", env["count"], env["QUEUE"])
	}
	for event, want := range map[string]string{
		"fail":     "Error: boom",
		"time out": "Sandbox.Timedout: Task timed out after 3.00 seconds",
		"exit":     "Runtime.ExitError: the function ended without an answer (status 502)",
	} {
		result, err := r.Invoke(t.Context(), "forwarder", []byte(`"`+event+`"`))
		if err != nil || result.FunctionError != "Unhandled" || result.Reason() != want {
			t.Errorf("%s: %+v, reason %q, error %v, want the reason %q", event, result, result.Reason(), err, want)
		}
		fresh := environment(t, r)["count"] == "1"
		if fresh != (event != "fail") {
			t.Errorf("after %s the environment is new: %v, want %v", event, fresh, event != "fail")
		}
	}
	if _, err := r.Invoke(t.Context(), "forwarder", []byte(`"die"`)); err == nil {
		t.Error("got no error of an emulator that exited")
	}
	if env := environment(t, r); env["count"] != "1" {
		t.Error("the emulator was not started again")
	}
}

func TestStoppedRunnerRunsNothing(t *testing.T) {
	r, _ := runner(t, script)
	environment(t, r)
	r.Stop()
	if _, err := r.Invoke(t.Context(), "forwarder", nil); err == nil {
		t.Error("a stopped runner ran a function")
	}
}

// elfHeader returns the header of a binary for a machine.
func elfHeader(machine uint16) string {
	header := make([]byte, 64)
	copy(header, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(header[16:], 2)
	binary.LittleEndian.PutUint16(header[18:], machine)
	binary.LittleEndian.PutUint32(header[20:], 1)
	binary.LittleEndian.PutUint16(header[52:], 64)
	binary.LittleEndian.PutUint16(header[58:], 64)
	return string(header)
}

func TestFunctionThatCannotRunIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		files  map[string]string
		change func(*functions.Function, *functions.Runner)
		want   string
	}{
		"other runtime":      {script, func(f *functions.Function, _ *functions.Runner) { f.Runtime = "nodejs22.x" }, `runtime "nodejs22.x"`},
		"no bootstrap":       {map[string]string{"main": ""}, nil, "no file bootstrap"},
		"file outside":       {map[string]string{"../bootstrap": ""}, nil, "outside its directory"},
		"other architecture": {map[string]string{"bootstrap": elfHeader(0xF3)}, nil, "build it for this machine's architecture"},
		"no emulator": {script, func(_ *functions.Function, r *functions.Runner) {
			r.RIE = func() (string, error) { return "", errors.New("no Go") }
		}, "no Go"},
		"not a zip": {script, func(_ *functions.Function, r *functions.Runner) {
			r.Code = func(context.Context, string, string) ([]byte, error) { return []byte("x"), nil }
		}, "the function's code"},
	} {
		t.Run(name, func(t *testing.T) {
			r, f := runner(t, tt.files)
			if tt.change != nil {
				tt.change(f, r)
			}
			if _, err := r.Invoke(t.Context(), "forwarder", nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	r, _ := runner(t, script)
	if _, err := r.Invoke(t.Context(), "other", nil); err == nil || !strings.Contains(err.Error(), "function other") {
		t.Errorf("unknown function: %v", err)
	}
}

func call(h http.Handler, method, path, kind, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("X-Amz-Invocation-Type", kind)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestAsynchronousInvocationIsRetried(t *testing.T) {
	for retries, want := range map[int]string{0: "2", 1: "3", 2: "4"} {
		r, f := runner(t, script)
		f.Retries = retries
		var failed, dropped int
		r.Failed = func(function string, gone bool) {
			if function != "forwarder" {
				t.Errorf("%s failed", function)
			}
			if failed++; gone {
				failed, dropped = failed-1, dropped+1
			}
		}
		api := functions.NewAPI(t.Context(), r, nil)
		if err := api.InvokeEvent("forwarder", []byte(`"fail"`)); err == nil || !strings.Contains(err.Error(), "boom") {
			t.Errorf("error %v, want boom", err)
		}
		if env := environment(t, r); env["count"] != want {
			t.Errorf("with %d retries the next invocation is number %s, want %s", retries, env["count"], want)
		}
		if failed != 1+retries || dropped != 1 {
			t.Errorf("with %d retries %d invocations failed and %d events were dropped, want %d and 1", retries, failed, dropped, 1+retries)
		}
	}
}

func TestInvokeIsAnsweredByTheFunction(t *testing.T) {
	r, f := runner(t, script)
	f.Retries = 2
	var passed atomic.Int32
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { passed.Add(1) })
	api := functions.NewAPI(t.Context(), r, next)
	const invoke = "/2015-03-31/functions/forwarder/invocations"

	if w := call(api, "POST", invoke, "", `"environment"`); w.Code != 200 || !strings.Contains(w.Body.String(), `"QUEUE":"q"`) || w.Header().Get("X-Amz-Function-Error") != "" {
		t.Errorf("invoke: %d %s %v", w.Code, w.Body, w.Header())
	}
	if w := call(api, "POST", "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Aforwarder/invocations", "", `"fail"`); w.Code != 200 || w.Header().Get("X-Amz-Function-Error") != "Unhandled" {
		t.Errorf("failing function by ARN: %d %s %v", w.Code, w.Body, w.Header())
	}
	if w := call(api, "POST", invoke, "DryRun", ""); w.Code != http.StatusNoContent {
		t.Errorf("dry run: %d", w.Code)
	}
	if w := call(api, "POST", invoke, "Event", `"fail"`); w.Code != http.StatusAccepted {
		t.Errorf("asynchronous: %d", w.Code)
	}
	api.Wait()
	// The two synchronous calls, and three attempts of the asynchronous one.
	if env := environment(t, r); env["count"] != "6" {
		t.Errorf("invocation number %s, want 6", env["count"])
	}
	if w := call(api, "POST", "/2015-03-31/functions/other/invocations", "", "{}"); w.Code != http.StatusNotFound || w.Header().Get("X-Amzn-Errortype") != "ResourceNotFoundException" {
		t.Errorf("unknown function: %d %v", w.Code, w.Header())
	}
	if w := call(api, "POST", invoke, "", strings.Repeat("x", 6<<20+1)); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("huge payload: %d", w.Code)
	}
	if passed.Load() != 0 {
		t.Errorf("%d invocations went to the emulator, want none", passed.Load())
	}
	for _, path := range []string{"/2015-03-31/functions/forwarder", "/2015-03-31/functions/"} {
		call(api, "GET", path, "", "")
	}
	if passed.Load() != 2 {
		t.Errorf("%d of 2 other calls went to the emulator", passed.Load())
	}
	for _, tt := range [][2]string{{"GET", "/2015-03-31/event-source-mappings/"}, {"POST", "/2015-03-31/event-source-mappings/"}, {"POST", "/2015-03-31/event-source-mappings"}, {"PUT", "/2015-03-31/event-source-mappings/uuid"},
		{"POST", "/2015-03-31/functions"}, {"DELETE", "/2015-03-31/functions/forwarder"}, {"PUT", "/2015-03-31/functions/forwarder/code"},
		{"PUT", "/2017-10-31/functions/forwarder/concurrency"}, {"PUT", "/2019-09-25/functions/forwarder/event-invoke-config"}} {
		if w := call(api, tt[0], tt[1], "", "{}"); w.Code != http.StatusNotImplemented {
			t.Errorf("%s %s: got %d, want 501", tt[0], tt[1], w.Code)
		}
	}
	for _, tt := range [][2]string{{"POST", "/2015-03-31/functions/forwarder/policy"}, {"DELETE", "/2015-03-31/functions/forwarder/policy/id"}, {"POST", "/2017-03-31/tags/arn"}} {
		before := passed.Load()
		if call(api, tt[0], tt[1], "", "{}"); passed.Load() != before+1 {
			t.Errorf("%s %s does not go to the emulator", tt[0], tt[1])
		}
	}
}
