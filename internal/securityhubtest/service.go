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
	// MaxCallBytes is the size of the body of a call. AWS's newer pages no longer repeat it.
	MaxCallBytes = 6 << 20
	// FindingLifetime is how long a finding lives after its last import or update.
	FindingLifetime = 90 * 24 * time.Hour
)

// maxCalls bounds what Calls remembers.
const maxCalls = 10_000

// Config says for whom a Service runs.
type Config struct {
	// Account is the caller's account, 12 digits.
	// Default: 123456789012, the account of AWS's examples.
	Account string
	// AccountOf finds the caller's account by the request, for callers of several accounts.
	// Default: everybody is Account.
	AccountOf func(*http.Request) string
	// Now is the clock.
	// Default: time.Now.
	Now func() time.Time
	// OnImported receives every finding after each import and update that changed it,
	// as EventBridge does with "Security Hub Findings - Imported". It runs before the
	// call is answered and may call the Service.
	// Default: nobody is told.
	OnImported func(Imported)
	// RateLimits makes calls over AWS's rates fail: 10 a second with bursts of 30 to
	// import and to update, 3 with bursts of 6 for GetFindings, in each account and Region.
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

// New returns a Service whose hubs are all off.
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

// Hub returns the hub of an account in a Region, whether it is on or off.
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

// Call is a call over HTTP, as Service.Calls remembers it.
type Call struct {
	Operation string // "BatchImportFindings"
	Account   string
	Region    string
	Time      time.Time
	Bytes     int      // of the body
	Findings  []string // ids of the findings that it imports or updates
	// Code and Status are the answer: the error's code or "", and HTTP's status.
	Code   string
	Status int
	// Failed are the error codes of single findings, by id.
	Failed map[string]string
}

// Calls returns the calls of an operation, or of all where it is empty, in the order
// in which they were answered: the last 10,000.
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
