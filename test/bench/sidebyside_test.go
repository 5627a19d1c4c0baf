package main

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// earlier is the last commit whose forwarder reads and writes the ledger one item at a time, and
// leaves no states in it for another function to import.
const earlier = "8a3e870"

// order is the order in which two versions of the function serve a table.
type order struct {
	name        string
	first, last string
	// now is today's version.
	now string
}

// TestOldAndNewFunctionShareATable runs the executable of an earlier commit beside today's, as in
// the minutes of a deployment and of a rollback. Both forward messages through one table to one
// Security Hub, which throttles calls. Messages are duplicated, and functions are killed between two
// calls.
func TestOldAndNewFunctionShareATable(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("git", "-C", root, "cat-file", "-e", earlier+"^{commit}").Run(); err != nil {
		t.Skipf("commit %s is not in this clone: git fetch --unshallow", earlier)
	}
	b := &bench{ctx: t.Context(), repository: root, dir: t.TempDir()}
	before, err := b.buildCommit(earlier)
	if err != nil {
		t.Fatal(err)
	}
	now, err := b.buildForwarder(root, "forwarder")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []order{{"deployment", before, now, now}, {"rollback", now, before, now}} {
		for _, test := range []struct {
			name string
			run  func(*testing.T, *bench, order)
		}{
			{"alerts", alertsShareATable}, {"device events", eventsShareATable},
			{"audits", auditsShareATable}, {"interrupted audits", interruptedAudits},
		} {
			t.Run(o.name+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				test.run(t, b, o)
			})
		}
	}
	t.Run("shared finding", func(t *testing.T) {
		t.Parallel()
		sharedFindingAfterARollback(t, b, before, now)
	})
}
