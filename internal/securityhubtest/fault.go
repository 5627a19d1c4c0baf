package securityhubtest

import "slices"

// Fault makes HTTP calls go wrong. Its effects can be combined.
type Fault struct {
	// Operation is the affected operation, such as "BatchImportFindings".
	// Default: every operation.
	Operation string
	// Match selects calls; it cannot use the Call's Code, Status and Failed, which are set later.
	// Default: every call.
	Match func(Call) bool
	// Times is how many calls are affected.
	// Default: all, until the fault is removed.
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
