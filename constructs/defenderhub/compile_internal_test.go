package defenderhub

import (
	"errors"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
)

func TestErrorWithoutGoNamesPrebuilt(t *testing.T) {
	t.Setenv("PATH", "")
	_, err := functionCode("not-compiled-yet", ARM64, "")
	found := defender.FieldErrors(err)
	if len(found) != 1 || found[0].Field != "Prebuilt" || !strings.Contains(err.Error(), "Go on PATH") {
		t.Errorf("got %v, want an error of Prebuilt that names Go on PATH", err)
	}
}

func TestErrorWithoutGoNamesThePrebuiltOfDetect(t *testing.T) {
	t.Setenv("PATH", "")
	// No other test of this package compiles for this architecture.
	p := DetectProps{SelfManaged: &SelfManagedProps{Function: &FunctionProps{Architecture: AMD64}}}
	err := p.compile()
	found := defender.FieldErrors(err)
	if len(found) != 1 || found[0].Field != "SelfManaged.Prebuilt" || !strings.Contains(err.Error(), "Go on PATH to compile lambda/evaluator") {
		t.Errorf("got %v, want an error of SelfManaged.Prebuilt that names Go on PATH", err)
	}
}

func TestBuildErrorNamesTheCauseAndTheProp(t *testing.T) {
	err := compileFault("Prebuilt", "the path of a prebuilt executable or zip", "forwarder", errors.New("module lookup disabled"))
	want := "Prebuilt: missing, want the path of a prebuilt executable or zip, because lambda/forwarder does not compile here: module lookup disabled"
	if err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestBuildErrorHasTheOutputOfTheCompiler(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	_, err := functionCode("no-such-function", ARM64, "")
	found := defender.FieldErrors(err)
	if len(found) != 1 || found[0].Field != "Prebuilt" || !strings.Contains(err.Error(), "no-such-function: directory not found") {
		t.Errorf("got %v, want an error of Prebuilt that says directory not found", err)
	}
}
