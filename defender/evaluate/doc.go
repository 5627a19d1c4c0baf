// Package evaluate judges the behaviors of package defender without Device Defender
// Detect: the domain logic of the self-managed engine. It is pure: state, datapoints
// and a time go in, state and transitions come out. It reads no clock and calls no
// service.
package evaluate
