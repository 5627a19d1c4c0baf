// Package python finds or makes a Python with the emulator moto. It needs the standard
// library alone, so that a program that prepares all else compiles within seconds.
package python

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Moto is the release of moto whose behavior the local AWS is built around.
const Moto = "5.2.1"

// probe succeeds in a Python that can serve the wanted moto and prints where that is:
// what PATH names may be a slow wrapper.
const probe = `import importlib.metadata, sys
import flask, flask_cors, werkzeug
found = importlib.metadata.version("moto")
if found != sys.argv[1]:
    sys.exit("moto " + found + " is installed")
print(sys.executable)`

// Find finds an interpreter that has moto [Moto] with its server: the virtual
// environment at venv, or one on PATH. Without one it makes that virtual environment
// with pip, whose temporary files are in temp, and reports the progress.
func Find(ctx context.Context, venv, temp string, progress io.Writer) (string, error) {
	own := filepath.Join(venv, "bin", "python")
	var tried []error
	for _, python := range []string{own, "python3", "python"} {
		path, err := withMoto(ctx, python)
		if err == nil {
			return path, nil
		}
		tried = append(tried, fmt.Errorf("%s: %w", python, err))
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if _, err := exec.LookPath("python3"); err != nil {
		return "", errors.New("python3 is missing: install Python 3.10 or newer with venv and pip (https://www.python.org/downloads; on Debian and Ubuntu: apt install python3-venv), which then installs the emulator moto")
	}
	path, err := install(ctx, venv, temp, progress)
	if err != nil {
		return "", fmt.Errorf("the local AWS needs Python 3.10 or newer with moto %s: where pip cannot install it as below, do so by hand with `pip install 'moto[server]==%s'`, so that python3 on PATH has it:\n%w",
			Moto, Moto, errors.Join(append(tried, err)...))
	}
	return path, nil
}

// withMoto is the executable behind python, if it can serve the wanted moto.
func withMoto(ctx context.Context, python string) (string, error) {
	out, err := exec.CommandContext(ctx, python, "-c", probe, Moto).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = exit.Stderr
		}
		return "", errors.New(lastLine(out, err))
	}
	return strings.TrimSpace(string(out)), nil
}

// install makes the virtual environment; two runs at once wait for each other.
func install(ctx context.Context, venv, temp string, progress io.Writer) (string, error) {
	if err := os.MkdirAll(filepath.Dir(venv), 0o755); err != nil {
		return "", err
	}
	lock, err := os.Open(filepath.Dir(venv))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	own := filepath.Join(venv, "bin", "python")
	if path, err := withMoto(ctx, own); err == nil {
		return path, nil // made by the run that we waited for
	}
	fmt.Fprintf(progress, "installing moto %s into %s\n", Moto, venv)
	for _, command := range [][]string{
		{"python3", "-m", "venv", "--clear", venv},
		{own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "moto[server]==" + Moto},
	} {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Env = append(os.Environ(), "TMPDIR="+temp)
		if out, err := cmd.CombinedOutput(); err != nil {
			// The whole of it: Debian names the missing package in the middle.
			return "", fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, strings.TrimSpace(string(out)))
		}
	}
	return withMoto(ctx, own)
}

// lastLine is what a failed program said in the end, where Python puts the reason.
func lastLine(out []byte, err error) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return err.Error()
}
