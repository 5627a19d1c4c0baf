// Package gobuild compiles the Lambda functions from this module's source at synthesis, and
// stages prebuilt ones. Its outputs are directories that a later synthesis finds again. It is
// plain Go, and only the constructs use it.
package gobuild

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bootstrap is the name of the executable that Lambda runs.
const Bootstrap = "bootstrap"

// compiled are the functions that this process has built: their source does not change while it
// runs.
var compiled struct {
	sync.Mutex
	assets map[string]map[string]Asset // by name
}

// Asset is a directory to deploy and the hash of what is in it.
type Asset struct{ Dir, Hash string }

// Executable is the path of the asset's program.
func (a Asset) Executable() string { return filepath.Join(a.Dir, Bootstrap) }

// Compile builds the functions with these names that this process has not built yet. It returns the
// assets, by name, of all functions that this process has built for goarch.
func Compile(goarch string, names ...string) (map[string]Asset, error) {
	compiled.Lock()
	defer compiled.Unlock()
	if compiled.assets == nil {
		compiled.assets = map[string]map[string]Asset{}
	}
	if compiled.assets[goarch] == nil {
		compiled.assets[goarch] = map[string]Asset{}
	}
	known := compiled.assets[goarch]
	missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool { _, ok := known[name]; return ok })
	if len(missing) == 0 {
		return known, nil
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		return nil, err
	}
	caches, remove, err := goCaches()
	if err != nil {
		return nil, err
	}
	defer remove()
	source, err := moduleSource(goTool, caches)
	if err != nil {
		return nil, err
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	built, err := build{goTool: goTool, module: source, cache: cache, functions: missing, goarch: goarch, caches: caches}.run()
	if err != nil {
		return nil, err
	}
	maps.Copy(known, built)
	return known, nil
}

// build is one run of go build.
type build struct {
	goTool    string
	module    string // directory of this module
	cache     string
	functions []string // packages below lambda/
	goarch    string
	caches    []string // variables of goCaches
}

// run builds each function into a directory named by the hash of its content. It puts the last
// outputs into place first, because go build does not relink an executable whose build ID is up
// to date. It never overwrites a directory that another synthesis may be reading.
func (b build) run() (map[string]Asset, error) {
	home := filepath.Join(b.cache, b.goarch+"-"+digest(b.module))
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, err
	}
	// The compiler also leaves its files in the temporary directory if a synthesis is
	// interrupted.
	work, err := os.MkdirTemp("", "defenderhub-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	// The slash makes it a directory, even if go build has only one package.
	arguments := []string{"build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-tags=lambda.norpc", "-ldflags=-s -w", "-o", work + string(filepath.Separator)}
	for _, name := range b.functions {
		arguments = append(arguments, "./lambda/"+name)
		// go build creates whatever is missing.
		if last, err := os.ReadFile(lastOf(home, name)); err == nil {
			if err := copyFile(filepath.Join(home, string(last), Bootstrap), filepath.Join(work, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
		}
	}
	command := exec.Command(b.goTool, arguments...)
	command.Dir = b.module
	command.Env = append(buildEnvironment(os.Environ(), b.goarch), b.caches...)
	if output, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build of %s in %s: %w\n%s", strings.Join(b.functions, ", "), b.module, err, strings.TrimSpace(string(output)))
	}
	assets := map[string]Asset{}
	for _, name := range b.functions {
		if assets[name], err = keep(home, work, name); err != nil {
			return nil, err
		}
	}
	return assets, nil
}

// lastOf returns the file with the hash of a function's last output.
func lastOf(home, name string) string { return filepath.Join(home, "last-"+name) }

// keep makes an asset of the executable name in work, and records it as the last.
func keep(home, work, name string) (Asset, error) {
	target := filepath.Join(work, name)
	hash, err := hashFile(target)
	if err != nil {
		return Asset{}, err
	}
	dir := filepath.Join(home, hash)
	defer prune(home, dir)
	if _, err := os.Stat(filepath.Join(dir, Bootstrap)); err != nil {
		staged, err := os.MkdirTemp(home, staging)
		if err != nil {
			return Asset{}, err
		}
		defer os.RemoveAll(staged)
		if err := copyFile(target, filepath.Join(staged, Bootstrap)); err != nil {
			return Asset{}, err
		}
		if err := os.Chmod(staged, 0o755); err != nil {
			return Asset{}, err
		}
		if err := os.Rename(staged, dir); err != nil {
			if _, lost := os.Stat(filepath.Join(dir, Bootstrap)); lost != nil {
				return Asset{}, err
			} // another synthesis built the same at the same time
		}
	}
	// A synthesis that reads a half-written hash finds no such output, and builds.
	return Asset{dir, hash}, os.WriteFile(lastOf(home, name), []byte(hash), 0o644)
}

// staging is the prefix of directories in the cache with unfinished outputs.
const staging = "build-"

// prune removes outputs that no synthesis has used for a month and unfinished outputs of
// interrupted syntheses, and sets the time of the directory used to now.
func prune(home, used string) {
	now := time.Now()
	_ = os.Chtimes(used, now, now)
	entries, _ := os.ReadDir(home)
	for _, e := range entries {
		kept := 30 * 24 * time.Hour
		if strings.HasPrefix(e.Name(), staging) {
			kept = time.Hour
		}
		if info, err := e.Info(); err == nil && e.IsDir() && now.Sub(info.ModTime()) > kept {
			_ = os.RemoveAll(filepath.Join(home, e.Name()))
		}
	}
}

// buildEnvironment returns the caller's environment without settings that would change the output
// or select another module. An empty value would let "go env -w" apply, so each is set.
func buildEnvironment(caller []string, goarch string) []string {
	fixed := map[string]string{
		"GOOS": "linux", "GOARCH": goarch, "GOARM64": "v8.0", "GOAMD64": "v1", "CGO_ENABLED": "0",
		"GOFLAGS": "-mod=readonly", "GOWORK": "off", "GO111MODULE": "on", "GOTOOLCHAIN": "auto", "GOFIPS140": "off",
	}
	dropped := map[string]bool{"GOEXPERIMENT": true, "GODEBUG": true, "GOROOT": true, "PWD": true}
	var env []string
	for _, pair := range caller {
		name, _, _ := strings.Cut(pair, "=")
		if _, ok := fixed[name]; !ok && !dropped[name] {
			env = append(env, pair)
		}
	}
	for name, value := range fixed {
		env = append(env, name+"="+value)
	}
	return env
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// digest is a short name for a text.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:4])
}
