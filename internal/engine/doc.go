// Package engine judges the behaviors of package defender without Device Defender
// Detect: the domain logic of the self-managed engine. It is pure: state, datapoints
// and a time go in, state and transitions come out. It reads no clock and calls no
// service.
//
// Time is cut into windows, aligned to multiples of their length. Every behavior gives
// at most one [Verdict] a window: from single measurements the worst, from events their
// count or sum, and from silence a verdict only where a session is known to have been
// open. Windows are judged in order, each when nothing that belongs before its verdict
// can come any more ([Evaluator.Lateness]); the verdicts drive an alarm that speaks like
// Detect's.
//
// A device that conforms has no state, but for behaviors that count, sum, or wait for
// something that does not come.
package engine
