package moto_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/test/localaws/moto"
)

// program writes a shell script that replaces Python.
func program(t *testing.T, path, script string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestStartReturnsTheReasonOfAnExit(t *testing.T) {
	python := filepath.Join(t.TempDir(), "python")
	program(t, python, `echo "ModuleNotFoundError: no flask" >&2; exit 1`)
	_, err := moto.Start(t.Context(), moto.Config{Python: python, Dir: t.TempDir(), Log: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "no flask") {
		t.Errorf("got %v, want the program's error output", err)
	}
}

func TestStartCanBeCanceled(t *testing.T) {
	python := filepath.Join(t.TempDir(), "python")
	program(t, python, `exec sleep 1000`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := moto.Start(ctx, moto.Config{Python: python, Dir: t.TempDir(), Log: io.Discard}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
