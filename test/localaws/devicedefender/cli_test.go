package devicedefender_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/devicedefender"
)

// The AWS CLI is another implementation of the protocol. It can also request only unsuppressed
// findings, which the SDK for Go cannot.
func TestAWSCLI(t *testing.T) {
	path, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("the AWS CLI is not on PATH")
	}
	w := newWorld(t, devicedefender.Config{})
	w.policy("broad", allowAll)
	cli := func(args ...string) map[string]any {
		t.Helper()
		cmd := exec.Command(path, append([]string{"iot"}, append(args, "--endpoint-url", w.endpoint, "--region", "us-east-1", "--output", "json")...)...)
		// The caller's configuration could lead to a real account.
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test"}
		text, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("aws %v: %v: %s", args, err, text)
		}
		out := map[string]any{}
		if len(text) > 0 {
			if err := json.Unmarshal(text, &out); err != nil {
				t.Fatalf("aws %v: %v in %s", args, err, text)
			}
		}
		return out
	}
	count := func(out map[string]any, list string) int {
		items, _ := out[list].([]any)
		return len(items)
	}
	w.enable(defender.IoTPolicyOverlyPermissive, defender.LoggingDisabled)
	cli("create-audit-suppression", "--check-name", logging, "--resource-identifier", "account="+account, "--expiration-date", start.Add(time.Hour).Format(time.RFC3339))
	task, _ := cli("start-on-demand-audit-task", "--target-check-names", permissive, logging)["taskId"].(string)
	for args, want := range map[string]int{"": 2, "--no-list-suppressed-findings": 1} {
		if n := count(cli(append([]string{"list-audit-findings", "--task-id", task}, strings.Fields(args)...)...), "findings"); n != want {
			t.Errorf("list-audit-findings %s: %d findings, want %d", args, n, want)
		}
	}
	from, to := start.Add(-time.Hour).Format(time.RFC3339), start.Add(time.Hour).Format(time.RFC3339)
	if n := count(cli("list-audit-findings", "--start-time", from, "--end-time", to), "findings"); n != 2 {
		t.Errorf("list-audit-findings of a period: %d findings, want 2", n)
	}
	if n := count(cli("list-audit-tasks", "--start-time", from, "--end-time", to), "tasks"); n != 1 {
		t.Errorf("list-audit-tasks: %d tasks, want 1", n)
	}
	cli("delete-account-audit-configuration", "--delete-scheduled-audits")
	if names, _ := w.enabled(); names != nil {
		t.Errorf("after the deletion of the configuration %v are enabled", names)
	}
}
