package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	modzip "golang.org/x/mod/zip"
)

const (
	rootModule = "github.com/defenderhub/defenderhub"
	// commandDir is the module of the command, which requires the root module of its own version.
	commandDir = "cmd/defenderhub"
	workspace  = "cmd/go.work"
)

// pinned lists the files that [release.pin] changes.
var pinned = []string{commandDir + "/go.mod", commandDir + "/go.sum", workspace}

// pin makes the command require the root module of the release, with the checksums of the module zip
// that Go makes from the tag. All other changes of the root module must be written before.
func (r release) pin(ctx context.Context) error {
	archive, err := os.CreateTemp("", "defenderhub-*.zip")
	if err != nil {
		return err
	}
	defer os.Remove(archive.Name())
	defer archive.Close()
	if err := r.archive(ctx, archive, rootModule, "."); err != nil {
		return err
	}
	sum, err := dirhash.HashZip(archive.Name(), dirhash.Hash1)
	if err != nil {
		return err
	}
	modSum, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
		return os.Open(filepath.Join(string(r.checkout), "go.mod"))
	})
	if err != nil {
		return err
	}
	if err := r.edit(commandDir+"/go.mod", func(text []byte) ([]byte, error) {
		f, err := modfile.Parse("go.mod", text, nil)
		if err != nil {
			return nil, err
		}
		if err := f.AddRequire(rootModule, r.version); err != nil {
			return nil, err
		}
		return f.Format()
	}); err != nil {
		return err
	}
	if err := r.edit(commandDir+"/go.sum", func(text []byte) ([]byte, error) {
		lines := slices.DeleteFunc(slices.Collect(strings.Lines(string(text))), func(line string) bool { return strings.HasPrefix(line, rootModule+" ") })
		lines = append(lines, fmt.Sprintf("%s %s %s\n", rootModule, r.version, sum), fmt.Sprintf("%s %s/go.mod %s\n", rootModule, r.version, modSum))
		slices.Sort(lines)
		return []byte(strings.Join(lines, "")), nil
	}); err != nil {
		return err
	}
	return r.edit(workspace, func(text []byte) ([]byte, error) {
		f, err := modfile.ParseWork("go.work", text, nil)
		if err != nil {
			return nil, err
		}
		for _, old := range slices.Clone(f.Replace) {
			if err := f.DropReplace(old.Old.Path, old.Old.Version); err != nil {
				return nil, err
			}
		}
		if err := f.AddReplace(rootModule, r.version, "..", ""); err != nil {
			return nil, err
		}
		f.Cleanup()
		return modfile.Format(f.Syntax), nil
	})
}

func (r release) edit(name string, change func([]byte) ([]byte, error)) error {
	path := filepath.Join(string(r.checkout), name)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if text, err = change(text); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.WriteFile(path, text, 0o644)
}

// archive writes the module zip of a directory in the checkout, as Go makes it.
func (r release) archive(ctx context.Context, to io.Writer, path, dir string) error {
	listed, err := r.checkout.Git(ctx, "ls-files", "--cached", "-z", "--", dir)
	if err != nil {
		return err
	}
	var files []modzip.File
	for name := range strings.SplitSeq(listed, "\x00") {
		if name == "" {
			continue
		}
		within, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		files = append(files, file{filepath.ToSlash(within), filepath.Join(string(r.checkout), name)})
	}
	return modzip.Create(to, module.Version{Path: path, Version: r.version}, files)
}

// file is a file of a module.
type file struct{ name, at string }

func (f file) Path() string                 { return f.name }
func (f file) Lstat() (os.FileInfo, error)  { return os.Lstat(f.at) }
func (f file) Open() (io.ReadCloser, error) { return os.Open(f.at) }
