package command_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/iam"
)

// statement is a statement of an IAM policy.
type statement struct {
	Effect           string
	Action, Resource []string
}

type policy struct {
	Version   string
	Statement []statement
}

// without returns the policy without an action.
func (p policy) without(action string) policy {
	less := policy{Version: p.Version}
	for _, s := range p.Statement {
		s.Action = slices.DeleteFunc(slices.Clone(s.Action), func(a string) bool { return a == action })
		if len(s.Action) > 0 {
			less.Statement = append(less.Statement, s)
		}
	}
	if less.Statement == nil { // a policy needs a statement; no command uses this action
		less.Statement = []statement{{"Allow", []string{"sts:GetCallerIdentity"}, []string{"*"}}}
	}
	return less
}

func (w world) policyOf(command string) policy {
	w.Helper()
	var p policy
	printed := run(w.T, w.cloud, nil, append([]string{"policy"}, strings.Fields(command)...)...)
	w.must(nil, json.Unmarshal([]byte(printed.stdout), &p))
	return p
}

var roles atomic.Int64

// as runs the program with credentials of a role that has only this policy.
func (w world) as(p policy, args ...string) result {
	w.Helper()
	name := fmt.Sprint("user-", roles.Add(1))
	text, err := json.Marshal(p)
	w.must(nil, err)
	w.must(nil, w.api.Query(w.Context(), "iam", "2010-05-08", "CreateRole", url.Values{"RoleName": {name}, "AssumeRolePolicyDocument": {`{"Version":"2012-10-17","Statement":[]}`}}, nil))
	w.must(nil, w.api.Query(w.Context(), "iam", "2010-05-08", "PutRolePolicy", url.Values{"RoleName": {name}, "PolicyName": {"p"}, "PolicyDocument": {string(text)}}, nil))
	credentials := w.cloud.Permissions.Issue(iam.Session{Role: "arn:aws:iam::123456789012:role/" + name, Name: "user"})
	return run(w.T, w.cloud, &credentials, args...)
}

// conflicting returns an assembly for which each check of doctor calls AWS.
func (w world) conflicting() string {
	w.Helper()
	made, err := sns.NewFromConfig(w.cloud.Config()).CreateTopic(w.Context(), &sns.CreateTopicInput{Name: aws.String("alerts")})
	w.must(nil, err)
	var key struct{ KeyMetadata struct{ Arn string } }
	w.must(nil, w.api.Target(w.Context(), "kms", "TrentService.CreateKey", map[string]string{}, &key))
	w.hub.SetV2(true)
	return edit(w.T, assembly(w.T, nil, func(stack awscdk.Stack, p *defenderhub.DefenderHubProps) {
		p.Audit = &defenderhub.AuditProps{ScheduleName: "daily"}
		p.Detect = &defenderhub.DetectProps{Native: &defenderhub.NativeProps{}, Profiles: []defender.SecurityProfile{{Name: "mine", Behaviors: []defender.Behavior{
			{Name: "hot", Criteria: defender.CustomNumber("temperature").LessThan(90, defender.Window5m)},
		}}}}
		p.AlarmTopic = awssns.Topic_FromTopicArn(stack, aws.String("Alerts"), made.TopicArn)
	}), func(resources map[string]map[string]any) {
		for _, r := range resources {
			if r["Type"] == "AWS::Logs::LogGroup" {
				properties(r)["KmsKeyId"] = key.KeyMetadata.Arn
			}
		}
		resources["Topics"] = map[string]any{"Type": "AWS::IoT::Dimension", "Properties": map[string]any{"Name": "topics"}}
		resources["Mine"] = map[string]any{"Type": "AWS::IoT::TopicRule", "Properties": map[string]any{"RuleName": "mine"}}
	})
}

// queue returns the URL of a queue of the deployed stack.
func (w world) queue(logicalID string) *string {
	w.Helper()
	out, err := cloudformation.NewFromConfig(w.cloud.Config()).ListStackResources(w.Context(), &cloudformation.ListStackResourcesInput{StackName: aws.String(stackName)})
	w.must(nil, err)
	for _, r := range out.StackResourceSummaries {
		if *r.ResourceType == "AWS::SQS::Queue" && strings.TrimRight(*r.LogicalResourceId, "0123456789ABCDEF") == logicalID {
			return r.PhysicalResourceId
		}
	}
	w.Fatalf("the stack has no queue %s", logicalID)
	return nil
}

// deadLetters puts two messages into the dead-letter queue of the deployed stack, as the forwarder
// does. It has the signature of needing.before.
func (w world) deadLetters(string) {
	w.Helper()
	letters, from := w.queue("HubForwarderDeadLetters"), w.queue("HubForwarderQueue")
	text := func(s string) types.MessageAttributeValue {
		return types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &s}
	}
	for _, source := range []string{"device-event", "audit"} {
		w.must(sqs.NewFromConfig(w.cloud.Config()).SendMessage(w.Context(), &sqs.SendMessageInput{QueueUrl: letters, MessageBody: aws.String("{}"), MessageAttributes: map[string]types.MessageAttributeValue{
			"Source": text(source), "Reason": text("a reason"), "Queue": text("arn:aws:sqs:us-east-1:123456789012:" + path.Base(*from)),
		}}))
	}
}

// deadLettersFor empties the dead-letter queue, and fills it again for actions of SQS. With an
// empty queue doctor is seconds faster.
func (w world) deadLettersFor(action string) {
	w.Helper()
	w.must(sqs.NewFromConfig(w.cloud.Config()).PurgeQueue(w.Context(), &sqs.PurgeQueueInput{QueueUrl: w.queue("HubForwarderDeadLetters")}))
	if action == "" || strings.HasPrefix(action, "sqs:") {
		w.deadLetters(action)
	}
}

// TestEachActionIsNeeded runs each command under exactly the policy that `defenderhub policy`
// prints, and with one action less.
func TestEachActionIsNeeded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if reasons := deploy(t, w.cloud, assembly(t, nil, func(_ awscdk.Stack, p *defenderhub.DefenderHubProps) { p.Detect = selfManaged("") })); reasons != nil {
		t.Fatal(reasons)
	}
	keys, err := w.iot.CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{})
	w.must(nil, err)
	w.must(w.iot.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: aws.String("pump-1")}))
	w.must(w.iot.AttachThingPrincipal(t.Context(), &iot.AttachThingPrincipalInput{ThingName: aws.String("pump-1"), Principal: keys.CertificateArn}))
	w.must(w.iot.StartOnDemandAuditTask(t.Context(), &iot.StartOnDemandAuditTaskInput{TargetCheckNames: []string{logging}}))
	onlySource := []string{"--yes", "--source", "device-event"} // makes the messages of other sources visible again, which is an action too
	experiment := func(name, wait string) needing {
		return needing{"provoke " + name, append([]string{"provoke", name, "--yes", "--wait", wait, "--interval", "1s"}, w.mqtt()...), nil, nil}
	}
	for _, c := range []needing{
		{"doctor", []string{"doctor", "--template", w.conflicting(), "--json"}, func(p policy) policy { return policy{p.Version, p.Statement[:1]} }, world.deadLettersFor},
		{"doctor", []string{"doctor", "--try", "--yes", "--json"}, func(p policy) policy { return policy{p.Version, p.Statement[1:]} }, world.noProfiles},
		{"findings", []string{"findings"}, nil, nil},
		{"device", []string{"device", *keys.CertificateId}, nil, nil},
		{"audit run", []string{"audit", "run", logging, "--yes", "--interval", "1s", "--wait", "1s"}, nil, nil},
		{"dead-letters list", []string{"dead-letters", "list"}, nil, world.deadLetters},
		{"dead-letters retry", append([]string{"dead-letters", "retry"}, onlySource...), nil, world.deadLetters},
		{"dead-letters drop", append([]string{"dead-letters", "drop"}, onlySource...), nil, world.deadLetters},
		{"report", []string{"report", "--out", filepath.Join(t.TempDir(), "report.html")}, nil, nil},
		{"watch", []string{"watch", "--for", "5s", "--interval", "5s"}, nil, nil},
		{"provoke", []string{"provoke", "--cleanup", "--yes"}, nil, func(w world, _ string) { w.leftovers() }},
		experiment("policy", "2m"), // it needs more actions after the finding
		experiment("message-size", "0s"),
		experiment("disconnect", "0s"),
		experiment("telnet", "0s"),
	} {
		t.Run(c.policy, func(t *testing.T) {
			if strings.HasPrefix(c.policy, "provoke ") {
				t.Parallel() // experiments wait more than they work
			}
			w := w
			w.T = t
			c.check(w)
		})
	}
}

// needing is a command that needs each action of a policy.
type needing struct {
	policy string // the arguments of `defenderhub policy`
	args   []string
	// part selects the statements whose actions are removed one at a time, nil for all.
	part func(policy) policy
	// before is called before each run, with the action that is removed.
	before func(w world, action string)
}

func (c needing) check(w world) {
	w.Helper()
	whole := w.policyOf(c.policy)
	part := whole
	if c.part != nil {
		part = c.part(whole)
	}
	run := func(without string) result {
		if c.before != nil {
			c.before(w, without)
		}
		return w.as(whole.without(without), c.args...)
	}
	doctor := c.args[0] == "doctor"
	if r := run(""); strings.Contains(r.stdout+r.stderr, "denied:") || strings.Contains(r.stderr, "NotImplemented") || r.status > 1 && !doctor {
		w.Fatalf("under its own policy: status %d, %s%s", r.status, r.stdout, r.stderr)
	}
	for _, s := range part.Statement {
		for _, action := range s.Action {
			r := run(action)
			// doctor exits with 1 if there is anything to fix, whatever else is denied.
			if r.status != 2 && !(doctor && r.status == 1) || !strings.Contains(r.stderr, "denied: "+action+" on ") || !strings.Contains(r.stderr, "no identity-based policy allows the "+action+" action") {
				w.Errorf("without %s: status %d, %s", action, r.status, r.stderr)
			}
			if n := strings.Count(r.stdout, `"check"`); doctor && n < 10 {
				w.Errorf("without %s doctor has only %d rows, want at least 10", action, n)
			}
		}
	}
}

// noProfiles deletes all security profiles.
func (w world) noProfiles(string) {
	w.Helper()
	all, err := w.iot.ListSecurityProfiles(w.Context(), &iot.ListSecurityProfilesInput{})
	w.must(nil, err)
	for _, p := range all.SecurityProfileIdentifiers {
		w.must(w.iot.DeleteSecurityProfile(w.Context(), &iot.DeleteSecurityProfileInput{SecurityProfileName: p.Name}))
	}
}
