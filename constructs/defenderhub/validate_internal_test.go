package defenderhub

import (
	"testing"
	"time"
)

func TestDurationsInFaultsAreBrief(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"10s": 10 * time.Second, "5m": 5 * time.Minute, "1h": time.Hour, "24h": 24 * time.Hour, "1h30m": 90 * time.Minute, "1m30s": 90 * time.Second, "80 days": 80 * 24 * time.Hour,
	} {
		if got := brief(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
