package walkthrough

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLongStepPrintsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		s := newStory(Options{Out: &out})
		if err := s.withProgress(func() error { time.Sleep(25 * time.Second); return nil }); err != nil {
			t.Error(err)
		}
		if got := strings.Count(out.String(), "\n"); got != 3 || !strings.Contains(out.String(), "… for 24 s") {
			t.Errorf("want a line every 8 s, got:\n%s", &out)
		}
	})
}
