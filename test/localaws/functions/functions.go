// Package functions runs deployed Lambda functions from the uploaded code, under AWS's own Runtime
// Interface Emulator. Each function has one execution environment, which stays warm.
package functions

import (
	"archive/zip"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/process"
)

// Function is a deployed function.
type Function struct {
	Name        string
	Runtime     string // provided.al2023 or provided.al2
	Handler     string
	Bucket, Key string // of its zip
	Environment map[string]string
	Role        string        // the ARN of its execution role
	Timeout     time.Duration // whole seconds
	MemoryMB    int
	// Retries is how often a failed asynchronous invocation is retried, 0 to 2.
	Retries int
}

// Result is the outcome of an invocation that reached the function.
type Result struct {
	Payload []byte
	// FunctionError is "Unhandled" if the function failed, exited or timed out. As on AWS, Payload
	// then has errorMessage and errorType.
	FunctionError string
}

// Reason returns the error of a failed function in one line.
func (r Result) Reason() string {
	var e struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}
	if json.Unmarshal(r.Payload, &e) != nil || e.Message == "" {
		return string(r.Payload)
	}
	return e.Type + ": " + e.Message
}

// Runner runs functions.
type Runner struct {
	// Concurrency is the account's quota of concurrent executions, which is not enforced.
	// Default: 1000.
	Concurrency int
	// Endpoint is the AWS_ENDPOINT_URL of the functions.
	Endpoint string
	// Account and Region are those of the functions.
	Account, Region string
	// Dir is the directory for the functions' code and logs.
	Dir string
	// Lookup returns a deployed function by its name.
	Lookup func(name string) (Function, error)
	// Code reads a function's zip.
	Code func(ctx context.Context, bucket, key string) ([]byte, error)
	// Credentials returns the credentials of a function in its execution role. Default: those of
	// the local AWS, which may do everything.
	Credentials func(context.Context, Function) (aws.Credentials, error)
	// RIE returns the path of the Runtime Interface Emulator: see [BuildRIE].
	RIE func() (string, error)
	// Failed is called with each failed invocation, and with each event of an asynchronous
	// invocation that is dropped. Default: nil.
	Failed func(function string, dropped bool)

	invocations atomic.Int64

	mu      sync.Mutex
	started map[string]*environment
	stopped bool
}

// environment is a function's execution environment. It handles one invocation at a time, as on
// Lambda.
type environment struct {
	mu       sync.Mutex
	function Function
	instance *instance
	log      *os.File
}

// Name returns the name of a function from its name or ARN, with or without a qualifier.
func Name(nameOrARN string) string {
	if parts := strings.Split(nameOrARN, ":"); len(parts) >= 7 && parts[0] == "arn" {
		return parts[6]
	}
	name, _, _ := strings.Cut(nameOrARN, ":")
	return name
}

// LogFile returns the file with a function's output, which is in CloudWatch Logs on AWS.
func (r *Runner) LogFile(name string) string { return filepath.Join(r.Dir, Name(name)+".log") }

// Invoke runs a function and waits for its answer. Concurrent calls run one after another.
func (r *Runner) Invoke(ctx context.Context, nameOrARN string, payload []byte) (Result, error) {
	name := Name(nameOrARN)
	function, err := r.Lookup(name)
	if err != nil {
		return Result{}, err
	}
	e, err := r.environment(name)
	if err != nil {
		return Result{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.instance != nil && !reflect.DeepEqual(e.function, function) {
		e.stop() // the function was updated
	}
	if e.instance == nil {
		if err := r.start(ctx, e, function); err != nil {
			return Result{}, fmt.Errorf("function %s: %w", name, err)
		}
	}
	r.invocations.Add(1)
	result, broken, err := e.instance.invoke(ctx, payload)
	if result.FunctionError != "" {
		r.failed(name, false)
	}
	if broken || err != nil {
		e.stop() // the next invocation gets a new environment, as on AWS
	}
	if err != nil {
		return Result{}, fmt.Errorf("invoke function %s: %w", name, err)
	}
	return result, nil
}

func (r *Runner) failed(function string, dropped bool) {
	if r.Failed != nil {
		r.Failed(function, dropped)
	}
}

// Invocations returns the number of invocations of all functions so far.
func (r *Runner) Invocations() int { return int(r.invocations.Load()) }

// Stop ends all functions. Invocations after it fail.
func (r *Runner) Stop() {
	r.mu.Lock()
	r.stopped = true
	started := r.started
	r.mu.Unlock()
	var wait sync.WaitGroup
	for _, e := range started {
		wait.Go(func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.stop()
		})
	}
	wait.Wait()
}

func (r *Runner) environment(name string) (*environment, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return nil, fmt.Errorf("function %s: the local AWS is stopping", name)
	}
	if r.started == nil {
		r.started = map[string]*environment{}
	}
	e := r.started[name]
	if e == nil {
		e = &environment{}
		r.started[name] = e
	}
	return e, nil
}

func (r *Runner) start(ctx context.Context, e *environment, f Function) error {
	if f.Runtime != "provided.al2023" && f.Runtime != "provided.al2" {
		return fmt.Errorf("runtime %q: the local AWS runs provided.al2023 only", f.Runtime)
	}
	rie, err := r.RIE()
	if err != nil {
		return err
	}
	code, err := r.Code(ctx, f.Bucket, f.Key)
	if err != nil {
		return fmt.Errorf("read the code s3://%s/%s: %w", f.Bucket, f.Key, err)
	}
	dir, err := os.MkdirTemp(r.Dir, f.Name+"-")
	if err != nil {
		return err
	}
	bootstrap, err := unpack(code, dir)
	if err != nil {
		return err
	}
	credentials := awsapi.Credentials
	if r.Credentials != nil {
		if credentials, err = r.Credentials(ctx, f); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(r.LogFile(f.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	i, err := startInstance(ctx, rie, process.Spec{Dir: dir, Env: r.env(f, dir, credentials), Stdout: log, Stderr: log}, bootstrap, r.arn(f.Name))
	if err != nil {
		log.Close()
		return err
	}
	e.function, e.instance, e.log = f, i, log
	return nil
}

func (r *Runner) arn(function string) string {
	return cloudformation.Request{AccountID: r.Account, Region: r.Region}.ARN("lambda", "function:"+function)
}

// env returns the variables that Lambda sets, and those that direct SDKs to this cloud.
func (r *Runner) env(f Function, root string, credentials aws.Credentials) []string {
	env := map[string]string{
		"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "en_US.UTF-8", "TZ": ":UTC", "HOME": root, "TMPDIR": root,
		"AWS_LAMBDA_FUNCTION_NAME":        f.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(f.MemoryMB),
		"AWS_LAMBDA_FUNCTION_TIMEOUT":     strconv.Itoa(int(f.Timeout.Seconds())),
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + f.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME":      "local",
		"_HANDLER":                        f.Handler,
		"LAMBDA_TASK_ROOT":                root,
	}
	for k, v := range f.Environment {
		env[k] = v
	}
	for k, v := range map[string]string{
		"AWS_REGION": r.Region, "AWS_DEFAULT_REGION": r.Region, "AWS_ENDPOINT_URL": r.Endpoint,
		"AWS_ACCESS_KEY_ID": credentials.AccessKeyID, "AWS_SECRET_ACCESS_KEY": credentials.SecretAccessKey, "AWS_SESSION_TOKEN": credentials.SessionToken,
	} {
		env[k] = v
	}
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	return list
}

func (e *environment) stop() {
	if e.instance == nil {
		return
	}
	e.instance.Stop()
	e.log.Close()
	e.instance = nil
}

// invoke posts an event. broken reports whether the environment cannot be used again.
func (i *instance) invoke(ctx context.Context, payload []byte) (result Result, broken bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, i.url, bytes.NewReader(payload))
	if err != nil {
		return Result{}, false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return Result{}, true, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return Result{}, true, err
	}
	if message, timedOut := timeout(body); timedOut {
		return failure("Sandbox.Timedout", message), true, nil
	}
	if resp.StatusCode != http.StatusOK {
		if isError(body) {
			return Result{Payload: body, FunctionError: "Unhandled"}, true, nil
		}
		return failure("Runtime.ExitError", fmt.Sprintf("the function ended without an answer (status %d)", resp.StatusCode)), true, nil
	}
	if isError(body) {
		return Result{Payload: body, FunctionError: "Unhandled"}, false, nil
	}
	return Result{Payload: body}, false, nil
}

func failure(kind, message string) Result {
	payload, _ := json.Marshal(map[string]string{"errorType": kind, "errorMessage": message}) // strings always encode
	return Result{Payload: payload, FunctionError: "Unhandled"}
}

// isError reports whether an answer is a function's error. Unlike Lambda, the emulator has no header
// for that.
func isError(body []byte) bool {
	var e struct {
		Message *string `json:"errorMessage"`
		Type    *string `json:"errorType"`
	}
	return json.Unmarshal(body, &e) == nil && e.Message != nil && e.Type != nil
}

// timeout reports whether an answer is the emulator's text for a function that timed out.
func timeout(body []byte) (string, bool) {
	return string(body), bytes.HasPrefix(body, []byte("Task timed out after "))
}

// unpack unzips a function's code to dir, and returns the path of its bootstrap.
func unpack(code []byte, dir string) (string, error) {
	archive, err := zip.NewReader(bytes.NewReader(code), int64(len(code)))
	if err != nil {
		return "", fmt.Errorf("the function's code: %w", err)
	}
	for _, f := range archive.File {
		if !filepath.IsLocal(f.Name) {
			return "", fmt.Errorf("the function's code has a file outside its directory: %q", f.Name)
		}
	}
	// A process that starts now would inherit the open file of an executable. While it holds that,
	// the executable cannot run ("text file busy").
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.CopyFS(dir, archive); err != nil {
		return "", fmt.Errorf("the function's code: %w", err)
	}
	bootstrap := filepath.Join(dir, "bootstrap")
	if err := os.Chmod(bootstrap, 0o755); err != nil {
		return "", fmt.Errorf("the function's code has no file bootstrap, which provided.al2023 runs")
	}
	return bootstrap, runnable(bootstrap)
}

// runnable returns an error if a binary cannot run on this machine. Scripts can.
func runnable(bootstrap string) error {
	binary, err := elf.Open(bootstrap)
	if err != nil {
		return nil
	}
	defer binary.Close()
	machine := map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}[binary.Machine]
	if machine != runtime.GOARCH || runtime.GOOS != "linux" {
		return fmt.Errorf("the function is built for linux/%s and this machine is %s/%s: build it for this machine's architecture", machine, runtime.GOOS, runtime.GOARCH)
	}
	return nil
}
