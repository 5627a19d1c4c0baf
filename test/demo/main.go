// Command demo runs the product's story on a local AWS, or serves that local AWS until it is
// interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/defenderhub/defenderhub/test/walkthrough"
)

var errInterrupted = errors.New("interrupted; all started programs are stopped")

func main() {
	serve := flag.Bool("serve", false, "deploy, print the endpoints, and serve until Ctrl-C")
	record := flag.String("record", "", "write what devices publish to a `file`, for defenderhub replay")
	flag.Parse()
	if err := run(*serve, *record); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(serve bool, record string) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) // SIGHUP if the terminal is closed
	go func() {
		<-signals
		cancel(errInterrupted)
	}()
	repository, err := filepath.Abs("..") // make runs this in test/
	if err != nil {
		return err
	}
	o := walkthrough.Options{Out: os.Stdout, Repository: repository, Color: colored(os.Stdout)}
	if record != "" {
		f, err := os.Create(record)
		if err != nil {
			return err
		}
		defer f.Close()
		o.Record = f
	}
	if serve {
		return walkthrough.Serve(ctx, o)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// The preparation puts both programs into one directory.
	o.Command, o.Report = filepath.Join(filepath.Dir(self), "defenderhub"), filepath.Join(filepath.Dir(self), "report.html")
	return walkthrough.Run(ctx, o)
}

// colored reports whether f is a terminal whose user did not ask for plain text.
func colored(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
