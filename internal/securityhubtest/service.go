// Package securityhubtest is a local AWS Security Hub CSPM (API 2018-10-26). It is an
// http.Handler for AWS SDKs and the aws CLI. It is also a Go value whose state tests can read,
// change and make fail.
//
// It keeps one hub per account and Region, in memory. The Region is the one in the request's
// signature; signatures are not verified. It enforces what AWS documents: the limits of the AWS
// Security Finding Format (ASFF) and of the calls, who may import for which product, what an
// import may change, what an analyst's change protects, and the deletion of findings after 90
// days.
//
// Where AWS documents nothing, it is strict, so that code that works here probably works with
// AWS:
//
//   - the three product fields that Security Hub adds count toward the 50;
//   - a member that is not in the ASFF is refused, not dropped;
//   - two findings with one Id in a call are refused, because answers name only the Id;
//   - an import still updates a finding that an analyst has suppressed;
//   - an import without RecordState keeps the state, one without a field of
//     FindingProviderFields keeps that field.
//
// CreatedAt may differ from UpdatedAt on a new finding: AWS asks importers to send equal values,
// but nothing shows that the service requires it.
//
// An unsupported operation returns NotImplementedException with status 501.
package securityhubtest

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of BatchImportFindings.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchImportFindings.html
const (
	// MaxFindings is how many findings a call may import, update or return.
	MaxFindings = 100
	// MaxFindingBytes is the size of one finding as JSON.
	MaxFindingBytes = 240 << 10
	// MaxCallBytes is the size of the body of a call. AWS's newer pages no longer mention it.
	MaxCallBytes = 6 << 20
	// FindingLifetime is how long after its last import or update a finding is deleted.
	FindingLifetime = 90 * 24 * time.Hour
)

// maxCalls limits how many calls Calls returns.
const maxCalls = 10_000

// Config configures a Service.
type Config struct {
	// Account is the caller's account, 12 digits.
	// Default: 123456789012, the account of AWS's examples.
	Account string
	// AccountOf returns the account of a request, if there are callers of several accounts.
	// Default: always Account.
	AccountOf func(*http.Request) string
	// Now is the clock.
	// Default: time.Now.
	Now func() time.Time
	// OnImported is called with each finding that an import or update changed, like EventBridge's
	// "Security Hub Findings - Imported". It runs before the call returns and may call the
	// Service.
	// Default: none.
	OnImported func(Imported)
	// RateLimits throttles calls over AWS's rates: 10 per second with bursts of 30 for imports
	// and updates, 3 with bursts of 6 for GetFindings, per account and Region.
	// Default: no limits.
	RateLimits bool
}

// Imported is a finding that an import or an update has changed.
type Imported struct {
	Account, Region string
	Finding         Finding
}

// Service is a local Security Hub in all accounts and Regions.
type Service struct {
	config Config

	mu     sync.Mutex
	hubs   map[scope]*Hub
	faults []*fault
	calls  []Call
	served int
}

type scope struct{ account, region string }

// New returns a Service whose hubs are all disabled.
func New(config Config) *Service {
	config.Account = cmp.Or(config.Account, "123456789012")
	if config.AccountOf == nil {
		config.AccountOf = func(*http.Request) string { return config.Account }
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Service{config: config, hubs: map[scope]*Hub{}}
}

// Hub returns the hub of one account in one Region, enabled or not.
func (s *Service) Hub(account, region string) *Hub {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := scope{account, region}
	if s.hubs[key] == nil {
		s.hubs[key] = &Hub{
			service: s, account: account, region: region, partition: partitionOf(region),
			contents: newContents(),
			buckets:  map[string]*bucket{},
		}
	}
	return s.hubs[key]
}

// Call is an HTTP call.
type Call struct {
	Operation string // "BatchImportFindings"
	Account   string
	Region    string
	Time      time.Time
	Bytes     int      // size of the body
	Findings  []string // IDs of the findings that it imports or updates
	// Code and Status are the result: the error's code or "", and the HTTP status.
	Code   string
	Status int
	// Failed are the error codes of single findings, by ID.
	Failed map[string]string
}

// Calls returns the calls of an operation, or of all operations if it is empty, in the order of
// their responses. It keeps the last 10,000.
func (s *Service) Calls(operation string) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	var calls []Call
	for _, c := range s.calls {
		if operation == "" || c.Operation == operation {
			calls = append(calls, c)
		}
	}
	return calls
}

func (s *Service) logCall(c Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.calls) >= maxCalls {
		s.calls = slices.Delete(s.calls, 0, maxCalls/10)
	}
	s.calls = append(s.calls, c)
}

func (s *Service) announce(h *Hub, changed []Finding) {
	if s.config.OnImported == nil {
		return
	}
	for _, f := range changed {
		s.config.OnImported(Imported{h.account, h.region, f})
	}
}

func partitionOf(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

type bucket struct {
	tokens float64
	last   time.Time
}

// rates are calls per second and bursts.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/Welcome.html
var rates = map[string]struct{ perSecond, burst float64 }{
	"BatchImportFindings": {10, 30},
	"BatchUpdateFindings": {10, 30},
	"GetFindings":         {3, 6},
}

// throttle takes a token if the operation has a rate.
func (h *Hub) throttle(operation string) error {
	rate, limited := rates[operation]
	if !h.service.config.RateLimits || !limited {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.buckets[operation]
	if b == nil {
		b = &bucket{tokens: rate.burst, last: h.now()}
		h.buckets[operation] = b
	}
	now := h.now()
	b.tokens = min(rate.burst, b.tokens+rate.perSecond*max(0, now.Sub(b.last).Seconds()))
	b.last = now
	if b.tokens < 1 {
		return Throttled()
	}
	b.tokens--
	return nil
}

// Fault makes HTTP calls go wrong. Its effects can be combined.
type Fault struct {
	// Operation is the affected operation, such as "BatchImportFindings". Default: every
	// operation.
	Operation string
	// Match selects calls; it cannot use the Call's Code, Status and Failed, which are set later.
	// Default: every call.
	Match func(Call) bool
	// Times is how many calls are affected. Default: all, until the fault is removed.
	Times int

	// Before runs first. It can add latency or change the Service.
	Before func(Call)
	// LoseRequest drops the connection without running the operation.
	LoseRequest bool
	// Answer refuses the call.
	Answer *Error
	// FailFinding fails single findings of BatchImportFindings and BatchUpdateFindings with any
	// Code, for example "InternalFailure". If it returns nil, the finding passes.
	FailFinding func(id string) *FindingError
	// LoseAnswer runs the operation and then drops the connection. Like LoseRequest it panics
	// with http.ErrAbortHandler, which net/http's server handles.
	LoseAnswer bool
}

type fault struct {
	Fault
	left int
}

// Inject makes calls fail until remove is called or the fault has affected Times calls. If
// several faults affect a call, all effects apply; the first Answer wins.
func (s *Service) Inject(f Fault) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	injected := &fault{f, f.Times}
	s.faults = append(s.faults, injected)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = slices.DeleteFunc(s.faults, func(f *fault) bool { return f == injected })
	}
}

// faultsFor returns the faults that affect a call and counts the call.
func (s *Service) faultsFor(c Call) []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	var hit []Fault
	s.faults = slices.DeleteFunc(s.faults, func(f *fault) bool {
		if (f.Operation != "" && f.Operation != c.Operation) || (f.Match != nil && !f.Match(c)) {
			return false
		}
		hit = append(hit, f.Fault)
		f.left--
		return f.Times > 0 && f.left == 0
	})
	return hit
}

// Error is an error of the API.
type Error struct {
	Code    string // "InvalidInputException"
	Status  int    // the HTTP status; 0 means 400
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Throttled returns the error of a call over the rate limits.
func Throttled() *Error {
	return &Error{"LimitExceededException", http.StatusTooManyRequests, "Rate exceeded"}
}

// Unavailable returns the error of a service that fails.
func Unavailable() *Error {
	return &Error{"InternalException", http.StatusInternalServerError, "Internal server error"}
}

func refusal(code string, status int) func(format string, args ...any) error {
	return func(format string, args ...any) error { return &Error{code, status, fmt.Sprintf(format, args...)} }
}

var (
	invalidInput  = refusal("InvalidInputException", http.StatusBadRequest)
	accessDenied  = refusal("AccessDeniedException", http.StatusForbidden)
	conflict      = refusal("ResourceConflictException", http.StatusConflict)
	notFound      = refusal("ResourceNotFoundException", http.StatusNotFound)
	limitExceeded = refusal("LimitExceededException", http.StatusTooManyRequests)
)

func notSubscribed(account string) error {
	return &Error{"InvalidAccessException", http.StatusUnauthorized,
		"Account " + account + " is not subscribed to AWS Security Hub"}
}
