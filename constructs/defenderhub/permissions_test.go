package defenderhub_test

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/correlation"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// awsCalls returns the IAM actions of the AWS calls in the Go source of a function and of our
// packages that it uses. Each call has an input struct, such as sqs.SendMessageInput.
func awsCalls(t *testing.T, function string) []string {
	t.Helper()
	const form = `{{if .Module}}{{if .Module.Main}}{{$dir := .Dir}}{{range .GoFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}{{end}}{{end}}`
	files, err := exec.Command("go", "list", "-deps", "-f", form, "../../lambda/"+function).Output()
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for path := range strings.Lines(string(files)) {
		file, err := parser.ParseFile(token.NewFileSet(), strings.TrimSpace(path), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			if s, ok := literal.Type.(*ast.SelectorExpr); ok {
				if name, isInput := strings.CutSuffix(s.Sel.Name, "Input"); isInput {
					action := s.X.(*ast.Ident).Name + ":" + name
					if action == "dynamodb:BatchExecuteStatement" { // its statements insert and update
						actions = append(actions, "dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate")
						return true
					}
					actions = append(actions, cmp.Or(renamed[action], action))
				}
			}
			return true
		})
	}
	slices.Sort(actions)
	return slices.Compact(actions)
}

// renamed maps a call to its action, if their names differ.
var renamed = map[string]string{"iotdataplane:GetConnection": "iot:GetConnection", "iotdataplane:Publish": "iot:Publish", "sqs:SendMessageBatch": "sqs:SendMessage"}

// polling are the actions with which Lambda itself reads the queue of a function.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
var polling = []string{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}

// allowed returns the actions that the policies whose IDs begin with prefix allow, except for
// logs.
func allowed(tp template, prefix string) []string {
	var actions []string
	for _, id := range tp.ids("AWS::IAM::Policy") {
		if !strings.HasPrefix(id, prefix) {
			continue
		}
		for _, s := range path(tp[id].Properties, "PolicyDocument", "Statement").([]any) {
			list, ok := path(s, "Action").([]any)
			if !ok {
				list = []any{path(s, "Action")}
			}
			for _, a := range list {
				if action := a.(string); !strings.HasPrefix(action, "logs:") {
					actions = append(actions, action)
				}
			}
		}
	}
	slices.Sort(actions)
	return slices.Compact(actions)
}

func TestForwarderAndAuditFunctionsHaveLeastPrivilege(t *testing.T) {
	starts := awsCalls(t, "internal/auditresources/startaudit")
	calls := append(awsCalls(t, "forwarder"), polling...)
	slices.Sort(calls)
	calls = slices.Compact(calls)
	without := func(excluded ...string) []string {
		return slices.DeleteFunc(slices.Clone(calls), func(a string) bool { return slices.Contains(excluded, a) })
	}
	ofAudits := []string{"iot:DescribeAccountAuditConfiguration", "iot:ListAuditFindings", "iot:ListRelatedResourcesForAuditFinding"}
	tp := forwarderTemplate(t, defenderhub.ForwarderProps{})
	for prefix, want := range map[string][]string{"ForwarderFunction": without(ofAudits...), "ForwarderAuditFunction": without("iot:ListPrincipalThings")} {
		if got := allowed(tp, prefix); !slices.Equal(got, want) {
			t.Errorf("%s is allowed %v\nand calls %v", prefix, got, want)
		}
	}
	// The results of audits also reach the queue for events if alarms have the same topic.
	stack := newStack()
	topic := awssns.NewTopic(stack, jsii.String("Topic"), nil)
	defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{AuditTopic: topic, DetectTopic: topic, Prebuilt: prebuilt})
	if got := allowed(synth(t, stack), "ForwarderFunction"); !slices.Equal(got, calls) {
		t.Errorf("with one topic the function for events is allowed %v\nand calls %v", got, calls)
	}
	if got := allowed(auditTemplate(t, &defenderhub.AuditProps{RunOnDeploy: true, Prebuilt: prebuilt}), ""); !slices.Equal(got, starts) {
		t.Errorf("the function of RunOnDeploy is allowed %v\nand calls %v", got, starts)
	}
	ofSuppressions := auditTemplate(t, &defenderhub.AuditProps{Suppressions: suppressed, Prebuilt: prebuilt})
	if got, want := allowed(ofSuppressions, ""), awsCalls(t, "internal/auditresources/suppression"); !slices.Equal(got, want) {
		t.Errorf("the function of Suppressions is allowed %v\nand calls %v", got, want)
	}
	if !slices.Contains(calls, "securityhub:BatchImportFindings") {
		t.Errorf("awsCalls found no BatchImportFindings in the forwarder: %v", calls)
	}
}

func TestNotifierHasLeastPrivilege(t *testing.T) {
	calls := append(awsCalls(t, "notifier"), polling...)
	if !slices.Contains(calls, "sns:Publish") {
		t.Fatalf("awsCalls found no Publish in the notifier: %v", calls)
	}
	// The notifier reads the registry by thing name only.
	want := slices.DeleteFunc(calls, func(a string) bool { return a == "iot:ListPrincipalThings" })
	slices.Sort(want)
	if got := allowed(notifyTemplate(t, defenderhub.NotifyProps{}), "NotifyFunction"); !slices.Equal(got, slices.Compact(want)) {
		t.Errorf("the notifier is allowed %v\nand calls               %v", got, want)
	}
}

func TestCorrelatorHasLeastPrivilege(t *testing.T) {
	calls := append(awsCalls(t, "correlator"), polling...)
	if !slices.Contains(calls, "securityhub:GetFindings") {
		t.Fatalf("awsCalls found no GetFindings in the correlator: %v", calls)
	}
	shared := []string{"iot:DescribeRoleAlias", "iot:GetEffectivePolicies"}
	for name, c := range map[string]struct {
		props   defenderhub.CorrelateProps
		without []string
	}{
		"attributes and built-in rules": {defenderhub.CorrelateProps{Attributes: []string{"instanceId"}}, nil},
		"no attributes":                 {defenderhub.CorrelateProps{}, []string{"iot:ListThings"}},
		"no shared stage":               {defenderhub.CorrelateProps{Rules: []correlation.Rule{correlation.TwoProducts()}}, append(shared, "iot:ListThings")},
	} {
		want := slices.DeleteFunc(slices.Clone(calls), func(a string) bool { return slices.Contains(c.without, a) })
		slices.Sort(want)
		if got := allowed(correlateTemplate(t, c.props), "HubCorrelate"); !slices.Equal(got, slices.Compact(want)) {
			t.Errorf("with %s the correlator is allowed %v\nand calls %v", name, got, want)
		}
	}
}

func TestOnlyTheFunctionThatRefreshesReadsTheDueIndex(t *testing.T) {
	tp := forwarderTemplate(t, defenderhub.ForwarderProps{})
	for _, id := range tp.ids("AWS::IAM::Policy") {
		refreshes := !strings.Contains(id, "Audit")
		if may := strings.Contains(text(tp[id].Properties), "/index/"+contract.LedgerRefreshIndex); may != refreshes {
			t.Errorf("%s allows reading the index: %v, want %v", id, may, refreshes)
		}
	}
}

func TestEvaluatorCanPublishOnlyBesideTheReports(t *testing.T) {
	for topic, want := range map[string]string{
		"": "", "fleet/+/report": "fleet/*/report/rejected", "fleet/#": "", defenderhub.ReservedReportTopic: "", "report": "report/rejected",
	} {
		policy := text(selfManagedTemplate(t, defenderhub.SelfManagedProps{ReportTopic: topic}).named(t, "AWS::IAM::Policy", "HubDetectEvaluatorRoleDefaultPolicy").Properties)
		if may := strings.Contains(policy, "iot:Publish"); may != (want != "") || want != "" && !strings.Contains(policy, ":topic/"+want+`"`) {
			t.Errorf("reports on %q: want iot:Publish on %q in %s", topic, want, policy)
		}
	}
}

func TestEvaluatorAndCloserHaveLeastPrivilege(t *testing.T) {
	calls := awsCalls(t, "evaluator")
	if !slices.Contains(calls, "dynamodb:BatchGetItem") || !slices.Contains(calls, "iot:Publish") {
		t.Fatalf("awsCalls did not find the calls of the evaluator: %v", calls)
	}
	ofGroups := []string{"iot:ListThingGroupsForThing", "iot:DescribeThingGroup"}
	ofQueue := []string{"sqs:GetQueueAttributes"}
	ofStream := []string{"kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards"}
	optional := append(append([]string{"iot:Publish"}, ofGroups...), ofStream...)
	without := func(excluded ...string) []string {
		return slices.DeleteFunc(slices.Clone(calls), func(a string) bool { return slices.Contains(excluded, a) })
	}
	readingStream := []string{
		"kinesis:DescribeStream", "kinesis:DescribeStreamSummary", "kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards", "kinesis:SubscribeToShard",
	}
	for name, c := range map[string]struct {
		change            func(*defenderhub.DetectProps)
		evaluator, closer []string
	}{
		"queue": {func(p *defenderhub.DetectProps) {}, append(without(optional...), polling...), without(optional...)},
		"groups, a topic of their own": {func(p *defenderhub.DetectProps) {
			p.Targets, p.SelfManaged.ReportTopic = []defender.Target{defender.ThingGroup("pumps")}, "fleet/+/report"
		}, append(without(ofStream...), polling...), without(append(ofStream, "iot:Publish")...)},
		"stream": {func(p *defenderhub.DetectProps) {
			p.SelfManaged.Transport, p.SelfManaged.ReportTopic = defenderhub.TransportKinesis, defenderhub.ReservedReportTopic
		}, append(append(without(optional...), polling...), readingStream...), without(append(append(ofGroups, "iot:Publish"), ofQueue...)...)},
	} {
		t.Run(name, func(t *testing.T) {
			props := selfManaged(defenderhub.SelfManagedProps{})
			c.change(props)
			tp := hubTemplate(t, &defenderhub.DefenderHubProps{Detect: props})
			for prefix, want := range map[string][]string{"HubDetectEvaluator": c.evaluator, "HubDetectCloser": c.closer} {
				slices.Sort(want)
				if got := allowed(tp, prefix); !slices.Equal(got, slices.Compact(want)) {
					t.Errorf("%s is allowed %v\nand calls %v", prefix, got, want)
				}
			}
		})
	}
}
