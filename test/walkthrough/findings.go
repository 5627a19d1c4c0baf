package walkthrough

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/test/localaws"
)

// patience is how long the story waits for a finding or message: much longer than needed even on
// a busy machine.
const patience = 3 * time.Minute

// findings reads all findings.
func (s *story) findings(ctx context.Context) ([]types.AwsSecurityFinding, error) {
	var all []types.AwsSecurityFinding
	pages := securityhub.NewGetFindingsPaginator(s.hub, &securityhub.GetFindingsInput{MaxResults: aws.Int32(100)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the findings: %w", err)
		}
		all = append(all, page.Findings...)
	}
	slices.SortFunc(all, func(a, b types.AwsSecurityFinding) int {
		return strings.Compare(aws.ToString(a.CreatedAt)+aws.ToString(a.Id), aws.ToString(b.CreatedAt)+aws.ToString(b.Id))
	})
	return all, nil
}

// expect waits for a finding in a state whose title contains words, and prints it.
func (s *story) expect(ctx context.Context, severity types.SeverityLabel, state types.RecordState, words ...string) error {
	return s.expectFinding(ctx, fmt.Sprintf("%s finding %s with %q", state, severity, words), func(f types.AwsSecurityFinding) bool {
		return f.RecordState == state && f.Severity.Label == severity && containsAll(aws.ToString(f.Title), words)
	})
}

// expectFinding waits for a finding that is what it should be, and prints it.
func (s *story) expectFinding(ctx context.Context, what string, is func(types.AwsSecurityFinding) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer s.cloud.Hurry()()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	var all []types.AwsSecurityFinding
	for {
		if err := s.cloud.Denied(); err != nil {
			return err
		}
		found, err := s.findings(ctx)
		if err == nil {
			all = found
		} else if ctx.Err() == nil {
			return err
		}
		for _, f := range all {
			if is(f) {
				s.note("→ Security Hub: %s", s.line(f))
				return nil
			}
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("no %s arrived within %s; there are:\n%s", what, patience, s.table(all))
		}
	}
}

func containsAll(text string, words []string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

func (s *story) line(f types.AwsSecurityFinding) string {
	return fmt.Sprintf("%-8s %-8s %s", s.mark(string(f.Severity.Label)), f.RecordState, aws.ToString(f.Title))
}

// mark colors severe findings.
func (s *story) mark(severity string) string {
	padded := fmt.Sprintf("%-8s", severity)
	if s.Color && (severity == "CRITICAL" || severity == "HIGH") {
		return "\x1b[31m" + padded + "\x1b[0m"
	}
	return padded
}

// table prints severity, title, device and state of findings.
func (s *story) table(all []types.AwsSecurityFinding) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SEVERITY\tSTATE\tRESOURCE\tTITLE")
	for _, f := range all {
		if summary(f) || alike(f) {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Severity.Label, f.RecordState, shortened(aws.ToString(f.Resources[0].Id), 28), shortened(aws.ToString(f.Title), 84))
	}
	w.Flush()
	return out.String()
}

// summary reports whether a finding is the summary of an audit check.
func summary(f types.AwsSecurityFinding) bool { return f.ProductFields["ReportType"] == "CheckSummary" }

// alike reports whether the finding is about any sensor but the first. Those findings differ only in the sensor.
func alike(f types.AwsSecurityFinding) bool {
	id := aws.ToString(f.Resources[0].Id)
	return strings.HasPrefix(id, "sensor-") && id != "sensor-01"
}

func shortened(text string, n int) string {
	if r := []rune(text); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return text
}

func (s *story) showTable(ctx context.Context) error {
	all, err := s.findings(ctx)
	if err != nil {
		return err
	}
	summaries, sensors := 0, 0
	for _, f := range all {
		switch {
		case summary(f):
			summaries++
		case alike(f):
			sensors++
		}
	}
	fmt.Fprintf(s.Out, "\n%s(not shown: %d check summaries, %d findings of other sensors)\n\n", s.table(all), summaries, sensors)
	return nil
}

func stackOutputs(ctx context.Context, cloud *localaws.Cloud, stack string) (map[string]string, error) {
	described, err := cloudformation.NewFromConfig(cloud.Config()).DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &stack})
	if err != nil {
		return nil, fmt.Errorf("describe the stack %s: %w", stack, err)
	}
	outputs := map[string]string{}
	for _, o := range described.Stacks[0].Outputs {
		outputs[aws.ToString(o.OutputKey)] = aws.ToString(o.OutputValue)
	}
	return outputs, nil
}
