// Package device implements the command device, which shows everything about one device in time
// order.
package device

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/hub"
	"github.com/defenderhub/defenderhub/internal/asff"
)

// Fact is a row with one property of the device.
type Fact struct {
	Kind   string `json:"kind" head:"KIND" doc:"thing, client ID, certificate, group, connection, or engine"`
	Name   string `json:"name" head:"NAME" doc:"its name"`
	Detail string `json:"detail" head:"DETAIL" doc:"the state, in words"`
}

// Event is a row with something that began or ended.
type Event struct {
	Time     time.Time `json:"time" head:"TIME" doc:"when"`
	Kind     string    `json:"kind" head:"KIND" doc:"certificate, connection, finding, incident, or engine"`
	What     what      `json:"what" head:"WHAT" doc:"created, expires, connected, disconnected, began, ended, changed, or alarm"`
	Severity string    `json:"severity" head:"SEVERITY" doc:"the severity of a finding or incident, or empty"`
	Text     string    `json:"text" head:"TEXT" doc:"the finding's title, or the subject of the event"`
	ID       string    `json:"id" doc:"the ID of the finding or certificate"`
}

type what string

// Style returns red for a beginning, and green for an end.
func (w what) Style() string {
	switch w {
	case "began", "alarm":
		return cli.Red
	case "ended":
		return cli.Green
	}
	return ""
}

// Command returns the command device.
func Command() *cli.Command {
	var stack string
	return &cli.Command{
		Use: "device NAME", Short: "Show everything about one device, in time order",
		Long: "Show a device's thing, client IDs, certificates, groups and connection, the state that the\n" +
			"engine stores about it, and in time order its findings and incidents. NAME is a thing, a\nclient ID or a certificate ID. If several things match, they are listed (exit status 1).",
		Example: "defenderhub device pump-7\ndefenderhub device pump-7#2 --json",
		Args:    cobra.ExactArgs(1),
		Policy: []cli.Statement{
			{Actions: []string{"iot:DescribeThing", "iot:ListThingGroupsForThing", "iot:ListThingPrincipals"}, Resources: []string{"arn:aws:iot:*:*:thing/*"}},
			{Actions: []string{"iot:DescribeCertificate"}, Resources: []string{"arn:aws:iot:*:*:cert/*"}},
			{Actions: []string{"iot:GetConnection"}, Resources: []string{"arn:aws:iot:*:*:client/*"}},
			{Actions: []string{"iot:ListPrincipalThings"}, Resources: []string{"*"}}, // the action has no resource type
			{Actions: []string{hub.Action}, Resources: []string{hub.Resource}},
			{Actions: []string{"cloudformation:GetTemplate", "cloudformation:ListStackResources"}, Resources: []string{"arn:aws:cloudformation:*:*:stack/DefenderHub/*"}},
			{Actions: []string{"dynamodb:GetItem"}, Resources: []string{"arn:aws:dynamodb:*:*:table/DefenderHub-*"}},
		},
		Output: []cli.Section{cli.Rows[Fact]("device", nil), cli.Rows[Event]("events", nil)},
		Flags:  func(f *pflag.FlagSet) { f.StringVar(&stack, "stack", "DefenderHub", "the stack of defenderhub") },
		Run: func(ctx context.Context, s *cli.Session, args []string) error {
			c, err := s.Config(ctx)
			if err != nil {
				return err
			}
			l := lookup{
				iot: iot.NewFromConfig(c), data: iotdataplane.NewFromConfig(c), hub: securityhub.NewFromConfig(c),
				stacks: cloudformation.NewFromConfig(c), table: dynamodb.NewFromConfig(c), region: c.Region, stack: stack, say: s.Say,
			}
			err = l.do(ctx, args[0])
			if len(l.facts) == 0 && len(l.events) == 0 {
				return err
			}
			slices.SortStableFunc(l.events, func(a, b Event) int { return a.Time.Compare(b.Time) })
			return errors.Join(s.Print(cli.Rows("device", l.facts), cli.Rows("events", l.events)), err)
		},
	}
}

// do collects everything about a device. If one part fails, it continues with the others.
func (l *lookup) do(ctx context.Context, name string) error {
	if name == "" || strings.TrimSpace(name) != name {
		return fmt.Errorf("NAME is %q, want a thing, a client ID or a certificate ID", name)
	}
	found, err := l.resolve(ctx, name)
	if err != nil {
		return err
	}
	if len(found.things) > 1 {
		for _, thing := range found.things {
			l.fact("thing", thing, "has the certificate "+name)
		}
		return cli.Todo("several things match: run defenderhub device with the name of one")
	}
	faults := []error{l.registry(ctx, &found), l.connections(ctx, found), l.findings(ctx, found), l.engine(ctx, found)}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	if !found.known && len(l.events) == 0 {
		return cli.Todo(fmt.Sprintf("%s is unknown: no thing, certificate, connection or finding has that name", cli.Quoted(name)))
	}
	return nil
}

// findings adds the beginning and the end of each finding and incident.
func (l *lookup) findings(ctx context.Context, d device) error {
	found, err := hub.Find(ctx, l.hub, l.region, hub.Query{Devices: d.names()})
	if err != nil {
		return err
	}
	for _, f := range found {
		e := Event{Time: f.CreatedAt, Kind: "finding", What: "began", Severity: f.Severity.String(), Text: f.Title, ID: f.ID}
		if f.Rule != "" {
			e.Kind = "incident"
		}
		l.events = append(l.events, e)
		last := e
		last.Time, last.What = f.Order.Updated, "changed"
		if f.RecordState == asff.Archived {
			last.What = "ended"
		}
		if last.What == "ended" || !last.Time.Equal(e.Time) {
			l.events = append(l.events, last)
		}
	}
	return nil
}
