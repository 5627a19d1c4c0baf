package defenderhub

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
)

// TestRetentionsAreThoseOfTheCDK reads the constants of the pinned CDK module.
func TestRetentionsAreThoseOfTheCDK(t *testing.T) {
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/aws/aws-cdk-go/awscdk/v2/awslogs").Output()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "RetentionDays.go"))
	if err != nil {
		t.Fatal(err)
	}
	constants := regexp.MustCompile(`RetentionDays = "([A-Z_]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(constants) != len(retentions) {
		t.Errorf("the CDK has %d retentions, this package %d", len(constants), len(retentions))
	}
	for _, c := range constants {
		var f faults
		if f.retention("LogRetention", awslogs.RetentionDays(c[1])); f != nil {
			t.Errorf("%s: %v", c[1], f.err())
		}
	}
}
