package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/tools/internal/repository"
)

const changelog = "# Changelog\n\n## Unreleased\n\n### New\n\n- `make demo`.\n"

// newRelease returns the release v0.1.0 of a clone, and the clone's remote.
func newRelease(t *testing.T) (r release, remote repository.Checkout) {
	t.Helper()
	for _, role := range []string{"AUTHOR", "COMMITTER"} {
		t.Setenv("GIT_"+role+"_NAME", "Somebody")
		t.Setenv("GIT_"+role+"_EMAIL", "somebody@example.com")
	}
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	dir := t.TempDir()
	remote = repository.Checkout(filepath.Join(dir, "remote.git"))
	r = release{
		checkout: repository.Checkout(filepath.Join(dir, "clone")), version: "v0.1.0", remote: "origin", branch: "main", checks: "test -f go.mod",
		out: t.Output(), now: func() time.Time { return time.Date(2026, 12, 24, 23, 0, 0, 0, time.UTC) },
	}
	git(t, repository.Checkout(dir), "init", "--quiet", "--bare", "--initial-branch=main", string(remote))
	git(t, repository.Checkout(dir), "clone", "--quiet", string(remote), string(r.checkout))
	git(t, r.checkout, "checkout", "--quiet", "-B", "main")
	write(t, r.checkout, "go.mod", "module github.com/defenderhub/defenderhub\n\ngo 1.26.0\n")
	write(t, r.checkout, "lambda/hello/main.go", "package main\n\nfunc main() { println(\"hello\") }\n")
	write(t, r.checkout, "CHANGELOG.md", changelog)
	write(t, r.checkout, "cmd/go.work", "go 1.26.0\n\nuse (\n\t..\n\t./defenderhub\n)\n\nreplace github.com/defenderhub/defenderhub v0.0.0 => ..\n")
	write(t, r.checkout, "cmd/defenderhub/go.mod", "module github.com/defenderhub/defenderhub/cmd/defenderhub\n\ngo 1.26.0\n\nrequire github.com/defenderhub/defenderhub v0.0.0\n")
	write(t, r.checkout, "cmd/defenderhub/go.sum", "")
	write(t, r.checkout, "cmd/defenderhub/main.go", "package main\n\nfunc main() {}\n")
	write(t, r.checkout, ".gitignore", "/dist/\n")
	commit(t, r.checkout)
	return r, remote
}

func git(t *testing.T, c repository.Checkout, args ...string) string {
	t.Helper()
	out, err := c.Git(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func write(t *testing.T, c repository.Checkout, name, text string) {
	t.Helper()
	path := filepath.Join(string(c), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// commit commits and pushes all changes.
func commit(t *testing.T, c repository.Checkout) {
	t.Helper()
	git(t, c, "add", "--all")
	git(t, c, "commit", "--quiet", "-m", "Change something")
	git(t, c, "push", "--quiet", "origin", "main")
}

func TestReleaseReachesTheRemote(t *testing.T) {
	r, remote := newRelease(t)
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if tagged, head := git(t, remote, "rev-parse", "v0.1.0^{commit}"), git(t, remote, "rev-parse", "main"); tagged != head {
		t.Errorf("the tag is at %s, the branch at %s", tagged, head)
	}
	if tagged, head := git(t, remote, "rev-parse", "cmd/defenderhub/v0.1.0^{commit}"), git(t, remote, "rev-parse", "main"); tagged != head {
		t.Errorf("the command's tag is at %s, the branch at %s", tagged, head)
	}
	if kind := git(t, remote, "cat-file", "-t", "v0.1.0"); kind != "tag" {
		t.Errorf("the tag is a %s, want an annotated one", kind)
	}
	const want = "# Changelog\n\n## Unreleased\n\nNothing yet.\n\n## v0.1.0 (2026-12-24)\n\n### New\n\n- `make demo`."
	if got := git(t, remote, "show", "v0.1.0:CHANGELOG.md"); got != want {
		t.Errorf("changelog:\n%s\nwant:\n%s", got, want)
	}
}

func TestReleaseHasAZipOfEachFunctionAndArchitecture(t *testing.T) {
	r, _ := newRelease(t)
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	dist := filepath.Join(string(r.checkout), "dist", "v0.1.0")
	sums, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, architecture := range []struct {
		name    string
		machine elf.Machine
	}{{"amd64", elf.EM_X86_64}, {"arm64", elf.EM_AARCH64}} {
		name := "hello-" + architecture.name + ".zip"
		archive, err := os.ReadFile(filepath.Join(dist, name))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&want, "%x  %s\n", sha256.Sum256(archive), name)
		files, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
		if err != nil {
			t.Fatal(err)
		}
		if len(files.File) != 1 || files.File[0].Name != "bootstrap" || files.File[0].Mode() != 0o755 {
			t.Fatalf("%s contains %v, want one executable named bootstrap", name, files.File)
		}
		f, err := files.File[0].Open()
		if err != nil {
			t.Fatal(err)
		}
		program, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		executable, err := elf.NewFile(bytes.NewReader(program))
		if err != nil || executable.Machine != architecture.machine {
			t.Errorf("%s: executable %v, error %v, want one for %v", name, executable, err, architecture.machine)
		}
	}
	if string(sums) != want.String() {
		t.Errorf("checksums:\n%swant:\n%s", sums, &want)
	}
	if err := r.build(t.Context(), dist); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS")); err != nil || !bytes.Equal(again, sums) {
		t.Errorf("a second build has the checksums\n%s, error %v, want the same", again, err)
	}
}

func TestFailedReleaseChangesNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(t *testing.T, r *release)
		want   string
	}{
		"no version":        {func(_ *testing.T, r *release) { r.version = "" }, "want vMAJOR.MINOR.PATCH"},
		"not a version":     {func(_ *testing.T, r *release) { r.version = "1.0" }, "want vMAJOR.MINOR.PATCH"},
		"failing checks":    {func(_ *testing.T, r *release) { r.checks = "echo broken; exit 1" }, "broken"},
		"checks that write": {func(_ *testing.T, r *release) { r.checks = "touch left" }, "left"},
		"uncommitted":       {func(t *testing.T, r *release) { write(t, r.checkout, "go.mod", "module example.com/other\n") }, "the checkout has changes"},
		"not pushed":        {func(t *testing.T, r *release) { git(t, r.checkout, "commit", "--allow-empty", "-m", "More") }, "differ: push or pull first"},
		"another branch":    {func(t *testing.T, r *release) { git(t, r.checkout, "checkout", "-b", "feature") }, "the branch is feature"},
		"released before": {func(t *testing.T, r *release) {
			git(t, r.checkout, "tag", "v0.1.0")
		}, "is not above the last release, v0.1.0"},
		"below the last release": {func(t *testing.T, r *release) {
			git(t, r.checkout, "tag", "v0.10.0")
			git(t, r.checkout, "tag", "v0.9.0")
		}, "is not above the last release, v0.10.0"},
		"tagged elsewhere": {func(t *testing.T, r *release) {
			git(t, r.checkout, "tag", "v0.1.0", git(t, r.checkout, "commit-tree", "-m", "Elsewhere", "HEAD^{tree}"))
		}, "the tag v0.1.0 already exists"},
		"empty changelog": {func(t *testing.T, r *release) {
			write(t, r.checkout, "CHANGELOG.md", "## Unreleased\n\nNothing yet.\n\n## v0.0.1\n\n- All.\n")
			commit(t, r.checkout)
		}, `lists nothing below "## Unreleased"`},
		"no changelog section": {func(t *testing.T, r *release) {
			write(t, r.checkout, "CHANGELOG.md", "# Changelog\n")
			commit(t, r.checkout)
		}, `no section "## Unreleased"`},
	} {
		t.Run(name, func(t *testing.T) {
			r, remote := newRelease(t)
			tt.change(t, &r)
			before := git(t, r.checkout, "rev-parse", "HEAD") + git(t, r.checkout, "tag") + git(t, remote, "rev-parse", "main")
			if err := r.run(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if after := git(t, r.checkout, "rev-parse", "HEAD") + git(t, r.checkout, "tag") + git(t, remote, "rev-parse", "main"); after != before {
				t.Errorf("commits and tags are %s, want %s", after, before)
			}
		})
	}
}

func TestErrorOfThePushSaysHowToUndoTheRelease(t *testing.T) {
	r, remote := newRelease(t)
	write(t, remote, "hooks/pre-receive", "#!/bin/sh\nexit 1\n")
	if err := os.Chmod(filepath.Join(string(remote), "hooks", "pre-receive"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := r.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "git tag --delete v0.1.0 cmd/defenderhub/v0.1.0; git reset --hard origin/main") {
		t.Errorf("error %v, want one with the commands that delete the tags and the commit", err)
	}
	if tags := git(t, remote, "tag"); tags != "" {
		t.Errorf("the remote has the tags %s, want none", tags)
	}
}

// A release must have the same bytes as a synthesis.
func TestReleaseBuildsWithTheFlagsOfTheSynthesis(t *testing.T) {
	text, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	var synthesis []byte
	for _, pattern := range []string{"../../constructs/defenderhub/*.go", "../../internal/gobuild/*.go"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if source, err := os.ReadFile(path); err == nil && !strings.HasSuffix(path, "_test.go") && bytes.Contains(source, []byte(`"-trimpath"`)) {
				synthesis = append(synthesis, source...)
			}
		}
	}
	flags := `"-mod=readonly", "-trimpath", "-buildvcs=false", "-tags=lambda.norpc", "-ldflags=-s -w"`
	if !bytes.Contains(synthesis, []byte(flags)) || !bytes.Contains(text, []byte(flags)) {
		t.Errorf("the synthesis and the release do not both build with %s", flags)
	}
	for name, value := range map[string]string{"GOARM64": "v8.0", "GOAMD64": "v1", "CGO_ENABLED": "0", "GOFIPS140": "off"} {
		if !bytes.Contains(synthesis, fmt.Appendf(nil, "%q: %q", name, value)) || !bytes.Contains(text, fmt.Appendf(nil, `"%s=%s"`, name, value)) {
			t.Errorf("%s is not %s in the synthesis and in the release", name, value)
		}
	}
}
