package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// fullStack are the app's settings that deploy the most, with functions for this machine's
// architecture.
var fullStack = map[string]string{
	"defenderhub:engine":          "native",
	"defenderhub:profile":         "demo",
	"defenderhub:audit-on-deploy": "true",
	"defenderhub:demo":            "true",
	"defenderhub:architecture":    runtime.GOARCH,
}

// goalOfSynthesis is the ratio of the full stack's time to an empty app's that may not be
// exceeded.
const goalOfSynthesis = 1.3

// synthesis runs the app and an empty one, with the CDK CLI as users do, and without it. Most of
// the time of both is the CDK's own: Node.js, its library, its validation.
func (b *bench) synthesis() error {
	app, empty := filepath.Join(b.dir, "app"), filepath.Join(b.dir, "emptyapp")
	if _, err := b.command(b.repository, nil, "go", "build", "-o", app, "."); err != nil {
		return err
	}
	if _, err := b.command(b.test, nil, "go", "build", "-o", empty, "./bench/emptyapp"); err != nil {
		return err
	}
	context, err := json.Marshal(fullStack)
	if err != nil {
		return err
	}
	outputs, err := b.ownOutputs()
	if err != nil {
		return err
	}
	out := filepath.Join(b.dir, "cdk.out")
	direct := append(outputs, "CDK_OUTDIR="+out, "CDK_CONTEXT_JSON="+string(context))
	if err := b.links(app, direct); err != nil {
		return err
	}
	// A directory without a cdk.json gives both the same settings.
	cli := func(app string) []string {
		return []string{"synth", "--quiet", "--no-notices", "--app", app, "--output", out}
	}
	ours := cli(app)
	for key, value := range fullStack {
		ours = append(ours, "--context", key+"="+value)
	}
	if err := b.compare("cdk synth", "empty app", goalOfSynthesis,
		b.timed(b.dir, outputs, "cdk", ours...), b.timed(b.dir, outputs, "cdk", cli(empty)...)); err != nil {
		return err
	}
	return b.compare("the app alone, without the CLI", "empty app", goalOfSynthesis,
		b.timed(b.dir, direct, app), b.timed(b.dir, direct, empty))
}

// ownOutputs is an environment without the function builds of earlier syntheses, but with the
// usual Go build cache.
func (b *bench) ownOutputs() ([]string, error) {
	cache, err := b.command(b.repository, nil, "go", "env", "GOCACHE")
	if err != nil {
		return nil, err
	}
	return []string{"XDG_CACHE_HOME=" + filepath.Join(b.dir, "outputs"), "GOCACHE=" + strings.TrimSpace(cache)}, nil
}

// links counts how often two syntheses link a function, with a go command that records its
// actions.
func (b *bench) links(app string, env []string) error {
	tool, err := exec.LookPath("go")
	if err != nil {
		return err
	}
	dir, log := filepath.Join(b.dir, "bin"), filepath.Join(b.dir, "links")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	script := fmt.Sprintf("#!/bin/sh\ncase $1 in build) shift; exec '%s' build -x \"$@\" 2>>'%s';; esac\nexec '%s' \"$@\"\n", tool, log, tool)
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte(script), 0o755); err != nil {
		return err
	}
	env = append(env, "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	var counts [2]int
	for i := range counts {
		if _, err := b.command(b.dir, env, app); err != nil {
			return err
		}
		commands, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		counts[i] = strings.Count(string(commands), "/link -o ")
		if err := os.Remove(log); err != nil {
			return err
		}
	}
	goal := "0: reached"
	if counts[1] > 0 {
		goal = "0: missed"
	}
	b.row("functions linked, nothing changed", fmt.Sprint(counts[1]), fmt.Sprintf("%d at first", counts[0]), "", goal)
	return nil
}
