package handler

import (
	"fmt"
	"testing"
	"time"
)

// The memory is bounded, although the number of devices is not.
func TestReportTimesAreBounded(t *testing.T) {
	var r reportTimes
	const devices = 5 * maxReporters / 2
	for i := range devices {
		r.tooSoon(fmt.Sprint(i), 0, time.Minute)
	}
	if n := len(r.newer) + len(r.older); n > 2*maxReporters {
		t.Errorf("%d devices are stored, want at most %d", n, 2*maxReporters)
	}
	if !r.tooSoon(fmt.Sprint(devices-1), 1000, time.Minute) || r.tooSoon("0", 1000, time.Minute) {
		t.Error("want the device that reported last to be stored, and not the first")
	}
}
