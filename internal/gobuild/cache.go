package gobuild

import (
	"os"
	"path/filepath"
	"sync"
)

// cacheDir returns where outputs are kept between syntheses, so that the next one does not relink
// unchanged functions. If no cache directory is writable, as in a container with a read-only
// home, it returns a new directory for this process. In a directory with a known name, others
// could plant a program for us to deploy.
func cacheDir() (string, error) {
	if dir, err := os.UserCacheDir(); err == nil {
		if own := filepath.Join(dir, "defenderhub"); writable(own) {
			return own, nil
		}
	}
	return ownDir()
}

var ownDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "defenderhub-") })

// writable reports whether files can be created in dir, which it creates if missing.
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

// goCaches returns variables that give the go command caches for one build, if it has no writable
// ones, and a function that removes them. A complete read-only module cache stays in use.
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
		// Without this flag the go command creates a module cache that cannot be removed.
		variables = append(variables, "GOMODCACHE="+filepath.Join(dir, "mod"), goFlags+" -modcacherw")
	}
	return variables, func() { _ = os.RemoveAll(dir) }, nil
}

// goFlags overrides the caller's GOFLAGS.
const goFlags = "GOFLAGS=-mod=readonly"
