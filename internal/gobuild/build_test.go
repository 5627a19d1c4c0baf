package gobuild

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeModule writes a small module like this one, with a function, and a package that the function
// imports.
func writeModule(t *testing.T, dir string) string {
	t.Helper()
	for name, text := range map[string]string{
		"go.mod":               "module " + modulePath + "\n\ngo 1.26.0\n",
		"lambda/hello/main.go": "package main\n\nimport \"" + modulePath + "/lambda/internal/greeting\"\n\nfunc main() { println(greeting.Text) }\n",
	} {
		writeFile(t, filepath.Join(dir, name), text)
	}
	writeGreeting(t, dir, "hello")
	return dir
}

// writeGreeting changes the source of the package that the function imports.
func writeGreeting(t *testing.T, module, text string) {
	t.Helper()
	writeFile(t, filepath.Join(module, "lambda", "internal", "greeting", "g.go"), "package greeting\n\nconst Text = \""+text+"\"\n")
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func goTool(t *testing.T) string {
	t.Helper()
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	return tool
}

// buildHello builds the function of writeModule.
func buildHello(t *testing.T, module, cache string) Asset {
	t.Helper()
	built, err := build{goTool: goTool(t), module: module, cache: cache, functions: []string{"hello"}, goarch: "arm64"}.run()
	if err != nil {
		t.Fatal(err)
	}
	return built["hello"]
}

func TestSameSourceHasSameHashInEveryDirectory(t *testing.T) {
	one := buildHello(t, writeModule(t, t.TempDir()), t.TempDir())
	two := buildHello(t, writeModule(t, filepath.Join(t.TempDir(), "pkg", "mod", "example.com", "hub@v1.2.3")), t.TempDir())
	if one.Hash != two.Hash {
		t.Errorf("hashes %s and %s", one.Hash, two.Hash)
	}
	entries, err := os.ReadDir(one.Dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "bootstrap" {
		t.Errorf("the asset contains %v, error %v, want bootstrap alone", entries, err)
	}
	if info, _ := os.Stat(filepath.Join(one.Dir, "bootstrap")); info.Mode()&0o111 == 0 {
		t.Errorf("bootstrap has mode %v, want an executable", info.Mode())
	}
}

func TestChangedSourceHasAnotherHash(t *testing.T) {
	module, cache := writeModule(t, t.TempDir()), t.TempDir()
	one := buildHello(t, module, cache)
	writeGreeting(t, module, "good day")
	if two := buildHello(t, module, cache); one.Hash == two.Hash {
		t.Error("the hash did not change")
	}
	if _, err := os.Stat(filepath.Join(one.Dir, "bootstrap")); err != nil {
		t.Errorf("an asset that another synthesis may read is deleted: %v", err)
	}
}

func TestBuildDoesNotWriteToTheModule(t *testing.T) {
	module := writeModule(t, t.TempDir())
	var before []string
	err := filepath.WalkDir(module, func(path string, _ fs.DirEntry, err error) error {
		before = append(before, path)
		return errors.Join(err, os.Chmod(path, 0o555))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, path := range before {
			_ = os.Chmod(path, 0o755)
		}
	})
	buildHello(t, module, t.TempDir())
	var after []string
	_ = filepath.WalkDir(module, func(path string, _ fs.DirEntry, _ error) error {
		after = append(after, path)
		return nil
	})
	if strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Errorf("the build changed the files of the module to %v, want %v", after, before)
	}
}

func TestGoSettingsOfTheCallerDoNotChangeTheHash(t *testing.T) {
	module := writeModule(t, t.TempDir())
	want := buildHello(t, module, t.TempDir())
	settings := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(settings, []byte("GOFLAGS=-race\nGOARCH=mips\nCGO_ENABLED=1\nGOWORK=/nowhere/go.work\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, env := range []string{
		"GOFLAGS=-mod=vendor -tags=netgo", "GOWORK=/nowhere/go.work", "GOOS=js", "GOARCH=wasm", "GOARM64=v8.2,lse",
		"GOTOOLCHAIN=go1.1", "CGO_ENABLED=1", "GOEXPERIMENT=nonsense", "GO111MODULE=off", "GOFIPS140=latest", "GOENV=" + settings,
	} {
		t.Run(env, func(t *testing.T) {
			name, value, _ := strings.Cut(env, "=")
			t.Setenv(name, value)
			if got := buildHello(t, module, t.TempDir()); got.Hash != want.Hash {
				t.Errorf("the hash is %s, want %s", got.Hash, want.Hash)
			}
		})
	}
}

func TestUnchangedSourceIsNotLinkedAgain(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("needs sh to record the commands of go build")
	}
	module, cache, log := writeModule(t, t.TempDir()), t.TempDir(), filepath.Join(t.TempDir(), "log")
	tool := filepath.Join(t.TempDir(), "go")
	script := "#!/bin/sh\nshift\nexec '" + goTool(t) + "' build -x \"$@\" 2>'" + log + "'\n"
	if err := os.WriteFile(tool, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	const first, second = "hello", "good day"
	assets := map[string]Asset{}
	for i, step := range []struct {
		text     string
		wantLink bool
	}{{first, true}, {first, false}, {second, true}, {first, true}, {first, false}} {
		writeGreeting(t, module, step.text)
		built, err := build{goTool: tool, module: module, cache: cache, functions: []string{"hello"}, goarch: "arm64"}.run()
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := assets[step.text]; ok && built["hello"] != before {
			t.Errorf("step %d: asset %v, want %v as before", i, built["hello"], before)
		}
		assets[step.text] = built["hello"]
		commands, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if linked := strings.Contains(string(commands), "/link "); linked != step.wantLink {
			t.Errorf("step %d: linked %v, want %v:\n%s", i, linked, step.wantLink, commands)
		}
	}
}

func TestFunctionsBuiltTogetherAreTheSameAssets(t *testing.T) {
	module := writeModule(t, t.TempDir())
	writeFile(t, filepath.Join(module, "lambda", "bye", "main.go"), "package main\n\nfunc main() { println(\"bye\") }\n")
	built, err := build{goTool: goTool(t), module: module, cache: t.TempDir(), functions: []string{"hello", "bye"}, goarch: "arm64"}.run()
	if err != nil {
		t.Fatal(err)
	}
	if alone := buildHello(t, module, t.TempDir()); built["hello"].Hash != alone.Hash || built["bye"].Hash == alone.Hash {
		t.Errorf("together %v, alone %v", built, alone)
	}
	for name, a := range built {
		entries, err := os.ReadDir(a.Dir)
		if err != nil || len(entries) != 1 || entries[0].Name() != "bootstrap" {
			t.Errorf("the asset of %s contains %v, error %v, want bootstrap alone", name, entries, err)
		}
	}
}

func TestStageMakesAnAssetOnce(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	program := filepath.Join(t.TempDir(), "program")
	writeFile(t, program, "program")
	one, err := Stage(program, "behaviors.json", []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"bootstrap": 0o755, "behaviors.json": 0o644} {
		if info, err := os.Stat(filepath.Join(one.Dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, error %v, want mode %v", name, info, err, want)
		}
	}
	two, err := Stage(program, "behaviors.json", []byte("{}"))
	if err != nil || one != two {
		t.Errorf("the second call returns %v, error %v, want %v", two, err, one)
	}
	if entries, _ := os.ReadDir(filepath.Dir(one.Dir)); len(entries) != 1 {
		t.Errorf("the directory contains %v, want the asset alone", entries)
	}
	if _, err := Stage(filepath.Join(t.TempDir(), "missing"), "behaviors.json", nil); err == nil {
		t.Error("a missing program is no error")
	}
}

// TestInterruptedOutputsAreRemoved creates the directories of interrupted and running builds, and an
// older output.
func TestInterruptedOutputsAreRemoved(t *testing.T) {
	module, cache := writeModule(t, t.TempDir()), t.TempDir()
	home := filepath.Dir(buildHello(t, module, cache).Dir)
	for name, age := range map[string]time.Duration{"build-old": 2 * time.Hour, "build-running": time.Minute, "output-of-yesterday": 24 * time.Hour} {
		dir := filepath.Join(home, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(dir, then, then); err != nil {
			t.Fatal(err)
		}
	}
	buildHello(t, module, cache)
	for name, want := range map[string]bool{"build-old": false, "build-running": true, "output-of-yesterday": true} {
		if _, err := os.Stat(filepath.Join(home, name)); (err == nil) != want {
			t.Errorf("%s: error %v, want that it exists: %t", name, err, want)
		}
	}
}
