package defenderhub

import (
	"os"
	"path/filepath"
	"sync"
)

// cacheDir is where outputs stay between syntheses, so that the next one does not link
// again what did not change. Without a cache directory that can be written, as in a
// container with a read-only home, it is a directory for this process: in one with a known
// name others could leave a program for us to deploy.
func cacheDir() (string, error) {
	if dir, err := os.UserCacheDir(); err == nil {
		if own := filepath.Join(dir, "defenderhub"); writable(own) {
			return own, nil
		}
	}
	return ownDir()
}

var ownDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "defenderhub-") })

// writable reports whether files can be made in dir, which it makes where it is missing.
func writable(dir string) bool {
	if os.MkdirAll(dir, 0o755) != nil {
		return false
	}
	probe, err := os.MkdirTemp(dir, "probe-")
	if err != nil {
		return false
	}
	return os.Remove(probe) == nil
}

// goCaches are variables that give the go command caches for one build, where it has none
// that it can write, and the function that removes them. A module cache that is complete and
// read-only stays in use.
func goCaches() (variables []string, remove func(), err error) {
	remove = func() {}
	builds, err := os.UserCacheDir()
	noBuilds := os.Getenv("GOCACHE") == "" && (err != nil || !writable(filepath.Join(builds, "go-build")))
	noModules := false
	if os.Getenv("GOMODCACHE") == "" && os.Getenv("GOPATH") == "" {
		home, err := os.UserHomeDir()
		modules := filepath.Join(home, "go", "pkg", "mod")
		_, missing := os.Stat(modules)
		noModules = err != nil || missing != nil && !writable(modules)
	}
	if !noBuilds && !noModules {
		return nil, remove, nil
	}
	dir, err := os.MkdirTemp("", "defenderhub-go-")
	if err != nil {
		return nil, remove, err
	}
	if noBuilds {
		variables = append(variables, "GOCACHE="+filepath.Join(dir, "build"))
	}
	if noModules {
		// The go command makes a module cache that cannot be removed without this flag.
		variables = append(variables, "GOMODCACHE="+filepath.Join(dir, "mod"), goFlags+" -modcacherw")
	}
	return variables, func() { _ = os.RemoveAll(dir) }, nil
}

// goFlags keep the caller's flags away from the go command.
const goFlags = "GOFLAGS=-mod=readonly"
