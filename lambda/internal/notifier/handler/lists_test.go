package handler_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/notification"
)

// lists enables each kind of list: a digest, a reminder, and a message "and N more".
var lists = notification.Config{DigestBelow: correlation.Label(defender.High), Remind: correlation.Label(defender.High), PerMinute: 1}

// sendListed sends findings for a digest and for a reminder.
func sendListed(r *rig) {
	for i := range 40 {
		r.send(finding{name: fmt.Sprintf("pump-%d", i), severity: "MEDIUM", at: noon}.event())
		r.send(finding{name: fmt.Sprintf("valve-%d", i), severity: "HIGH", at: noon}.event())
	}
	r.run(noon.Add(30 * time.Second))
}

// invoke requests a list at noon, and returns the error.
func (r *rig) invoke(kind string) error {
	_, err := r.h.Handle(context.Background(), []byte(contract.NotifyRequest(kind, noon.Format(time.RFC3339))))
	return err
}

// A schedule or a queue may request a list twice. Then several invocations run at once.
func TestTwoInvocationsSendAListOnce(t *testing.T) {
	for _, slow := range []string{"Publish people", "Publish chat", "PutItem", "DeleteItem"} {
		for _, kind := range []string{contract.NotifyDigest, contract.NotifyRemind} {
			t.Run(slow+" "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, lists)
					sendListed(r)
					before := len(r.on(people))
					r.fault = func(call string, done bool) error {
						if call == slow && !done {
							time.Sleep(2 * time.Second)
						}
						return nil
					}
					var group sync.WaitGroup
					for i := range 3 {
						group.Go(func() {
							time.Sleep(time.Duration(i) * time.Second)
							if err := r.invoke(kind); err != nil {
								t.Error(err)
							}
						})
					}
					group.Wait()
					if got := r.on(people)[before:]; len(got) != 1 || !strings.Contains(got[0], "40 findings") {
						t.Errorf("people received %q, want one list of 40 findings", got)
					}
				})
			})
		}
	}
}

// After an invocation has crashed while it sent a list, another one sends the list.
func TestCrashKeepsNoListFromBeingSent(t *testing.T) {
	for _, kind := range []string{contract.NotifyDigest, contract.NotifyRemind} {
		synctest.Test(t, func(t *testing.T) {
			for crash := int64(1); ; crash++ {
				r := newRig(t, lists)
				r.send(finding{name: "pump-7", severity: "MEDIUM", at: noon}.event())
				r.send(finding{name: "valve-7", severity: "HIGH", at: noon}.event())
				r.run(noon)
				before := len(r.on(people))
				var calls atomic.Int64
				r.fault = func(string, bool) error {
					if calls.Add(1) == crash {
						return errCrashed
					}
					return nil
				}
				_ = r.invoke(kind)
				if calls.Load() < crash {
					break // there are no more calls
				}
				begin := time.Now()
				r.crashed = false
				if err := r.invoke(kind); err != nil || time.Since(begin) > 35*time.Second {
					t.Errorf("%s after a crash at call %d: error %v after %v, want none within 35s", kind, crash, err, time.Since(begin))
				}
				if got := r.on(people)[before:]; len(got) < 1 || len(got) > 2 || len(r.on(chat)) < before+1 {
					t.Errorf("%s after a crash at call %d: people received %q, want the list once or twice; chat received %q", kind, crash, got, r.on(chat))
				}
			}
		})
	}
}

// The table throttles calls after a list was published. The list is not sent again.
func TestThrottledTableDoesNotRepeatAList(t *testing.T) {
	for _, call := range []string{"PutItem", "DeleteItem"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, lists)
			sendListed(r)
			before := len(r.on(people))
			var calls atomic.Int64 // lines are deleted in parallel
			r.fault = func(name string, done bool) error {
				if name == call && !done && len(r.on(people)) > before && calls.Add(1) <= 5 {
					return fmt.Errorf("throttled")
				}
				return nil
			}
			for range 3 {
				_ = r.invoke(contract.NotifyDigest)
			}
			if got := r.on(people)[before:]; len(got) != 1 || calls.Load() < 5 {
				t.Errorf("%s was called %d times, want at least 5; people received %q, want one list", call, calls.Load(), got)
			}
		})
	}
}
