package handler_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender/correlation"
)

// An analyst's change keeps UpdatedAt. A finding counts until the time at which it was suppressed.
func TestAnalystsChangeBeginsWhenItWasMade(t *testing.T) {
	r := newRig(t, correlation.StolenIdentity())
	r.must(duplicate("pump-7").at(start, "o").event())
	r.now = start.Add(time.Hour)
	r.must(behavior("pump-7", "aws:source-ip-address").at(r.now, "o").event())
	r.now = start.Add(2 * time.Hour)
	suppressed := duplicate("pump-7").at(start, "s")
	suppressed.processed, suppressed.sentAt = r.now, r.now
	r.must(suppressed.event())
	r.want("stolen-identity/pump-7 CRITICAL 1")
	suppressed.flow = "NEW"
	suppressed.processed, suppressed.sentAt = r.now.Add(time.Minute), r.now.Add(time.Minute)
	r.now = r.now.Add(time.Minute)
	r.must(suppressed.event())
	r.want("stolen-identity/pump-7 CRITICAL 2")
}

// A policy's finding arrives after an alarm's decision has read the policy, and before it is
// written: the decision is made again.
func TestPolicyFindingBetweenReadAndWrite(t *testing.T) {
	for _, first := range []bool{true, false} {
		r := newRig(t, correlation.BlastRadius())
		r.now = start.Add(time.Minute)
		if !first { // the device has an item already
			r.must(behavior("pump-7", "aws:all-bytes-in").at(start.Add(-time.Hour), "x").event())
		}
		var interrupted atomic.Bool
		r.table.step = func(operation, key string, done bool) error {
			if operation == "PutItem" && key == "device#123456789012#us-east-1#pump-7" && !done && interrupted.CompareAndSwap(false, true) {
				r.must(broadPolicy("broad").at(start, "o").event())
			}
			return nil
		}
		r.must(behavior("pump-7", "aws:all-bytes-out").at(start.Add(time.Minute), "o").event())
		r.want("blast-radius/pump-7 CRITICAL 2")
		if !interrupted.Load() {
			t.Error("the policy's finding did not arrive in between")
		}
	}
}

// A policy's finding counts for as long as Security Hub keeps it without an update, and is deleted
// afterwards.
func TestPolicyFindingOutlivesTheWindows(t *testing.T) {
	const day = 24 * time.Hour
	for after, want := range map[time.Duration]string{89 * day: "blast-radius/pump-7 CRITICAL 2", 98 * day: ""} {
		r := newRig(t, correlation.BlastRadius())
		r.must(broadPolicy("broad").at(start, "o").event())
		r.now = start.Add(after)
		r.table.Service.Expire("state", r.now)
		r.must(behavior("pump-7", "aws:all-bytes-out").at(r.now, "o").event())
		r.want(want)
	}
}

// Parts that began before the full hour, in the former period, end after it.
func TestCampaignEndsInTheNextPeriod(t *testing.T) {
	r := newRig(t, correlation.Campaign(correlation.Spread{Devices: 2}))
	events := func(minutes int, letter string, devices ...string) {
		r.now = start.Add(time.Duration(minutes) * time.Minute)
		for _, d := range devices {
			r.must(behavior(d, "m").at(r.now, letter).event())
		}
	}
	events(50, "o", "pump-7", "pump-8")
	events(70, "x", "pump-7")
	if r.active() == "" {
		t.Error("the campaign ended before its last part")
	}
	events(71, "x", "pump-8")
	r.want("")
}

// A late event shows that the last alarm of a campaign had ended in between. The campaign ended then,
// and the next alarm of one device is no campaign.
func TestLateEventEndsACampaign(t *testing.T) {
	r := newRig(t, correlation.Campaign(correlation.Spread{Devices: 2}))
	alarm := func(device string, minute int, letter string) string {
		return behavior(device, "aws:all-bytes-out").at(start.Add(time.Duration(minute)*time.Minute), letter).event()
	}
	r.now = start.Add(10 * time.Minute)
	r.must(alarm("sensor-1", 0, "o"), alarm("sensor-2", 1, "o"))
	r.must(alarm("sensor-2", 2, "x"), alarm("sensor-1", 5, "o"))
	r.want("campaign/campaign/behavior b-aws:all-bytes-out HIGH 2")
	r.must(alarm("sensor-1", 3, "x"))
	r.want("")
}

// A message is delivered late, and is older than the parts that arrived before it. It opens a campaign
// with them, even if they belong to a later period.
func TestDelayedMessageOpensACampaign(t *testing.T) {
	for _, first := range []int{0, 50} {
		r := newRig(t, correlation.Campaign(correlation.Spread{Devices: 3}))
		alarm := func(device string, minute int) string {
			return behavior(device, "aws:all-bytes-out").at(start.Add(time.Duration(minute)*time.Minute), "o").event()
		}
		r.now = start.Add(time.Duration(first+20) * time.Minute)
		r.must(alarm("sensor-1", first+20), alarm("sensor-2", first+20))
		r.want("")
		r.now, r.delay = r.now.Add(5*time.Minute), 25*time.Minute
		r.must(alarm("sensor-3", first))
		r.want("campaign/campaign/behavior b-aws:all-bytes-out HIGH 3")
	}
}

// A device joins after the schedule has read the parts, and before it ends the campaign: the campaign
// continues.
func TestDeviceJoinsWhileTheScheduleEndsACampaign(t *testing.T) {
	r := newRig(t, correlation.Campaign(correlation.Spread{Devices: 2}))
	alarm := func(device string, at time.Duration, letter string) string {
		return behavior(device, "aws:all-bytes-out").at(start.Add(at), letter).event()
	}
	r.must(alarm("sensor-1", 0, "o"), alarm("sensor-2", time.Second, "o"))
	r.must(alarm("sensor-2", time.Minute, "x"))
	r.settle()
	var joined atomic.Bool
	r.now = start.Add(61 * time.Minute)
	r.table.step = func(operation, key string, done bool) error {
		if operation == "PutItem" && !done && joined.CompareAndSwap(false, true) {
			r.must(alarm("sensor-3", 59*time.Minute, "o"))
		}
		return nil
	}
	r.settle()
	r.want("campaign/campaign/behavior b-aws:all-bytes-out HIGH 1")
	if !joined.Load() {
		t.Error("no device has joined")
	}
}

// A composite finding stays active with its last part, however long ago the others ended.
func TestLongIncidents(t *testing.T) {
	for _, c := range []struct {
		name     string
		rule     correlation.Rule
		opens    []finding
		stays    finding
		every    time.Duration
		want     string
		calls    int // the most calls of the table per round
		duration time.Duration
	}{
		{"a device", correlation.StolenIdentity(), []finding{duplicate("pump-7")}, behavior("pump-7", "aws:source-ip-address"), 12 * time.Hour, "stolen-identity/pump-7 CRITICAL 1", 30, 40 * 24 * time.Hour},
		{"a campaign", correlation.Campaign(correlation.Spread{Devices: 3}), []finding{behavior("sensor-1", "m"), behavior("sensor-2", "m")}, behavior("sensor-3", "m"), 40 * time.Minute,
			"campaign/campaign/behavior b-m HIGH 1", 60, 24 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.rule)
			for _, f := range append(c.opens, c.stays) {
				r.must(f.at(start, "o").event())
			}
			r.now = start.Add(time.Minute)
			for _, f := range c.opens {
				r.must(f.at(r.now, "x").event())
			}
			for r.now.Before(start.Add(c.duration)) {
				r.now = r.now.Add(c.every)
				clear(r.table.calls)
				r.must(c.stays.at(r.now, "o").event())
				if err := r.due(); err != nil {
					t.Fatal(err)
				}
				if n := r.table.calls["GetItem"] + r.table.calls["PutItem"] + r.table.calls["Query"]; n > c.calls {
					t.Fatalf("%d calls of the table in one round, want at most %d", n, c.calls)
				}
			}
			r.want(c.want)
			r.now = r.now.Add(25 * time.Hour)
			r.settle()
			r.want("")
		})
	}
}

// A campaign begins with devices that alarmed in the period before. It stays active with its last
// device when that period is no longer read.
func TestCampaignBeganWithPartsOfAnEarlierPeriod(t *testing.T) {
	r := newRig(t, correlation.Campaign(correlation.Spread{Devices: 3}))
	alarm := func(device, letter string) string {
		return behavior(device, "aws:all-bytes-out").at(r.now, letter).event()
	}
	r.now = start.Add(30 * time.Minute)
	r.must(alarm("sensor-1", "o"), alarm("sensor-2", "o"))
	r.now = start.Add(70 * time.Minute)
	r.must(alarm("sensor-3", "o"))
	r.now = r.now.Add(time.Minute)
	r.must(alarm("sensor-1", "x"), alarm("sensor-2", "x"))
	for range 40 {
		r.now = r.now.Add(5 * time.Minute)
		r.must(alarm("sensor-3", "o"))
		if err := r.due(); err != nil {
			t.Fatal(err)
		}
		r.want("campaign/campaign/behavior b-aws:all-bytes-out HIGH 1")
	}
}
