package functions

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// unpack writes a function's zip to dir and returns the path of its bootstrap.
func unpack(code []byte, dir string) (string, error) {
	archive, err := zip.NewReader(bytes.NewReader(code), int64(len(code)))
	if err != nil {
		return "", fmt.Errorf("the function's code: %w", err)
	}
	for _, f := range archive.File {
		if !filepath.IsLocal(f.Name) {
			return "", fmt.Errorf("the function's code has a file outside its directory: %q", f.Name)
		}
		if err := extract(f, filepath.Join(dir, f.Name)); err != nil {
			return "", fmt.Errorf("the function's code: %w", err)
		}
	}
	bootstrap := filepath.Join(dir, "bootstrap")
	if _, err := os.Stat(bootstrap); err != nil {
		return "", fmt.Errorf("the function's code has no file bootstrap, which provided.al2023 runs")
	}
	return bootstrap, runnable(bootstrap)
}

func extract(f *zip.File, path string) error {
	if f.FileInfo().IsDir() {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	from, err := f.Open()
	if err != nil {
		return err
	}
	defer from.Close()
	// A program that is started meanwhile would inherit the open file, and while it has it,
	// the file cannot be run ("text file busy").
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		return err
	}
	return to.Close()
}

// runnable says before the attempt why a binary cannot run here. Scripts can.
func runnable(bootstrap string) error {
	binary, err := elf.Open(bootstrap)
	if err != nil {
		return nil
	}
	defer binary.Close()
	machine := map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}[binary.Machine]
	if machine != runtime.GOARCH || runtime.GOOS != "linux" {
		return fmt.Errorf("the function is built for linux/%s and this machine is %s/%s: deploy it with this machine's architecture", machine, runtime.GOOS, runtime.GOARCH)
	}
	return nil
}
