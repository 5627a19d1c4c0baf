// Package watch implements the command watch, which prints findings about devices as they change.
package watch

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/spf13/pflag"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/findings"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/hub"
)

const (
	// least is the minimum interval. It keeps the command far below the quota of GetFindings, which all
	// callers in the account share.
	least = 5 * time.Second
	// overlap is how far before the newest finding each query begins, because a finding may be imported
	// after another one with a later UpdatedAt.
	overlap = 15 * time.Minute
	// lateness replaces overlap in one query per lateEvery. AWS's integration usually sends findings
	// of an audit within an hour, and a backlog of the forwarder may last longer. Not every query
	// begins so early: 10,000 findings are 100 calls, and the quota is three calls per second.
	lateness  = 6 * time.Hour
	lateEvery = 5 * time.Minute
)

// Command returns the command watch.
func Command() *cli.Command {
	var filter findings.Filter
	var interval, lasts, last time.Duration
	return &cli.Command{
		Use: "watch", Short: "Print findings about devices as they change",
		Long: "Print each finding that is new or has changed, one per line, until Ctrl-C. --json prints one\n" +
			"JSON object per line, with the fields of defenderhub findings.",
		Example: "defenderhub watch\ndefenderhub watch --severity HIGH --last 1h\ndefenderhub watch --device pump-7 --json | jq .title",
		Policy:  []cli.Statement{{Actions: []string{hub.Action}, Resources: []string{hub.Resource}}},
		Output:  []cli.Section{cli.Rows[findings.Row]("", nil)},
		Flags: func(f *pflag.FlagSet) {
			filter.Flags(f, "all")
			f.DurationVar(&interval, "interval", 10*time.Second, "how often to read the findings, at least 5s")
			f.DurationVar(&last, "last", 0, "first print findings that changed within this time, such as 1h")
			f.DurationVar(&lasts, "for", 0, "end after this time, such as 10m; default: never")
		},
		Run: func(ctx context.Context, s *cli.Session, _ []string) error {
			if interval < least {
				return fmt.Errorf("--interval is %s, want at least %s", interval, least)
			}
			if last < 0 || lasts < 0 {
				return fmt.Errorf("--last is %s and --for %s, want positive durations", last, lasts)
			}
			q, err := filter.Query()
			if err != nil {
				return err
			}
			c, err := s.Config(ctx)
			if err != nil {
				return err
			}
			s.Say("watching findings about devices in %s; press Ctrl-C to end", c.Region)
			return watch(ctx, s, securityhub.NewFromConfig(c), c.Region, q, interval, last, lasts)
		},
	}
}

// version is the printed version of a finding.
type version struct {
	updated         time.Time
	state, workflow string
}

// watch prints findings as they change. First it prints those that changed within the time last.
func watch(ctx context.Context, s *cli.Session, api hub.API, region string, q hub.Query, interval, last, lasts time.Duration) error {
	begin := time.Now()
	from := begin.Add(-last)
	printed := map[string]version{}
	var looked time.Time // for late findings
	for first := true; ; first = false {
		q.Since = from.Add(-overlap)
		if time.Since(looked) >= lateEvery {
			looked, q.Since = time.Now(), from.Add(-lateness)
		}
		found, err := hub.Find(ctx, api, region, q)
		if err != nil {
			return err
		}
		var rows []findings.Row
		for i := range found {
			f := found[len(found)-1-i] // the oldest first
			v := version{f.Order.Updated, string(f.RecordState), f.Workflow}
			if printed[f.Key()] == v {
				continue
			}
			printed[f.Key()] = v
			if !first || f.Order.Updated.After(begin.Add(-last)) {
				rows = append(rows, findings.RowOf(f))
			}
			if f.Order.Updated.After(from) {
				from = f.Order.Updated
			}
		}
		if err := s.Stream(cli.Rows("", rows)); err != nil {
			return err
		}
		for key, v := range printed {
			if v.updated.Before(from.Add(-lateness)) {
				delete(printed, key)
			}
		}
		if lasts > 0 && time.Since(begin) >= lasts {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(interval):
		}
	}
}
