package contract

import (
	"fmt"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
)

func TestLiveBehaviorsAreReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live := LiveBehaviors{}
		for i := range rapid.IntRange(0, 20).Draw(t, "behaviors") {
			live.Add("p", fmt.Sprint(i), defender.Severity(rapid.IntRange(0, int(defender.Critical)).Draw(t, "severity")))
		}
		text := live.String()
		got, err := ParseLiveBehaviors(text)
		if err != nil || !maps.Equal(got, live) {
			t.Fatalf("%q is read as %v (%v), want %v", text, got, err, live)
		}
		if most := liveDigest*len(live) + int(defender.Critical); len(text) > most {
			t.Fatalf("%d characters for %d behaviors, want at most %d", len(text), len(live), most)
		}
	})
}

func TestLiveBehaviorsHaveTheirSeverities(t *testing.T) {
	live := LiveBehaviors{}
	live.Add("p", "a", defender.SeverityDefault)
	live.Add("p", "b", defender.High)
	for behavior, want := range map[string]defender.Severity{"a": defender.SeverityDefault, "b": defender.High, "c": defender.SeverityDefault} {
		if got := live.Severity("p", behavior); got != want || live.Has("p", behavior) != (behavior != "c") {
			t.Errorf("%s: severity %v, want %v; live %v", behavior, got, want, live.Has("p", behavior))
		}
	}
}

func TestInvalidLiveBehaviorsAreErrors(t *testing.T) {
	for _, text := range []string{"abc", "abcdef.abc", "......abcdef", "abcdef......"} {
		if l, err := ParseLiveBehaviors(text); err == nil {
			t.Errorf("%q is read as %v, want an error", text, l)
		}
	}
}
