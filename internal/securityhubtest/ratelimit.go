package securityhubtest

import "time"

// bucket is a token bucket.
type bucket struct {
	tokens float64
	last   time.Time
}

// rates are calls per second and bursts.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/Welcome.html
var rates = map[string]struct{ perSecond, burst float64 }{
	"BatchImportFindings": {10, 30},
	"BatchUpdateFindings": {10, 30},
	"GetFindings":         {3, 6},
}

// throttle takes a token if the operation has a rate.
func (h *Hub) throttle(operation string) error {
	rate, limited := rates[operation]
	if !h.service.config.RateLimits || !limited {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.buckets[operation]
	if b == nil {
		b = &bucket{tokens: rate.burst, last: h.now()}
		h.buckets[operation] = b
	}
	now := h.now()
	b.tokens = min(rate.burst, b.tokens+rate.perSecond*max(0, now.Sub(b.last).Seconds()))
	b.last = now
	if b.tokens < 1 {
		return Throttled()
	}
	b.tokens--
	return nil
}
