package localaws_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/defenderhub/defenderhub/test/localaws"
)

// refusal creates a stack that fails and returns which resources failed, and why.
func refusal(t *testing.T, cloud *localaws.Cloud, name, template string) string {
	t.Helper()
	stacks := cloudformation.NewFromConfig(cloud.Config())
	if _, err := stacks.CreateStack(t.Context(), &cloudformation.CreateStackInput{StackName: &name, TemplateBody: &template}); err != nil {
		return err.Error()
	}
	if status := stackStatus(t, cloud, name); status != types.StackStatusRollbackComplete {
		t.Errorf("stack %s is in %s, want ROLLBACK_COMPLETE", name, status)
	}
	return failures(t, cloud, name)
}

// failures returns the failed resources in a stack's events, newest first.
func failures(t *testing.T, cloud *localaws.Cloud, stack string) string {
	t.Helper()
	events, err := cloudformation.NewFromConfig(cloud.Config()).DescribeStackEvents(t.Context(), &cloudformation.DescribeStackEventsInput{StackName: &stack})
	if err != nil {
		t.Fatal(err)
	}
	var failed strings.Builder
	for _, e := range events.StackEvents {
		if strings.HasSuffix(string(e.ResourceStatus), "_FAILED") {
			fmt.Fprintf(&failed, "%s (%s): %s\n", *e.LogicalResourceId, *e.ResourceType, aws.ToString(e.ResourceStatusReason))
		}
	}
	return failed.String()
}

// describeStack waits for the end of the stack's operation, and describes the stack.
func describeStack(t *testing.T, cloud *localaws.Cloud, name string) types.Stack {
	t.Helper()
	for {
		described, err := cloudformation.NewFromConfig(cloud.Config()).DescribeStacks(t.Context(), &cloudformation.DescribeStacksInput{StackName: &name})
		if err != nil {
			t.Fatal(err)
		}
		stack := described.Stacks[0]
		if !strings.HasSuffix(string(stack.StackStatus), "_IN_PROGRESS") || stack.StackStatus == types.StackStatusReviewInProgress {
			return stack
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func stackStatus(t *testing.T, cloud *localaws.Cloud, name string) types.StackStatus {
	t.Helper()
	return describeStack(t, cloud, name).StackStatus
}

// fleet has the values that change in the template of a stack.
type fleet struct {
	maxReceiveCount, visibility int
	queueName                   string // a change replaces the queue
	sql                         string
	more                        string // resources, each followed by a comma
}

func (f fleet) template() []byte {
	name := ""
	if f.queueName != "" {
		name = `"QueueName":"` + f.queueName + `",`
	}
	return fmt.Appendf(nil, `{
		"Description": "queues and a rule",
		"Parameters": {"Site": {"Type": "String", "Default": "north"}, "Secret": {"Type": "String", "Default": "s3cret", "NoEcho": true}},
		"Resources": {%s
			"DeadLetters": {"Type": "AWS::SQS::Queue"},
			"Queue": {"Type": "AWS::SQS::Queue", "Properties": {%s "VisibilityTimeout": %d,
				"RedrivePolicy": {"deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetters", "Arn"]}, "maxReceiveCount": %d}}},
			"Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {"Version": "2012-10-17",
				"Statement": [{"Effect": "Allow", "Principal": {"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}]}}},
			"Send": {"Type": "AWS::IAM::Policy", "Properties": {"PolicyName": "send", "Roles": [{"Ref": "Role"}], "PolicyDocument": {"Version": "2012-10-17",
				"Statement": [{"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": {"Fn::GetAtt": ["Queue", "Arn"]}}]}}},
			"Rule": {"Type": "AWS::IoT::TopicRule", "DependsOn": "Send", "Properties": {"RuleName": "fleet", "TopicRulePayload": {"Sql": %q, "AwsIotSqlVersion": "2016-03-23",
				"Actions": [{"Sqs": {"QueueUrl": {"Ref": "Queue"}, "RoleArn": {"Fn::GetAtt": ["Role", "Arn"]}}}]}}}
		},
		"Outputs": {"QueueUrl": {"Value": {"Ref": "Queue"}}, "Site": {"Value": {"Ref": "Site"}}}
	}`, f.more, name, f.visibility, f.maxReceiveCount, f.sql)
}

// wantDeployed requires that the deployed fleet is f, and returns the URL of its queue.
func (f fleet) wantDeployed(t *testing.T, cloud *localaws.Cloud) (queueURL string) {
	t.Helper()
	for _, o := range describeStack(t, cloud, "Fleet").Outputs {
		if *o.OutputKey == "QueueUrl" {
			queueURL = *o.OutputValue
		}
	}
	queue, err := sqs.NewFromConfig(cloud.Config()).GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &queueURL, AttributeNames: []sqstypes.QueueAttributeName{"All"}})
	if err != nil {
		t.Fatalf("queue %q: %v", queueURL, err)
	}
	var redrive struct {
		MaxReceiveCount int `json:"maxReceiveCount"`
	}
	if err := json.Unmarshal([]byte(queue.Attributes["RedrivePolicy"]), &redrive); err != nil || redrive.MaxReceiveCount != f.maxReceiveCount ||
		queue.Attributes["VisibilityTimeout"] != fmt.Sprint(f.visibility) {
		t.Errorf("the queue has redrive policy %s and visibility timeout %s, want %d receives and %d s (%v)",
			queue.Attributes["RedrivePolicy"], queue.Attributes["VisibilityTimeout"], f.maxReceiveCount, f.visibility, err)
	}
	rule, err := iot.NewFromConfig(cloud.Config()).GetTopicRule(t.Context(), &iot.GetTopicRuleInput{RuleName: aws.String("fleet")})
	if err != nil || *rule.Rule.Sql != f.sql || *rule.Rule.Actions[0].Sqs.QueueUrl != queueURL {
		t.Errorf("rule %+v, error %v, want %s to %s", rule, err, f.sql, queueURL)
	}
	return queueURL
}

// queues returns the names of all queues.
func queues(t *testing.T, cloud *localaws.Cloud) (names []string) {
	t.Helper()
	list, err := sqs.NewFromConfig(cloud.Config()).ListQueues(t.Context(), &sqs.ListQueuesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range list.QueueUrls {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, parsed.Path[strings.LastIndex(parsed.Path, "/")+1:])
	}
	return names
}

// TestStackLifeCycle deploys, changes, breaks, corrects and destroys a stack with the CDK CLI.
func TestStackLifeCycle(t *testing.T) {
	t.Parallel()
	ctx, cloud := start(t)
	deploy := func(f fleet) (string, error) {
		return cloud.Deploy(ctx, t.TempDir(), nil, "--app", assembly(t, "Fleet", f.template(), ""))
	}
	cdk := func(f fleet, args ...string) string {
		t.Helper()
		out, err := cloud.CDK(ctx, t.TempDir(), nil, append(args, "--app", assembly(t, "Fleet", f.template(), ""))...)
		if err != nil {
			t.Fatalf("cdk %s: %v", args[0], err)
		}
		return out
	}
	says := func(what, out string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("%s does not say %q:\n%s", what, want, out)
			}
		}
	}
	first := fleet{maxReceiveCount: 5, visibility: 60, sql: "SELECT * FROM 'one'"}

	says("the difference to nothing", cdk(first, "diff", "Fleet"), "[+] AWS::SQS::Queue Queue")
	if _, err := cloudformation.NewFromConfig(cloud.Config()).DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: aws.String("Fleet")}); err == nil {
		t.Error("cdk diff left a stack")
	}
	out, err := deploy(first)
	if err != nil {
		t.Fatal(err)
	}
	says("the deployment", out, "creating CloudFormation changeset", "Fleet.QueueUrl = https://", "Fleet.Site = north")
	queueURL := first.wantDeployed(t, cloud)

	says("the difference to the same", cdk(first, "diff", "Fleet"), "There were no differences")
	if out, err = deploy(first); err != nil {
		t.Fatal(err)
	}
	says("the second deployment", out, "(no changes)", "Fleet.QueueUrl = "+queueURL)
	if out, err = cloud.Deploy(ctx, t.TempDir(), nil, "--force", "--app", assembly(t, "Fleet", first.template(), "")); err != nil {
		t.Fatal(err)
	}
	says("the forced deployment", out, "(no changes)", "CloudFormation reported that the deployment would not make any changes")

	second := first
	second.maxReceiveCount, second.sql = 2, "SELECT * FROM 'two'"
	out = cdk(second, "diff", "Fleet")
	says("the difference", out, "[~] AWS::SQS::Queue Queue", "maxReceiveCount", "[~] AWS::IoT::TopicRule Rule")
	if strings.Contains(out, "replaced") || strings.Contains(out, "AWS::IAM::Role") {
		t.Errorf("cdk diff shows resources that were not changed:\n%s", out)
	}
	if _, err = deploy(second); err != nil {
		t.Fatal(err)
	}
	if again := second.wantDeployed(t, cloud); again != queueURL {
		t.Errorf("the queue was %s and is %s, want no replacement", queueURL, again)
	}

	unknown := second
	unknown.more = `"Unknown": {"Type": "AWS::Glue::Database"},`
	if out, err = deploy(unknown); err == nil {
		t.Fatal("a resource of an unsupported type was deployed")
	}
	says("the failed deployment", out, "AWS::Glue::Database")
	broken := second
	broken.visibility, broken.sql, broken.more = 90, "SELEKT", `"Extra": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "extra"}},`
	if out, err = deploy(broken); err == nil {
		t.Fatal("a rule with invalid SQL was deployed")
	}
	says("the next failed deployment", out, "UPDATE_FAILED", `unexpected "SELEKT"`)
	if strings.Contains(out, "AWS::Glue::Database") {
		t.Errorf("the failure also shows the previous one:\n%s", out)
	}
	if status := stackStatus(t, cloud, "Fleet"); status != types.StackStatusUpdateRollbackComplete {
		t.Errorf("the stack is in %s, want UPDATE_ROLLBACK_COMPLETE", status)
	}
	second.wantDeployed(t, cloud)
	if names := queues(t, cloud); len(names) != 2 {
		t.Errorf("queues %v, want none of the failed deployment", names)
	}
	says("the difference after the failure", cdk(second, "diff", "Fleet"), "There were no differences")

	corrected := broken
	corrected.sql, corrected.queueName = "SELECT * FROM 'three'", "renamed"
	says("the difference", cdk(corrected, "diff", "Fleet"), "[+] AWS::SQS::Queue Extra", "[~] AWS::SQS::Queue Queue replace")
	if _, err = deploy(corrected); err != nil {
		t.Fatal(err)
	}
	if now := corrected.wantDeployed(t, cloud); !strings.HasSuffix(now, "/renamed") {
		t.Errorf("the queue is %s, want the name renamed", now)
	}
	if names := queues(t, cloud); len(names) != 3 {
		t.Errorf("queues %v, want three without the replaced one", names)
	}

	cdk(corrected, "destroy", "Fleet", "--force")
	if names := queues(t, cloud); len(names) != 0 {
		t.Errorf("the destroyed stack left the queues %v", names)
	}
	for _, d := range cloud.Resources.Deployed("") {
		if strings.Contains(d.StackID, ":stack/Fleet/") {
			t.Errorf("the destroyed stack left %s %s", d.Type, d.LogicalID)
		}
	}
	if _, err = deploy(first); err != nil {
		t.Errorf("deploy the destroyed stack again: %v", err)
	}
}
