// Package findings implements the command findings, which lists findings about devices.
package findings

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/spf13/pflag"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/hub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
)

// Row is one finding.
type Row struct {
	Severity severity  `json:"severity" head:"SEVERITY" doc:"INFORMATIONAL, LOW, MEDIUM, HIGH or CRITICAL"`
	State    state     `json:"state" head:"STATE" doc:"ACTIVE or ARCHIVED"`
	Updated  time.Time `json:"updatedAt" head:"UPDATED" doc:"the last update by the product"`
	Source   string    `json:"source" head:"SOURCE" doc:"the source of defenderhub, such as behavior, or the product, such as aws/iot-device-defender-audit"`
	Device   string    `json:"device" head:"DEVICE" doc:"the thing, or the client ID or resource that the finding is about"`
	Title    string    `json:"title" head:"TITLE" doc:"the title"`

	Check      string    `json:"check" doc:"the audit check's API name, or empty"`
	Behavior   string    `json:"behavior" doc:"the behavior's name, or empty"`
	Rule       string    `json:"incidentRule" doc:"the correlation rule of an incident, or empty"`
	Workflow   string    `json:"workflow" doc:"NEW, NOTIFIED, SUPPRESSED or RESOLVED"`
	Created    time.Time `json:"createdAt" doc:"when the finding was first imported"`
	Account    string    `json:"account" doc:"the account"`
	Region     string    `json:"region" doc:"the Region"`
	ID         string    `json:"id" doc:"the finding's ID"`
	ProductARN string    `json:"productArn" doc:"the product, which identifies the finding together with its ID"`
}

type (
	severity string
	state    string
)

// Style returns red for CRITICAL and HIGH.
func (s severity) Style() string {
	if s == "CRITICAL" || s == "HIGH" {
		return cli.Red
	}
	return ""
}

// Style returns green for ARCHIVED.
func (s state) Style() string {
	if s == state(asff.Archived) {
		return cli.Green
	}
	return ""
}

// Command returns the command findings.
func Command() *cli.Command {
	var o Filter
	var incident string
	var since time.Duration
	return &cli.Command{
		Use: "findings", Short: "List findings about devices",
		Long: "List the findings of Device Defender's own integration, of defenderhub's forwarder and of\n" +
			"correlation, the last updated first. All filters must match. --device, --check and --behavior\ncan be repeated and match any of their values.",
		Example: `defenderhub findings
defenderhub findings --device pump-7 --state all
defenderhub findings --check DEVICE_CERTIFICATE_SHARED_CHECK --severity HIGH
defenderhub findings --incident defenderhub/correlation/eu-west-1/stolen-identity/pump-7
defenderhub findings --since 24h --json`,
		Policy: []cli.Statement{{Actions: []string{hub.Action}, Resources: []string{hub.Resource}}},
		Output: []cli.Section{cli.Rows[Row]("", nil)},
		Flags: func(f *pflag.FlagSet) {
			o.Flags(f, "active")
			f.StringVar(&incident, "incident", "", "ID of an incident: list it and its parts")
			f.DurationVar(&since, "since", 0, "only findings that were updated within this time, such as 24h")
		},
		Run: func(ctx context.Context, s *cli.Session, _ []string) error {
			q, err := o.Query()
			if err != nil {
				return err
			}
			if since < 0 {
				return fmt.Errorf("--since is %s, want a positive duration such as 24h", since)
			}
			if since > 0 {
				q.Since = time.Now().Add(-since)
			}
			c, err := s.Config(ctx)
			if err != nil {
				return err
			}
			rows, err := list(ctx, securityhub.NewFromConfig(c), c.Region, incident, q)
			if err != nil {
				return err
			}
			return s.Print(cli.Rows("", rows).OrSay("no finding matches"))
		},
	}
}

// Filter has the flags that select findings.
type Filter struct {
	devices, checks, behaviors []string
	severity, state            string
}

// Flags adds the flags. state is the default of --state.
func (o *Filter) Flags(f *pflag.FlagSet, state string) {
	f.StringArrayVar(&o.devices, "device", nil, "thing, client ID or certificate ID")
	f.StringArrayVar(&o.checks, "check", nil, "audit check")
	f.StringArrayVar(&o.behaviors, "behavior", nil, "behavior")
	f.StringVar(&o.severity, "severity", "", "minimum severity: INFORMATIONAL, LOW, MEDIUM, HIGH or CRITICAL")
	f.StringVar(&o.state, "state", state, "active, archived or all")
}

// Query returns the query that the flags select.
func (o *Filter) Query() (hub.Query, error) {
	q := hub.Query{Devices: o.devices, Behaviors: o.behaviors}
	for _, name := range o.checks {
		c, err := defender.ParseCheck(name)
		if err != nil {
			return q, fmt.Errorf("--check: %w", err)
		}
		q.Checks = append(q.Checks, c.String())
	}
	var err error
	if q.Severity, err = hub.ParseSeverity(o.severity); err != nil {
		return q, fmt.Errorf("--severity: %w", err)
	}
	if slices.Contains(slices.Concat(o.devices, o.behaviors), "") {
		return q, errors.New("--device and --behavior need a name")
	}
	states := map[string]asff.RecordState{"active": asff.Active, "archived": asff.Archived, "all": ""}
	state, ok := states[strings.ToLower(o.state)]
	if !ok {
		return q, fmt.Errorf("--state is %q, want active, archived or all", o.state)
	}
	q.State = state
	return q, nil
}

// list returns the rows of a query. If an incident is given, they are the incident and its parts.
func list(ctx context.Context, api hub.API, region, incident string, q hub.Query) ([]Row, error) {
	var found []hub.Finding
	if incident == "" {
		var err error
		if found, err = hub.Find(ctx, api, region, q); err != nil {
			return nil, err
		}
	} else {
		whole, err := hub.Find(ctx, api, region, hub.Query{IDs: []string{incident}})
		if err != nil {
			return nil, err
		}
		if len(whole) == 0 {
			return nil, fmt.Errorf("no finding has the ID %s; defenderhub findings --json lists the IDs", cli.Quoted(incident))
		}
		found = whole[:1]
		for _, r := range whole[0].Related {
			q.IDs = append(q.IDs, r.ID)
		}
		if len(q.IDs) > 0 {
			parts, err := hub.Find(ctx, api, region, q)
			if err != nil {
				return nil, err
			}
			found = append(found, slices.DeleteFunc(parts, func(f hub.Finding) bool { return !whole[0].Has(f) })...)
		}
	}
	rows := []Row{}
	for _, f := range found {
		rows = append(rows, RowOf(f))
	}
	return rows, nil
}

// RowOf returns the row of a finding.
func RowOf(f hub.Finding) Row {
	return Row{
		Severity: severity(f.Severity.String()), State: state(f.RecordState), Updated: f.Order.Updated, Source: f.Source, Device: f.Device, Title: f.Title,
		Check: f.Check, Behavior: f.Behavior, Rule: f.Rule, Workflow: f.Workflow, Created: f.CreatedAt,
		Account: f.Account, Region: f.Region, ID: f.ID, ProductARN: f.ProductARN,
	}
}
