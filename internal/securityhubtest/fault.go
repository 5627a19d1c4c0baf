package securityhubtest

import "slices"

// Fault is something that goes wrong with calls over HTTP. Its effects may be combined.
type Fault struct {
	// Operation is the operation that it hits: "BatchImportFindings".
	// Default: every operation.
	Operation string
	// Match picks calls; Code, Status and Failed of the Call are not known yet.
	// Default: every call.
	Match func(Call) bool
	// Times is how many calls it hits before it is over.
	// Default: it stays until it is removed.
	Times int

	// Before runs before anything else happens, for latency and for what happens
	// meanwhile. It may use the Service.
	Before func(Call)
	// LoseRequest drops the connection and does nothing.
	LoseRequest bool
	// Answer refuses the call.
	Answer *Error
	// FailFinding fails single findings of BatchImportFindings and BatchUpdateFindings
	// with any Code, "InternalFailure" for instance; nil lets a finding pass.
	FailFinding func(id string) *FindingError
	// LoseAnswer does everything and then drops the connection. Like LoseRequest it
	// panics with http.ErrAbortHandler, which net/http's server understands.
	LoseAnswer bool
}

type fault struct {
	Fault
	left int
}

// Inject makes calls fail until remove is called or the fault is over. Of several
// faults that hit a call, the effects add up; the first Answer wins.
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

// faultsFor returns the faults that hit a call and counts them.
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
