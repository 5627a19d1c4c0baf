package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/internal/safetext"
)

// Session is one run of a command.
type Session struct {
	// Out receives data, Err progress and errors.
	Out, Err io.Writer
	In       io.Reader
	// Terminal reports whether Out is a terminal, Color whether it may have colors.
	Terminal, Color bool
	// JSON reports whether the user wants JSON, by --json.
	JSON bool
	// Yes reports whether the user agreed to all changes in advance, by --yes.
	Yes bool

	errColor, asks            bool
	dryRun                    bool
	region, profile, endpoint string
	command                   string
	undo                      []undo
	undoContext               context.Context
}

type undo struct {
	what string
	do   func(context.Context) error
}

// undoTime limits the removal of what a command created.
const undoTime = 2 * time.Minute

// Say prints a line of progress to standard error. Text in it is escaped.
func (s *Session) Say(format string, args ...any) {
	fmt.Fprintln(s.Err, safeLines(fmt.Sprintf(format, args...)))
}

// Alert is Say in red.
func (s *Session) Alert(format string, args ...any) {
	fmt.Fprintln(s.Err, paint(s.errColor, Red, safeLines(fmt.Sprintf(format, args...))))
}

func safeLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = safetext.Escape(line)
	}
	return strings.Join(lines, "\n")
}

// Quoted escapes text of a device or a file, so that it fits in one line of Say.
func Quoted(text string) string { return safetext.Escape(text) }

var (
	errDryRun  = errors.New("nothing was changed: --dry-run")
	errRefused = Todo("nothing was changed")
)

// Confirm prints the changes, one per line, and asks the user. It returns nil if the user agrees, or
// used --yes. Otherwise the command must return the error and change nothing.
func (s *Session) Confirm(changes ...string) error {
	return s.confirm("Continue? [y/N] ", func(answer string) bool {
		return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes")
	}, changes)
}

// ConfirmTyping is [Session.Confirm], but the user must type a text, such as the account ID.
func (s *Session) ConfirmTyping(text string, changes ...string) error {
	return s.confirm(fmt.Sprintf("Type %s to continue: ", text), func(answer string) bool { return answer == text }, changes)
}

func (s *Session) confirm(question string, agrees func(string) bool, changes []string) error {
	verb := "This will"
	if s.dryRun {
		verb = "This would"
	}
	s.Say("%s:", verb)
	for _, c := range changes {
		s.Say("  %s", Quoted(c))
	}
	switch {
	case s.dryRun:
		s.Say("%s", errDryRun)
		return errDryRun
	case s.Yes:
		return nil
	case !s.asks:
		return errors.New("standard input is not a terminal, so nobody can be asked: add --yes")
	}
	fmt.Fprint(s.Err, question)
	answer, err := bufio.NewReader(s.In).ReadString('\n')
	if err != nil && (answer == "" || !errors.Is(err, io.EOF)) {
		return errRefused
	}
	if !agrees(strings.TrimSpace(answer)) {
		return errRefused
	}
	return nil
}

// Undo registers a function that removes what the command created. It is called when the command
// ends, also after Ctrl-C; the last one that was registered is called first. what names the created
// resource for the user.
func (s *Session) Undo(what string, f func(context.Context) error) {
	s.undo = append(s.undo, undo{what, f})
}

// Close calls the functions of Undo. The program calls it at the end of each command. The error lists
// what was not removed.
func (s *Session) Close() error {
	within := s.undoContext
	if within == nil {
		within = context.Background()
	}
	ctx, cancel := context.WithTimeout(within, undoTime)
	defer cancel()
	var left []error
	for _, u := range slices.Backward(s.undo) {
		if err := u.do(ctx); err != nil {
			left = append(left, &notRemovedError{u.what, err})
			continue
		}
		s.Say("removed %s", Quoted(u.what))
	}
	s.undo = nil
	return errors.Join(left...)
}

// notRemovedError is why something that the command created stays.
type notRemovedError struct {
	what string
	err  error
}

func (e *notRemovedError) Error() string { return e.what + " was not removed: " + Explain(e.err) }
func (e *notRemovedError) Unwrap() error { return e.err }

// ANSI styles of values; see [Styled].
const (
	Red    = "31"
	Green  = "32"
	Yellow = "33"

	bold = "1"
)

func paint(on bool, style, text string) string {
	if !on || text == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}
