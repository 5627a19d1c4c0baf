package localaws_test

import (
	"archive/zip"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/defenderhub/defenderhub/test/localaws"
	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
)

// start starts a bootstrapped cloud that stops with the test.
func start(t *testing.T) (context.Context, *localaws.Cloud) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	t.Cleanup(cancel)
	cloud, err := localaws.Start(ctx, localaws.Options{Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Stop)
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(cloud.Dir(), "*.log")) // of the emulator, the CLI and each function
			for _, name := range logs {
				text, _ := os.ReadFile(name)
				t.Logf("%s:\n%s", filepath.Base(name), text[max(0, len(text)-4000):])
			}
		}
	})
	if err := cloud.Bootstrap(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx, cloud
}

// assembly writes a synthesized CDK app with one stack and with the function's code, and returns its directory.
func assembly(t *testing.T, stack string, template []byte, function string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, value any) {
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), encoded, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	type object = map[string]any
	files := object{}
	if function != "" {
		files["function"] = object{
			"displayName": "function", "source": object{"path": function, "packaging": "file"},
			"destinations": object{"current": object{"bucketName": "cdk-hnb659fds-assets-" + localaws.AccountID + "-us-east-1", "objectKey": "function.zip"}},
		}
	}
	write(stack+".template.json", json.RawMessage(template))
	write(stack+".assets.json", object{"version": "48.0.0", "files": files})
	write("manifest.json", object{"version": "48.0.0", "artifacts": object{
		stack + ".assets": object{"type": "cdk:asset-manifest", "properties": object{"file": stack + ".assets.json"}},
		stack: object{
			"type": "aws:cloudformation:stack", "environment": "aws://unknown-account/unknown-region", "dependencies": []string{stack + ".assets"},
			"properties": object{"templateFile": stack + ".template.json", "stackName": stack},
		},
	}})
	return dir
}

// functionZip returns the path of a zip with the code of the tests' function and a file.
func functionZip(t *testing.T) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "function.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	archive := zip.NewWriter(f)
	for name, content := range map[string][]byte{"bootstrap": binary, "settings.json": []byte(`{"greeting":"hi"}`)} {
		entry, err := archive.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := entry.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// deploySample deploys a template of testdata, with the function of the tests.
func deploySample(t *testing.T, name string) (context.Context, *localaws.Cloud, map[string]string) {
	t.Helper()
	template, err := os.ReadFile("testdata/" + name + ".template.json")
	if err != nil {
		t.Fatal(err)
	}
	zipped := functionZip(t)
	ctx, cloud := start(t)
	if _, err := cloud.Deploy(ctx, t.TempDir(), nil, "--app", assembly(t, "Sample", template, zipped)); err != nil {
		t.Fatal(err)
	}
	return ctx, cloud, stackOutputs(t, cloud)
}

func TestDeployment(t *testing.T) {
	t.Parallel()
	ctx, cloud, outputs := deploySample(t, "sample")
	t.Run("Ref and GetAtt have AWS's values", func(t *testing.T) { checkOutputs(t, outputs) })
	t.Run("inert resources are listed", func(t *testing.T) {
		lines := strings.Join(cloud.Inert(), "\n")
		if !strings.Contains(lines, "AWS::IoT::SecurityProfile") {
			t.Errorf("the list of inert resources lacks AWS::IoT::SecurityProfile:\n%s", lines)
		}
		for _, works := range []string{"AWS::SNS::Subscription", "AWS::CloudWatch::Alarm", "AWS::Scheduler::Schedule", "AWS::SecurityHub::ProductSubscription"} {
			if strings.Contains(lines, works) {
				t.Errorf("the list of inert resources has %s, which works:\n%s", works, lines)
			}
		}
	})
	t.Run("deployed resources can be read back", func(t *testing.T) { checkServices(t, cloud, outputs) })
	t.Run("messages reach the function, and failed ones the dead-letter queue", func(t *testing.T) { checkDelivery(t, ctx, cloud, outputs) })
	t.Run("the function can be invoked", func(t *testing.T) { checkInvoke(t, cloud, outputs["FunctionArn"]) })
	t.Run("unsupported resources are refused", func(t *testing.T) { checkRefusals(t, ctx, cloud, outputs["FunctionArn"]) })
	t.Run("a role has the permissions of its policies", func(t *testing.T) { checkPermissions(t, cloud, outputs) })
}

func stackOutputs(t *testing.T, cloud *localaws.Cloud) map[string]string {
	t.Helper()
	stacks, err := cloudformation.NewFromConfig(cloud.Config()).DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: aws.String("Sample")})
	if err != nil {
		t.Fatal(err)
	}
	outputs := map[string]string{}
	for _, o := range stacks.Stacks[0].Outputs {
		outputs[*o.OutputKey] = *o.OutputValue
	}
	return outputs
}

func checkOutputs(t *testing.T, outputs map[string]string) {
	const account = localaws.AccountID
	for key, pattern := range map[string]string{
		"SubscriptionArn":        `arn:aws:sns:us-east-1:` + account + `:Sample-Topic-\w+:[0-9a-f-]{36}`,
		"Greeting":               `hello fleet 2`,
		"GreetingId":             `greeting-fleet`,
		"RuleArn":                `arn:aws:iot:us-east-1:` + account + `:rule/Sample_Rule_\w+`,
		"GroupArn":               `arn:aws:iot:us-east-1:` + account + `:thinggroup/cameras`,
		"PolicyName":             `Sample-Policy-\w+`,
		"Thing":                  `camera-1`,
		"AuditArn":               `arn:aws:iot:us-east-1:` + account + `:scheduledaudit/Sample-Audit-\w+`,
		"ProfileArn":             `arn:aws:iot:us-east-1:` + account + `:securityprofile/Sample-Profile-\w+`,
		"HubArn":                 `arn:aws:securityhub:us-east-1:` + account + `:hub/default`,
		"ProductSubscriptionArn": `arn:aws:securityhub:us-east-1:` + account + `:product-subscription/aws/iot-device-defender-audit`,
		"AlarmArn":               `arn:aws:cloudwatch:us-east-1:` + account + `:alarm:Sample-Alarm-\w+`,
		"ScheduleArn":            `arn:aws:scheduler:us-east-1:` + account + `:schedule/default/Sample-Schedule-\w+`,
	} {
		if !regexp.MustCompile("^" + pattern + "$").MatchString(outputs[key]) {
			t.Errorf("output %s is %q, want %s", key, outputs[key], pattern)
		}
	}
}

func checkServices(t *testing.T, cloud *localaws.Cloud, outputs map[string]string) {
	things := iot.NewFromConfig(cloud.Config())
	rules, err := things.ListTopicRules(t.Context(), &iot.ListTopicRulesInput{})
	if err != nil || len(rules.Rules) != 1 {
		t.Fatalf("topic rules %v, error %v", rules, err)
	}
	rule, err := things.GetTopicRule(t.Context(), &iot.GetTopicRuleInput{RuleName: rules.Rules[0].RuleName})
	if err != nil || len(rule.Rule.Actions) != 1 || aws.ToString(rule.Rule.Actions[0].Sqs.QueueUrl) != outputs["IngestUrl"] {
		t.Errorf("topic rule %+v, error %v", rule, err)
	}
	group, err := things.DescribeThingGroup(t.Context(), &iot.DescribeThingGroupInput{ThingGroupName: aws.String("cameras")})
	if err != nil || group.ThingGroupProperties.AttributePayload.Attributes["Site"] != "North" {
		t.Errorf("thing group %+v, error %v", group, err)
	}
	if _, err := things.GetPolicy(t.Context(), &iot.GetPolicyInput{PolicyName: aws.String(outputs["PolicyName"])}); err != nil {
		t.Error(err)
	}
	hub := securityhub.NewFromConfig(cloud.Config())
	products, err := hub.ListEnabledProductsForImport(t.Context(), &securityhub.ListEnabledProductsForImportInput{})
	if err != nil || !slices.Contains(products.ProductSubscriptions, outputs["ProductSubscriptionArn"]) {
		t.Errorf("product subscriptions %+v, error %v", products, err)
	}
	attributes, err := sqs.NewFromConfig(cloud.Config()).GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(outputs["IngestUrl"]), AttributeNames: []types.QueueAttributeName{types.QueueAttributeNamePolicy},
	})
	if err != nil || !strings.Contains(attributes.Attributes["Policy"], "FromTopic") {
		t.Errorf("queue attributes %v, error %v", attributes, err)
	}
}

func checkDelivery(t *testing.T, ctx context.Context, cloud *localaws.Cloud, outputs map[string]string) {
	topics, queues := sns.NewFromConfig(cloud.Config()), sqs.NewFromConfig(cloud.Config())
	send := func(queue, body string) {
		t.Helper()
		if _, err := queues.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: aws.String(outputs[queue]), MessageBody: &body}); err != nil {
			t.Fatal(err)
		}
		if err := cloud.Drained(ctx); err != nil {
			t.Fatal(err)
		}
	}
	// A failed message is retried after the visibility timeout, by the machine's clock. So make it
	// short, but not for the first message, which waits for the function's start: the poll that
	// receives it began before and uses the old timeout.
	if _, err := queues.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: aws.String(outputs["IngestUrl"]), Attributes: map[string]string{"VisibilityTimeout": "1"}}); err != nil {
		t.Fatal(err)
	}
	send("IngestUrl", "first")
	for _, body := range []string{"one", "fail", "two"} {
		if _, err := topics.Publish(ctx, &sns.PublishInput{TopicArn: aws.String(outputs["TopicArn"]), Message: aws.String(body)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := cloud.Drained(ctx); err != nil {
		t.Fatal(err)
	}
	if got := receiveAll(t, queues, outputs["OutputUrl"]); !slices.Equal(got, []string{"first", "one", "two"}) {
		t.Errorf("the function sent on %v, want each good message once", got)
	}
	if got := receiveAll(t, queues, outputs["DeadLettersUrl"]); !slices.Equal(got, []string{"fail"}) {
		t.Errorf("dead letters are %v, want the failed message", got)
	}
	// A function that exits or hangs gets a new environment for the next message.
	for queue, body := range map[string]string{"IngestUrl": "panic", "NapsUrl": "sleep"} {
		send(queue, body)
		if got := receiveAll(t, queues, outputs["DeadLettersUrl"]); !slices.Equal(got, []string{body}) {
			t.Errorf("dead letters are %v, want %s", got, body)
		}
	}
}

// receiveAll empties a queue that has no other reader, and returns the bodies, sorted.
func receiveAll(t *testing.T, queues *sqs.Client, url string) []string {
	t.Helper()
	var bodies []string
	for {
		out, err := queues.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			slices.Sort(bodies)
			return bodies
		}
		for _, m := range out.Messages {
			bodies = append(bodies, *m.Body)
			if _, err := queues.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: m.ReceiptHandle}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func checkInvoke(t *testing.T, cloud *localaws.Cloud, arn string) {
	client := lambda.NewFromConfig(cloud.Config())
	out, err := client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &arn, Payload: []byte(`{"Records":[{"messageId":"m1","body":"fail"}]}`)})
	if err != nil || string(out.Payload) != `{"batchItemFailures":[{"itemIdentifier":"m1"}]}` || out.FunctionError != nil {
		t.Errorf("answer %s, function error %v, error %v", out.Payload, out.FunctionError, err)
	}
	if out, err = client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String(arn[strings.LastIndex(arn, ":")+1:]), Payload: []byte(`[]`)}); err != nil || aws.ToString(out.FunctionError) != "Unhandled" {
		t.Errorf("an unreadable event answers %s, %v, error %v", out.Payload, out.FunctionError, err)
	}
}

func checkRefusals(t *testing.T, ctx context.Context, cloud *localaws.Cloud, function string) {
	const unknown = `{"Resources":{"Fleet":{"Type":"AWS::IoTFleetHub::Application"}}}`
	const named = "Fleet the local AWS has no provider for resource type AWS::IoTFleetHub::Application" // as the CLI lists it
	out, err := cloud.Deploy(ctx, t.TempDir(), nil, "--app", assembly(t, "Unknown", []byte(unknown), ""))
	if err == nil || !strings.Contains(out, named) {
		t.Errorf("unknown type: error %v, output:\n%s\nwant %q", err, out, named)
	}
	for name, tt := range map[string]struct{ template, want string }{
		"IgnoredByTheEmulator": {
			`{"Resources":{"Wait":{"Type":"AWS::CloudFormation::WaitConditionHandle"}}}`,
			"no provider for resource type AWS::CloudFormation::WaitConditionHandle",
		},
		"WithoutEffectInTheEmulator": {
			`{"Resources":{"Alias":{"Type":"AWS::IoT::RoleAlias","Properties":{"RoleArn":"arn:aws:iam::123456789012:role/r"}}}}`,
			"no provider for resource type AWS::IoT::RoleAlias",
		},
		"IgnoredProperty": {
			`{"Resources":{"Bucket":{"Type":"AWS::S3::Bucket","Properties":{"NotificationConfiguration":{"EventBridgeConfiguration":{"EventBridgeEnabled":true}}}}}}`,
			"Bucket (AWS::S3::Bucket): properties validation failed: #: extraneous key [NotificationConfiguration] is not permitted",
		},
		"MisspeltProperty": {
			`{"Resources":{"Queue":{"Type":"AWS::SQS::Queue","Properties":{"VisibilityTimout":60}}}}`,
			"Queue (AWS::SQS::Queue): properties validation failed: #: extraneous key [VisibilityTimout] is not permitted",
		},
		"BadProperty": {
			`{"Resources":{"Rule":{"Type":"AWS::IoT::TopicRule","Properties":{"RuleName":"my-rule","TopicRulePayload":{"Sql":"SELECT 1","Actions":[]}}}}}`,
			"#/RuleName: my-rule: 'my-rule' does not match pattern",
		},
		"NoSuchAttribute": {
			`{"Resources":{"Thing":{"Type":"AWS::IoT::Thing"},"Queue":{"Type":"AWS::SQS::Queue","Properties":{"QueueName":{"Fn::GetAtt":["Thing","Colour"]}}}}}`,
			"Thing (AWS::IoT::Thing) has no attribute Colour",
		},
		"ExistingAuditConfiguration": {
			`{"Resources":{"Audit":{"Type":"AWS::IoT::AccountAuditConfiguration","Properties":{"AccountId":"123456789012","RoleArn":"arn:aws:iam::123456789012:role/r","AuditCheckConfigurations":{}}}}}`,
			"The AccountAuditConfiguration already exists.",
		},
		"ParameterNotInValues": {
			`{"Parameters":{"P":{"Type":"String","Default":"x","AllowedValues":["a","b"]}},"Resources":{"Q":{"Type":"AWS::SQS::Queue"}}}`,
			"Parameter 'P' must be one of AllowedValues",
		},
		"ParameterAgainstPattern": {
			`{"Parameters":{"P":{"Type":"String","Default":"x9","AllowedPattern":"[a-z]"}},"Resources":{"Q":{"Type":"AWS::SQS::Queue"}}}`,
			"Parameter 'P' must match pattern [a-z]",
		},
		"ParameterTooLong": {
			`{"Parameters":{"P":{"Type":"CommaDelimitedList","Default":"ab, abc","MaxLength":2}},"Resources":{"Q":{"Type":"AWS::SQS::Queue"}}}`,
			"Parameter 'P' must contain 0 to 2 characters",
		},
		"ParameterNotANumber": {
			`{"Parameters":{"P":{"Type":"Number","Default":"x"}},"Resources":{"Q":{"Type":"AWS::SQS::Queue"}}}`,
			"Parameter 'P' must be a number",
		},
		"ParameterTooLarge": {
			`{"Parameters":{"P":{"Type":"Number","Default":11,"MaxValue":10}},"Resources":{"Q":{"Type":"AWS::SQS::Queue"}}}`,
			"Parameter 'P' must be a number from any to 10",
		},
		"UnknownFunction": {
			`{"Resources":{"Rule":{"Type":"AWS::Events::Rule","Properties":{"EventPattern":{"source":[{"Fn::Length":["a"]}]}}}}}`,
			"Rule: the local AWS does not support the function Fn::Length there",
		},
		"FunctionWithAnotherKey": {
			`{"Resources":{"Rule":{"Type":"AWS::Events::Rule","Properties":{"EventPattern":{"source":[{"Ref":"AWS::Region","x":"y"}]}}}}}`,
			"Rule: Ref must be the only key of its object",
		},
		"DynamicReference": {
			`{"Resources":{"Rule":{"Type":"AWS::Events::Rule","Properties":{"EventPattern":{"source":["{{resolve:ssm:/source}}"]}}}}}`,
			"the local AWS does not support dynamic references: {{resolve:ssm:/source}}",
		},
		"MisspeltAttribute": {
			`{"Resources":{"Q":{"Type":"AWS::SQS::Queue","DependOn":"X"}}}`,
			"Invalid template resource property 'DependOn'",
		},
		"UnknownDeletionPolicy": {
			`{"Resources":{"Q":{"Type":"AWS::SQS::Queue","DeletionPolicy":"Keep"}}}`,
			"DeletionPolicy of Q is Keep",
		},
		"MisspeltSection": {
			`{"Output":{},"Resources":{"Q":{"Type":"AWS::SQS::Queue"}}}`,
			"Invalid template property or properties [Output]",
		},
		"AliasOfACondition": {
			`{"Conditions":{"A":{"Fn::Equals":["a","a"]},"B":{"Condition":"A"}},"Resources":{"Q":{"Type":"AWS::SQS::Queue"}}}`,
			"condition B: the local AWS supports only",
		},
		"FailingCustomResource": {
			`{"Resources":{"Greeting":{"Type":"Custom::Greeting","Properties":{"Name":"nobody","ServiceToken":"` + function + `"}}}}`,
			"Message returned: invalid argument",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := refusal(t, cloud, name, tt.template); !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %q", got, tt.want)
			}
		})
	}
}

// TestRefusedStackIsRolledBack corrects a stack whose deployment failed, and deploys it again.
func TestRefusedStackIsRolledBack(t *testing.T) {
	t.Parallel()
	ctx, cloud := start(t)
	if err := cloud.Bootstrap(ctx); err != nil { // a second time, as users may
		t.Fatal(err)
	}
	template := func(property string) []byte {
		return []byte(`{"Resources":{"First":{"Type":"AWS::SQS::Queue","Properties":{"QueueName":"first"}},
			"Second":{"Type":"AWS::SQS::Queue","DependsOn":"First","Properties":{"QueueName":"second","` + property + `":60}}},
			"Outputs":{"Arn":{"Value":{"Fn::GetAtt":["Second","Arn"]},"Export":{"Name":"second"}}}}`)
	}
	queues := sqs.NewFromConfig(cloud.Config())
	made := func() int {
		list, err := queues.ListQueues(ctx, &sqs.ListQueuesInput{})
		if err != nil {
			t.Fatal(err)
		}
		return len(list.QueueUrls)
	}
	if _, err := cloud.Deploy(ctx, t.TempDir(), nil, "--app", assembly(t, "Queues", template("VisibilityTimout"), "")); err == nil || !strings.Contains(err.Error(), "[VisibilityTimout]") {
		t.Fatalf("got %v, want an error about [VisibilityTimout]", err)
	}
	if status := stackStatus(t, cloud, "Queues"); status != "ROLLBACK_COMPLETE" {
		t.Errorf("after the refusal the stack is in %s, want ROLLBACK_COMPLETE", status)
	}
	if n := made(); n != 0 {
		t.Errorf("the refused stack left %d queues, want 0", n)
	}
	if out, err := cloud.Deploy(ctx, t.TempDir(), nil, "--app", assembly(t, "Queues", template("VisibilityTimeout"), "")); err != nil {
		t.Fatalf("deploy the corrected stack: %v\n%s", err, out)
	}
	if n := made(); n != 2 {
		t.Errorf("the corrected stack has %d queues, want 2", n)
	}
}

// TestUpdateThatWouldDoNothingIsRefused changes a property that the emulator ignores in an update.
func TestUpdateThatWouldDoNothingIsRefused(t *testing.T) {
	t.Parallel()
	ctx, cloud := start(t)
	stacks := cloudformation.NewFromConfig(cloud.Config())
	template := func(view, expiry string) *string {
		return aws.String(`{"Resources":{"Items":{"Type":"AWS::DynamoDB::Table","Properties":{"TableName":"items","BillingMode":"PAY_PER_REQUEST",
			"StreamSpecification":{"StreamViewType":"` + view + `"},"TimeToLiveSpecification":{"AttributeName":"` + expiry + `","Enabled":true},
			"KeySchema":[{"AttributeName":"pk","KeyType":"HASH"}],"AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"}]}}}}`)
	}
	if _, err := stacks.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: aws.String("Data"), TemplateBody: template("KEYS_ONLY", "until")}); err != nil {
		t.Fatal(err)
	}
	if _, err := stacks.UpdateStack(ctx, &cloudformation.UpdateStackInput{StackName: aws.String("Data"), TemplateBody: template("NEW_IMAGE", "end")}); err != nil {
		t.Fatal(err)
	}
	const want = "Items (AWS::DynamoDB::Table): the local AWS does not update StreamSpecification of AWS::DynamoDB::Table"
	if status, got := stackStatus(t, cloud, "Data"), failures(t, cloud, "Data"); !strings.Contains(got, want) || status != "UPDATE_ROLLBACK_COMPLETE" {
		t.Errorf("in %s: got %s, want %q", status, got, want)
	}
	expires := func(want string) {
		t.Helper()
		got, err := dynamodb.NewFromConfig(cloud.Config()).DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: aws.String("items")})
		if err != nil || aws.ToString(got.TimeToLiveDescription.AttributeName) != want {
			t.Errorf("items expire by %+v, error %v; want %s", got, err, want)
		}
	}
	expires("until")
	if _, err := stacks.UpdateStack(ctx, &cloudformation.UpdateStackInput{StackName: aws.String("Data"), TemplateBody: template("KEYS_ONLY", "end")}); err != nil {
		t.Fatal(err)
	}
	expires("end")
}

// TestCallsThatWouldDoNothingAreRefused makes calls that the emulator would accept without effect.
func TestCallsThatWouldDoNothingAreRefused(t *testing.T) {
	t.Parallel()
	ctx, cloud := start(t)
	topics := sns.NewFromConfig(cloud.Config())
	topic, err := topics.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("people")})
	if err != nil {
		t.Fatal(err)
	}
	_, email := topics.Subscribe(ctx, &sns.SubscribeInput{TopicArn: topic.TopicArn, Protocol: aws.String("email"), Endpoint: aws.String("a@example.com")})
	_, function := lambda.NewFromConfig(cloud.Config()).PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String("f"), ReservedConcurrentExecutions: aws.Int32(1)})
	api := awsapi.Client{Endpoint: cloud.Endpoint, Region: cloud.Region}
	for want, err := range map[string]error{
		"protocol email":                      email,
		"/2017-10-31/functions/f/concurrency": function,
		"CreateArchive":                       api.Target(ctx, "events", "AWSEvents.CreateArchive", map[string]string{"ArchiveName": "a"}, nil),
		"PutMetricFilter":                     api.Target(ctx, "logs", "Logs_20140328.PutMetricFilter", map[string]string{"logGroupName": "g"}, nil),
		"no service states":                   api.Target(ctx, "states", "AWSStepFunctions.ListStateMachines", map[string]string{}, nil),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
