package securityhubtest

import (
	"cmp"
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

func (s *Service) remember(c Call) {
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
