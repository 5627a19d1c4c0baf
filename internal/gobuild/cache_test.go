package gobuild

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withoutHome unsets all variables that locate caches, and sets HOME to home. An empty home is unknown.
func withoutHome(t *testing.T, home string) {
	t.Helper()
	for _, name := range []string{"HOME", "home"} {
		t.Setenv(name, home)
	}
	for _, name := range []string{"XDG_CACHE_HOME", "LocalAppData", "GOCACHE", "GOPATH", "GOMODCACHE"} {
		t.Setenv(name, "")
	}
}

// unwritableHome returns a file instead of a directory: root cannot write there either.
func unwritableHome(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "home")
	writeFile(t, file, "no directory")
	return file
}

func TestBuildCacheIsPrivateWithoutAUserCache(t *testing.T) {
	for name, home := range map[string]string{"no home": "", "a home that cannot be written": unwritableHome(t)} {
		t.Run(name, func(t *testing.T) {
			withoutHome(t, home)
			dir, err := cacheDir()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(filepath.Join(dir, "with-file")) })
			if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("%s: %v, error %v, want a directory for its owner alone", dir, info, err)
			}
			if again, _ := cacheDir(); again != dir {
				t.Errorf("the second call returns %s, want %s", again, dir)
			}
			// The errors suggest a prebuilt executable, which also needs a directory.
			program := filepath.Join(t.TempDir(), "program")
			writeFile(t, program, "program")
			if made, err := Stage(program, "behaviors.json", []byte("{}")); err != nil || !strings.HasPrefix(made.Dir, dir) {
				t.Errorf("Stage: %v, error %v, want an asset in %s", made, err, dir)
			}
		})
	}
}

func TestFunctionsCompileWithoutAHome(t *testing.T) {
	module := writeModule(t, t.TempDir())
	tool := goTool(t)
	for name, home := range map[string]string{"no home": "", "a home that cannot be written": unwritableHome(t)} {
		t.Run(name, func(t *testing.T) {
			withoutHome(t, home)
			caches, remove, err := goCaches()
			if err != nil || len(caches) != 3 {
				t.Fatalf("caches %v, error %v, want 3", caches, err)
			}
			if _, err := (build{goTool: tool, module: module, cache: t.TempDir(), functions: []string{"hello"}, goarch: "arm64", caches: caches}).run(); err != nil {
				t.Error(err)
			}
			dir := filepath.Dir(strings.TrimPrefix(caches[0], "GOCACHE="))
			if remove(); len(glob(t, dir)) != 0 {
				t.Errorf("%s still exists", dir)
			}
		})
	}
}

func TestExistingCachesStayInUse(t *testing.T) {
	home := t.TempDir()
	withoutHome(t, home)
	// Another build step filled the module cache and made it read-only.
	modules := filepath.Join(home, "go", "pkg", "mod")
	if err := os.MkdirAll(modules, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(modules, 0o555); err != nil {
		t.Fatal(err)
	}
	if caches, _, err := goCaches(); err != nil || caches != nil {
		t.Errorf("caches %v, error %v, want those that exist", caches, err)
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return found
}
