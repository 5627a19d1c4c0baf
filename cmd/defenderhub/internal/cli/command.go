// Package cli provides what all commands share: flags, the AWS configuration, output, the exit
// status, questions before a change, and the removal of what a command created.
//
// A command is a [Command]. Its Run gets a [Session] and returns an error. The exit status is 0 for
// nil, 1 for a [Todo], 2 for any other error, and 130 after an interruption.
package cli

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Command is one command, or a group of commands.
type Command struct {
	// Use is the command's name, followed by its arguments: "device NAME".
	Use string
	// Short is one line. Long has the details, Example has complete command lines.
	Short, Long, Example string
	// Args checks the arguments. Default: none are allowed.
	Args cobra.PositionalArgs
	// Changes reports whether the command changes something in the account. Such a command has the
	// flags --yes and --dry-run, and must call [Session.Confirm].
	Changes bool
	// Policy is the minimum policy that the command needs, nil if it calls no AWS service.
	Policy []Statement
	// Output describes what the command prints, as sections without rows. A test compares the
	// documentation with their fields.
	Output []Section
	// Flags adds the command's own flags.
	Flags func(*pflag.FlagSet)
	Run   func(ctx context.Context, s *Session, args []string) error
	// Commands are the commands of a group, which usually has no Run.
	Commands []*Command
}

// Statement allows actions on resources. A resource is * or an ARN with the partition aws, which
// `defenderhub policy` replaces with the Region's partition.
type Statement struct {
	Actions, Resources []string
}

// Todo is the error of a command that found something that the user should do. The exit status is
// 1.
type Todo string

func (t Todo) Error() string { return string(t) }

// Name returns the command's name, the first word of Use.
func (c *Command) Name() string { return (&cobra.Command{Use: c.Use}).Name() }

// Walk calls f for a command and all commands below it, with their full names, such as
// "dead-letters list".
func (c *Command) Walk(f func(name string, c *Command)) { c.walk("", f) }

func (c *Command) walk(above string, f func(string, *Command)) {
	name := c.Name()
	if above != "" {
		name = above + " " + name
	}
	f(name, c)
	for _, sub := range c.Commands {
		sub.walk(name, f)
	}
}
