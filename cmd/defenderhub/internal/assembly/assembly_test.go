package assembly_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
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
	write("outside/manifest.json", `{"artifacts":{"A":{"type":"cdk:cloud-assembly","properties":{"directoryName":".."}}}}`)
	write("loop/manifest.json", `{"artifacts":{"A":{"type":"cdk:cloud-assembly","properties":{"directoryName":"."}}}}`)
	write("none/manifest.json", `{"artifacts":{}}`)
	for path, want := range map[string]string{
		filepath.Join(dir, "missing"):         "no such file",
		dir:                                   "run cdk synth first",
		filepath.Join(dir, "escape"):          "is outside the directory",
		filepath.Join(dir, "outside"):         "is outside the directory",
		filepath.Join(dir, "loop"):            "is outside the directory",
		filepath.Join(dir, "none"):            "has no stack",
		write("yaml.json", "Resources:"):      "invalid character",
		write("empty.json", `{"Outputs":{}}`): "no Resources",
	} {
		if _, err := assembly.Read(path, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one that says %q", path, err, want)
		}
	}
	topic := `{"Resources":{"T":{"Type":"AWS::SNS::Topic"}}}`
	stack := func(name string) string {
		return fmt.Sprintf(`"%s":{"type":"aws:cloudformation:stack","environment":"aws://unknown-account/unknown-region","properties":{"templateFile":"%[1]s.json","stackName":"%[1]s"}}`, name)
	}
	// An app with a stack of its own, and a stage with another stack and a stage.
	write("app/manifest.json", `{"artifacts":{`+stack("Mine")+`,"assembly-Prod":{"type":"cdk:cloud-assembly","properties":{"directoryName":"assembly-Prod"}}}}`)
	write("app/Mine.json", topic)
	write("app/assembly-Prod/manifest.json", `{"artifacts":{`+stack("Prod-Hub")+`,"assembly-Prod-EU":{"type":"cdk:cloud-assembly","properties":{"directoryName":"assembly-EU"}}}}`)
	write("app/assembly-Prod/Prod-Hub.json", topic)
	write("app/assembly-Prod/assembly-EU/manifest.json", `{"artifacts":{`+stack("Prod-EU-Hub")+`}}`)
	write("app/assembly-Prod/assembly-EU/Prod-EU-Hub.json", topic)
	app, one := filepath.Join(dir, "app"), write("One.template.json", topic)
	for _, tt := range []struct {
		path, name string
		want       []string
	}{
		{app, "", []string{"Mine/T", "Prod-EU-Hub/T", "Prod-Hub/T"}},
		{app, "Prod-Hub", []string{"Prod-Hub/T"}},
		{app, "Other", nil},
		{filepath.Join(app, "assembly-Prod", "assembly-EU"), "", []string{"Prod-EU-Hub/T"}},
		{filepath.Join(app, "assembly-Prod", "assembly-EU"), "Other", []string{"Other/T"}},
		{one, "", []string{"One/T"}},
		{one, "Deployed", []string{"Deployed/T"}},
	} {
		all, err := assembly.Read(tt.path, tt.name)
		var got []string
		for _, t := range all {
			got = append(got, t.Stack+strings.TrimPrefix(t.Resources[0].Path(), t.Stack))
		}
		if !slices.Equal(got, tt.want) || (err != nil) != (tt.want == nil) {
			t.Errorf("%s, stack %q: %v, error %v, want %v", tt.path, tt.name, got, err, tt.want)
		}
	}
}

func TestEngineTables(t *testing.T) {
	for variables, want := range map[string][]string{
		`"DEFENDERHUB_STATE_TABLE":{"Ref":"State"},"DEFENDERHUB_TELEMETRY_QUEUE_URL":{"Ref":"Q"}`:   {"State"},
		`"DEFENDERHUB_STATE_TABLE":{"Ref":"State"},"DEFENDERHUB_TELEMETRY_STREAM":{"Ref":"Stream"}`: {"State"},
		`"DEFENDERHUB_STATE_TABLE":{"Ref":"State"}`:                                                 nil, // the correlator
		`"DEFENDERHUB_STATE_TABLE":"known","DEFENDERHUB_TELEMETRY_QUEUE_URL":"url"`:                 nil,
		`"STATE_TABLE":{"Ref":"State"},"TELEMETRY_QUEUE_URL":{"Ref":"Q"}`:                           nil,
	} {
		parsed, err := assembly.Parse(fmt.Appendf(nil, `{"Resources":{"State":{"Type":"AWS::DynamoDB::Table"},"F":{"Type":"AWS::Lambda::Function","Properties":{"Environment":{"Variables":{%s}}}},"G":{"Type":"AWS::Lambda::Function"}}}`, variables), "S")
		if err != nil {
			t.Fatal(err)
		}
		if got := parsed.EngineTables(); !slices.Equal(got, want) {
			t.Errorf("%s: tables %q, want %q", variables, got, want)
		}
	}
}

func TestQueuesOfOthersAreNotOurs(t *testing.T) {
	const ref = `{"Fn::GetAtt":["%s","Arn"]}`
	queue := func(id, deadLetters string) string {
		if deadLetters != "" {
			deadLetters = fmt.Sprintf(`"RedrivePolicy":{"deadLetterTargetArn":`+ref+`}`, deadLetters)
		}
		return fmt.Sprintf(`"%s":{"Type":"AWS::SQS::Queue","Properties":{%s}},`, id, deadLetters)
	}
	parsed, err := assembly.Parse([]byte(`{"Resources":{`+
		queue("Events", "DeadLetters")+queue("DeadLetters", "")+queue("Late", "")+queue("Direct", "")+queue("Orders", "OrdersDeadLetters")+queue("OrdersDeadLetters", "")+
		`"Forwarder":{"Type":"AWS::Lambda::Function","Properties":{"Environment":{"Variables":{"DEFENDERHUB_DEAD_LETTER_QUEUE_URL":{"Ref":"Direct"}}}}},`+
		`"Shop":{"Type":"AWS::Lambda::Function","Properties":{"Environment":{"Variables":{"QUEUE":{"Ref":"Orders"},"EVENTS":{"Ref":"Events"}}}}},`+
		`"Reads":{"Type":"AWS::Lambda::EventSourceMapping","Properties":{"FunctionName":{"Ref":"Forwarder"},"EventSourceArn":`+fmt.Sprintf(ref, "Events")+`}},`+
		`"Buys":{"Type":"AWS::Lambda::EventSourceMapping","Properties":{"FunctionName":{"Ref":"Shop"},"EventSourceArn":`+fmt.Sprintf(ref, "Orders")+`}},`+
		`"Hourly":{"Type":"AWS::Scheduler::Schedule","Properties":{"Target":{"Arn":`+fmt.Sprintf(ref, "Forwarder")+`,"DeadLetterConfig":{"Arn":`+fmt.Sprintf(ref, "Late")+`}}}}}}`), "S")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(parsed.Queues())), []string{"DeadLetters", "Direct", "Events", "Late"}; !slices.Equal(got, want) {
		t.Errorf("queues %q, want %q", got, want)
	}
}

// TestQueuesOfSnapshotsAreOurs fails if a template has a queue that no function of ours leads to.
func TestQueuesOfSnapshotsAreOurs(t *testing.T) {
	for _, name := range []string{"defaults", "self-managed", "everything-on"} {
		all, err := assembly.Read("../../../../test/templates/testdata/"+name+".json", "")
		if err != nil {
			t.Fatal(err)
		}
		ours := all[0].Queues()
		for _, r := range all[0].Resources {
			if r.Type == "AWS::SQS::Queue" && !ours[r.LogicalID] {
				t.Errorf("%s: the queue %s is not found", name, r.LogicalID)
			}
		}
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
