package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// lasting returns a task that ends with fault after d.
func lasting(d time.Duration, fault error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return fault
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func named(name string) func() string { return func() string { return name } }

func TestRunningTasksArePrintedEveryFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		p := preparation{to: &out, began: time.Now()}
		if err := p.run(t.Context(), []task{{named("compiling"), lasting(12*time.Second, nil)}, {named("installing"), lasting(7*time.Second, nil)}}); err != nil {
			t.Error(err)
		}
		if want := "  5.0s  compiling; installing\n 10.0s  compiling\n"; out.String() != want {
			t.Errorf("got:\n%swant:\n%s", &out, want)
		}
	})
}

func TestFirstErrorCancelsTheOtherTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fault := errors.New("npm is missing")
		p := preparation{to: &strings.Builder{}, began: time.Now()}
		began := time.Now()
		err := p.run(t.Context(), []task{{named("a"), lasting(time.Hour, nil)}, {named("b"), lasting(time.Second, fault)}})
		if !errors.Is(err, fault) || time.Since(began) != time.Second {
			t.Errorf("got %v after %s, want %v after 1s", err, time.Since(began), fault)
		}
	})
}

func TestInterruptedPreparationIsAnError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := preparation{to: &strings.Builder{}, began: time.Now()}
	if err := p.run(ctx, []task{{named("a"), lasting(time.Hour, nil)}}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestErrorIncludesTheProgramsOutput(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "npm")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho first\necho last >&2\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var lines []string
	err := programs{repository: dir}.command(t.Context(), ".", nil, func(line string) { lines = append(lines, line) }, program, "ci")
	if err == nil || !strings.Contains(err.Error(), "npm ci: exit status 3") || !strings.Contains(err.Error(), "first\nlast") || len(lines) != 2 {
		t.Errorf("got %v and lines %q, want an error with both lines", err, lines)
	}
}
