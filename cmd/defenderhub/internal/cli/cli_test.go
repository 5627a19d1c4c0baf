package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/smithy-go"
	"github.com/spf13/pflag"
)

type state string

func (state) Style() string { return Red }

type row struct {
	Device string    `json:"device" head:"DEVICE" doc:"the device"`
	Time   time.Time `json:"time" head:"TIME" doc:"when"`
	State  state     `json:"state" head:"STATE" doc:"how it is"`
	Ports  []string  `json:"ports" head:"PORTS" doc:"its ports"`
	ID     string    `json:"id" doc:"the whole ID"`
}

var rows = []row{
	{"pump-7", time.Date(2026, 11, 30, 7, 0, 0, 5e8, time.UTC), "ACTIVE", []string{"22", "23"}, "a"},
	{"evil\x1b[2J\u202e\n\tname", time.Time{}, "ARCHIVED", nil, "b"},
}

func session() (*Session, *bytes.Buffer, *bytes.Buffer) {
	var out, err bytes.Buffer
	return &Session{Out: &out, Err: &err, In: strings.NewReader(""), undoContext: context.Background()}, &out, &err
}

func TestTabsTablesAndJSONEscapeControlCharacters(t *testing.T) {
	const tabs = "pump-7\t2026-11-30T07:00:00Z\tACTIVE\t22, 23\n" + `evil\x1b[2J\u202e\n\tname` + "\t\tARCHIVED\t\n"
	s, out, _ := session()
	if err := s.Print(Rows("", rows)); err != nil || out.String() != tabs {
		t.Errorf("tabs:\n%s, error %v, want\n%s", out, err, tabs)
	}
	s, out, _ = session()
	s.Terminal = true
	const table = `DEVICE                     TIME                  STATE     PORTS
pump-7                     2026-11-30T07:00:00Z  ACTIVE    22, 23
evil\x1b[2J\u202e\n\tname                        ARCHIVED
`
	if err := s.Print(Rows("", rows)); err != nil || out.String() != table {
		t.Errorf("table:\n%s, error %v, want\n%s", out, err, table)
	}
	s, out, _ = session()
	s.JSON, s.Terminal, s.Color = true, true, true
	if err := s.Print(Rows("", rows)); err != nil {
		t.Fatal(err)
	}
	var got []row
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got) != 2 || got[1].Device != rows[1].Device {
		t.Errorf("JSON: %+v, error %v", got, err)
	}
	if strings.ContainsAny(out.String(), "\x1b\u202e") {
		t.Errorf("unescaped: %q", out)
	}
}

func TestJSONNamesItsSectionsAndEmptyOutputSaysSo(t *testing.T) {
	s, out, errs := session()
	s.JSON = true
	if err := s.Print(Rows("some", rows[:1]), Rows[row]("none", nil).OrSay("nothing")); err != nil {
		t.Fatal(err)
	}
	var got map[string][]row
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got["some"]) != 1 || got["none"] == nil {
		t.Errorf("JSON %s, error %v, want one row in some and none in none", out, err)
	}
	s, out, _ = session()
	s.Err = errs
	if err := s.Print(Rows[row]("", nil).OrSay("nothing")); err != nil || out.String() != "" || errs.String() != "nothing\n" {
		t.Errorf("stdout %q, stderr %q, error %v, want nothing on stderr only", out, errs, err)
	}
}

func TestColumnsAreWrappedToTheTerminal(t *testing.T) {
	widths := []int{5, 60, 40}
	narrow(widths, 65)
	if widths[0] != 5 || widths[1]+widths[2] != 60 || widths[1] < widths[2] {
		t.Errorf("65 columns: widths %v, want 5 and two that share 60", widths)
	}
	widths = []int{50, 50}
	narrow(widths, 4)
	if widths[0] != minColumn || widths[1] != minColumn {
		t.Errorf("4 columns: widths %v, want %d each", widths, minColumn)
	}
	widths = []int{50, 50}
	narrow(widths, -4)
	if widths[0] != 50 {
		t.Errorf("unknown number of columns: widths %v, want them unchanged", widths)
	}
}

func TestExitStatus(t *testing.T) {
	failure := errors.New("no network")
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {errDryRun, 0}, {Todo("turn it on"), 1}, {fmt.Errorf("x: %w", Todo("turn it on")), 1}, {failure, 2},
		{errors.Join(Todo("a"), Todo("b")), 1}, {errors.Join(Todo("a"), failure), 2}, {errors.Join(errDryRun, failure), 2}, {errors.Join(errDryRun, Todo("a")), 1}, {errors.Join(failure, errors.Join(Todo("a"))), 2},
	} {
		if got := exitStatus(tt.err); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.err, got, tt.want)
		}
	}
}

func denied(service, operation, code, message string) error {
	return &smithy.OperationError{ServiceID: service, OperationName: operation, Err: &smithy.GenericAPIError{Code: code, Message: message}}
}

func TestDenialsNameActionResourceAndPolicy(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string // "" for no denial
	}{
		{denied("IoT", "DescribeThing", "AccessDeniedException", "User: arn:aws:iam::1:user/a is not authorized to perform: iot:DescribeThing on resource: arn:aws:iot:r:1:thing/t because no identity-based policy allows the iot:DescribeThing action"),
			"denied: iot:DescribeThing on arn:aws:iot:r:1:thing/t, because no identity-based policy allows the iot:DescribeThing action"},
		{denied("SQS", "SendMessage", "AccessDenied", "User: a is not authorized to perform: sqs:sendmessage on resource: q with an explicit deny in a service control policy"),
			"denied: sqs:sendmessage on q, with an explicit deny in a service control policy"},
		{denied("IoT Data Plane", "GetConnection", "ForbiddenException", ""), "denied: iot:GetConnection on *, AWS names no policy"},
		{denied("SecurityHub", "GetFindings", "AccessDeniedException", "go away"), "denied: securityhub:GetFindings on *, go away"},
		{denied("IoT", "DescribeThing", "ResourceNotFoundException", "not authorized to perform: x"), ""},
		{errors.New("access denied"), ""},
	} {
		got := ""
		if d := DenialOf(fmt.Errorf("wrapped: %w", tt.err)); d != nil {
			got = d.Error()
		}
		if got != tt.want {
			t.Errorf("%v: denial\n%s\nwant\n%s", tt.err, got, tt.want)
		}
	}
}

// creator returns a command that creates a and b, and then calls then.
func creator(created *[]string, then func(ctx context.Context) error) *Command {
	return &Command{
		Use: "make", Short: "Make something", Changes: true,
		Flags: func(f *pflag.FlagSet) { f.String("name", "", "its name") },
		Run: func(ctx context.Context, s *Session, _ []string) error {
			if err := s.Confirm("create a", "create b"); err != nil {
				return err
			}
			for _, name := range []string{"a", "b"} {
				*created = append(*created, name)
				s.Undo(name, func(ctx context.Context) error {
					if (*created)[len(*created)-1] != name {
						return errors.New("in use")
					}
					*created = (*created)[:len(*created)-1]
					return ctx.Err()
				})
			}
			return then(ctx)
		},
	}
}

func TestChangesAreConfirmedAndUndone(t *testing.T) {
	for _, tt := range []struct {
		name, args, answer string
		asks               bool
		then               func(context.CancelCauseFunc) error
		status             int
		says               string
	}{
		{name: "agreed", args: "make", asks: true, answer: "y\n", says: "removed b\nremoved a\n"},
		{name: "refused", args: "make", asks: true, answer: "\n", status: 1, says: "nothing was changed\n"},
		{name: "end of input", args: "make", asks: true, status: 1, says: "nothing was changed\n"},
		{name: "nobody to ask", args: "make", status: 2, says: "add --yes\n"},
		{name: "dry run", args: "make --dry-run", says: "This would:\n  create a\n  create b\nnothing was changed: --dry-run\n"},
		{name: "interrupted", args: "make --yes", status: 130, says: "removed b\nremoved a\ninterrupted\n", then: func(cancel context.CancelCauseFunc) error {
			cancel(errInterrupted)
			return context.Canceled
		}},
		{name: "interrupted with more to say", args: "make --yes", status: 130, says: "removed b\nremoved a\nthe audit continues\nx: messages stay invisible\ninterrupted\n", then: func(cancel context.CancelCauseFunc) error {
			cancel(errInterrupted)
			return errors.Join(fmt.Errorf("DescribeAuditTask: %w", context.Canceled), errors.New("the audit continues"), errors.Join(errInterrupted, fmt.Errorf("x: %w", errors.New("messages stay invisible"))))
		}},
		{name: "failed", args: "make --yes", status: 2, says: "removed b\nremoved a\nbroken\n", then: func(context.CancelCauseFunc) error { return errors.New("broken") }},
		{name: "unknown flag", args: "make --no", status: 2, says: "unknown flag: --no\nSee: defenderhub make --help\n"},
		{name: "argument", args: "make x", status: 2, says: "See: defenderhub make --help\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			s, _, errs := session()
			s.asks, s.In = tt.asks, strings.NewReader(tt.answer)
			var created []string
			c := creator(&created, func(context.Context) error {
				if tt.then == nil {
					return nil
				}
				return tt.then(cancel)
			})
			if status := run(ctx, s, "", strings.Fields(tt.args), []*Command{c}); status != tt.status || !strings.HasSuffix(errs.String(), tt.says) {
				t.Errorf("status %d, want %d; stderr %q, want %q at the end", status, tt.status, errs, tt.says)
			}
			if len(created) != 0 {
				t.Errorf("%v still exist", created)
			}
		})
	}
}

func TestSecondCtrlCEndsACommandThatIgnoresTheFirst(t *testing.T) {
	send := func(signal syscall.Signal) {
		if err := syscall.Kill(os.Getpid(), signal); err != nil {
			t.Error(err)
		}
	}
	status := Main("", []string{"stuck"}, &Command{Use: "stuck", Changes: true, Run: func(ctx context.Context, _ *Session, _ []string) error {
		send(syscall.SIGTERM)
		<-ctx.Done()
		send(syscall.SIGINT)
		select {}
	}})
	if status != ExitInterrupted {
		t.Errorf("status %d, want %d", status, ExitInterrupted)
	}
}

// timeout sends SIGTERM to the command and to its process group, which must not cancel the removals.
func TestSecondSIGTERMCancelsNoRemoval(t *testing.T) {
	seen := make(chan os.Signal, 2) // gets what the program gets
	var removed error
	status := Main("", []string{"make"}, &Command{Use: "make", Changes: true, Run: func(ctx context.Context, s *Session, _ []string) error {
		signal.Notify(seen, syscall.SIGTERM)
		defer signal.Stop(seen)
		s.Undo("a", func(ctx context.Context) error {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second): // a canceled removal ends at once
			}
			removed = ctx.Err()
			return removed
		})
		for range 2 {
			if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
				return err
			}
			<-seen
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}})
	if status != ExitInterrupted || removed != nil {
		t.Errorf("status %d, removal %v, want %d and no error", status, removed, ExitInterrupted)
	}
}

func TestFailedRemovalNamesTheResource(t *testing.T) {
	s, _, errs := session()
	s.Undo("policy p", func(context.Context) error { return errors.New("no network") })
	s.Undo("thing t", func(context.Context) error { return denied("IoT", "DeleteThing", "AccessDeniedException", "") })
	const says = "thing t was not removed: denied: iot:DeleteThing on *, AWS names no policy\npolicy p was not removed: no network\n"
	if status := s.end(t.Context(), nil); status != ExitUnknown || errs.String() != says {
		t.Errorf("status %d, want %d; stderr %q, want %q", status, ExitUnknown, errs, says)
	}
}

func TestPolicyOfACommand(t *testing.T) {
	group := &Command{Use: "letters", Commands: []*Command{{
		Use: "list", Policy: []Statement{{Actions: []string{"sqs:ReceiveMessage"}, Resources: []string{"arn:aws:sqs:*:*:q"}}},
		Run: func(context.Context, *Session, []string) error { return nil },
	}}}
	missing := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", missing)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", missing)
	t.Setenv("AWS_PROFILE", "")
	for _, tt := range []struct{ environment, flags, partition string }{
		{"", "", "aws"}, {"eu-west-1", "", "aws"}, {"cn-north-1", "", "aws-cn"}, {"us-gov-west-1", "", "aws-us-gov"},
		{"", " --region cn-north-1", "aws-cn"}, {"cn-north-1", " --region eu-west-1", "aws"},
	} {
		t.Setenv("AWS_REGION", tt.environment)
		s, out, errs := session()
		if status := run(t.Context(), s, "", strings.Fields("policy letters list"+tt.flags), []*Command{group}); status != 0 {
			t.Fatalf("status %d: %s", status, errs)
		}
		var document struct {
			Statement []struct{ Action, Resource []string }
		}
		if err := json.Unmarshal(out.Bytes(), &document); err != nil || len(document.Statement) != 1 || document.Statement[0].Resource[0] != "arn:"+tt.partition+":sqs:*:*:q" {
			t.Errorf("AWS_REGION=%s%s: policy %s, error %v, want one statement for the queue in the partition %s", tt.environment, tt.flags, out, err, tt.partition)
		}
	}
	s, _, errs := session()
	if status := run(t.Context(), s, "", strings.Fields("policy letters"), []*Command{group}); status != 2 || !strings.Contains(errs.String(), "want one of: letters list") {
		t.Errorf("policy of a group: status %d, want 2 and the names of its commands: %s", status, errs)
	}
}
