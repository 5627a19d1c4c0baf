package assembly_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/assembly"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("escape/manifest.json", `{"artifacts":{"A":{"type":"aws:cloudformation:stack","properties":{"templateFile":"../other.json"}}}}`)
	write("none/manifest.json", `{"artifacts":{}}`)
	for path, want := range map[string]string{
		filepath.Join(dir, "missing"):         "no such file",
		dir:                                   "run cdk synth first",
		filepath.Join(dir, "escape"):          "is outside the directory",
		filepath.Join(dir, "none"):            "has no stack",
		write("yaml.json", "Resources:"):      "invalid character",
		write("empty.json", `{"Outputs":{}}`): "no Resources",
	} {
		if _, err := assembly.Read(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one that says %q", path, err, want)
		}
	}
	one, err := assembly.Read(write("Mine.template.json", `{"Resources":{"T":{"Type":"AWS::SNS::Topic"}}}`))
	if err != nil || len(one) != 1 || one[0].Stack != "Mine" || one[0].Resources[0].Path() != "Mine/T" {
		t.Errorf("stacks %+v, error %v, want the stack Mine with one resource", one, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"Resources":{"A":{"Type":"AWS::IoT::AccountAuditConfiguration","Properties":{"AccountId":{"Ref":"AWS::AccountId"}},"DependsOn":["B"]}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		parsed, err := assembly.Parse(text, "Stack")
		if err != nil {
			return
		}
		for _, r := range parsed.Resources {
			if r.Stack != "Stack" || r.Path() == "" && r.Metadata == nil {
				t.Errorf("the resource %+v has another stack, or no path", r)
			}
			assembly.Walk(r.Properties, func(string) {})
			_ = r.Text("Name")
		}
	})
}
