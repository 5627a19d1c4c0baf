// Package python finds or installs a Python with the emulator moto. It uses only the standard library,
// so that the demo's preparation compiles within seconds.
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

// Moto is the version of moto for which the local AWS has patches.
const Moto = "5.2.1"

// probe succeeds in a Python with the wanted moto and its server. It prints the interpreter's path,
// because the one on PATH may be a slow wrapper.
const probe = `import importlib.metadata, sys
import flask, flask_cors, werkzeug
found = importlib.metadata.version("moto")
if found != sys.argv[1]:
    sys.exit("moto " + found + " is installed")
print(sys.executable)`

// Find returns an interpreter with moto [Moto] and its server, from the virtual environment at venv or
// from PATH. If there is none, it creates that virtual environment with pip, and reports its
// progress. Temporary files are in temp.
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
		return "", errors.New("python3 is missing: install Python 3.10 or newer with venv and pip (https://www.python.org/downloads; on Debian and Ubuntu: apt install python3-venv), and run this again")
	}
	path, err := install(ctx, venv, temp, progress)
	if err != nil {
		return "", fmt.Errorf("the local AWS needs Python 3.10 or newer with moto %s, which could not be installed: run `pip install 'moto[server]==%s'` for the python3 on PATH. The errors were:\n%w",
			Moto, Moto, errors.Join(append(tried, err)...))
	}
	return path, nil
}

// withMoto returns the path of an interpreter, if it has the wanted moto.
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

// install creates the virtual environment. Concurrent runs wait for each other.
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
		return path, nil // another run has installed it
	}
	fmt.Fprintf(progress, "installing moto %s into %s\n", Moto, venv)
	for _, command := range [][]string{
		{"python3", "-m", "venv", "--clear", venv},
		{own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "moto[server]==" + Moto},
	} {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Env = append(os.Environ(), "TMPDIR="+temp)
		if out, err := cmd.CombinedOutput(); err != nil {
			// The whole output, because Debian names the missing package in the middle.
			return "", fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, strings.TrimSpace(string(out)))
		}
	}
	return withMoto(ctx, own)
}

// lastLine returns the last line of a failed program's output, where Python prints the reason.
func lastLine(out []byte, err error) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return err.Error()
}
