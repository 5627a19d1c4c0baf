//go:build !race

// The race detector takes minutes for so many findings. It runs with the other tests, which run
// the same code.

package handler_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
)

// Security Hub allows 10 imports per second, with bursts of 30, for all findings of all products.
func TestTenThousandFindingsAreRestatedWithinTheQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t}
		r.build(securityhubtest.Config{Now: time.Now, RateLimits: true})
		r.redeploy("1", defender.Medium, defender.Medium)
		const n = 10_000
		for done := 0; done < n; {
			r.now = time.Now()
			var batch []events.SQSMessage
			for range 1000 {
				if done++; done%2 == 0 {
					batch = append(batch, r.alarm(fmt.Sprintf("pump-%d", done), "small"))
				} else {
					batch = append(batch, r.device(fmt.Sprintf("pump-%d", done), r.now, tamper))
				}
			}
			r.must(batch...)
			time.Sleep(10 * time.Second)
		}
		deployed := time.Now()
		r.redeploy("2", defender.Low, defender.Critical)
		calls := len(r.service.Calls("BatchImportFindings"))
		// Each run has the shortest timeout that a function may have, and the ledger needs time
		// as well.
		r.service.Inject(securityhubtest.Fault{Before: func(securityhubtest.Call) { time.Sleep(200 * time.Millisecond) }})
		runs, done := 0, false
		for ; !done && runs < 24; runs++ {
			before := len(r.service.Calls("BatchImportFindings"))
			time.Sleep(time.Hour)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			if _, err := r.handler.Handle(ctx, refreshAt(time.Now())); err != nil {
				t.Fatal(err)
			}
			cancel()
			done = len(r.service.Calls("BatchImportFindings")) == before
		}
		left := 0
		for _, got := range r.severities() {
			if got == "MEDIUM" {
				left++
			}
		}
		if left > 0 || time.Since(deployed) > 24*time.Hour || runs < 2 {
			t.Errorf("%d of %d findings left after %d runs, %v after the deployment; want none within a day", left, n, runs, time.Since(deployed))
		}
		var last time.Time
		all := r.service.Calls("BatchImportFindings")[calls:]
		for _, c := range all {
			if c.Code != "" || c.Time.Sub(last) < 500*time.Millisecond {
				t.Errorf("call at %v, %v after the previous one, error %q; want at least 500ms and none", c.Time, c.Time.Sub(last), c.Code)
			}
			last = c.Time
		}
		if len(all) < n/100 || len(all) > n/100+2*runs {
			t.Errorf("%d calls for %d findings, want %d to %d", len(all), n, n/100, n/100+2*runs)
		}
	})
}
