// Package report implements the command report, which writes an HTML page about a fleet's findings.
package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/spf13/pflag"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/hub"
)

// most is the maximum number of days of a report. Security Hub deletes findings after 90 days without
// an update.
// https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-findings.html
const most = 90

// Command returns the command report.
func Command() *cli.Command {
	var file, stack string
	var days int
	return &cli.Command{
		Use: "report", Short: "Write an HTML page about the fleet's findings",
		Long: "Write one HTML page without scripts or external references: findings by severity over time,\n" +
			"by check and by behavior, devices with the most findings, how fast findings were cleared,\nincidents, the last audit, queues and cost. You can print it.\n\n" +
			"Exit status 2: a part could not be read. The page says which one and why.",
		Example: "defenderhub report\ndefenderhub report --days 7 --out weekly.html",
		Policy: []cli.Statement{
			{Actions: []string{hub.Action}, Resources: []string{hub.Resource}},
			// AWS IoT and CloudWatch have no resource types for these.
			{Actions: []string{"cloudwatch:GetMetricData", "iot:DescribeAuditTask", "iot:ListAuditTasks"}, Resources: []string{"*"}},
			{Actions: []string{"cloudformation:GetTemplate", "cloudformation:ListStackResources"}, Resources: []string{"arn:aws:cloudformation:*:*:stack/DefenderHub/*"}},
			{Actions: []string{"sqs:GetQueueAttributes"}, Resources: []string{"arn:aws:sqs:*:*:DefenderHub-*"}},
		},
		Flags: func(f *pflag.FlagSet) {
			f.StringVar(&file, "out", "defenderhub-report.html", "the file to write; it is overwritten")
			f.StringVar(&stack, "stack", "DefenderHub", "the stack of defenderhub")
			f.IntVar(&days, "days", 30, "how many days to cover, 1 to 90")
		},
		Run: func(ctx context.Context, s *cli.Session, _ []string) error {
			if days < 1 || days > most {
				return fmt.Errorf("--days is %d, want 1 to %d: Security Hub keeps findings for %d days", days, most, most)
			}
			c, err := s.Config(ctx)
			if err != nil {
				return err
			}
			s.Say("reading findings of %d days", days)
			d, left := read(ctx, sources{
				hub: securityhub.NewFromConfig(c), iot: iot.NewFromConfig(c), cloudwatch: cloudwatch.NewFromConfig(c),
				stacks: cloudformation.NewFromConfig(c), sqs: sqs.NewFromConfig(c),
			}, c.Region, stack, days, time.Now().UTC())
			if ctx.Err() != nil {
				return errors.Join(left...)
			}
			var text bytes.Buffer
			if err := write(&text, d); err != nil {
				return err
			}
			if err := replace(file, text.Bytes()); err != nil {
				return err
			}
			if path, err := filepath.Abs(file); err == nil {
				file = path
			}
			fmt.Fprintln(s.Out, cli.Quoted(file))
			return errors.Join(left...)
		},
	}
}

// replace writes a file. If it fails, an existing file keeps its content.
func replace(file string, text []byte) error {
	if path, err := filepath.EvalSymlinks(file); err == nil {
		file = path
	}
	mode := os.FileMode(0o644)
	if info, err := os.Stat(file); err == nil {
		if !info.Mode().IsRegular() {
			return os.WriteFile(file, text, mode) // such as /dev/stdout
		}
		mode = info.Mode().Perm()
	}
	unfinished := fmt.Sprintf("%s.%d.tmp", file, os.Getpid()) // in the same directory, so that it can be renamed
	err := os.WriteFile(unfinished, text, mode)
	if err == nil {
		err = os.Rename(unfinished, file)
	}
	if err != nil {
		os.Remove(unfinished)
	}
	return err
}
