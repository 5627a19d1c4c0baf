package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/tools/internal/repository"
)

// TestCommandInstallsFromAProxy makes a release of a copy of this checkout. It serves both modules from
// a directory and installs the command as a user does. Go then verifies the root module's sum, which
// the release wrote.
func TestCommandInstallsFromAProxy(t *testing.T) {
	r := release{checkout: copyOf(t, "../.."), version: "v0.0.1"}
	if err := r.pin(t.Context()); err != nil {
		t.Fatal(err)
	}
	proxy, cache, bin := t.TempDir(), t.TempDir(), t.TempDir()
	serve(t, r, proxy, rootModule, ".")
	serve(t, r, proxy, rootModule+"/"+commandDir, commandDir)
	shared, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	upstream, err := exec.Command("go", "env", "GOPROXY").Output()
	if err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(t.Context(), "go", "install", rootModule+"/"+commandDir+"@"+r.version)
	install.Dir = t.TempDir()
	install.Env = append(os.Environ(), "GOBIN="+bin, "GOMODCACHE="+cache, "GOWORK=", "GOFLAGS=-modcacherw -trimpath", "CGO_ENABLED=0", "GONOSUMDB="+rootModule,
		"GOPROXY=file://"+proxy+",file://"+filepath.Join(strings.TrimSpace(string(shared)), "cache", "download")+","+strings.TrimSpace(string(upstream)))
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for args, want := range map[string]string{"--help": "Available Commands:", "--version": "defenderhub version v0.0.1"} {
		out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "defenderhub"), args).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte(want)) {
			t.Errorf("defenderhub %s: %v: %s, want %s", args, err, out, want)
		}
	}
}

// copyOf copies the tracked and the untracked files of a checkout into a new repository.
func copyOf(t *testing.T, from string) repository.Checkout {
	t.Helper()
	to := repository.Checkout(t.TempDir())
	listed, err := repository.Checkout(from).Git(t.Context(), "ls-files", "--cached", "--others", "--exclude-standard", "-z")
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(listed, "\x00") {
		if name == "" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(from, name))
		if os.IsNotExist(err) {
			continue // deleted in the checkout, but not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		write(t, to, name, string(text))
	}
	git(t, to, "init", "--quiet")
	git(t, to, "add", "--all")
	return to
}

// serve writes a module's files as a module proxy serves them.
// https://go.dev/ref/mod#goproxy-protocol
func serve(t *testing.T, r release, proxy, path, dir string) {
	t.Helper()
	at := filepath.Join(proxy, path, "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	info, err := json.Marshal(map[string]any{"Version": r.version, "Time": time.Unix(0, 0).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(string(r.checkout), dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := r.archive(t.Context(), &archive, path, dir); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"list": []byte(r.version + "\n"), r.version + ".info": info, r.version + ".mod": mod, r.version + ".zip": archive.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(at, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
