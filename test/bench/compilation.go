package main

import (
	"errors"
	"path/filepath"
	"time"
)

// build compiles a function of the module in dir as synthesis does, for this machine, and returns
// the executable.
func (b *bench) build(dir, pkg, name string, env ...string) (string, error) {
	out := filepath.Join(b.dir, name)
	_, err := b.command(dir, append(env, "CGO_ENABLED=0", "GOFLAGS=-mod=readonly"),
		"go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-tags=lambda.norpc", "-o", out, pkg)
	return out, err
}

// compilation measures an empty build cache, relinking from a full one, and a build without
// changes.
func (b *bench) compilation() error {
	compile := func(dir, pkg, name, cache string) (time.Duration, error) {
		start := time.Now()
		_, err := b.build(dir, pkg, name, "GOCACHE="+filepath.Join(b.dir, cache))
		return time.Since(start), err
	}
	for _, state := range []struct{ what, output string }{{"with an empty cache", "first"}, {"warm, linked again", "second"}, {"warm, nothing changed", "second"}} {
		ours, errA := compile(b.repository, "./lambda/forwarder", state.output+"-forwarder", "cache-ours")
		theirs, errB := compile(b.test, "./bench/emptyfunction", state.output+"-empty", "cache-theirs")
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		b.row(state.what, seconds(ours.Seconds()), seconds(theirs.Seconds())+" empty function", number(ours.Seconds()/theirs.Seconds()), "")
	}
	return nil
}
