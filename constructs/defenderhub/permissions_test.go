package defenderhub_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
)

// awsCalls are the AWS APIs that the Go source below a directory asks for, as IAM actions:
// each call has an input struct, such as sqs.SendMessageInput.
func awsCalls(t *testing.T, dirs ...string) []string {
	t.Helper()
	var actions []string
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
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
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(actions)
	return slices.Compact(actions)
}

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
	all := awsCalls(t, "../../lambda/forwarder", "../../lambda/internal")
	starts := awsCalls(t, "../../lambda/startaudit", "../../lambda/internal/startaudit")
	calls := slices.DeleteFunc(all, func(a string) bool { return slices.Contains(starts, a) })
	// What Lambda itself does to the queues that it reads for the function.
	calls = append(calls, "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ChangeMessageVisibility")
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
