// Package simulation runs the deployed functions against AWS in memory, in one process and in
// virtual time. One seed is one run: it decides what devices do, which call continues, and what
// fails. docs/reliability.md says what it covers and what it cannot show.
//
// The functions are built by the constructors that their mains use. Each call to a service waits
// for the scheduler. When all goroutines of the run are blocked, the scheduler lets one call
// continue, or makes it fail, or lets time pass. So a run is a function of its seed.
//
// All code is in tests: testing/synctest needs a test, and no function may contain a test double.
package simulation
