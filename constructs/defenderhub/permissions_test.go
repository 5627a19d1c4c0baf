package defenderhub_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
)

// awsCalls are the AWS APIs that the Go source of a function and of our packages that it
// is built from asks for, as IAM actions: each call has an input struct, such as
// sqs.SendMessageInput.
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
					actions = append(actions, s.X.(*ast.Ident).Name+":"+name)
				}
			}
			return true
		})
	}
	slices.Sort(actions)
	return slices.Compact(actions)
}

// polling is what Lambda itself does to the queues that it reads for a function.
var polling = []string{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ChangeMessageVisibility"}

// allowed are the actions that the policies of a template allow, but for logs.
func allowed(tp template) []string {
	var actions []string
	for _, id := range tp.ids("AWS::IAM::Policy") {
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

func TestFunctionsMayDoExactlyWhatTheyDo(t *testing.T) {
	starts := awsCalls(t, "startaudit")
	calls := append(awsCalls(t, "forwarder"), polling...)
	slices.Sort(calls)
	if got, want := allowed(forwarderTemplate(t, defenderhub.ForwarderProps{})), slices.Compact(calls); !slices.Equal(got, want) {
		t.Errorf("the forwarder may %v\nand does       %v", got, want)
	}
	if got := allowed(auditTemplate(t, &defenderhub.AuditProps{RunOnDeploy: true, Code: prebuilt()})); !slices.Equal(got, starts) {
		t.Errorf("the function behind RunOnDeploy may %v and does %v", got, starts)
	}
	if !slices.Contains(calls, "securityhub:BatchImportFindings") {
		t.Errorf("the source was not read: %v", calls)
	}
}
