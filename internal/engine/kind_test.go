package engine

import (
	"maps"
	"reflect"
	"slices"
	"testing"
)

// If two kinds had one digit, the state of one could be read as that of the other.
func TestKindsHaveDifferentDigits(t *testing.T) {
	digits := map[byte]reflect.Type{}
	for _, c := range everyKind(t) {
		digit, of := c.kind.digit(), reflect.TypeOf(c.kind)
		if other, ok := digits[digit]; ok && other != of {
			t.Errorf("%v and %v have the digit %c", other, of, digit)
		}
		digits[digit] = of
		if c.form[0] != digit {
			t.Errorf("%s has the form %s, want it to begin with %c", c.Behavior.Name, c.form, digit)
		}
	}
	if got := slices.Sorted(maps.Keys(digits)); len(got) != 6 {
		t.Errorf("digits %q, want one of each of the six kinds", got)
	}
}
