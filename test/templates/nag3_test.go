package templates

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
)

// TestCdkNag3FindsNothing runs the AwsSolutions rules of cdk-nag 3, which reads acknowledgments
// and not the metadata of cdk-nag 2. Each acknowledgment must be needed.
func TestCdkNag3FindsNothing(t *testing.T) {
	modules := installNag3(t)
	var assemblies []string
	for _, s := range all {
		assemblies = append(assemblies, *awscdk.Stage_Of(s.build()).Synth(nil).Directory())
	}
	command := exec.Command("node", append([]string{"nag3/nag.js"}, assemblies...)...)
	command.Env = append(os.Environ(), "NODE_PATH="+modules)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var results []struct{ Violations, Needless, Acknowledgments []string }
	if err := json.Unmarshal(output, &results); err != nil || len(results) != len(all) {
		t.Fatalf("%d results, error %v", len(results), err)
	}
	for i, s := range all {
		if len(results[i].Acknowledgments) == 0 {
			t.Errorf("%s has no acknowledgments, so the rules may not have run", s.name)
		}
		for _, v := range results[i].Violations {
			t.Errorf("%s: %s", s.name, v)
		}
		for _, a := range results[i].Needless {
			t.Errorf("%s: %s is acknowledged, but is not a finding", s.name, a)
		}
	}
}

// installNag3 returns a node_modules with the packages of nag3/package-lock.json, from the user's
// cache if possible.
func installNag3(t *testing.T) string {
	t.Helper()
	lock, err := os.ReadFile("nag3/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(lock)
	installed := filepath.Join(cache, "defenderhub", "nag3-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(installed); err == nil {
		return filepath.Join(installed, "node_modules")
	}
	if err := os.MkdirAll(filepath.Dir(installed), 0o755); err != nil {
		t.Fatal(err)
	}
	// Two tests may install at the same time. Each installs to its own directory, and the first one
	// to rename it succeeds.
	temporary, err := os.MkdirTemp(filepath.Dir(installed), "nag3-new-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(temporary)
	if err := os.CopyFS(temporary, os.DirFS("nag3")); err != nil {
		t.Fatal(err)
	}
	command := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	command.Dir = temporary
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("npm ci of cdk-nag 3: %v\n%s", err, out)
	}
	if err := os.Rename(temporary, installed); err != nil {
		if _, missing := os.Stat(installed); missing != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(installed, "node_modules")
}
