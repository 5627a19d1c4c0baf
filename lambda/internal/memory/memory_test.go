package memory_test

import (
	"errors"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/lambda/internal/memory"
)

func TestAnswersAreCachedUntilTheirMaximumAge(t *testing.T) {
	answers, err := memory.New[int](2, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	noon := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	asked := 0
	ask := func() (int, error) {
		if asked++; asked == 1 {
			return 0, errors.New("no answer")
		}
		return asked, nil
	}
	for _, row := range []struct {
		after time.Duration
		want  int
	}{{0, 0}, {0, 2}, {59 * time.Second, 2}, {-59 * time.Second, 2}, {time.Minute, 3}} {
		if got, err := answers.Get("key", noon.Add(row.after), ask); got != row.want || (err == nil) == (row.want == 0) {
			t.Errorf("after %v: got %d, error %v; want %d", row.after, got, err, row.want)
		}
	}
}
