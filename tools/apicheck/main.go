// Command apicheck compares the Go API of the checkout with the API of the last release. It fails if
// there is an incompatible change and CHANGELOG.md lists no breaking change. Before the first release
// it does nothing.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/defenderhub/defenderhub/tools/internal/repository"
)

func main() {
	dir := flag.String("C", ".", "the `directory` of the checkout")
	tools := flag.String("tools", "tools/go.mod", "the go.mod `file` that pins apidiff")
	flag.Parse()
	if err := check(context.Background(), repository.Checkout(*dir), *tools); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(ctx context.Context, now repository.Checkout, tools string) error {
	tag, err := now.LastTag(ctx)
	if err != nil || tag == "" {
		return err
	}
	if tools, err = filepath.Abs(tools); err != nil {
		return err
	}
	temp, err := os.MkdirTemp("", "apicheck-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	then := repository.Checkout(filepath.Join(temp, "then"))
	if _, err := now.Git(ctx, "worktree", "add", "--detach", string(then), tag); err != nil {
		return err
	}
	defer now.Git(ctx, "worktree", "remove", "--force", string(then))
	exports := map[repository.Checkout]string{then: filepath.Join(temp, "then.export"), now: filepath.Join(temp, "now.export")}
	for checkout, export := range exports {
		module, err := checkout.Run(ctx, nil, "go", "list", "-m")
		if err != nil {
			return err
		}
		if _, err := checkout.Run(ctx, nil, "go", "tool", "-modfile="+tools, "apidiff", "-m", "-w", export, module); err != nil {
			return err
		}
	}
	changes, err := now.Run(ctx, nil, "go", "tool", "-modfile="+tools, "apidiff", "-m", "-incompatible", exports[then], exports[now])
	if err != nil || changes == "" {
		return err
	}
	changelog, err := now.Changelog()
	if err != nil {
		return err
	}
	breaks, err := changelog.Breaks()
	if err != nil || breaks {
		return err
	}
	return fmt.Errorf("the Go API breaks users of %s:\n%s\nKeep the old API, or list the change in CHANGELOG.md below \"## Unreleased\", \"### Breaking\"", tag, changes)
}
