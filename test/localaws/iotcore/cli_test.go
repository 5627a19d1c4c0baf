package iotcore_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// The AWS CLI is another implementation of the protocol.
func TestAWSCLI(t *testing.T) {
	path, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("the AWS CLI is not on PATH")
	}
	w := newWorld(t, iotcore.Config{})
	cli := func(args ...string) (map[string]any, string) {
		t.Helper()
		cmd := exec.Command(path, append(args, "--endpoint-url", w.endpoint, "--region", "us-east-1", "--output", "json")...)
		// The caller's configuration could lead to a real account.
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test"}
		text, err := cmd.CombinedOutput()
		out := map[string]any{}
		if err == nil && len(text) > 0 {
			if err := json.Unmarshal(text, &out); err != nil {
				t.Fatalf("aws %v: %v in %s", args, err, text)
			}
		}
		return out, string(text)
	}
	out, text := cli("iot", "create-keys-and-certificate", "--set-as-active")
	target, ok := out["certificateArn"].(string)
	if !ok {
		t.Fatalf("create-keys-and-certificate: %s", text)
	}
	if out, text = cli("iot", "create-policy", "--policy-name", "p", "--policy-document", allowAll); out["policyVersionId"] != "1" {
		t.Errorf("create-policy: %s", text)
	}
	cli("iot", "attach-policy", "--policy-name", "p", "--target", target)
	if out, text = cli("iot", "get-effective-policies", "--principal", target); len(fmt.Sprint(out["effectivePolicies"])) < 10 {
		t.Errorf("get-effective-policies: %s", text)
	}
	if _, text = cli("iot-data", "publish", "--topic", "a/b", "--payload", "aGk="); len(w.sent.published) != 1 || w.sent.published[0].Topic != "a/b" {
		t.Errorf("publish: %s; published %+v", text, w.sent.published)
	}
	if _, text = cli("iot", "list-jobs"); !strings.Contains(text, "NotImplementedException") || !strings.Contains(text, "ListJobs") {
		t.Errorf("list-jobs: %s", text)
	}
}
