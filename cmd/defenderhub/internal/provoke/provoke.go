// Package provoke implements the command provoke, which causes a finding on purpose, follows it in
// Security Hub until it is archived, and removes what it created.
package provoke

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/spf13/pflag"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/findings"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/hub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
)

// prefix is the prefix of the names of all resources that the command creates. tag marks those that
// can have tags.
const (
	prefix   = "defenderhub-provoke-"
	tag      = "defenderhub:command"
	tagValue = "provoke"
)

// experiment is one subcommand.
type experiment struct {
	name, short, long string
	// changes describe what it creates. %s is the lab's name.
	changes []string
	policy  []cli.Statement
	// finding selects the finding that it causes.
	finding func(l *lab) hub.Query
	run     func(ctx context.Context, l *lab) error
}

// Command returns the group provoke.
func Command() *cli.Command {
	var o options
	var clean bool
	group := &cli.Command{
		Use: "provoke", Short: "Cause a finding on purpose, and follow it until it is archived",
		Long: "Cause a finding on purpose, follow it to Security Hub until it is archived, and remove\n" +
			"everything that was created. Use an account for tests. The command asks for the account ID.\n\n" +
			"--cleanup removes what an earlier run left behind because it was killed.",
		Example: "defenderhub provoke policy\ndefenderhub provoke --cleanup",
		Changes: true, Policy: cleaning,
		Flags: func(f *pflag.FlagSet) {
			f.BoolVar(&clean, "cleanup", false, "remove what a killed run left behind")
		},
		Run: func(ctx context.Context, s *cli.Session, _ []string) error {
			if !clean {
				return errors.New("name an experiment: policy, message-size, disconnect or telnet; or use --cleanup")
			}
			l, err := newLab(ctx, s, o)
			if err != nil {
				return err
			}
			return l.cleanup(ctx)
		},
	}
	for _, e := range experiments {
		group.Commands = append(group.Commands, &cli.Command{
			Use: e.name, Short: e.short, Long: e.long, Example: "defenderhub provoke " + e.name,
			Changes: true, Policy: append(base, e.policy...), Output: []cli.Section{cli.Rows[findings.Row]("", nil)},
			Flags: func(f *pflag.FlagSet) {
				f.DurationVar(&o.wait, "wait", 90*time.Minute, "how long to wait for the finding, and again for its end")
				f.DurationVar(&o.poll, "interval", 10*time.Second, "how often to read the finding, at least 1s")
				f.StringVar(&o.stack, "stack", "DefenderHub", "the stack of defenderhub")
				f.IntVar(&o.port, "port", 8883, "port of the MQTT server, with TLS")
				f.StringVar(&o.ca, "ca-file", "", "certificate authorities that sign the MQTT server's certificate, in PEM (default: AWS_CA_BUNDLE, then the system's)")
			},
			Run: func(ctx context.Context, s *cli.Session, _ []string) error {
				if o.poll < time.Second || o.wait < 0 {
					return fmt.Errorf("--interval is %s and --wait %s, want at least 1s and 0s", o.poll, o.wait)
				}
				l, err := newLab(ctx, s, o)
				if err != nil {
					return err
				}
				return l.do(ctx, e)
			},
		})
	}
	return group
}

// findTime limits how long the last look for the finding delays the removal of what was created.
const findTime = 20 * time.Second

// options are the values of the flags.
type options struct {
	wait, poll time.Duration
	stack, ca  string
	port       int
}

// lab is one run of an experiment.
type lab struct {
	options
	s            *cli.Session
	iot          IoT
	hub          hub.API
	stacks       Stacks
	dial         func(ctx context.Context, address, clientID string, k keys, ca string) (client, error)
	name, region string
	account      string
}

func newLab(ctx context.Context, s *cli.Session, o options) (*lab, error) {
	c, err := s.Config(ctx)
	if err != nil {
		return nil, err
	}
	who, err := sts.NewFromConfig(c).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return nil, err
	}
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails
	return &lab{
		options: o, s: s, iot: iot.NewFromConfig(c), hub: securityhub.NewFromConfig(c), stacks: cloudformation.NewFromConfig(c), dial: dial,
		name: prefix + hex.EncodeToString(id[:]), region: c.Region, account: aws.ToString(who.Account),
	}, nil
}

// do asks the user, runs an experiment, and prints the finding.
func (l *lab) do(ctx context.Context, e experiment) error {
	var changes []string
	for _, c := range e.changes {
		changes = append(changes, strings.ReplaceAll(c, "%s", l.name))
	}
	changes = append(changes, "remove everything at the end, also after Ctrl-C")
	if err := l.s.ConfirmTyping(l.account, changes...); err != nil {
		return err
	}
	run := e.run(ctx, l)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), findTime)
	defer cancel()
	found, err := hub.Find(last, l.hub, l.region, e.finding(l))
	if err != nil || len(found) == 0 {
		return errors.Join(run, err)
	}
	rows := []findings.Row{}
	for _, f := range found {
		rows = append(rows, findings.RowOf(f))
	}
	return errors.Join(run, l.s.Print(cli.Rows("", rows)))
}

// await waits until a finding of the query has a state. It calls meanwhile before each read.
func (l *lab) await(ctx context.Context, q hub.Query, state asff.RecordState, meanwhile func() error) error {
	l.s.Say("waiting up to %s for the finding to be %s", l.wait, state)
	begin, last := time.Now(), time.Now()
	for {
		if meanwhile != nil {
			if err := meanwhile(); err != nil {
				return err
			}
		}
		found, err := hub.Find(ctx, l.hub, l.region, q)
		if err != nil {
			return err
		}
		for _, f := range found {
			if f.RecordState == state {
				l.s.Say("%s after %s: %s %s", state, time.Since(begin).Round(time.Second), f.Severity, cli.Quoted(f.Title))
				return nil
			}
		}
		if time.Since(begin) >= l.wait {
			return cli.Todo(fmt.Sprintf("no %s finding after %s: defenderhub doctor checks the deployment", state, l.wait))
		}
		if time.Since(last) >= time.Minute {
			last = time.Now()
			l.s.Say("not yet after %s", time.Since(begin).Round(time.Second))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(l.poll):
		}
	}
}

// about selects the findings about the lab's device.
func about(l *lab) hub.Query { return hub.Query{Devices: []string{l.name}} }

// ofBehavior selects the findings of a behavior of the lab's device.
func ofBehavior(name string) func(*lab) hub.Query {
	return func(l *lab) hub.Query { return hub.Query{Devices: []string{l.name}, Behaviors: []string{name}} }
}

// The behaviors of the profiles demo and starter that the experiments violate.
var (
	messageSize = behavior(defender.DemoBehaviors(), defender.MessageByteSize)
	telnet      = behavior(defender.StarterBehaviors(), defender.ListeningTCPPorts)
)

// behavior returns the name of the first behavior with a metric.
func behavior(all []defender.Behavior, m defender.Metric) string {
	for _, b := range all {
		if b.Criteria.Metric().Name == m.Info().Name {
			return b.Name
		}
	}
	panic("no behavior has the metric " + m.Info().Name)
}
