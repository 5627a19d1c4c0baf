// Command release makes a release. It runs the checks, moves the unreleased changes of CHANGELOG.md
// to a section of the version, builds the Lambda functions, commits, tags and pushes.
package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/defenderhub/defenderhub/tools/internal/repository"
)

func main() {
	r := release{out: os.Stdout, now: time.Now}
	dir := flag.String("C", ".", "the `directory` of the checkout")
	flag.StringVar(&r.version, "version", "", "the `version`, such as v0.1.0")
	flag.StringVar(&r.remote, "remote", "origin", "the git `remote` to push to")
	flag.StringVar(&r.branch, "branch", "main", "the `branch` that is released")
	flag.StringVar(&r.checks, "checks", "make test", "the shell `command` that must pass")
	flag.Parse()
	r.checkout = repository.Checkout(*dir)
	if err := r.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

type release struct {
	checkout                        repository.Checkout
	version, remote, branch, checks string
	out                             io.Writer
	now                             func() time.Time
}

// run makes the release. It changes nothing until all checks have passed.
func (r release) run(ctx context.Context) error {
	changelog, err := r.check(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "running the checks: %s\n", r.checks)
	if _, err := r.checkout.Run(ctx, nil, "sh", "-c", r.checks); err != nil {
		return fmt.Errorf("the checks failed, and nothing was changed: %w", err)
	}
	if err := r.clean(ctx); err != nil {
		return fmt.Errorf("after the checks: %w", err)
	}
	fmt.Fprintln(r.out, "building the Lambda functions")
	dist := filepath.Join("dist", r.version)
	if err := r.build(ctx, filepath.Join(string(r.checkout), dist)); err != nil {
		return err
	}
	if err := r.checkout.Write(changelog); err != nil {
		return err
	}
	if err := r.pin(ctx); err != nil {
		return fmt.Errorf("%w\nTo undo what was done here: git reset --hard", err)
	}
	command := commandDir + "/" + r.version // the form of a nested module's version tag
	for _, args := range [][]string{
		append([]string{"commit", "--quiet", "-m", "Release " + r.version, "--", "CHANGELOG.md"}, pinned...),
		{"tag", "--annotate", "-m", "Release " + r.version, r.version},
		{"tag", "--annotate", "-m", "Release " + r.version, command},
		{"push", "--quiet", "--atomic", r.remote, "HEAD:refs/heads/" + r.branch, "refs/tags/" + r.version, "refs/tags/" + command},
	} {
		if _, err := r.checkout.Git(ctx, args...); err != nil {
			return fmt.Errorf("%w\nTo undo what was done here: git tag --delete %s %s; git reset --hard %s/%s", err, r.version, command, r.remote, r.branch)
		}
	}
	fmt.Fprintf(r.out, "released %s; publish its files: gh release create %s %s/*\n", r.version, r.version, dist)
	return nil
}

// check returns the changelog of the release, or an error if this checkout cannot be released.
func (r release) check(ctx context.Context) (repository.Changelog, error) {
	version, ok := parse(r.version)
	if !ok {
		return "", fmt.Errorf("version %q: want vMAJOR.MINOR.PATCH, as in make release VERSION=v0.1.0", r.version)
	}
	if err := r.clean(ctx); err != nil {
		return "", err
	}
	branch, err := r.checkout.Git(ctx, "rev-parse", "--abbrev-ref", "HEAD")
	if err != nil {
		return "", err
	}
	if branch != r.branch {
		return "", fmt.Errorf("the branch is %s: check out %s to make a release", branch, r.branch)
	}
	if _, err := r.checkout.Git(ctx, "fetch", "--quiet", "--tags", r.remote, r.branch); err != nil {
		return "", err
	}
	local, err := r.checkout.Git(ctx, "rev-parse", "HEAD")
	if err != nil {
		return "", err
	}
	remote, err := r.checkout.Git(ctx, "rev-parse", "FETCH_HEAD")
	if err != nil {
		return "", err
	}
	if local != remote {
		return "", fmt.Errorf("%s and %s/%s differ: push or pull first", r.branch, r.remote, r.branch)
	}
	last, err := r.checkout.LastTag(ctx)
	if err != nil {
		return "", err
	}
	if before, ok := parse(last); ok && slices.Compare(version, before) <= 0 {
		return "", fmt.Errorf("version %s is not above the last release, %s", r.version, last)
	}
	if _, err := r.checkout.Git(ctx, "rev-parse", "--quiet", "--verify", "refs/tags/"+r.version); err == nil {
		return "", fmt.Errorf("the tag %s already exists", r.version)
	}
	changelog, err := r.checkout.Changelog()
	if err != nil {
		return "", err
	}
	return changelog.Release(r.version, r.now().UTC().Format(time.DateOnly))
}

func (r release) clean(ctx context.Context) error {
	changes, err := r.checkout.Git(ctx, "status", "--porcelain")
	if err != nil {
		return err
	}
	if changes != "" {
		return fmt.Errorf("the checkout has changes; commit or remove them:\n%s", changes)
	}
	return nil
}

var versionPattern = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$`)

func parse(version string) ([]int, bool) {
	m := versionPattern.FindStringSubmatch(version)
	if m == nil {
		return nil, false
	}
	var numbers []int
	for _, digits := range m[1:] {
		n, err := strconv.Atoi(digits)
		if err != nil {
			return nil, false
		}
		numbers = append(numbers, n)
	}
	return numbers, true
}

// architectures are the architectures of Lambda.
var architectures = []string{"amd64", "arm64"}

// build writes a zip of each function for each architecture, and SHA256SUMS. The same source
// and Go version give the same bytes.
func (r release) build(ctx context.Context, dist string) error {
	dist, err := filepath.Abs(dist)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dist); err != nil {
		return err
	}
	if err := os.MkdirAll(dist, 0o755); err != nil {
		return err
	}
	mains, err := filepath.Glob(filepath.Join(string(r.checkout), "lambda", "*", "main.go"))
	if err != nil {
		return err
	}
	if len(mains) == 0 {
		return errors.New("lambda/ holds no function")
	}
	var sums bytes.Buffer
	for _, main := range mains {
		function := filepath.Base(filepath.Dir(main))
		for _, architecture := range architectures {
			executable := filepath.Join(dist, "bootstrap")
			// The same flags and variables as in internal/gobuild, which compiles at synthesis.
			env := []string{"GOOS=linux", "GOARCH=" + architecture, "GOARM64=v8.0", "GOAMD64=v1", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off", "GO111MODULE=on", "GOFIPS140=off", "GOEXPERIMENT="}
			if _, err := r.checkout.Run(ctx, env, "go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-tags=lambda.norpc", "-ldflags=-s -w", "-o", executable, "./lambda/"+function); err != nil {
				return err
			}
			program, err := os.ReadFile(executable)
			if err != nil {
				return err
			}
			if err := os.Remove(executable); err != nil {
				return err
			}
			archive, err := zipped(program)
			if err != nil {
				return err
			}
			name := function + "-" + architecture + ".zip"
			if err := os.WriteFile(filepath.Join(dist, name), archive, 0o644); err != nil {
				return err
			}
			fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(archive), name)
		}
	}
	return os.WriteFile(filepath.Join(dist, "SHA256SUMS"), sums.Bytes(), 0o644)
}

// zipped returns a zip with the executable. The zip has no time, so that it is reproducible.
func zipped(program []byte) ([]byte, error) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	header := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate}
	header.SetMode(0o755)
	f, err := w.CreateHeader(header)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(program); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
