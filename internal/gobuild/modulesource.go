package gobuild

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

const modulePath = "github.com/defenderhub/defenderhub"

// moduleSource returns the directory of this module, which includes the source of the functions.
// It is the checkout, the directory that the caller's go.mod replaces the module with, or the
// module cache. caches are the variables of goCaches.
func moduleSource(goTool string, caches []string) (string, error) {
	_, file, _, _ := runtime.Caller(0)
	info, _ := debug.ReadBuildInfo()
	return findModule(file, info, goCommand(goTool, caches))
}

// goCommand returns a function that runs go commands.
func goCommand(goTool string, caches []string) func(dir string, args ...string) ([]byte, error) {
	return func(dir string, args ...string) ([]byte, error) {
		command := exec.Command(goTool, args...)
		command.Dir = dir
		// The caller's go.mod and workspace apply, but not its flags. If it turned modules off,
		// there would be nothing to look up.
		command.Env = append(append(os.Environ(), goFlags, "GO111MODULE=on"), caches...)
		var stderr strings.Builder
		command.Stderr = &stderr
		out, err := command.Output()
		if err != nil {
			return nil, fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, reason(out, stderr.String()))
		}
		return out, nil
	}
}

// reason returns why a go command failed. With -json, go mod download writes the reason into the
// object and nothing to standard error.
func reason(output []byte, stderr string) string {
	var m struct{ Error string }
	if json.Unmarshal(output, &m) == nil && m.Error != "" {
		return m.Error
	}
	return strings.TrimSpace(stderr)
}

// findModule tries, in this order: where this file was compiled from (unless with -trimpath), an
// absolute directory that replaces the module, the caller's go.mod, and the version in the build
// info.
func findModule(file string, info *debug.BuildInfo, goCommand func(dir string, args ...string) ([]byte, error)) (string, error) {
	if dir := filepath.Dir(filepath.Dir(filepath.Dir(file))); filepath.IsAbs(file) && isModule(dir) {
		return dir, nil
	}
	module, version := builtFrom(info)
	if filepath.IsAbs(module) && isModule(module) {
		return module, nil
	}
	dir, err := moduleDir(goCommand(".", "list", "-m", "-json", modulePath))
	if err == nil {
		return dir, nil
	}
	if version != "" {
		// Outside every module, so that no go.mod of the caller applies.
		temp, tempErr := os.MkdirTemp("", "defenderhub-")
		if tempErr != nil {
			return "", tempErr
		}
		defer os.RemoveAll(temp)
		if dir, err = moduleDir(goCommand(temp, "mod", "download", "-json", module+"@"+version)); err == nil {
			return dir, nil
		}
	}
	fix := "synthesize in a directory whose go.mod is or requires that module, or build the program again, without -trimpath"
	if filepath.IsAbs(file) {
		fix = "a vendor directory does not contain it, so run go mod download once with network access"
	}
	return "", fmt.Errorf("cannot find the source of %s that this program was built from; %s: %w", modulePath, fix, err)
}

// builtFrom returns this module as the program was built with it: a path and a version, or a
// replacing directory without a version. A program of a checkout has no version either.
func builtFrom(info *debug.BuildInfo) (module, version string) {
	if info == nil {
		return "", ""
	}
	for _, m := range append(slices.Clone(info.Deps), &info.Main) {
		if m.Path != modulePath {
			continue
		}
		if m.Replace != nil {
			m = m.Replace
		}
		return m.Path, strings.TrimPrefix(m.Version, "(devel)")
	}
	return "", ""
}

// moduleDir returns the directory in the output of go list and go mod download.
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

// isModule reports whether dir has this module with the functions' source; a vendor directory does
// not.
func isModule(dir string) bool {
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil || !strings.HasPrefix(string(mod), "module "+modulePath+"\n") {
		return false
	}
	_, err = os.Stat(filepath.Join(dir, "lambda"))
	return err == nil
}
