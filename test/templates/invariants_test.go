package templates

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
)

// token matches the CDK's placeholder for a value that is known at deployment, even if code
// changed its case, cut it, or formatted it as a number.
var token = regexp.MustCompile(`(?i)token\[|-1\.888154589\d*e\+?289|-9223372036854775808`)

// TestInvariants checks the invariants of every resource of every stack.
func TestInvariants(t *testing.T) {
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			text, tpl := synth(t, s.name, s.build)
			if found := token.Find(text); found != nil {
				t.Errorf("an unresolved token is in the template: %s", found)
			}
			if strings.Contains(string(text), `"arn:aws:`) && s.name != "aws-cn" || strings.Contains(string(text), `:arn:aws:`) {
				t.Error("an ARN names the partition aws instead of AWS::Partition")
			}
			for _, id := range slices.Sorted(maps.Keys(tpl.Resources)) {
				r := tpl.Resources[id]
				for _, rule := range invariants {
					if rule.about == r.Type || rule.about == "" {
						if fault := rule.broken(tpl, id, r); fault != "" {
							t.Errorf("%s (%s): %s", id, r.Type, fault)
						}
					}
				}
			}
		})
	}
}

// TestAssetsHoldNoTokens searches every file of every asset.
func TestAssetsHoldNoTokens(t *testing.T) {
	searched := 0
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			root := os.DirFS(*awscdk.Stage_Of(s.build()).Synth(nil).Directory())
			err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() || !strings.HasPrefix(path, "asset.") {
					return err
				}
				searched++
				content, err := fs.ReadFile(root, path)
				if found := token.Find(content); found != nil {
					t.Errorf("an unresolved token is in %s: %s", path, found)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	if searched == 0 {
		t.Error("no stack has an asset")
	}
}

// TestEnvironmentsAreTextOrReferences checks that every variable of a function is a text known at
// synthesis, or one reference that CloudFormation resolves as a whole.
func TestEnvironmentsAreTextOrReferences(t *testing.T) {
	searched := 0
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			_, tpl := synth(t, s.name, s.build)
			for _, id := range slices.Sorted(maps.Keys(tpl.Resources)) {
				environment, _ := tpl.Resources[id].Properties["Environment"].(map[string]any)
				variables, _ := environment["Variables"].(map[string]any)
				for name, value := range variables {
					searched++
					if found := token.FindString(toJSON(value)); found != "" {
						t.Errorf("an unresolved token is in %s of %s: %s", name, id, found)
					}
					if _, isText := value.(string); !isText && attributeOf(value) == "" && !strings.HasPrefix(toJSON(value), `{"Fn::`) {
						t.Errorf("%s of %s is %s, want a text or one reference", name, id, toJSON(value))
					}
				}
			}
		})
	}
	if searched == 0 {
		t.Error("no function has a variable")
	}
}

var invariants = []struct {
	about  string
	broken func(tpl template, id string, r resource) string
}{
	{"", physicalName},
	{"AWS::IAM::Role", roleTrust},
	{"AWS::IAM::Role", managedPolicies},
	{"AWS::IAM::Role", func(_ template, _ string, r resource) string { return statements(r.Properties["Policies"]) }},
	{"AWS::IAM::Policy", func(_ template, _ string, r resource) string { return statements(r.Properties["PolicyDocument"]) }},
	{"AWS::SQS::QueuePolicy", func(_ template, _ string, r resource) string { return servicesFrom(r.Properties["PolicyDocument"]) }},
	{"AWS::SNS::TopicPolicy", func(_ template, _ string, r resource) string { return servicesFrom(r.Properties["PolicyDocument"]) }},
	{"AWS::KMS::Key", func(_ template, _ string, r resource) string { return servicesFrom(r.Properties["KeyPolicy"]) }},
	{"AWS::Lambda::Permission", func(_ template, _ string, r resource) string {
		if r.Properties["SourceArn"] == nil {
			return fmt.Sprintf("%v may invoke the function for any source", r.Properties["Principal"])
		}
		return ""
	}},
	{"AWS::SQS::Queue", func(tpl template, id string, r resource) string {
		if r.Properties["KmsMasterKeyId"] == nil && r.Properties["SqsManagedSseEnabled"] != true {
			return "not encrypted"
		}
		return tlsOnly(tpl, id, "AWS::SQS::QueuePolicy", "Queues")
	}},
	{"AWS::SNS::Topic", func(tpl template, id string, r resource) string {
		if r.Properties["KmsMasterKeyId"] == nil {
			return "not encrypted"
		}
		return tlsOnly(tpl, id, "AWS::SNS::TopicPolicy", "Topics")
	}},
	{"AWS::SNS::Subscription", func(tpl template, _ string, r resource) string {
		if r.Properties["Protocol"] != "sqs" {
			return ""
		}
		return maySend(tpl, "sns.amazonaws.com", "AWS::SQS::QueuePolicy", "Queues", attributeOf(r.Properties["Endpoint"]), false)
	}},
	{"AWS::CloudWatch::Alarm", func(tpl template, _ string, r resource) string {
		var faults []string
		for _, action := range list(r.Properties["AlarmActions"]) {
			faults = append(faults, maySend(tpl, "cloudwatch.amazonaws.com", "AWS::SNS::TopicPolicy", "Topics", attributeOf(action), true))
		}
		return strings.Join(faults, "")
	}},
	{"AWS::KMS::Key", func(_ template, _ string, r resource) string {
		if r.Properties["EnableKeyRotation"] != true {
			return "no key rotation"
		}
		return ""
	}},
	{"AWS::DynamoDB::Table", func(_ template, _ string, r resource) string {
		sse, _ := r.Properties["SSESpecification"].(map[string]any)
		if sse["SSEEnabled"] != true {
			return "not encrypted with a key in KMS"
		}
		if r.Properties["BillingMode"] != "PAY_PER_REQUEST" {
			return "costs money at rest"
		}
		return ""
	}},
	{"AWS::Logs::LogGroup", func(_ template, _ string, r resource) string {
		if r.Properties["RetentionInDays"] == nil {
			return "keeps logs forever"
		}
		return ""
	}},
	{"AWS::Lambda::Function", func(_ template, _ string, r resource) string {
		switch {
		case r.Properties["Runtime"] != "provided.al2023":
			return fmt.Sprintf("runtime %v", r.Properties["Runtime"])
		case r.Properties["ReservedConcurrentExecutions"] != nil:
			return "reserves concurrency, which a fresh account refuses"
		case r.Properties["LoggingConfig"] == nil:
			return "logs to a group without retention"
		}
		return ""
	}},
	{"AWS::Lambda::EventSourceMapping", func(_ template, _ string, r resource) string {
		if !strings.Contains(toJSON(r.Properties["FunctionResponseTypes"]), "ReportBatchItemFailures") {
			return "one bad message makes the whole batch retry"
		}
		return ""
	}},
	{"AWS::IoT::TopicRule", topicRule},
	{"AWS::Kinesis::Stream", func(_ template, _ string, r resource) string {
		if encryption, _ := r.Properties["StreamEncryption"].(map[string]any); encryption["EncryptionType"] != "KMS" {
			return "not encrypted"
		}
		return ""
	}},
	{"AWS::Scheduler::Schedule", func(_ template, _ string, r resource) string {
		if target := toJSON(r.Properties["Target"]); !strings.Contains(target, `"DeadLetterConfig"`) || !strings.Contains(target, `"RetryPolicy"`) {
			return "loses undeliverable events, or retries them for a day"
		}
		return ""
	}},
	{"AWS::Events::Rule", func(_ template, _ string, r resource) string {
		targets := toJSON(r.Properties["Targets"])
		switch {
		case r.Properties["EventPattern"] == nil:
			return ""
		case !strings.Contains(targets, `"DeadLetterConfig"`):
			return "loses events that it cannot deliver"
		case !strings.Contains(toJSON(r.Properties["EventPattern"]), `"Security Hub Findings - Imported"`):
			return "matches other events than findings"
		}
		return ""
	}},
	{"AWS::Scheduler::Schedule", func(tpl template, _ string, r resource) string { return invokes(tpl, r.Properties["Target"]) }},
	{"AWS::Events::Rule", func(tpl template, _ string, r resource) string { return invokes(tpl, r.Properties["Targets"]) }},
	{"AWS::CloudWatch::Alarm", alarm},
	{"AWS::Lambda::Function", recursion},
	{"AWS::IoT::ScheduledAudit", func(tpl template, _ string, r resource) string {
		for _, d := range r.DependsOn {
			if tpl.Resources[d].Type == "AWS::IoT::AccountAuditConfiguration" {
				return ""
			}
		}
		for _, other := range tpl.Resources {
			if other.Type == "AWS::IoT::AccountAuditConfiguration" {
				return "does not depend on the account audit configuration"
			}
		}
		return ""
	}},
}

// invokes checks that each schedule that invokes a function sets its retries: by default Lambda
// tries three times, and queues the event for up to six hours.
func invokes(tpl template, targets any) string {
	text := toJSON(targets)
	for id, r := range tpl.Resources {
		if r.Type != "AWS::Lambda::Function" || !strings.Contains(text, `"`+id+`"`) {
			continue
		}
		configured := false
		for _, c := range tpl.Resources {
			configured = configured || c.Type == "AWS::Lambda::EventInvokeConfig" && strings.Contains(toJSON(c.Properties["FunctionName"]), `"`+id+`"`) &&
				c.Properties["MaximumRetryAttempts"] != nil && c.Properties["MaximumEventAgeInSeconds"] != nil
		}
		if !configured {
			return "invokes " + id + " with Lambda's default retries"
		}
	}
	return ""
}

// recursion checks that exactly the functions that may send to a queue that invokes them can do so
// more than 16 times: Lambda drops what it takes for an endless loop, unless the function allows it.
// https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
func recursion(tpl template, id string, r resource) string {
	role, loops := attributeOf(r.Properties["Role"]), ""
	for _, mapping := range tpl.Resources {
		if mapping.Type != "AWS::Lambda::EventSourceMapping" || attributeOf(mapping.Properties["FunctionName"]) != id {
			continue
		}
		source := toJSON(mapping.Properties["EventSourceArn"])
		for _, policy := range tpl.Resources {
			if policy.Type != "AWS::IAM::Policy" || !strings.Contains(toJSON(policy.Properties["Roles"]), `"`+role+`"`) {
				continue
			}
			for _, s := range statementList(policy.Properties["PolicyDocument"]) {
				if strings.Contains(toJSON(s["Action"]), `"sqs:SendMessage"`) && strings.Contains(toJSON(s["Resource"]), source) {
					loops = source
				}
			}
		}
	}
	switch allowed := r.Properties["RecursiveLoop"]; {
	case loops != "" && allowed != "Allow":
		return "sends to " + loops + ", which invokes it, and Lambda stops that after 16 rounds"
	case loops == "" && allowed != nil:
		return fmt.Sprintf("RecursiveLoop is %v, and the function does not send to its own queue", allowed)
	}
	return ""
}

// alarm checks that missing data raises an alarm only if something must happen regularly, and
// that the description links to help.
func alarm(_ template, _ string, r resource) string {
	wanted := map[any]any{"GreaterThanThreshold": "notBreaching", "LessThanThreshold": "breaching"}[r.Properties["ComparisonOperator"]]
	if got := r.Properties["TreatMissingData"]; wanted == nil || got != wanted {
		return fmt.Sprintf("%v, and missing data is %v", r.Properties["ComparisonOperator"], got)
	}
	if description, _ := r.Properties["AlarmDescription"].(string); !strings.HasSuffix(description, "/docs/operations.md#alarms") {
		return fmt.Sprintf("has no link to help: %q", description)
	}
	return ""
}

// physicalName forbids names, because two copies must fit in one account. In the stack
// everything-on the scheduled audit has a name from the props.
func physicalName(_ template, _ string, r resource) string {
	for _, name := range []string{
		"QueueName", "TopicName", "FunctionName", "TableName", "RoleName", "RuleName", "SecurityProfileName", "ScheduledAuditName",
		"AlarmName", "LogGroupName", "PolicyName", "ManagedPolicyName", "Name", "DimensionName",
	} {
		v := r.Properties[name]
		text, isText := v.(string)
		reference := !isText || r.Type == "AWS::IAM::Policy" || text == "fleet-audit" // IAM requires a name for an inline policy, unique in its role
		if r.Type == "AWS::Lambda::EventInvokeConfig" || r.Type == "AWS::IoT::CustomMetric" {
			reference = true // here FunctionName is a reference; devices report a custom metric by its name
		}
		if r.Type == "AWS::SecurityHub::Insight" {
			reference = true // an insight requires a name; no AWS page says that it must be unique (unverified)
		}
		if !reference {
			return fmt.Sprintf("has the physical name %s %v", name, v)
		}
	}
	return ""
}

func topicRule(tpl template, _ string, r resource) string {
	payload, _ := r.Properties["TopicRulePayload"].(map[string]any)
	if payload["AwsIotSqlVersion"] != "2016-03-23" {
		return fmt.Sprintf("SQL version %v", payload["AwsIotSqlVersion"])
	}
	if strings.Contains(toJSON(payload["Sql"]), "get_or_default") {
		return "get_or_default does not work for a payload that is not JSON, and nothing reports SQL that fails"
	}
	action, failed := toJSON(payload["Actions"]), toJSON(payload["ErrorAction"])
	if failed == "null" {
		return "no error action"
	}
	if strings.Contains(action, failed) {
		return "the error action has the target of the action"
	}
	for _, d := range r.DependsOn {
		if tpl.Resources[d].Type == "AWS::IAM::Policy" {
			return ""
		}
	}
	return "does not wait for its role's policy"
}

// attributeOf returns the logical ID that an intrinsic function refers to.
func attributeOf(v any) string {
	m, _ := v.(map[string]any)
	if id, ok := m["Ref"].(string); ok {
		return id
	}
	of, _ := m["Fn::GetAtt"].([]any)
	if len(of) == 0 {
		return ""
	}
	id, _ := of[0].(string)
	return id
}

func list(v any) []any {
	if l, ok := v.([]any); ok {
		return l
	}
	if v == nil {
		return nil
	}
	return []any{v}
}

func toJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
