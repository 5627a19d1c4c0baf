package defender_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
)

// wantFault fails unless err has exactly one FieldError, at field and with value.
func wantFault(t *testing.T, err error, field string, value any) {
	t.Helper()
	found := defender.FieldErrors(err)
	if len(found) != 1 || found[0].Field != field || !reflect.DeepEqual(found[0].Value, value) {
		t.Errorf("got %v, want one fault of %q, value %v", err, field, value)
	}
}

func ExampleFieldError() {
	fmt.Println(&defender.FieldError{Field: "Audit.Schedule", Value: 32, Want: "day 1 to 31, or MonthlyOnLastDay()"})
	fmt.Println(&defender.FieldError{Field: "Detect.Behaviors[1].Name", Want: "1 to 128 of A-Z a-z 0-9 : _ -"})
	fmt.Println(&defender.FieldError{Value: "a b", Want: "no blanks"})
	// Output:
	// Audit.Schedule: 32, want day 1 to 31, or MonthlyOnLastDay()
	// Detect.Behaviors[1].Name: missing, want 1 to 128 of A-Z a-z 0-9 : _ -
	// "a b", want no blanks
}

func ExampleUnder() {
	err := defender.SecurityProfile{Behaviors: []defender.Behavior{{Name: "small messages", Criteria: defender.MessageByteSize.LessThan(8)}, {Name: "b"}}}.Validate()
	fmt.Println(defender.Under("Detect", err))
	// Output:
	// Detect.Behaviors[0].Name: "small messages", want 1 to 128 of A-Z a-z 0-9 : _ -
	// Detect.Behaviors[1].Criteria: missing, want a metric and its normal values, such as defender.MessageByteSize.LessThan(8)
}

func TestLongValuesAreShortened(t *testing.T) {
	err := &defender.FieldError{Field: "description", Value: strings.Repeat("ä", 5000), Want: "less"}
	if text := err.Error(); !strings.Contains(text, "ä... (5000 characters)") || len([]rune(text)) > 140 {
		t.Errorf("got %s, want at most 140 characters, with the original length", text)
	}
}

func TestControlCharactersOfValuesAreEscaped(t *testing.T) {
	err := &defender.FieldError{Field: "type", Value: "a\nlevel=ERROR \x1b[31m\xff", Want: "less"}
	if text := err.Error(); strings.ContainsAny(text, "\n\x1b") || strings.Contains(text, "\xff") {
		t.Errorf("got %q, want no control character and valid UTF-8", text)
	}
}

func TestUnderKeepsEveryPart(t *testing.T) {
	plain := errors.New("no schedule")
	fault := &defender.FieldError{Field: "Name", Want: "a name"}
	indexed := &defender.FieldError{Field: "[2]", Value: 1, Want: "less"}
	whole := &defender.FieldError{Value: 1, Want: "less"}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{fault, "A.Name: missing, want a name"},
		{indexed, "A[2]: 1, want less"},
		{whole, "A: 1, want less"},
		{plain, "A: no schedule"},
		{errors.Join(fault, plain, nil, indexed), "A.Name: missing, want a name\nA: no schedule\nA[2]: 1, want less"},
		{fmt.Errorf("wrapped: %w", errors.Join(fault, whole)), "A.Name: missing, want a name\nA: 1, want less"},
		{errors.Join(errors.Join(fault), errors.Join(whole)), "A.Name: missing, want a name\nA: 1, want less"},
	} {
		got := ""
		if err := defender.Under("A", c.err); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if !errors.Is(defender.Under("A", errors.Join(fault, plain)), plain) {
		t.Error("errors.Is does not find the original error")
	}
}

func TestFieldErrorsFindsAll(t *testing.T) {
	a, b := &defender.FieldError{Field: "a"}, &defender.FieldError{Field: "b"}
	got := defender.FieldErrors(fmt.Errorf("x: %w", errors.Join(a, errors.New("plain"), fmt.Errorf("y: %w", b))))
	if len(got) != 2 || got[0] != a || got[1] != b {
		t.Errorf("got %v, want a and b", got)
	}
	if got := defender.FieldErrors(nil); got != nil {
		t.Errorf("FieldErrors(nil): got %v, want nil", got)
	}
}
