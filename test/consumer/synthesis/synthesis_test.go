// Package synthesis runs the fleet's app as its owner would: once with the construct in this
// repository, and twice with a read-only copy, as in the module cache. The copy's functions must
// compile despite settings of the caller that would break a build for Lambda.
package synthesis

import (
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	consumer   = ".."
	repository = "../../.."
	construct  = "github.com/defenderhub/defenderhub"
)

// hostile are settings of the caller that would break a build for Lambda.
var hostile = []string{"GOFLAGS=-mod=mod -tags=lambda.norpc,fleet", "GOWORK=off", "GOOS=js", "GOARCH=wasm", "CGO_ENABLED=1", "GO111MODULE=off"}

func TestConstructServesAnotherModule(t *testing.T) {
	cache := "XDG_CACHE_HOME=" + t.TempDir()
	fromRepository := synthesize(t, build(t, consumer), cache)

	copied, log := copyModule(t, repository), filepath.Join(t.TempDir(), "go.log")
	before := listing(t, copied)
	app := build(t, copyConsumer(t, copied), "GOFLAGS=-mod=mod", "GOWORK=off")
	settings := append(slices.Clone(hostile), cache, "PATH="+observedGo(t, log)+string(os.PathListSeparator)+os.Getenv("PATH"))
	fromCopy := synthesize(t, app, settings...)
	again := synthesize(t, app, settings...)

	t.Run("FunctionIsCompiledFromTheReadOnlyCopy", func(t *testing.T) {
		commands := read(t, log)
		want := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(copied) + ` build .*\./lambda/forwarder$`)
		if !want.MatchString(commands) {
			t.Errorf("no go build in %s:\n%s", copied, commands)
		}
		if strings.Contains(commands, absolute(t, repository)+" ") {
			t.Errorf("the go command ran in the repository:\n%s", commands)
		}
		if after := listing(t, copied); after != before {
			t.Errorf("the copy changed from\n%s\nto\n%s", before, after)
		}
	})
	t.Run("FunctionIsInTheTemplate", func(t *testing.T) {
		template := readTemplate(t, fromCopy, "Fleet.template.json")
		executable := filepath.Join(fromCopy, "asset."+assetOf(t, template), "bootstrap")
		isForLambda(t, executable)
		showsTheProps(t, template)
	})
	t.Run("CopyHasTheTemplatesOfTheRepository", func(t *testing.T) {
		sameTemplates(t, fromRepository, fromCopy)
	})
	t.Run("SecondSynthesisHasTheSameTemplates", func(t *testing.T) {
		sameTemplates(t, fromCopy, again)
	})
	t.Run("TagsReachEveryTaggableResource", func(t *testing.T) { tagged(t, readTemplate(t, fromCopy, "Governed.template.json")) })
	t.Run("AspectsReachEveryRole", func(t *testing.T) { bounded(t, readTemplate(t, fromCopy, "Governed.template.json")) })
	t.Run("RulesOfTheFleetAreDeployed", func(t *testing.T) {
		files, err := filepath.Glob(filepath.Join(fromCopy, "asset.*", "correlation.json"))
		if err != nil || len(files) != 1 || !strings.Contains(read(t, files[0]), `"opened-then-refused"`) {
			t.Errorf("%v, error %v: want one asset with the rule", files, err)
		}
		if n := len(readTemplate(t, fromCopy, "Governed.template.json").of("AWS::Lambda::Function")); n != 3 {
			t.Errorf("%d functions, want forwarder, correlator and notifier", n)
		}
	})
	t.Run("NestedStackHasTheConstruct", func(t *testing.T) {
		parent := readTemplate(t, fromCopy, "Platform.template.json")
		if n := len(parent.of("AWS::CloudFormation::Stack")); n != 1 || len(parent.Resources) != 1 {
			t.Errorf("the parent stack has %d nested stacks and %d resources, want one of each", n, len(parent.Resources))
		}
		nested := readTemplate(t, fromCopy, "PlatformSecurity*.nested.template.json")
		showsTheProps(t, nested)
	})
	t.Run("StageHasTheConstruct", func(t *testing.T) {
		template := readTemplate(t, fromCopy, "assembly-Production/ProductionFleet*.template.json")
		showsTheProps(t, template)
		if hash := assetOf(t, template); hash != assetOf(t, readTemplate(t, fromCopy, "Fleet.template.json")) {
			t.Errorf("the stage's function has asset %s, want that of the stack outside the stage", hash)
		}
	})
}

// The app contains README's snippet, character for character.
func TestAppEmbedsTheConstructAsReadmeShows(t *testing.T) {
	snippet := regexp.MustCompile("(?s)```go\n(.*?)```").FindStringSubmatch(read(t, filepath.Join(repository, "README.md")))
	if snippet == nil {
		t.Fatal("README.md has no Go snippet")
	}
	indented := regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(snippet[1], "\t$1")
	if !strings.Contains(read(t, filepath.Join(consumer, "main.go")), "\n"+indented) {
		t.Errorf("main.go lacks README's snippet:\n%s", indented)
	}
}

// The snapshot test in docs/embedding.md passes in the app's module, and can fail.
func TestSnapshotTestThatTheDocsShow(t *testing.T) {
	source := read(t, filepath.Join("testdata", "fleet_test.go"))
	_, function, _ := strings.Cut(source, "\nfunc ")
	if !strings.Contains(read(t, filepath.Join(repository, "docs", "embedding.md")), "```go\nfunc "+function+"```") {
		t.Errorf("docs/embedding.md lacks\nfunc %s", function)
	}
	app := copyConsumer(t, absolute(t, repository))
	write(t, filepath.Join(app, "fleet_test.go"), []byte(source))
	run(t, app, append(os.Environ(), "UPDATE=1"), "go", "test", "-count=1", "-vet=off", ".")
	run(t, app, nil, "go", "test", "-count=1", "-vet=off", ".")
	snapshot := filepath.Join(app, "fleet.json")
	write(t, snapshot, []byte(strings.Replace(read(t, snapshot), "arm64", "x86_64", 1)))
	command := exec.Command("go", "test", "-count=1", "-vet=off", ".")
	command.Dir = app
	if out, err := command.CombinedOutput(); err == nil || !strings.Contains(string(out), "the template is not that of fleet.json") {
		t.Errorf("the snapshot test passes with another template: %v\n%s", err, out)
	}
}

// isForLambda checks that Lambda can run the executable by default.
func isForLambda(t *testing.T, executable string) {
	t.Helper()
	file, err := elf.Open(executable)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if file.Machine != elf.EM_AARCH64 {
		t.Errorf("built for %v, want arm64", file.Machine)
	}
	info, err := buildinfo.ReadFile(executable)
	if err != nil {
		t.Fatal(err)
	}
	if info.Path != construct+"/lambda/forwarder" || info.Main.Path != construct {
		t.Errorf("built from package %s of module %s, want %s/lambda/forwarder", info.Path, info.Main.Path, construct)
	}
	got := map[string]string{}
	for _, s := range info.Settings {
		got[s.Key] = s.Value
	}
	for key, want := range map[string]string{"GOOS": "linux", "GOARCH": "arm64", "CGO_ENABLED": "0", "-trimpath": "true", "-tags": "lambda.norpc"} {
		if got[key] != want {
			t.Errorf("built with %s=%s, want %s", key, got[key], want)
		}
	}
}

// showsTheProps checks for the settings in README's snippet.
func showsTheProps(t *testing.T, tp template) {
	t.Helper()
	if functions := tp.of("AWS::Lambda::Function"); len(functions) != 1 || functions[0].Properties["Runtime"] != "provided.al2023" {
		t.Errorf("functions %v, want one of the runtime provided.al2023", functions)
	}
	if audits := tp.of("AWS::IoT::ScheduledAudit"); len(audits) != 1 || audits[0].Properties["DayOfWeek"] != "SUN" {
		t.Errorf("scheduled audits %v, want one on Sundays", audits)
	}
	rules := tp.of("AWS::IoT::TopicRule")
	if !slices.ContainsFunc(rules, func(r resource) bool { return strings.Contains(text(r.Properties), "FROM 'fleet/+/security'") }) {
		t.Errorf("none of %d rules reads the topic fleet/+/security", len(rules))
	}
}

// taggable are the types that cost money or hold data.
var taggable = []string{
	"AWS::CloudWatch::Alarm", "AWS::DynamoDB::Table", "AWS::IAM::Role", "AWS::IoT::ScheduledAudit", "AWS::IoT::TopicRule",
	"AWS::KMS::Key", "AWS::Lambda::Function", "AWS::Logs::LogGroup", "AWS::SNS::Topic", "AWS::SQS::Queue",
}

func tagged(t *testing.T, tp template) {
	const tag = `{"Key":"team","Value":"security"}`
	for _, kind := range taggable {
		if len(tp.of(kind)) == 0 {
			t.Errorf("no %s to check", kind)
		}
	}
	for id, r := range tp.Resources {
		if !slices.Contains(taggable, r.Type) {
			continue
		}
		if got, want := strings.Contains(text(r.Properties["Tags"]), tag), strings.HasPrefix(id, "Hub"); got != want {
			t.Errorf("%s (%s): tagged %v, want %v", id, r.Type, got, want)
		}
	}
}

func bounded(t *testing.T, tp template) {
	roles := tp.of("AWS::IAM::Role")
	if len(roles) < 3 {
		t.Errorf("%d roles, want those of the audit, the rules and the forwarder", len(roles))
	}
	for _, r := range roles {
		if boundary := text(r.Properties["PermissionsBoundary"]); !strings.Contains(boundary, "policy/fleet-boundary") {
			t.Errorf("a role has the permissions boundary %s: %s", boundary, text(r.Properties))
		}
	}
}

// sameTemplates compares all templates of two syntheses, byte by byte. They include the hashes of
// assets.
func sameTemplates(t *testing.T, one, two string) {
	t.Helper()
	names := templates(t, one)
	if len(names) != 5 || !slices.Equal(names, templates(t, two)) {
		t.Errorf("templates %v and %v, want the same five", names, templates(t, two))
	}
	for _, name := range names {
		if read(t, filepath.Join(one, name)) != read(t, filepath.Join(two, name)) {
			t.Errorf("%s differs: diff %s", name, difference(filepath.Join(one, name), filepath.Join(two, name)))
		}
	}
}

func difference(one, two string) string {
	out, err := exec.Command("diff", "-u", one, two).CombinedOutput()
	if len(out) == 0 {
		return err.Error()
	}
	return string(out)
}

type template struct{ Resources map[string]resource }

type resource struct {
	Type       string
	Properties map[string]any
}

// of returns the resources of a type.
func (tp template) of(kind string) []resource {
	var found []resource
	for _, r := range tp.Resources {
		if r.Type == kind {
			found = append(found, r)
		}
	}
	return found
}

// assetOf returns the hash of the function's asset, from the name of its object in S3.
func assetOf(t *testing.T, tp template) string {
	t.Helper()
	functions := tp.of("AWS::Lambda::Function")
	if len(functions) == 0 {
		t.Fatal("no function")
	}
	code, _ := functions[0].Properties["Code"].(map[string]any)
	key, _ := code["S3Key"].(string)
	hash, ok := strings.CutSuffix(key, ".zip")
	if !ok {
		t.Fatalf("the function's code is %v", functions[0].Properties["Code"])
	}
	return hash
}

// readTemplate reads the template of a cloud assembly that pattern matches.
func readTemplate(t *testing.T, assembly, pattern string) template {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(assembly, filepath.FromSlash(pattern)))
	if err != nil || len(paths) != 1 {
		t.Fatalf("%s: found %v, %v, want one file", pattern, paths, err)
	}
	var tp template
	if err := json.Unmarshal([]byte(read(t, paths[0])), &tp); err != nil {
		t.Fatal(err)
	}
	return tp
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func text(v any) string {
	out, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(out)
}
