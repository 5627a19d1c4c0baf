package asff_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
)

func ExampleFindingID() {
	fmt.Println(asff.FindingID(defender.DeviceEvents, "eu-central-1", "pump-7", "tamper"))
	fmt.Println(asff.FindingID(defender.DeviceEvents, "eu-central-1", "line/4 pump", "100%"))
	// Output:
	// defenderhub/device-event/eu-central-1/pump-7/tamper
	// defenderhub/device-event/eu-central-1/line%2F4 pump/100%25
}

// No choice of a client ID may allow a client to change another client's finding.
func TestDifferentPartsHaveDifferentIDs(t *testing.T) {
	part := rapid.OneOf(
		rapid.SampledFrom([]string{"", "/", "%", "%2F", "#", " ", "\n", "\x00", "\xff", "\xfe", "\uFFFD", "\u202e", "a", "a/", "a%2F"}),
		rapid.StringN(0, 12, -1),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 8), func(b []byte) string { return string(b) }),
		rapid.Map(rapid.IntRange(480, 520), func(n int) string { return strings.Repeat("a", n) }),
	)
	parts := rapid.SliceOfN(part, 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		a, b := parts.Draw(t, "a"), parts.Draw(t, "b")
		if rapid.Bool().Draw(t, "near") {
			b = slices.Clone(a)
			if len(b) > 0 {
				b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = part.Draw(t, "part")
			}
		}
		idA, idB := asff.FindingID(defender.DeviceEvents, "r", a...), asff.FindingID(defender.DeviceEvents, "r", b...)
		if (idA == idB) != slices.Equal(a, b) {
			t.Fatalf("the parts %q and %q have the IDs %s and %s", a, b, idA, idB)
		}
		for _, id := range []string{idA, idB} {
			if utf8.RuneCountInString(id) > 512 || strings.ContainsFunc(id, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("the ID %q has more than 512 characters, or one that does not print", id)
			}
			if fit := (asff.Finding{ID: id}).Fit().ID; fit != id {
				t.Fatalf("Fit changes the ID %q to %q", id, fit)
			}
		}
	})
}

// A long ID ends with a hash. A client cannot imitate it with a short client ID.
func TestImitatedHashHasAnotherID(t *testing.T) {
	long := asff.FindingID(defender.DeviceEvents, "r", strings.Repeat("a", 600))
	imitation := asff.FindingID(defender.DeviceEvents, "r", strings.TrimPrefix(long, "defenderhub/device-event/r/"))
	if long == imitation {
		t.Errorf("the long ID and its imitation are both %s", long)
	}
}

func TestSourcesAndRegionsHaveTheirOwnIDs(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range defender.Sources() {
		for _, region := range []string{"eu-central-1", "us-east-1"} {
			id := asff.FindingID(s, region, "pump-7")
			if seen[id] {
				t.Errorf("%v and another source or Region have the ID %s", s, id)
			}
			seen[id] = true
		}
	}
}
