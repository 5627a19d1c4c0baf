// Package testcmd implements the command test, which runs tests of behaviors.
package testcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/defender/behaviortest"
)

// outcome is a row of the output.
type outcome struct {
	File       string   `json:"file" head:"FILE" doc:"the file"`
	Test       string   `json:"test" head:"TEST" doc:"the test's name"`
	Status     status   `json:"status" head:"STATUS" doc:"ok or failed"`
	Missing    []string `json:"missing" doc:"expected alarms that did not happen: time, device, behavior, change"`
	Unexpected []string `json:"unexpected" doc:"alarms that happened although the test does not list them"`
}

type status string

const (
	ok     status = "ok"
	failed status = "failed"
)

// Style implements [cli.Styled].
func (s status) Style() string { return map[status]string{ok: "32", failed: "31"}[s] }

// Command returns the command.
func Command() *cli.Command {
	return &cli.Command{
		Use: "test FILE...", Short: "Run unit tests of behaviors, offline",
		Long: `Run unit tests of behaviors, offline and in milliseconds.

A file has behaviors, what devices do, and the alarms that must follow. Copy one from
defender/behaviortest/examples. The package defender/behaviortest runs the same files
in your own go test. Exit status 1 means that a test failed, 2 that a file is invalid.`,
		Example: "defenderhub test behaviors/*.yaml",
		Args:    cobra.MinimumNArgs(1),
		Output:  []cli.Section{cli.Rows[outcome]("", nil)},
		Run:     run,
	}
}

func run(_ context.Context, s *cli.Session, files []string) error {
	var rows []outcome
	var faults []error
	failures := 0
	for _, file := range files {
		results, err := read(file)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", file, err))
			continue
		}
		for _, r := range results {
			row := outcome{File: file, Test: r.Name, Status: ok, Missing: texts(r.Missing), Unexpected: texts(r.Unexpected)}
			if err := r.Err(); err != nil {
				failures++
				row.Status = failed
				s.Say("%s: %s: %s", cli.Quoted(file), cli.Quoted(r.Name), strings.ReplaceAll(err.Error(), "\n", "\n  "))
			}
			rows = append(rows, row)
		}
	}
	if err := s.Print(cli.Rows("", rows)); err != nil {
		return err
	}
	if failures > 0 {
		faults = append(faults, cli.Todo(fmt.Sprintf("%d of %d tests failed", failures, len(rows))))
	}
	return errors.Join(faults...)
}

func read(file string) ([]behaviortest.Result, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	suite, err := behaviortest.Parse(text)
	if err != nil {
		return nil, err
	}
	return suite.Run()
}

func texts(alarms []behaviortest.Alarm) []string {
	all := []string{}
	for _, a := range alarms {
		all = append(all, a.String())
	}
	return all
}
