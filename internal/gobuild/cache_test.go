package gobuild

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withoutHome leaves this process no place for caches: none that it knows, or one that is not
// writable. A file instead of a directory stops root as well.
func withoutHome(t *testing.T, home string) {
	t.Helper()
	for _, name := range []string{"HOME", "home"} {
		t.Setenv(name, home)
	}
	for _, name := range []string{"XDG_CACHE_HOME", "LocalAppData", "GOCACHE", "GOPATH", "GOMODCACHE"} {
		t.Setenv(name, "")
	}
}

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
				t.Errorf("%s: %v, %v, want a directory for its owner alone", dir, info, err)
			}
			if again, _ := cacheDir(); again != dir {
				t.Errorf("%s and %s", dir, again)
			}
			// The prebuilt executable that the errors suggest needs a place too.
			program := filepath.Join(t.TempDir(), "program")
			writeFile(t, program, "program")
			if made, err := Stage(program, "behaviors.json", []byte("{}")); err != nil || !strings.HasPrefix(made.Dir, dir) {
				t.Errorf("%v, error %v", made, err)
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
				t.Fatalf("%v, error %v", caches, err)
			}
			if _, err := (build{goTool: tool, module: module, cache: t.TempDir(), functions: []string{"hello"}, goarch: "arm64", caches: caches}).run(); err != nil {
				t.Error(err)
			}
			dir := filepath.Dir(strings.TrimPrefix(caches[0], "GOCACHE="))
			if remove(); len(glob(t, dir)) != 0 {
				t.Errorf("%s is left", dir)
			}
		})
	}
}

func TestExistingCachesStayInUse(t *testing.T) {
	home := t.TempDir()
	withoutHome(t, home)
	// Filled by another build step, and read-only since.
	modules := filepath.Join(home, "go", "pkg", "mod")
	if err := os.MkdirAll(modules, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(modules, 0o555); err != nil {
		t.Fatal(err)
	}
	if caches, _, err := goCaches(); err != nil || caches != nil {
		t.Errorf("%v, error %v", caches, err)
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
