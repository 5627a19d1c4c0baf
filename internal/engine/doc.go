// Package engine judges the behaviors of package defender without Device Defender
// Detect: the domain logic of the self-managed engine. It is pure: state, datapoints
// and a time go in, state and transitions come out. It reads no clock and calls no
// service.
//
// Time is split into windows, aligned to multiples of their length. A behavior has at most one
// [Verdict] per window: the worst of its metric values, or the verdict about the count or the sum
// of its events. A window without datapoints has a verdict only where a session was open
// throughout. Windows are judged in order, each as soon as no later datapoint can change its
// verdict ([Evaluator.Lateness]). The verdicts change an alarm as in Detect.
//
// The kinds of behavior differ in their inputs, in when they are judged, and in what silence
// means. Each kind is one type in one file: see kind.go.
//
// A device that conforms has no state, except for behaviors that count, add up, or watch for
// something missing.
package engine
