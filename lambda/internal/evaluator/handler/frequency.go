package handler

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// maxReporters is how many devices each half of [reportTimes] holds, in a few MiB. In a larger
// fleet, fewer frequent reports are counted.
const maxReporters = 50_000

// reportTimes stores when devices reported last, only in the memory of this environment, so that
// a conforming report still costs no write. If several environments judge a device's reports,
// some frequent reports are missed. The zero value is ready.
type reportTimes struct {
	mu sync.Mutex
	// newer and older have times in ms by a hash of the device: older is dropped when newer is
	// full.
	newer, older map[uint64]int64
	seed         maphash.Seed
}

// tooSoon reports whether a report arrived within an interval of another one of its device,
// whichever was first. A duplicate has the same time.
func (r *reportTimes) tooSoon(device string, at int64, interval time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.newer == nil {
		r.newer, r.seed = map[uint64]int64{}, maphash.MakeSeed()
	}
	key := maphash.String(r.seed, device)
	last, known := r.newer[key]
	if !known {
		last, known = r.older[key]
	}
	if len(r.newer) >= maxReporters {
		r.newer, r.older = map[uint64]int64{}, r.newer
	}
	r.newer[key] = max(last, at)
	gap := max(at-last, last-at)
	// Timer drift and network delay are not faults.
	return known && gap > 0 && gap < interval.Milliseconds()*9/10
}

// countFrequent counts reports that are more frequent than configured: a window of bytes and
// packets uses the largest of them, not the sum.
func (h *Handler) countFrequent(records []*record) {
	var reports []*record
	for _, r := range records {
		if r.kind == string(iotrule.DeviceReport) && r.subject != "" && len(r.points) > 0 {
			reports = append(reports, r)
		}
	}
	slices.SortStableFunc(reports, func(a, b *record) int { return cmp.Compare(a.points[0].Time, b.points[0].Time) })
	for _, r := range reports {
		if h.reportTimes.tooSoon(r.subject, r.points[0].Time, h.settings.reportInterval) {
			h.count(r.kind, contract.MetricFrequentReports, 1)
		}
	}
}
