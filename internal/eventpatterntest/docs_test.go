package eventpatterntest_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/defenderhub/defenderhub/internal/eventpatterntest"
)

// The event patterns of docs/planning.md match a person's choice, and an incident until it ends.
func TestPatternsThatTheDocsShow(t *testing.T) {
	text, err := os.ReadFile("../../docs/planning.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(text, -1)
	if len(shown) != 2 {
		t.Fatalf("docs/planning.md has %d patterns, want 2", len(shown))
	}
	incident := func(rule, state string) string {
		return `{"source":"aws.securityhub","detail-type":"Security Hub Findings - Imported","resources":["arn:aws:securityhub:eu-central-1:111122223333:product/111122223333/default/ID"],
			"detail":{"findings":[{"GeneratorId":"defenderhub/correlation/` + rule + `","RecordState":"` + state + `","Workflow":{"Status":"NEW"}}]}}`
	}
	action := func(id string) string {
		return `{"source":"aws.securityhub","detail-type":"Security Hub Findings - Custom Action","resources":["arn:aws:securityhub:eu-central-1:111122223333:action/custom/` + id + `"],
			"detail":{"actionName":"Isolate","findings":[{"RecordState":"ACTIVE"}]}}`
	}
	for _, row := range []struct {
		event string
		want  [2]bool
	}{
		{action("Isolate"), [2]bool{true, false}},
		{action("Other"), [2]bool{false, false}},
		{incident("compromise-chain", "ACTIVE"), [2]bool{false, true}},
		{incident("compromise-chain", "ARCHIVED"), [2]bool{false, false}},
		{incident("campaign", "ACTIVE"), [2]bool{false, false}},
	} {
		for i, want := range row.want {
			pattern, err := eventpatterntest.Parse(shown[i][1])
			if err != nil {
				t.Fatal(err)
			}
			if got, err := pattern.Match([]byte(row.event)); err != nil || got != want {
				t.Errorf("pattern %d matches %s: %v, error %v, want %v", i, row.event, got, err, want)
			}
		}
	}
}
