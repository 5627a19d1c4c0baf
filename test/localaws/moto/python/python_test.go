package python_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/test/localaws/moto/python"
)

// program writes a shell script that replaces Python.
func program(t *testing.T, path, script string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// onlyPath sets PATH to a new directory with only the tools that the scripts need.
func onlyPath(t *testing.T) string {
	bin := t.TempDir()
	for _, tool := range []string{"mkdir", "chmod", "cat"} {
		program(t, filepath.Join(bin, tool), `exec /bin/`+tool+` "$@"`)
	}
	t.Setenv("PATH", bin)
	return bin
}

const (
	good = `echo "$0"`
	old  = `echo "moto 4.0.0 is installed" >&2; exit 1`
)

func TestPythonThatHasMotoIsUsed(t *testing.T) {
	bin, venv := onlyPath(t), filepath.Join(t.TempDir(), "venv")
	program(t, filepath.Join(bin, "python3"), old)
	program(t, filepath.Join(bin, "python"), good)
	got, err := python.Find(t.Context(), venv, t.TempDir(), io.Discard)
	if err != nil || got != filepath.Join(bin, "python") {
		t.Errorf("got %s, error %v, want the python that has moto", got, err)
	}
	program(t, filepath.Join(venv, "bin", "python"), good)
	if got, err = python.Find(t.Context(), venv, t.TempDir(), io.Discard); err != nil || got != filepath.Join(venv, "bin", "python") {
		t.Errorf("got %s, error %v, want the virtual environment", got, err)
	}
}

func TestVirtualEnvironmentIsCreatedIfNoPythonHasMoto(t *testing.T) {
	bin, venv := onlyPath(t), filepath.Join(t.TempDir(), "venv")
	// "-m venv" creates a Python that has moto once its pip has installed it.
	program(t, filepath.Join(bin, "python3"), `case "$*" in
"-m venv"*) mkdir -p "$4/bin"
cat >"$4/bin/python" <<'EOF'
#!/bin/sh
case "$*" in
*"pip install"*"moto[server]==`+python.Moto+`") : >"$0.has-moto" ;;
*) test -e "$0.has-moto" && echo "$0" ;;
esac
EOF
chmod 755 "$4/bin/python" ;;
*) exit 1 ;;
esac`)
	var progress strings.Builder
	got, err := python.Find(t.Context(), venv, t.TempDir(), &progress)
	if err != nil || got != filepath.Join(venv, "bin", "python") || !strings.Contains(progress.String(), "installing moto "+python.Moto) {
		t.Errorf("got %s, error %v, progress %q", got, err, &progress)
	}
}

func TestMissingMotoSaysWhatToDo(t *testing.T) {
	bin := onlyPath(t)
	program(t, filepath.Join(bin, "python3"), old)
	_, err := python.Find(t.Context(), filepath.Join(t.TempDir(), "venv"), t.TempDir(), io.Discard)
	for _, want := range []string{"pip install 'moto[server]==" + python.Moto + "'", "moto 4.0.0 is installed", "python: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestMissingPythonSaysWhatToInstall(t *testing.T) {
	onlyPath(t)
	var progress strings.Builder
	_, err := python.Find(t.Context(), filepath.Join(t.TempDir(), "venv"), t.TempDir(), &progress)
	if err == nil || !strings.HasPrefix(err.Error(), "python3 is missing: install Python 3.10 or newer") {
		t.Errorf("got %v, want an error that says what to install", err)
	}
	if progress.Len() > 0 {
		t.Errorf("without a Python the progress is %q, want none", progress.String())
	}
}

// Debian's Python without python3-venv ends its output with only the failed command.
func TestVirtualEnvironmentThatFailsIsReportedInFull(t *testing.T) {
	bin := onlyPath(t)
	program(t, filepath.Join(bin, "python3"), `case "$*" in
"-m venv"*) echo "you need to install the python3-venv package"; echo; echo "Failing command: python3"; exit 1 ;;
*) `+old+` ;;
esac`)
	_, err := python.Find(t.Context(), filepath.Join(t.TempDir(), "venv"), t.TempDir(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "install the python3-venv package") {
		t.Errorf("got %v, want an error with all output", err)
	}
}
