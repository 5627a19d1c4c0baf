package synthesis

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// build compiles the app in dir and returns the executable.
func build(t *testing.T, dir string, settings ...string) string {
	t.Helper()
	app := filepath.Join(t.TempDir(), "fleet")
	run(t, dir, append(os.Environ(), settings...), "go", "build", "-o", app, ".")
	return app
}

// synthesize runs the app in a directory without a go.mod, and returns its cloud assembly. The
// build cache stays the usual one, even if XDG_CACHE_HOME is set.
func synthesize(t *testing.T, app string, settings ...string) string {
	t.Helper()
	assembly := t.TempDir()
	env := append(os.Environ(), "GOCACHE="+run(t, ".", nil, "go", "env", "GOCACHE"), "CDK_OUTDIR="+assembly)
	run(t, t.TempDir(), append(env, settings...), app)
	return assembly
}

func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	command := exec.Command(name, args...)
	command.Dir, command.Env = dir, env
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// observedGo returns a directory for PATH. Its go command records its directory and environment,
// and then runs the real one.
func observedGo(t *testing.T, log string) string {
	t.Helper()
	real, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\necho \"$(pwd -P) $*\" >>'%s'\nexec '%s' \"$@\"\n", log, real)
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyModule copies the files of the module in root as go get would: read-only and without nested
// modules.
func copyModule(t *testing.T, root string) string {
	t.Helper()
	to := absolute(t, t.TempDir())
	names := strings.Split(run(t, root, nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00")
	var nested []string
	for _, name := range names {
		if folder, ok := strings.CutSuffix(name, "/go.mod"); ok {
			nested = append(nested, folder+"/")
		}
	}
	for _, name := range names {
		if name == "" || slices.ContainsFunc(nested, func(folder string) bool { return strings.HasPrefix(name, folder) }) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed, but not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(to, name), content)
	}
	protect(t, to)
	return to
}

// copyConsumer copies the app's module and makes it use the construct in dir.
func copyConsumer(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		write(t, filepath.Join(to, name), []byte(read(t, filepath.Join(consumer, name))))
	}
	run(t, to, nil, "go", "mod", "edit", "-replace="+construct+"="+dir)
	return to
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// protect removes write permission until the test ends.
func protect(t *testing.T, root string) {
	t.Helper()
	chmod := func(folder, file fs.FileMode) error {
		return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() {
				return os.Chmod(path, folder)
			}
			return os.Chmod(path, file)
		})
	}
	t.Cleanup(func() {
		if err := chmod(0o755, 0o644); err != nil {
			t.Error(err)
		}
	})
	if err := chmod(0o555, 0o444); err != nil {
		t.Fatal(err)
	}
}

// listing returns each file below root and when it was written: root can write despite the
// permissions.
func listing(t *testing.T, root string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		lines = append(lines, fmt.Sprintf("%s %v %d %v", path, info.Mode(), info.Size(), info.ModTime()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// templates returns the sorted names of all templates of a cloud assembly.
func templates(t *testing.T, assembly string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(assembly, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".template.json") {
			names = append(names, strings.TrimPrefix(path, assembly+string(filepath.Separator)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// absolute returns the path without symbolic links, as a shell prints it.
func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}
