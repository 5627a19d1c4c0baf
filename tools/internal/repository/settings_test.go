package repository_test

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/tools/internal/repository"
)

const root = repository.Checkout("../../..")

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(string(root), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// directories returns the directories of all files with a name, relative to the root.
func directories(t *testing.T, name string) []string {
	t.Helper()
	files, err := root.Git(t.Context(), "ls-files", name, "**/"+name)
	if err != nil || files == "" {
		t.Fatalf("no file %s: %v", name, err)
	}
	var found []string
	for file := range strings.SplitSeq(files, "\n") {
		found = append(found, path.Dir(file))
	}
	return found
}

func TestEveryModuleIsLintedAndUpdated(t *testing.T) {
	modules := regexp.MustCompile(`(?m)^MODULES := (.*)$`).FindStringSubmatch(read(t, "Makefile"))
	if modules == nil {
		t.Fatal("the Makefile lists no modules")
	}
	updates := read(t, ".github/dependabot.yml")
	for manifest, ecosystem := range map[string]string{"go.mod": "gomod", "package.json": "npm", "requirements.txt": "pip"} {
		block := regexp.MustCompile(`(?s)package-ecosystem: ` + ecosystem + `\b(.*?)schedule:`).FindStringSubmatch(updates)
		if block == nil {
			t.Errorf("dependabot.yml lacks the ecosystem %s", ecosystem)
			continue
		}
		updated := strings.FieldsFunc(block[1], func(r rune) bool { return strings.ContainsRune(" ,[]\n", r) })
		for _, dir := range directories(t, manifest) {
			if !slices.Contains(updated, path.Join("/", dir)) {
				t.Errorf("dependabot.yml lacks %s of %s", path.Join("/", dir), ecosystem)
			}
			if manifest == "go.mod" && !slices.Contains(strings.Fields(modules[1]), dir) {
				t.Errorf("MODULES in the Makefile lacks %s", dir)
			}
		}
	}
}

func TestWorkflowsArePinnedAndHaveNoSecret(t *testing.T) {
	workflows, err := filepath.Glob(filepath.Join(string(root), ".github", "workflows", "*.yml"))
	if err != nil || len(workflows) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	pinned := regexp.MustCompile(`uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	for _, workflow := range workflows {
		text, err := os.ReadFile(workflow)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); strings.Contains(line, "uses:") && !pinned.MatchString(line) {
				t.Errorf("%s: %s: want the full commit hash, and the version in a comment", workflow, line)
			}
			if strings.Contains(line, "secrets.") || strings.Contains(line, "pull_request_target") {
				t.Errorf("%s: %s: want no secret, so that forks can run the workflow", workflow, line)
			}
		}
	}
}

// Only make deploy may create a security profile without being asked.
func TestDeployTriesDetect(t *testing.T) {
	for args, want := range map[string]bool{"deploy": true, "deploy TRY=0": false, "deploy TRY=": false, "TRY=0 deploy": false, "doctor": false, "doctor TRY=1": true} {
		words := strings.Fields(args)
		environment := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TRY=") })
		if strings.HasPrefix(words[0], "TRY=") {
			environment, words = append(environment, words[0]), words[1:]
		}
		command := exec.CommandContext(t.Context(), "make", append([]string{"--dry-run"}, words...)...)
		command.Dir = string(root)
		command.Env = append(environment, "MAKEFLAGS=")
		out, err := command.CombinedOutput()
		doctor := regexp.MustCompile(`(?m)^\.local/defenderhub doctor .*$`).FindString(string(out))
		if err != nil || doctor == "" || strings.Contains(doctor, " --try --yes ") != want {
			t.Errorf("make %s: error %v, runs %q, want --try %v", args, err, doctor, want)
		}
	}
}

// What the CDK CLI and doctor both need reaches both.
func TestDoctorGetsTheOptionsOfTheCDK(t *testing.T) {
	command := exec.CommandContext(t.Context(), "make", "--dry-run", "doctor", "ARGS=--toolkit-stack-name Corp -c defenderhub:engine=none --profile=fleet")
	command.Dir = string(root)
	command.Env = append(os.Environ(), "MAKEFLAGS=")
	out, err := command.CombinedOutput()
	doctor := regexp.MustCompile(`(?m)^\.local/defenderhub doctor .*$`).FindString(string(out))
	if err != nil || !strings.Contains(doctor, " --toolkit-stack-name Corp --profile=fleet ") || strings.Contains(doctor, "engine") {
		t.Errorf("make doctor: error %v, runs %q, want both options and no setting", err, doctor)
	}
}

// With other flags Go compiles the AWS SDK twice, and the first make demo takes twice as long.
func TestDemoIsCompiledWithTheFlagsOfTheFunctions(t *testing.T) {
	makefile := read(t, "Makefile")
	for _, want := range []string{`(?m)^demo local .*: export CGO_ENABLED := 0$`, `(?m)^demo local .*: export GOFLAGS := .* -trimpath$`} {
		if !regexp.MustCompile(want).MatchString(makefile) {
			t.Errorf("the Makefile has no line %s", want)
		}
	}
	if !strings.Contains(read(t, "test/demo/prepare/main.go"), `"-tags=lambda.norpc"`) {
		t.Error("test/demo/prepare compiles the functions with other tags")
	}
}
