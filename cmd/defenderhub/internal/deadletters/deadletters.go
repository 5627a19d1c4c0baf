// Package deadletters implements the command dead-letters, which lists the messages that could not be
// processed, sends them back to their queues, or deletes them.
package deadletters

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/spf13/pflag"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
)

// Group is a row with the messages of one queue, source and reason.
type Group struct {
	Messages int       `json:"messages" head:"MESSAGES" doc:"the number of messages"`
	Oldest   time.Time `json:"oldest" head:"OLDEST" doc:"when the oldest message was sent"`
	Source   string    `json:"source" head:"SOURCE" doc:"the source of defenderhub, such as device-event, or empty"`
	Reason   string    `json:"reason" head:"REASON" doc:"why the messages are here"`
	Queue    string    `json:"queue" head:"QUEUE" doc:"the dead-letter queue"`
	From     string    `json:"from" doc:"the ARN of the queue to which retry sends them, or empty"`
}

// Letter is a row with one message.
type Letter struct {
	ID     string    `json:"messageId" head:"MESSAGE" doc:"the message's ID in the dead-letter queue"`
	Sent   time.Time `json:"sent" head:"SENT" doc:"when it was sent"`
	Source string    `json:"source" head:"SOURCE" doc:"the source of defenderhub, or empty"`
	Reason string    `json:"reason" head:"REASON" doc:"why it is here"`
	Body   string    `json:"body" head:"BODY" doc:"the message"`
}

// options are the values of the flags.
type options struct {
	stack, queue, reason, source string
	each                         bool
}

// The resources of the stack DefenderHub, for the command's policy.
const (
	stacks    = "arn:aws:cloudformation:*:*:stack/DefenderHub/*"
	ourQueues = "arn:aws:sqs:*:*:DefenderHub-*"
)

func policy(actions ...string) []cli.Statement {
	return []cli.Statement{
		{Actions: []string{"cloudformation:GetTemplate", "cloudformation:ListStackResources"}, Resources: []string{stacks}},
		{Actions: append([]string{"sqs:ChangeMessageVisibility", "sqs:ReceiveMessage"}, actions...), Resources: []string{ourQueues}},
	}
}

// Command returns the group dead-letters.
func Command() *cli.Command {
	var o options
	flags := func(f *pflag.FlagSet) {
		f.StringVar(&o.stack, "stack", "DefenderHub", "the stack of defenderhub")
		f.StringVar(&o.queue, "queue", "", "only dead-letter queues whose logical ID contains this text, such as CorrelateDeadLetters")
		f.StringVar(&o.reason, "reason", "", "only messages whose reason contains this text")
		f.StringVar(&o.source, "source", "", "only messages of this source, such as device-event")
	}
	with := func(f func(context.Context, *cli.Session, SQS, []queue, options) error) func(context.Context, *cli.Session, []string) error {
		return func(ctx context.Context, s *cli.Session, _ []string) error {
			c, err := s.Config(ctx)
			if err != nil {
				return err
			}
			all, err := queues(ctx, cloudformation.NewFromConfig(c), o.stack)
			if err != nil {
				return err
			}
			return f(ctx, s, sqs.NewFromConfig(c), all, o)
		}
	}
	return &cli.Command{
		Use: "dead-letters", Short: "List, retry or drop messages that could not be processed",
		Commands: []*cli.Command{
			{
				Use: "list", Short: "List the messages by reason",
				Long: "List the messages in the stack's dead-letter queues by reason. The messages stay there, but\n" +
					"are invisible to others while the command reads.\n\nExit status 1: there are messages.",
				Example: "defenderhub dead-letters list\ndefenderhub dead-letters list --reason \"not JSON\" --each",
				Policy:  policy(),
				Output:  []cli.Section{cli.Rows[Group]("reasons", nil), cli.Rows[Letter]("messages", nil)},
				Flags: func(f *pflag.FlagSet) {
					flags(f)
					f.BoolVar(&o.each, "each", false, "also print each message")
				},
				Run: with(list),
			},
			{
				Use: "retry", Short: "Send messages back to their queues", Changes: true,
				Long: "Send messages back to the queues that they came from. A message stays in the dead-letter\n" +
					"queue until Amazon SQS has confirmed its copy. Correct the cause first: a message that fails\nagain returns to the dead-letter queue.",
				Example: "defenderhub dead-letters retry --reason \"" + exhausted + "\"",
				Policy:  policy("sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:SendMessage"), Flags: flags,
				Run: with(retry),
			},
			{
				Use: "drop", Short: "Delete messages", Changes: true,
				Long:    "Print the messages by reason, ask, and delete them. They cannot be restored.",
				Example: "defenderhub dead-letters drop --source device-event",
				Policy:  policy("sqs:DeleteMessage"), Output: []cli.Section{cli.Rows[Group]("", nil)}, Flags: flags,
				Run: with(dropAll),
			},
		},
	}
}

// letters are the messages that a command has received.
type letters struct {
	api SQS
	all []message
	// gone has the IDs of the messages that left the dead-letter queue.
	gone map[string]bool
}

// Reasons groups the messages of the dead-letter queues with these URLs by reason. It reads about
// that many (most), and makes them visible to others again.
func Reasons(ctx context.Context, s *cli.Session, api SQS, urls []string, most int) (found []Group, err error) {
	var from []queue
	for _, url := range urls {
		from = append(from, queue{name: path.Base(url), url: url})
	}
	err = reading(ctx, s, api, from, most, func(l *letters) error {
		found = groups(l.all)
		return nil
	})
	return found, err
}

// each calls f with the messages that the flags select.
func each(ctx context.Context, s *cli.Session, api SQS, from []queue, o options, f func(*letters, []message) error) error {
	from = slices.DeleteFunc(slices.Clone(from), func(q queue) bool { return !strings.Contains(q.logicalID, o.queue) })
	if len(from) == 0 {
		return fmt.Errorf("no dead-letter queue of the stack has %s in its logical ID (--queue)", cli.Quoted(o.queue))
	}
	return reading(ctx, s, api, from, math.MaxInt, func(l *letters) error {
		return f(l, slices.DeleteFunc(slices.Clone(l.all), func(m message) bool {
			return !strings.Contains(m.reason, o.reason) || o.source != "" && m.source != o.source
		}))
	})
}

// reading calls f with messages of the queues. Messages that f leaves there become visible to
// others again, also after Ctrl-C.
func reading(ctx context.Context, s *cli.Session, api SQS, from []queue, most int, f func(*letters) error) (err error) {
	l := &letters{api: api, gone: map[string]bool{}}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		left := slices.DeleteFunc(slices.Clone(l.all), func(m message) bool { return l.gone[aws.ToString(m.MessageId)] })
		err = errors.Join(err, show(ctx, api, left))
	}()
	if l.all, err = receive(ctx, api, s, from, most); err != nil {
		return err
	}
	return f(l)
}

func list(ctx context.Context, s *cli.Session, api SQS, from []queue, o options) error {
	return each(ctx, s, api, from, o, func(_ *letters, wanted []message) error {
		sections := []cli.Section{cli.Rows("reasons", groups(wanted)).OrSay(none)}
		if o.each {
			rows := []Letter{}
			for _, m := range wanted {
				rows = append(rows, Letter{aws.ToString(m.MessageId), m.sent, m.source, m.reason, aws.ToString(m.Body)})
			}
			sections = append(sections, cli.Rows("messages", rows))
		}
		if err := s.Print(sections...); err != nil || len(wanted) == 0 {
			return err
		}
		return cli.Todo("correct the cause, then: defenderhub dead-letters retry, or drop")
	})
}

// none is the text for the case that no message matches.
const none = "no dead letters"

func retry(ctx context.Context, s *cli.Session, api SQS, from []queue, o options) error {
	return each(ctx, s, api, from, o, func(l *letters, wanted []message) error {
		back := slices.DeleteFunc(slices.Clone(wanted), func(m message) bool { return m.from == "" })
		if stay := len(wanted) - len(back); stay > 0 {
			s.Say("%d messages stay, because they do not name the queue that they came from", stay)
		}
		if len(back) == 0 {
			s.Say("%s", none)
			return nil
		}
		var changes []string
		for _, g := range groups(back) {
			changes = append(changes, fmt.Sprintf("send back to %s: %d messages of reason: %s", g.From[strings.LastIndex(g.From, ":")+1:], g.Messages, g.Reason))
		}
		if err := s.Confirm(changes...); err != nil {
			return err
		}
		sender := sender{api, map[string]string{}}
		return l.leave(ctx, s, "sent back", back, func(m message) error { return sender.retry(ctx, m) })
	})
}

func dropAll(ctx context.Context, s *cli.Session, api SQS, from []queue, o options) error {
	return each(ctx, s, api, from, o, func(l *letters, wanted []message) error {
		found := groups(wanted)
		if err := s.Print(cli.Rows("", found).OrSay(none)); err != nil || len(wanted) == 0 {
			return err
		}
		var changes []string
		for _, g := range found {
			changes = append(changes, fmt.Sprintf("delete from %s, without a way back: %d messages of reason: %s", g.Queue, g.Messages, g.Reason))
		}
		if err := s.Confirm(changes...); err != nil {
			return err
		}
		return l.leave(ctx, s, "deleted", wanted, func(m message) error { return drop(ctx, api, m) })
	})
}

// leave calls f with each message, which removes it from the dead-letter queue. It continues after an
// error, and stops after Ctrl-C. done is the participle for the progress, such as "deleted".
func (l *letters) leave(ctx context.Context, s *cli.Session, done string, all []message, f func(message) error) error {
	var faults []error
	n := 0
	for _, m := range all {
		if ctx.Err() != nil {
			break
		}
		if err := f(m); err != nil {
			faults = append(faults, fmt.Errorf("message %s stays: %w", aws.ToString(m.MessageId), err))
			continue
		}
		l.gone[aws.ToString(m.MessageId)] = true
		if n++; n%500 == 0 {
			s.Say("%d of %d %s", n, len(all), done)
		}
	}
	s.Say("%d messages %s", n, done)
	if len(faults) > 3 {
		faults = append(faults[:3], fmt.Errorf("and %d more messages stay", len(faults)-3))
	}
	return errors.Join(faults...)
}

func groups(all []message) []Group {
	type key struct{ queue, source, reason, from string }
	found := map[key]*Group{}
	for _, m := range all {
		k := key{m.queue.name, m.source, m.reason, m.from}
		g := found[k]
		if g == nil {
			g = &Group{Oldest: m.sent, Source: m.source, Reason: m.reason, Queue: m.queue.name, From: m.from}
			found[k] = g
		}
		g.Messages++
		if m.sent.Before(g.Oldest) {
			g.Oldest = m.sent
		}
	}
	rows := []Group{}
	for _, g := range found {
		rows = append(rows, *g)
	}
	slices.SortFunc(rows, func(a, b Group) int {
		return cmp.Or(b.Messages-a.Messages, cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.From, b.From))
	})
	return rows
}
