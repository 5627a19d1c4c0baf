package schema_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

func validate(t *testing.T, resourceType, properties string) error {
	t.Helper()
	var p map[string]any
	if err := json.Unmarshal([]byte(properties), &p); err != nil {
		t.Fatal(err)
	}
	return schema.Validate(resourceType, p)
}

func TestValidProperties(t *testing.T) {
	for _, tt := range [][2]string{
		{"AWS::SQS::Queue", `{}`},
		{"AWS::SQS::Queue", `{"Tags":[{"Key":"k","Value":""}],"DelaySeconds":"3","FifoQueue":"false","RedrivePolicy":"{\"deadLetterTargetArn\":\"arn:q\",\"maxReceiveCount\":\"3\"}"}`},
		{"AWS::CloudWatch::Alarm", `{"ComparisonOperator":"GreaterThanThreshold","EvaluationPeriods":1,"Threshold":"1e3","AlarmDescription":12}`},
		{"AWS::IAM::Policy", `{"PolicyName":"p","Roles":["r"],"PolicyDocument":"{\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"a:*\",\"Resource\":[\"*\"]}}"}`},
		{"AWS::IoT::SecurityProfile", `{"AlertTargets":{"SNS":{"AlertTargetArn":"arn:aws:sns:us-east-1:123456789012:t","RoleArn":"arn:aws-us-gov:iam::123456789012:role/r"}}}`},
		{"AWS::CloudFormation::Stack", `{"TemplateURL":"https://x","Parameters":{"Size":"3"}}`},
	} {
		if err := validate(t, tt[0], tt[1]); err != nil {
			t.Errorf("%s %s: %v", tt[0], tt[1], err)
		}
	}
}

func TestErrorsNameTheViolation(t *testing.T) {
	metric := func(more string) string {
		return `{"ComparisonOperator":"LessThanThreshold","EvaluationPeriods":1,` + more + `}`
	}
	for _, tt := range [][3]string{
		{"AWS::IoT::ScheduledAudit", `{"Frequency":"DAILY"}`, "#: required key [TargetCheckNames] not found"},
		{"AWS::SQS::Queue", `{"Colour":"red"}`, "#: extraneous key [Colour] is not permitted"},
		{"AWS::IoT::ScheduledAudit", `{"Frequency":"MAYBE","TargetCheckNames":[]}`, "#/Frequency: MAYBE: value must be one of 'DAILY', 'WEEKLY', 'BIWEEKLY', 'MONTHLY'"},
		{"AWS::IoT::CustomMetric", `{"MetricName":"","MetricType":"number"}`, "#/MetricName: : minLength: got 0, want 1"},
		{"AWS::IoT::CustomMetric", `{"MetricName":"` + strings.Repeat("a", 129) + `","MetricType":"number"}`, "maxLength: got 129, want 128"},
		{"AWS::IoT::CustomMetric", `{"MetricName":"a b","MetricType":"number"}`, "#/MetricName: a b: 'a b' does not match pattern"},
		{"AWS::IoT::CustomMetric", `{"MetricName":["abc"],"MetricType":"number"}`, "#/MetricName: got array, want string"},
		{"AWS::SQS::Queue", `{"DelaySeconds":901}`, "#/DelaySeconds: 901: maximum: got 901, want 900"},
		{"AWS::SQS::Queue", `{"DelaySeconds":1.5}`, "#/DelaySeconds: 1.5: got number, want integer"},
		{"AWS::SQS::Queue", `{"DelaySeconds":null}`, "#/DelaySeconds: got null, want integer"},
		{"AWS::CloudWatch::Alarm", metric(`"Threshold":"NaN"`), "#/Threshold: NaN: got string, want number"},
		{"AWS::SQS::Queue", `{"FifoQueue":"yes"}`, "#/FifoQueue: yes: got string, want boolean"},
		{"AWS::IoT::TopicRule", `{"TopicRulePayload":{"Sql":"","Actions":[{"Sqs":{"RoleArn":"r","QueueUrl":"sqs"}}]}}`, "#/TopicRulePayload/Actions/0/Sqs/QueueUrl: sqs: 'sqs' does not match"},
		{"AWS::IoT::Dimension", `{"Type":"TOPIC_FILTER","StringValues":[]}`, "#/StringValues: minItems: got 0, want 1"},
		{"AWS::IoT::ScheduledAudit", `{"Frequency":"DAILY","TargetCheckNames":["a","a"]}`, "#/TargetCheckNames: items at 0 and 1 are equal"},
		{"AWS::IoT::ScheduledAudit", `{"Frequency":"DAILY","TargetCheckNames":"a"}`, "#/TargetCheckNames: a: got string, want array"},
		{"AWS::KMS::Key", `{"KeyPolicy":"{"}`, "#/KeyPolicy: {: got string, want object"},
		{"AWS::IoT::SecurityProfile", `{"MetricsExportConfig":{"MqttTopic":"t"}}`, "#/MetricsExportConfig: required key [RoleArn] not found"},
		{"AWS::IoT::SecurityProfile", `{"MetricsExportConfig":true}`, "#/MetricsExportConfig: true: got boolean, want object"},
		{"AWS::IoT::TopicRule", `{"TopicRulePayload":{"Sql":"","Actions":[{}]}}`, "#/TopicRulePayload/Actions/0: minProperties: got 0, want 1"},
		{"AWS::IoT::TopicRule", `{"TopicRulePayload":{"Sql":"","Actions":[{"Pigeon":{}}]}}`, "#/TopicRulePayload/Actions/0: extraneous key [Pigeon] is not permitted"},
		{"AWS::IoT::SecurityProfile", `{"AlertTargets":{"SQS":{}}}`, "#/AlertTargets: extraneous key [SQS] is not permitted"},
		{"AWS::SQS::Queue", `{"RedrivePolicy":"{"}`, "#/RedrivePolicy: {: got string, want object"},
		{"AWS::SQS::Queue", `{"RedrivePolicy":"{\"Min\":1}"}`, "#/RedrivePolicy: extraneous key [Min] is not permitted"},
		{"AWS::SQS::Queue", `{"Tags":[{"Key":"only"}]}`, "#/Tags/0: required key [Value] not found"},
		{"AWS::IAM::Policy", `{"PolicyName":"p","PolicyDocument":{"Statement":[]}}`, "#/PolicyDocument/Statement: minItems: got 0, want 1"},
		{"AWS::IAM::Policy", `{"PolicyName":"p","PolicyDocument":{"Statement":{"Effect":"Deny","Action":{}}}}`, "#/PolicyDocument/Statement/Action: got object, want string or array"},
	} {
		if err := validate(t, tt[0], tt[1]); err == nil || !strings.Contains(err.Error(), tt[2]) {
			t.Errorf("%s %.200s: got %v, want %q", tt[0], tt[1], err, tt[2])
		}
	}
}

func TestAllViolationsAreReportedAtOnce(t *testing.T) {
	err := validate(t, "AWS::KMS::Key", `{"PendingWindowInDays":0,"Extra":"x"}`)
	for _, want := range []string{"[KeyPolicy] not found", "#/PendingWindowInDays", "[Extra]"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

var update = flag.Bool("update", false, "rewrite aws.json from the installed cfn-lint")

// TestSchemasAreThoseOfCfnLint compares with the pinned cfn-lint, if it is installed. -update
// rewrites aws.json with the types of local.json.
func TestSchemasAreThoseOfCfnLint(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	pins, err := os.ReadFile(filepath.Join(root, "test", "templates", "requirements.txt"))
	if err != nil {
		t.Fatal(err)
	}
	pinned := regexp.MustCompile(`cfn-lint==(\S+)`).FindSubmatch(pins)[1]
	const probe = `import importlib.metadata, importlib.util, os
print(importlib.metadata.version("cfn-lint"), os.path.dirname(importlib.util.find_spec("cfnlint").origin))`
	var dir string
	for _, python := range []string{filepath.Join(root, ".local", "cfn-lint", "bin", "python"), "python3"} {
		out, _ := exec.CommandContext(t.Context(), python, "-c", probe).Output()
		if version, where, _ := strings.Cut(strings.TrimSpace(string(out)), " "); version == string(pinned) && dir == "" {
			dir = filepath.Join(where, "data", "schemas")
		}
	}
	if dir == "" {
		t.Skipf("cfn-lint %s is not installed: make cfn-lint installs it", pinned)
	}
	index, err := os.ReadFile(filepath.Join(dir, "providers", "us_east_1.py"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, m := range regexp.MustCompile(`"(AWS::[^"]+)": "([0-9a-f]+)"`).FindAllSubmatch(index, -1) {
		files[string(m[1])] = string(m[2]) + ".json"
	}
	text, err := os.ReadFile("local.json")
	if err != nil {
		t.Fatal(err)
	}
	var wanted map[string]any
	if err := json.Unmarshal(text, &wanted); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for name := range wanted {
		text, err := os.ReadFile(filepath.Join(dir, "resources", files[name]))
		if err != nil {
			t.Fatal(err)
		}
		var document any
		if err := json.Unmarshal(text, &document); err != nil {
			t.Fatal(err)
		}
		compact, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%q: %s", name, compact))
	}
	slices.Sort(lines)
	all := "{\n" + strings.Join(lines, ",\n") + "\n}\n"
	if *update {
		if err := os.WriteFile("aws.json", []byte(all), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile("aws.json"); err != nil || string(have) != all {
		t.Errorf("aws.json is not what cfn-lint %s has: run go test ./schema -update and read the difference (%v)", pinned, err)
	}
}
