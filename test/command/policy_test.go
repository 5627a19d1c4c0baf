package command_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
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

// statement is one of an IAM policy.
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
	if less.Statement == nil { // a policy needs a statement; this one allows what nobody needs
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

var roles int

// as runs the program in a role with exactly a policy.
func (w world) as(p policy, args ...string) result {
	w.Helper()
	roles++
	name := fmt.Sprint("user-", roles)
	text, err := json.Marshal(p)
	w.must(nil, err)
	w.must(nil, w.api.Query(w.Context(), "iam", "2010-05-08", "CreateRole", url.Values{"RoleName": {name}, "AssumeRolePolicyDocument": {`{"Version":"2012-10-17","Statement":[]}`}}, nil))
	w.must(nil, w.api.Query(w.Context(), "iam", "2010-05-08", "PutRolePolicy", url.Values{"RoleName": {name}, "PolicyName": {"p"}, "PolicyDocument": {string(text)}}, nil))
	credentials := w.cloud.Permissions.Issue(iam.Session{Role: "arn:aws:iam::123456789012:role/" + name, Name: "user"})
	return run(w.T, w.cloud, &credentials, args...)
}

// conflicting is an assembly for which every check of doctor asks the account.
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

// deadLetters puts two messages into a dead-letter queue of the deployed stack, as the forwarder
// does.
func (w world) deadLetters() {
	w.Helper()
	out, err := cloudformation.NewFromConfig(w.cloud.Config()).ListStackResources(w.Context(), &cloudformation.ListStackResourcesInput{StackName: aws.String(stackName)})
	w.must(nil, err)
	urls := map[string]string{}
	for _, r := range out.StackResourceSummaries {
		if *r.ResourceType == "AWS::SQS::Queue" {
			urls[strings.TrimRight(*r.LogicalResourceId, "0123456789ABCDEF")] = *r.PhysicalResourceId
		}
	}
	letters, from := urls["HubForwarderDeadLetters"], urls["HubForwarderQueue"]
	if letters == "" || from == "" {
		w.Fatalf("the stack has the queues %v", urls)
	}
	text := func(s string) types.MessageAttributeValue {
		return types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &s}
	}
	for _, source := range []string{"device-event", "audit"} {
		w.must(sqs.NewFromConfig(w.cloud.Config()).SendMessage(w.Context(), &sqs.SendMessageInput{QueueUrl: &letters, MessageBody: aws.String("{}"), MessageAttributes: map[string]types.MessageAttributeValue{
			"Source": text(source), "Reason": text("a reason"), "Queue": text("arn:aws:sqs:us-east-1:123456789012:" + path.Base(from)),
		}}))
	}
}

// TestEachActionIsNeeded runs commands under exactly the policy that `defenderhub policy` prints,
// and with one action less.
func TestEachActionIsNeeded(t *testing.T) {
	w := newWorld(t)
	if reasons := deploy(t, w.cloud, assembly(t, nil, func(_ awscdk.Stack, p *defenderhub.DefenderHubProps) { p.Detect = selfManaged("") })); reasons != nil {
		t.Fatal(reasons)
	}
	keys, err := w.iot.CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{})
	w.must(nil, err)
	w.must(w.iot.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: aws.String("pump-1")}))
	w.must(w.iot.AttachThingPrincipal(t.Context(), &iot.AttachThingPrincipalInput{ThingName: aws.String("pump-1"), Principal: keys.CertificateArn}))
	commands := map[string][]string{
		"doctor":            {"doctor", "--template", w.conflicting(), "--json"},
		"findings":          {"findings"},
		"device":            {"device", *keys.CertificateId},
		"audit run":         {"audit", "run", logging, "--yes", "--interval", "1s", "--wait", "1s"},
		"dead-letters list": {"dead-letters", "list"},
		// The messages of other sources have to be made visible again.
		"dead-letters retry": {"dead-letters", "retry", "--yes", "--source", "device-event"},
		"dead-letters drop":  {"dead-letters", "drop", "--yes", "--source", "device-event"},
		"report":             {"report", "--out", filepath.Join(t.TempDir(), "report.html")},
		"watch":              {"watch", "--for", "5s", "--interval", "5s"},
	}
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		t.Run(name, func(t *testing.T) {
			w.T = t
			whole := w.policyOf(name)
			before := func() {
				if strings.HasPrefix(name, "dead-letters") {
					w.deadLetters()
				}
			}
			before()
			if r := w.as(whole, commands[name]...); strings.Contains(r.stdout+r.stderr, "denied:") || strings.Contains(r.stderr, "NotImplemented") || r.status > 1 && name != "doctor" {
				t.Fatalf("under its own policy: status %d, %s%s", r.status, r.stdout, r.stderr)
			}
			statements := whole.Statement
			if name == "doctor" {
				statements = statements[:1] // the second is that of --try
			}
			for _, s := range statements {
				for _, action := range s.Action {
					before()
					r := w.as(whole.without(action), commands[name]...)
					if r.status != 2 || !strings.Contains(r.stderr, "denied: "+action+" on ") || !strings.Contains(r.stderr, "no identity-based policy allows the "+action+" action") {
						t.Errorf("without %s: status %d, %s", action, r.status, r.stderr)
					}
					if n := strings.Count(r.stdout, `"check"`); name == "doctor" && n < 10 {
						t.Errorf("without %s only %d rows", action, n)
					}
				}
			}
		})
	}
}
