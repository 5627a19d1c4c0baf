package templates

import (
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// TestEveryDeployedFunctionIsSimulated compares the functions of all templates with those that the
// simulation runs.
func TestEveryDeployedFunctionIsSimulated(t *testing.T) {
	missing := contract.Functions()
	for _, d := range all {
		_, tpl := synth(t, d.name, d.build)
		for id, r := range tpl.Resources {
			if r.Type != "AWS::Lambda::Function" {
				continue
			}
			known := false
			for suffix := range contract.Functions() {
				if strings.HasSuffix(id[:len(id)-8], suffix) { // without the hash
					known = true
					delete(missing, suffix)
				}
			}
			if !known {
				t.Errorf("%s: function %s is not in contract.Functions: add it there and to lambda/internal/simulation", d.name, id)
			}
		}
	}
	for suffix := range missing {
		t.Errorf("no template has a function whose ID ends in %s", suffix)
	}
}
