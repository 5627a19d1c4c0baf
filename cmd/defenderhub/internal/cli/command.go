// Package cli is what all commands share: flags, the AWS configuration, output, exit status,
// questions before a change, and removal of what a command created.
//
// A command is a [Command]. Its Run gets a [Session] and returns an error: nil exits with 0, a
// [Todo] with 1, any other with 2, an interruption with 130.
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
	// Short is one line. Long has the details, Example whole command lines.
	Short, Long, Example string
	// Args checks the arguments. Default: none are allowed.
	Args cobra.PositionalArgs
	// Changes is true if the command changes something in the account: it then has --yes and
	// --dry-run, and must call [Session.Confirm].
	Changes bool
	// Policy is the least policy that the command needs, nil if it calls no AWS service.
	Policy []Statement
	// Output is what the command prints, as sections without rows: the documentation and its test
	// read the fields.
	Output []Section
	// Flags adds the command's own flags.
	Flags func(*pflag.FlagSet)
	Run   func(ctx context.Context, s *Session, args []string) error
	// Commands make this a group, which has no Run.
	Commands []*Command
}

// Statement allows actions on resources. A resource is * or an ARN of the partition aws, which
// `defenderhub policy` changes to the Region's partition.
type Statement struct {
	Actions, Resources []string
}

// Todo is an error that means: the command found something that the user should do. The exit
// status is 1.
type Todo string

func (t Todo) Error() string { return string(t) }

// Name returns the command's name, the first word of Use.
func (c *Command) Name() string { return (&cobra.Command{Use: c.Use}).Name() }

// Walk calls f for a command and for all below it, with their full names: "dead-letters list".
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
