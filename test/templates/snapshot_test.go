package templates

import (
	"bytes"
	"cmp"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the snapshots")

// assetHash is masked: it changes with every line of a function's source.
var assetHash = regexp.MustCompile(`[0-9a-f]{64}`)

func TestSnapshots(t *testing.T) {
	for _, s := range stacks {
		t.Run(s.name, func(t *testing.T) {
			text, _ := synth(t, s.name, s.build)
			got := assetHash.ReplaceAll(text, []byte("ASSET"))
			if slices.Contains(digested, s.name) {
				checkDigests(t, s.name, got)
				return
			}
			path := filepath.Join("testdata", s.name+".json")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("%v; make snapshots writes it", err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the template differs from %s; read the difference, and run make snapshots if you meant it:\n%s", path, difference(t, path, got))
			}
		})
	}
}

func difference(t *testing.T, path string, got []byte) string {
	t.Helper()
	now := filepath.Join(t.TempDir(), "now.json")
	if err := os.WriteFile(now, got, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("diff", "-u", path, now).CombinedOutput()
	if len(out) == 0 {
		return err.Error()
	}
	return string(out)
}

// unlistedAction matches a finding about an action that cfn-lint's lists do not have yet.
var unlistedAction = regexp.MustCompile(`(?m)^.*:W3037:'getconnection' is not one of .*\n?`)

// cfnLint returns the pinned version, from make's directory or from PATH.
func cfnLint(t *testing.T) string {
	t.Helper()
	pinned, err := os.ReadFile("requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(strings.TrimSpace(string(pinned)), "==", " ", 1)
	for _, path := range []string{filepath.Join("..", "..", ".local", "cfn-lint", "bin", "cfn-lint"), "cfn-lint"} {
		if version, err := exec.Command(path, "--version").Output(); err == nil && strings.TrimSpace(string(version)) == want {
			return path
		}
	}
	t.Fatalf("%s is neither in .local/cfn-lint nor on PATH: make cfn-lint installs it, or pip install -r test/templates/requirements.txt", want)
	return ""
}

// W3005 is about a dependency that the CDK itself adds for each function's role.
func TestCfnLintFindsNothing(t *testing.T) {
	lint := cfnLint(t)
	templates := map[string][]string{}
	dir := t.TempDir()
	for _, s := range all {
		region := cmp.Or(map[string]string{"aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}[s.name], "us-east-1")
		text, _ := synth(t, s.name, s.build)
		path := filepath.Join(dir, s.name+".json")
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		templates[region] = append(templates[region], path)
	}
	for region, paths := range templates {
		args := append([]string{"--format", "parseable", "--regions", region, "--ignore-checks", "W3005", "--"}, paths...)
		out, err := exec.Command(lint, args...).CombinedOutput()
		if rest := unlistedAction.ReplaceAll(out, nil); err != nil && (len(rest) > 0 || len(out) == 0) {
			t.Errorf("%s: %v\n%s", region, err, rest)
		}
	}
}
