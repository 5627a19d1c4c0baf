package defenderhub_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
)

// Users copy the examples. Those that need a file of the user are only compiled.
func TestExamplesCanBeSynthesized(t *testing.T) {
	for name, example := range map[string]func(){
		"README": Example, "behaviors": Example_behaviors, "self-managed": Example_selfManaged, "parts": Example_parts, "suppressions": Example_suppressions,
		"large fleet": Example_largeFleet, "existing audit": Example_existingAudit, "own topic": Example_ownTopic, "everything": Example_forwardEverything,
		"alarms": Example_alarms, "correlate": Example_correlate, "many accounts": Example_manyAccounts, "campaign": Example_campaignOfALargeFleet,
		"notify": Example_notify, "VPC": Example_vpc, "dashboard": Example_dashboard, "audit alone": Example_auditAlone,
	} {
		t.Run(name, func(t *testing.T) {
			app = awscdk.NewApp(nil)
			stack = awscdk.NewStack(app, jsii.String("Fleet"), &awscdk.StackProps{Env: &awscdk.Environment{Account: jsii.String("123456789012"), Region: jsii.String("us-east-1")}})
			example()
			resources := 0
			for _, a := range *app.Synth(nil).Stacks() {
				of, _ := a.Template().(map[string]any)["Resources"].(map[string]any)
				resources += len(of)
			}
			if resources < 2 {
				t.Errorf("%d resources, want at least 2", resources)
			}
		})
	}
}

// Each Go snippet of README and the docs is the body of an Example, so that the compiler checks it.
func TestDocsShowTheExamples(t *testing.T) {
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{}
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, file := range append(files, "../../README.md") {
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pages[filepath.Base(file)] = string(page)
		shown += strings.Count(string(page), "```go\n")
	}
	for name, page := range map[string]string{"Example": "README.md", "Example_selfManaged": "embedding.md", "Example_parts": "embedding.md", "Example_suppressions": "findings.md", "Example_correlate": "embedding.md", "Example_notify": "notify.md", "Example_manyAccounts": "planning.md", "Example_campaignOfALargeFleet": "planning.md"} {
		body := regexp.MustCompile(`(?s)\nfunc ` + name + `\(\) \{\n(.*?)\n\}\n`).FindSubmatch(source)
		if body == nil {
			t.Fatalf("no func %s in example_test.go", name)
		}
		want := strings.ReplaceAll("\n"+string(body[1]), "\n\t", "\n") + "\n"
		if snippet := "```go" + want + "```"; !strings.Contains(pages[page], snippet) {
			t.Errorf("%s lacks the body of %s:\n%s", page, name, snippet)
		}
	}
	// The ninth snippet is a snapshot test. The consumer module runs it.
	if shown != 9 {
		t.Errorf("README.md and docs/ show %d Go snippets, of which 9 are compiled", shown)
	}
}
