package gobuild

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

func TestSourceIsFound(t *testing.T) {
	module := writeModule(t, t.TempDir())
	vendored := t.TempDir()
	trimmed := modulePath + "/internal/gobuild/modulesource.go"
	file := func(dir string) string { return filepath.Join(dir, "internal", "gobuild", "modulesource.go") }
	dep := func(version string, replace *debug.Module) *debug.BuildInfo {
		return &debug.BuildInfo{Deps: []*debug.Module{{Path: "example.com/other"}, {Path: modulePath, Version: version, Replace: replace}}}
	}
	for _, c := range []struct {
		name, file string
		info       *debug.BuildInfo
		answers    map[string]string // a go command, and the directory that it prints
	}{
		{name: "directory of the compiled source", file: file(module)},
		{name: "directory that replaces the module", file: trimmed, info: dep("v1.0.0", &debug.Module{Path: module})},
		{name: "caller's go.mod", file: trimmed, info: dep("v1.0.0", &debug.Module{Path: "../hub"}), answers: map[string]string{"list -m -json " + modulePath: module}},
		{name: "workspace or own binary", file: trimmed, answers: map[string]string{"list -m -json " + modulePath: module}},
		{name: "module cache, after vendoring", file: file(vendored), info: dep("v1.0.0", nil), answers: map[string]string{"mod download -json " + modulePath + "@v1.0.0": module}},
		{name: "installed app", file: trimmed, info: &debug.BuildInfo{Main: debug.Module{Path: modulePath, Version: "v1.0.0"}}, answers: map[string]string{"mod download -json " + modulePath + "@v1.0.0": module}},
		{name: "fork", file: trimmed, info: dep("v1.0.0", &debug.Module{Path: "example.com/fork", Version: "v1.0.1"}), answers: map[string]string{"mod download -json example.com/fork@v1.0.1": module}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := findModule(c.file, c.info, func(_ string, args ...string) ([]byte, error) {
				if dir, ok := c.answers[strings.Join(args, " ")]; ok {
					return json.Marshal(map[string]string{"Dir": dir})
				}
				return nil, errors.New("not in a module")
			})
			if err != nil || got != module {
				t.Errorf("got %q, error %v, want %q", got, err, module)
			}
		})
	}
}

func TestErrorForMissingSourceSaysHowToFixIt(t *testing.T) {
	fail := func(_ string, args ...string) ([]byte, error) {
		if strings.Contains(strings.Join(args, " "), "(devel)") {
			t.Errorf("go %v is called, but no version has the name (devel)", args)
		}
		return nil, errors.New("module lookup disabled")
	}
	for _, info := range []*debug.BuildInfo{
		nil,
		{Deps: []*debug.Module{{Path: modulePath, Version: "v1.0.0"}}},
		{Main: debug.Module{Path: modulePath, Version: "(devel)"}},
		{Deps: []*debug.Module{{Path: modulePath, Version: "v1.0.0", Replace: &debug.Module{Path: "../moved"}}}},
	} {
		dir, err := findModule("trimmed.go", info, fail)
		if err == nil || !strings.Contains(err.Error(), "module lookup disabled") || !strings.Contains(err.Error(), "without -trimpath") {
			t.Errorf("%+v: got %q, error %v, want one with the cause, which says without -trimpath", info, dir, err)
		}
	}
}

func TestThisModuleIsFound(t *testing.T) {
	dir, err := moduleSource(goTool(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := filepath.Abs("../.."); dir != want {
		t.Errorf("got %s, want %s", dir, want)
	}
}

// An app with vendored dependencies may have no module cache, and no network.
func TestErrorForAVendoredModuleOfflineSaysWhy(t *testing.T) {
	vendored := filepath.Join(t.TempDir(), "vendor", filepath.FromSlash(modulePath), "internal", "gobuild", "modulesource.go")
	writeFile(t, vendored, "package gobuild\n")
	app := t.TempDir()
	writeFile(t, filepath.Join(app, "go.mod"), "module example.com/app\n\ngo 1.26.0\n\nrequire "+modulePath+" v1.0.0\n")
	t.Chdir(app)
	for name, value := range map[string]string{"GOPROXY": "off", "GOMODCACHE": t.TempDir(), "GOFLAGS": "-mod=vendor"} {
		t.Setenv(name, value)
	}
	info := &debug.BuildInfo{Deps: []*debug.Module{{Path: modulePath, Version: "v1.0.0"}}}
	_, err := findModule(vendored, info, goCommand(goTool(t), nil))
	if err == nil {
		t.Fatal("the source was found")
	}
	for _, want := range []string{"module lookup disabled by GOPROXY=off", "a vendor directory does not contain it"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "trimpath") {
		t.Errorf("%v names -trimpath, which this build does not use", err)
	}
}

func TestSourceIsFoundWithModulesOff(t *testing.T) {
	module := writeModule(t, t.TempDir())
	t.Chdir(module)
	t.Setenv("GO111MODULE", "off")
	if dir, err := findModule("trimmed.go", nil, goCommand(goTool(t), nil)); err != nil || dir != module {
		t.Errorf("got %q, error %v, want %q", dir, err, module)
	}
}
