package walkthrough

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A deployment finds the zips of earlier deployments where the CDK CLI looks for its own, except old
// ones.
func TestDeploymentsShareZips(t *testing.T) {
	dir := t.TempDir()
	shared := filepath.Join(dir, "zips")
	write := func(path string) {
		t.Helper()
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, out := range []string{"a", "b", "b"} {
		if err := shareZips(filepath.Join(dir, out), shared); err != nil {
			t.Fatal(err)
		}
		write(filepath.Join(dir, out, ".cache", out+".zip"))
	}
	old := time.Now().Add(-2 * keepZips)
	if err := os.Chtimes(filepath.Join(shared, "a.zip"), old, old); err != nil {
		t.Fatal(err)
	}
	if err := shareZips(filepath.Join(dir, "c"), shared); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(dir, "c", ".cache"))
	if err != nil || len(left) != 1 || left[0].Name() != "b.zip" {
		t.Errorf("the deployment finds %v, error %v, want only b.zip", left, err)
	}
}
