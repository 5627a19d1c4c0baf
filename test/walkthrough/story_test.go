package walkthrough

import (
	"bytes"
	"strings"
	"sync"
	"testing"
)

func TestLinesOfStoryAndCloudDoNotMix(t *testing.T) {
	var out bytes.Buffer
	s := newStory(Options{Out: &out})
	const each = 5000
	var both sync.WaitGroup
	both.Go(func() {
		for range each {
			s.note("a line of the story")
		}
	})
	both.Go(func() {
		for range each {
			notes{s}.Write([]byte("a line of the cloud\n"))
		}
	})
	both.Wait()
	if n := strings.Count(out.String(), "a line of the "); n != 2*each {
		t.Errorf("%d of %d lines were printed whole", n, 2*each)
	}
}
