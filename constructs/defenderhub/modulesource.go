package defenderhub

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
)

const modulePath = "github.com/defenderhub/defenderhub"

// moduleSource finds the directory of this module: the source of the functions comes
// along with the construct. It is the checkout, the directory that the caller's go.mod
// replaces the module with, or the module cache.
func moduleSource(goTool string) (string, error) {
	_, file, _, _ := runtime.Caller(0)
	info, _ := debug.ReadBuildInfo()
	return findModule(file, info, func(dir string, args ...string) ([]byte, error) {
		command := exec.Command(goTool, args...)
		command.Dir = dir
		// The caller's own go.mod and workspace count here, its flags do not.
		command.Env = append(os.Environ(), "GOFLAGS=-mod=readonly")
		var stderr strings.Builder
		command.Stderr = &stderr
		out, err := command.Output()
		if err != nil {
			return nil, fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
		}
		return out, nil
	})
}

// findModule tries, in this order: where this file was compiled from (unless it was
// compiled with -trimpath), an absolute directory that replaces the module, what the
// caller's go.mod says, and the version in the build info.
func findModule(file string, info *debug.BuildInfo, goCommand func(dir string, args ...string) ([]byte, error)) (string, error) {
	if dir := filepath.Dir(filepath.Dir(filepath.Dir(file))); filepath.IsAbs(file) && isModule(dir) {
		return dir, nil
	}
	var version string
	if info != nil {
		for _, m := range info.Deps {
			if m.Path != modulePath {
				continue
			}
			version = m.Version
			if r := m.Replace; r != nil {
				version = ""
				if r.Version != "" {
					version = r.Path + "@" + r.Version
				} else if filepath.IsAbs(r.Path) && isModule(r.Path) {
					return r.Path, nil
				}
			} else if version != "" {
				version = modulePath + "@" + version
			}
		}
	}
	dir, err := moduleDir(goCommand(".", "list", "-m", "-json", modulePath))
	if err == nil {
		return dir, nil
	}
	if version == "" {
		return "", fmt.Errorf("cannot find the source of %s: %w", modulePath, err)
	}
	// Outside of every module, so that no go.mod of the caller has a say.
	temp, err := os.MkdirTemp("", "defenderhub-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	dir, err = moduleDir(goCommand(temp, "mod", "download", "-json", version))
	if err != nil {
		return "", fmt.Errorf("cannot find the source of %s: %w", version, err)
	}
	return dir, nil
}

// moduleDir reads the directory out of what go list and go mod download print.
func moduleDir(output []byte, err error) (string, error) {
	if err != nil {
		return "", err
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(output, &m); err != nil {
		return "", err
	}
	if !isModule(m.Dir) {
		return "", errors.New("the go command names no directory with its source")
	}
	return m.Dir, nil
}

// isModule tells whether dir holds this module with the functions' source; a vendor
// directory does not.
func isModule(dir string) bool {
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil || !strings.HasPrefix(string(mod), "module "+modulePath+"\n") {
		return false
	}
	_, err = os.Stat(filepath.Join(dir, "lambda"))
	return err == nil
}
