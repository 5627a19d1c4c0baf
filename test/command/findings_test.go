package command_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
)

// TestAllFindingsAreListed imports more findings than fit into many pages, with hostile titles.
func TestAllFindingsAreListed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const all, batch = 2500, 100
	hub := securityhub.NewFromConfig(w.cloud.Config())
	product := "arn:aws:securityhub:us-east-1:123456789012:product/123456789012/default"
	now := aws.String(time.Now().UTC().Format("2006-01-02T15:04:05.000Z"))
	for from := 0; from < all; from += batch {
		var findings []types.AwsSecurityFinding
		for i := from; i < from+batch; i++ {
			findings = append(findings, types.AwsSecurityFinding{
				Id: aws.String(fmt.Sprint("defenderhub/device-event/us-east-1/", i)), GeneratorId: aws.String("defenderhub/device-event/tamper"), ProductArn: &product, SchemaVersion: aws.String("2018-10-08"),
				AwsAccountId: aws.String("123456789012"), CreatedAt: now, UpdatedAt: now, Title: aws.String(fmt.Sprintf("Device d\x1b[2J\u202e%d", i)), Description: aws.String("x"),
				Types: []string{"Unusual Behaviors"}, Severity: &types.Severity{Label: types.SeverityLabelHigh},
				Resources: []types.Resource{{Type: aws.String("AwsIotThing"), Id: aws.String(fmt.Sprintf("arn:aws:iot:us-east-1:123456789012:thing/d%d", i))}},
			})
		}
		out, err := hub.BatchImportFindings(t.Context(), &securityhub.BatchImportFindingsInput{Findings: findings})
		w.must(nil, err)
		if *out.FailedCount > 0 {
			t.Fatalf("%d findings were not imported, the first: %+v", *out.FailedCount, out.FailedFindings[0])
		}
	}
	begin := time.Now()
	r := run(t, w.cloud, nil, "findings", "--json")
	var rows []struct{ Title string }
	if err := json.Unmarshal([]byte(r.stdout), &rows); err != nil || r.status != 0 || len(rows) != all {
		t.Fatalf("status %d, %d findings, error %v: %s", r.status, len(rows), err, r.stderr)
	}
	if strings.ContainsAny(r.stdout, "\x1b\u202e") || !strings.Contains(rows[0].Title, "\x1b[2J\u202e") {
		t.Errorf("the first title is %q, want its control characters escaped in JSON and kept in the value", rows[0].Title)
	}
	// The quota of GetFindings is three calls per second.
	if calls := len(w.cloud.SecurityHub.Calls("GetFindings")); time.Since(begin) < time.Duration(calls-1)*time.Second/3 {
		t.Errorf("%d calls of GetFindings in %s, want at most three per second", calls, time.Since(begin))
	}
	if r := run(t, w.cloud, nil, "findings"); strings.ContainsAny(r.stdout, "\x1b\u202e") || strings.Count(r.stdout, "\n") != all {
		t.Errorf("%d lines, want %d without control characters", strings.Count(r.stdout, "\n"), all)
	}
}

// TestProvokedPolicyIsFollowedAndRemoved runs the first experiment of the walk-through. A killed
// run leaves its policy to --cleanup; an interrupted run removes it.
func TestProvokedPolicyIsFollowedAndRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if reasons := deploy(t, w.cloud, assembly(t, nil, nil)); reasons != nil {
		t.Fatal(reasons)
	}
	policies := func() int {
		t.Helper()
		out, err := w.iot.ListPolicies(t.Context(), &iot.ListPoliciesInput{})
		w.must(nil, err)
		return len(out.Policies)
	}
	r := run(t, w.cloud, nil, "provoke", "policy", "--yes", "--wait", "10m", "--json")
	if r.status != 0 || !strings.Contains(r.stdout, "IOT_POLICY_OVERLY_PERMISSIVE_CHECK") || !strings.Contains(r.stdout, "ARCHIVED") || policies() != 0 {
		t.Errorf("status %d, %d policies left: %s%s", r.status, policies(), r.stdout, r.stderr)
	}
	if r := run(t, w.cloud, nil, "provoke", "policy"); r.status != 2 || !strings.Contains(r.stderr, "add --yes") || policies() != 0 {
		t.Errorf("without --yes: status %d, %s", r.status, r.stderr)
	}
	killed := exec.CommandContext(t.Context(), program, "provoke", "policy", "--yes")
	killed.Env = w.cloud.Env()
	w.must(nil, killed.Start())
	waitFor(t, func() bool { return policies() > 0 })
	w.must(nil, killed.Process.Kill())
	killed.Wait()
	if r := run(t, w.cloud, nil, "provoke", "--cleanup", "--yes"); r.status != 0 || policies() != 0 {
		t.Errorf("status %d, %d policies left: %s", r.status, policies(), r.stderr)
	}
	interrupted := exec.CommandContext(t.Context(), program, "provoke", "policy", "--yes")
	interrupted.Env = w.cloud.Env()
	w.must(nil, interrupted.Start())
	waitFor(t, func() bool { return policies() > 0 })
	w.must(nil, interrupted.Process.Signal(os.Interrupt))
	if interrupted.Wait(); interrupted.ProcessState.ExitCode() != 130 || policies() != 0 {
		t.Errorf("after Ctrl-C: status %d, %d policies left", interrupted.ProcessState.ExitCode(), policies())
	}
}

// waitFor polls until the cloud has reached a state.
func waitFor(t *testing.T, reached func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for !reached() {
		select {
		case <-ctx.Done():
			t.Fatal("the state was not reached")
		case <-time.After(50 * time.Millisecond):
		}
	}
}
