package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// The exit statuses.
const (
	ExitFine        = 0
	ExitTodo        = 1
	ExitUnknown     = 2
	ExitInterrupted = 130
)

const examples = `  defenderhub doctor --template cdk.out
  defenderhub policy doctor > policy.json`

// Main runs the program and returns its exit status.
func Main(version string, args []string, commands ...*Command) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	undo, stopUndo := context.WithCancel(context.Background())
	defer stopUndo()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	go func() {
		<-signals
		cancel(errInterrupted)
		// Only a second Ctrl-C means that the user wants to leave everything in place: timeout and
		// shells may send SIGTERM and SIGHUP twice.
		for another := range signals {
			if another == os.Interrupt {
				stopUndo()
			}
		}
	}()
	s := &Session{Out: os.Stdout, Err: os.Stderr, In: os.Stdin, undoContext: undo}
	s.Terminal = term.IsTerminal(int(os.Stdout.Fd()))
	s.Color = s.Terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	s.errColor = term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	s.asks = term.IsTerminal(int(os.Stdin.Fd()))
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, s, version, args, commands) }()
	select {
	case status := <-ended:
		return status
	case <-undo.Done():
	}
	// The second Ctrl-C. The command may still say what it did not remove.
	select {
	case status := <-ended:
		return status
	case <-time.After(time.Second):
		return ExitInterrupted
	}
}

var errInterrupted = errors.New("interrupted")

func run(ctx context.Context, s *Session, version string, args []string, commands []*Command) int {
	s.In = &interruptible{ctx, s.In}
	root := Root(s, version, commands)
	root.SetArgs(args)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(ctx)
	return s.end(ctx, err)
}

// end removes what the command created, prints its error, and returns the exit status.
func (s *Session) end(ctx context.Context, err error) int {
	left := s.Close()
	status := exitStatus(err)
	if cause := context.Cause(ctx); cause != nil {
		var rest []error
		for _, e := range leaves(err) {
			if !errors.Is(e, cause) && !errors.Is(e, context.Canceled) {
				rest = append(rest, e)
			}
		}
		err, status = errors.Join(append(rest, cause)...), ExitInterrupted
	}
	s.printError(err)
	if left != nil {
		s.printError(left)
		if status != ExitInterrupted {
			status = ExitUnknown
		}
	}
	return status
}

// interruptible is a reader whose Read ends with the context. A read of a terminal or a pipe cannot
// be canceled, so it continues until the program ends.
type interruptible struct {
	ctx  context.Context
	from io.Reader
}

func (r *interruptible) Read(p []byte) (int, error) {
	type result struct {
		text []byte
		err  error
	}
	ended := make(chan result, 1)
	go func() {
		text := make([]byte, len(p)) // p is the caller's again if the context ends first
		n, err := r.from.Read(text)
		ended <- result{text[:n], err}
	}()
	select {
	case got := <-ended:
		return copy(p, got.text), got.err
	case <-r.ctx.Done():
		return 0, context.Cause(r.ctx)
	}
}

// exitStatus returns the exit status of an error. In joined errors, one that is not a [Todo]
// decides.
func exitStatus(err error) int {
	status := ExitFine
	for _, e := range leaves(err) {
		var todo Todo
		switch {
		case e == nil || errors.Is(e, errDryRun):
		case errors.As(e, &todo):
			status = ExitTodo
		default:
			return ExitUnknown
		}
	}
	return status
}

// leaves returns the errors that were joined in err.
func leaves(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, leaves(e)...)
		}
		return all
	}
	return []error{err}
}

func (s *Session) printError(err error) {
	for _, e := range leaves(err) {
		var todo Todo
		if e == nil || errors.Is(e, errDryRun) {
			continue
		}
		if errors.As(e, &todo) {
			s.Say("%s", todo)
			continue
		}
		s.Alert("%s", Explain(e))
		if DenialOf(e) != nil && s.command != "" {
			s.Say("  defenderhub policy %s prints the minimum policy that allows this", s.command)
		}
	}
}

// Root returns the tree of commands.
func Root(s *Session, version string, commands []*Command) *cobra.Command {
	root := &cobra.Command{
		Use:   "defenderhub",
		Short: "Check, test and watch AWS IoT Device Defender findings in AWS Security Hub",
		Long: "Check, test and watch AWS IoT Device Defender findings in AWS Security Hub.\n\n" +
			"Exit status: 0 success, 1 you have something to do, 2 an error, 130 interrupted.\n" +
			"Data goes to standard output, as a table on a terminal and separated by tabs\n" +
			"otherwise. Progress and errors go to standard error.",
		Example: examples, Version: version, SilenceErrors: true, SilenceUsage: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	flags := root.PersistentFlags()
	flags.StringVar(&s.region, "region", "", "AWS Region (default: AWS_REGION, or the Region of the profile)")
	flags.StringVar(&s.profile, "profile", "", "profile of the AWS configuration (default: AWS_PROFILE)")
	flags.StringVar(&s.endpoint, "endpoint-url", "", "address of all AWS services (default: AWS_ENDPOINT_URL)")
	flags.BoolVar(&s.JSON, "json", false, "print JSON with the fields that docs/command.md lists")
	for _, c := range append(commands, policyCommand(commands)) {
		root.AddCommand(c.cobra(s))
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usageError(c, err) })
	return root
}

func usageError(c *cobra.Command, err error) error {
	return fmt.Errorf("%w\nSee: %s --help", err, c.CommandPath())
}

func (c *Command) cobra(s *Session) *cobra.Command {
	checked := c.Args
	if checked == nil {
		checked = cobra.NoArgs
	}
	out := &cobra.Command{
		Use: c.Use, Short: c.Short, Long: c.Long, Example: indent(c.Example),
		Args: func(command *cobra.Command, args []string) error {
			if err := checked(command, args); err != nil {
				return usageError(command, err)
			}
			return nil
		},
	}
	if c.Flags != nil {
		c.Flags(out.Flags())
	}
	if c.Changes {
		out.Flags().BoolVar(&s.Yes, "yes", false, "change without asking")
		out.Flags().BoolVar(&s.dryRun, "dry-run", false, "print the changes without making them")
	}
	if c.Run != nil {
		out.RunE = func(command *cobra.Command, args []string) error {
			s.command = strings.TrimPrefix(command.CommandPath(), "defenderhub ")
			if c.Policy != nil || c.Changes {
				return c.Run(command.Context(), s, args)
			}
			// A command that calls no AWS service may not look at the context. It has nothing to remove.
			ctx, ended := command.Context(), make(chan error, 1)
			go func() { ended <- c.Run(ctx, s, args) }()
			select {
			case err := <-ended:
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	for _, sub := range c.Commands {
		out.AddCommand(sub.cobra(s))
	}
	return out
}

func indent(text string) string {
	if text == "" {
		return ""
	}
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}

// size returns the width of the terminal in columns, 0 if out is not a terminal.
func size(out io.Writer) int {
	f, ok := out.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}
