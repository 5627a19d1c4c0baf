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
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer s.cloud.Hurry()()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		if err := s.cloud.Denied(); err != nil {
			return err
		}
		all, err := s.findings(ctx)
		if err != nil {
			return err
		}
		for _, f := range all {
			if f.RecordState == state && f.Severity.Label == severity && containsAll(aws.ToString(f.Title), words) {
				s.note("→ Security Hub: %s", s.line(f))
				return nil
			}
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("no %s finding %s with %q arrived within %s; there are:\n%s", state, severity, words, patience, s.table(all))
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
		if f.ProductFields["ReportType"] == "CheckSummary" {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Severity.Label, f.RecordState, shortened(aws.ToString(f.Resources[0].Id), 28), shortened(aws.ToString(f.Title), 84))
	}
	w.Flush()
	return out.String()
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
	summaries := 0
	for _, f := range all {
		if f.ProductFields["ReportType"] == "CheckSummary" {
			summaries++
		}
	}
	fmt.Fprintf(s.Out, "\n%s(check summaries, not shown: %d)\n\n", s.table(all), summaries)
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
