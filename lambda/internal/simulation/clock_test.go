package simulation

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// TestNoFunctionReadsTheClock allows time.Now only in mains: the code of a function gets the
// machine's clock from its host, so that the simulation can be wrong about the time as machines
// are. It covers the packages of the functions and everything of this module that they import.
func TestNoFunctionReadsTheClock(t *testing.T) {
	command := exec.Command("go", "list", "-deps", "-f", `{{if and .Module (ne .Name "main")}}{{if eq .Module.Path "github.com/defenderhub/defenderhub"}}{{.Dir}} {{join .GoFiles " "}}{{end}}{{end}}`, "./lambda/...")
	command.Dir = "../../.."
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || filepath.Base(fields[0]) == "simulation" {
			continue
		}
		packages++
		for _, name := range fields[1:] {
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, filepath.Join(fields[0], name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Now" {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" {
						t.Errorf("%v: time.Now; take the time from host.Host, or from the event", files.Position(n.Pos()))
					}
				}
				return true
			})
		}
	}
	if packages < 20 {
		t.Errorf("go list names %d packages", packages)
	}
}

// TestEveryDeployedFunctionIsSimulated compares the functions that the constructs deploy, which a
// test of the templates checks, with those that the simulation runs.
func TestEveryDeployedFunctionIsSimulated(t *testing.T) {
	want := slices.Compact(slices.Sorted(maps.Values(contract.Functions())))
	if got := slices.Sorted(slices.Values(handlers)); !slices.Equal(got, want) {
		t.Errorf("the simulation runs %v, the stack deploys %v", got, want)
	}
}
