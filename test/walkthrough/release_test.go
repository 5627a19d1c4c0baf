package walkthrough

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
)

// stateful are the types whose replacement loses data, messages or subscriptions.
var stateful = []string{"AWS::DynamoDB::Table", "AWS::SQS::Queue", "AWS::SNS::Topic", "AWS::Kinesis::Stream", "AWS::KMS::Key"}

// TestUpdateFromTheLastRelease deploys the stack of the last tag and updates it to this
// checkout's. Unless the changelog lists a breaking change, no stateful resource may be replaced
// or removed. Before the first tag there is nothing to update.
func TestUpdateFromTheLastRelease(t *testing.T) {
	t.Parallel()
	tag := lastTag(t)
	if tag == "" {
		t.Skip("no release yet: no tag v*")
	}
	ctx, s := begin(t)
	then := filepath.Join(t.TempDir(), "then")
	git(t, "worktree", "add", "--detach", then, tag)
	t.Cleanup(func() { git(t, "worktree", "remove", "--force", then) })
	settings := map[string]string{"engine": "self-managed", "profile": "demo,starter", "audit-subscription": "off", "enable-security-hub": "true"}
	if err := s.deployFrom(ctx, then, settings); err != nil {
		t.Fatalf("deploy %s: %v", tag, err)
	}
	before := resources(t, ctx, s)
	pump, err := s.newDevice(ctx, thingName)
	if err != nil {
		t.Fatal(err)
	}
	if err := pump.connect(); err != nil {
		t.Fatal(err)
	}
	tamper := func(state string, want types.RecordState) {
		t.Helper()
		if err := pump.publish("defenderhub/events/"+thingName, `{"type": "tamper", "severity": "HIGH", "state": "`+state+`"}`); err != nil {
			t.Fatal(err)
		}
		if err := s.expect(ctx, types.SeverityLabelHigh, want, thingName, "tamper"); err != nil {
			t.Fatal(err)
		}
	}
	tamper("active", types.RecordStateActive)

	if err := s.deployWith(ctx, settings); err != nil {
		t.Fatalf("update the stack of %s: %v", tag, err)
	}
	if !listsBreakingChange(t) {
		after := resources(t, ctx, s)
		for id, resource := range before {
			if slices.Contains(stateful, resource.kind) && after[id] != resource {
				t.Errorf("the update from %s replaces or removes %s %s: keep it, or list it in CHANGELOG.md below Unreleased, Breaking", tag, resource.kind, id)
			}
		}
	}
	tamper("cleared", types.RecordStateArchived)
}

func lastTag(t *testing.T) string {
	t.Helper()
	tag, _, _ := strings.Cut(git(t, "tag", "--list", "v[0-9]*", "--merged", "HEAD", "--sort=-version:refname"), "\n")
	return tag
}

// git runs git in the repository.
func git(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("git", append([]string{"-C", "../.."}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

type resource struct{ kind, physicalID string }

// resources returns the stack's resources by logical ID.
func resources(t *testing.T, ctx context.Context, s *story) map[string]resource {
	t.Helper()
	found := map[string]resource{}
	pages := cloudformation.NewListStackResourcesPaginator(cloudformation.NewFromConfig(s.cloud.Config()), &cloudformation.ListStackResourcesInput{StackName: aws.String("DefenderHub")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.StackResourceSummaries {
			found[aws.ToString(r.LogicalResourceId)] = resource{aws.ToString(r.ResourceType), aws.ToString(r.PhysicalResourceId)}
		}
	}
	if len(found) == 0 {
		t.Fatal("the stack has no resources")
	}
	return found
}

// listsBreakingChange reports whether the changelog lists a breaking change for the next release.
func listsBreakingChange(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	_, unreleased, _ := strings.Cut(string(text), "## Unreleased\n")
	unreleased, _, _ = strings.Cut(unreleased, "\n## ")
	_, breaking, _ := strings.Cut(unreleased, "### Breaking\n")
	breaking, _, _ = strings.Cut(breaking, "\n### ")
	return regexp.MustCompile(`(?m)^(- |\|)`).MatchString(breaking)
}
