package handler_test

import (
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/notification"
)

// rules has a rule about one device, chain, and a campaign, storm.
var rules = []correlation.Rule{
	{Name: "chain", Severity: correlation.Label(defender.Critical), Stages: []correlation.Stage{
		{Name: "a port", Match: []correlation.Matcher{{Behaviors: []string{"ports"}}}}, {Name: "traffic", Match: []correlation.Matcher{{Behaviors: []string{"bytes"}}}},
	}},
	{Name: "storm", Devices: 3, Stages: []correlation.Stage{{Name: "an alarm", Match: []correlation.Matcher{{Sources: []string{"behavior"}}}}}},
}

// An incident about a device of another account covers only that device. An incident that another
// account imported covers no device.
func TestIncidentOfAnotherAccount(t *testing.T) {
	const theirs = "210987654321"
	r := newRig(t, notification.Config{Rules: rules, HoldSeconds: 60})
	composite := strings.Replace(incident("chain", "pump-7", "", "HIGH", "", noon), `/chain/pump-7"`, `/chain/pump-7/`+theirs+`/eu-west-1"`, 1)
	foreign := finding{name: "pump-7", severity: "HIGH", at: noon, more: map[string]any{
		"AwsAccountId": theirs, "Region": "eu-west-1", "ProductArn": "arn:aws:securityhub:eu-west-1:" + theirs + ":product/" + theirs + "/default",
	}}
	forged := strings.ReplaceAll(incident("chain", "pump-8", "", "HIGH", "", noon), account+":product/"+account, theirs+":product/"+theirs)
	for _, e := range []string{composite, foreign.event(), finding{name: "pump-7", severity: "HIGH", at: noon}.event(), forged, finding{name: "pump-8", severity: "HIGH", at: noon}.event()} {
		r.send(e)
	}
	r.run(noon.Add(5 * time.Minute))
	got := strings.Join(sorted(r.messages()), "\n")
	if strings.Count(got, "finding, new: pump-7") != 1 || strings.Count(got, "finding, new: pump-8") != 1 || strings.Count(got, "incident, new") != 2 {
		t.Errorf("people received\n%s\nwant one message about each device and each incident", got)
	}
	for _, p := range r.published {
		if strings.Contains(p.subject, "finding, new") && !strings.Contains(p.body, "account "+account) && p.topic == people {
			t.Errorf("a part of the other account has a message:\n%s", p.body)
		}
		if strings.Contains(p.subject, "incident, new: chain pump-7") && p.topic == people && (!strings.Contains(p.body, "account "+theirs+", eu-west-1") || strings.Contains(p.body, "#/thing/")) {
			t.Errorf("the message of the incident does not name the other account, or links to a thing:\n%s", p.body)
		}
	}
}

func TestTimelines(t *testing.T) {
	withRules := notification.Config{Rules: rules, HoldSeconds: 60}
	for _, c := range []struct {
		name   string
		config notification.Config
		in     string
		want   string
	}{
		{"new, worse, over", notification.Config{}, `
			0s  pump-7 MEDIUM
			1m  pump-7 HIGH
			2m  pump-7 HIGH
			9m  pump-7 HIGH archived`, `
			0s MEDIUM finding, new: pump-7 violates ports
			1m HIGH finding, worse (was MEDIUM): pump-7 violates ports
			9m HIGH finding, over: pump-7 violates ports`},
		{"a severity that falls and rises is not worse", notification.Config{}, `
			0s  pump-7 HIGH
			1m  pump-7 MEDIUM
			2m  pump-7 HIGH`, `
			0s HIGH finding, new: pump-7 violates ports`},
		{"reopened", notification.Config{}, `
			0s  pump-7 HIGH
			1m  pump-7 HIGH archived
			2m  pump-7 HIGH`, `
			0s HIGH finding, new: pump-7 violates ports
			1m HIGH finding, over: pump-7 violates ports
			2m HIGH finding, new: pump-7 violates ports`},
		{"an analyst suppresses or resolves it", notification.Config{}, `
			0s  pump-7 HIGH
			1m  pump-7 HIGH suppressed
			2m  pump-7 HIGH suppressed
			3m  meter-2 HIGH
			4m  meter-2 HIGH resolved`, `
			0s HIGH finding, new: pump-7 violates ports
			1m HIGH finding, over: pump-7 violates ports
			3m HIGH finding, new: meter-2 violates ports
			4m HIGH finding, over: meter-2 violates ports`},
		{"suppressed by a rule from the beginning", notification.Config{}, `
			0s  pump-7 HIGH suppressed
			1m  pump-7 HIGH archived`, ``},
		{"the end is reported below the filter's severity", notification.Config{}, `
			0s  pump-7 MEDIUM
			1m  pump-7 LOW
			2m  pump-7 LOW archived
			3m  meter-2 LOW
			4m  meter-2 LOW archived`, `
			0s MEDIUM finding, new: pump-7 violates ports
			2m LOW finding, over: pump-7 violates ports`},
		{"filters", notification.Config{Filters: []notification.Filter{{Behaviors: []string{"bytes"}}, {Severity: correlation.Label(defender.Critical)}}}, `
			0s  pump-7 ports HIGH
			1m  pump-7 bytes LOW
			2m  pump-7 ports CRITICAL`, `
			1m LOW finding, new: pump-7 violates bytes
			2m CRITICAL finding, new: pump-7 violates ports`},
		{"an incident covers its parts", withRules, `
			0s  pump-7 ports MEDIUM
			5s  pump-7 bytes MEDIUM
			10s chain incident pump-7 CRITICAL
			5m  pump-7 other MEDIUM
			10m pump-7 bytes HIGH
			20m pump-7 bytes HIGH archived
			21m pump-7 ports MEDIUM archived
			22m chain incident pump-7 CRITICAL archived`, `
			10s CRITICAL incident, new: chain pump-7
			6m MEDIUM finding, new: pump-7 violates other
			22m CRITICAL incident, over: chain pump-7`},
		{"a part that was reported before its incident has no end of its own", withRules, `
			0s  pump-7 ports MEDIUM
			5m  pump-7 bytes MEDIUM
			5m10s chain incident pump-7 CRITICAL
			9m  pump-7 ports MEDIUM archived
			10m chain incident pump-7 CRITICAL archived`, `
			1m MEDIUM finding, new: pump-7 violates ports
			5m10s CRITICAL incident, new: chain pump-7
			10m CRITICAL incident, over: chain pump-7`},
		{"after the incident", withRules, `
			0s  chain incident pump-7 HIGH
			1m  pump-7 ports MEDIUM
			10m chain incident pump-7 HIGH archived
			11m pump-7 ports MEDIUM
			12m pump-7 ports CRITICAL
			15m pump-7 ports CRITICAL archived`, `
			0s HIGH incident, new: chain pump-7
			10m HIGH incident, over: chain pump-7
			12m CRITICAL finding, worse (was MEDIUM): pump-7 violates ports
			15m CRITICAL finding, over: pump-7 violates ports`},
		{"a part that only its incident reported ends without a message", withRules, `
			0s  chain incident pump-7 HIGH
			1m  pump-7 ports MEDIUM
			10m chain incident pump-7 HIGH archived
			15m pump-7 ports MEDIUM archived`, `
			0s HIGH incident, new: chain pump-7
			10m HIGH incident, over: chain pump-7`},
		{"a campaign covers all devices with the same behavior", withRules, `
			0s  pump-1 MEDIUM
			1s  pump-2 MEDIUM
			2s  pump-3 MEDIUM
			10s storm campaign ports HIGH
			5m  pump-4 ports MEDIUM
			6m  pump-1 bytes MEDIUM
			20m storm campaign ports HIGH archived`, `
			10s HIGH incident, new: storm
			7m MEDIUM finding, new: pump-1 violates bytes
			20m HIGH incident, over: storm`},
		{"a device cannot hide an event by clearing it at once", withRules, `
			0s  pump-7 HIGH
			20s pump-7 HIGH archived`, `
			1m HIGH finding, new: pump-7 violates ports
			1m20s HIGH finding, over: pump-7 violates ports`},
		{"a part that ended before its incident is covered too", withRules, `
			0s  pump-7 HIGH
			20s pump-7 HIGH archived
			30s chain incident pump-7 CRITICAL`, `
			30s CRITICAL incident, new: chain pump-7`},
		{"refreshes do not make a new finding wait again", withRules, `
			0s  pump-7 HIGH
			50s pump-7 HIGH
			70s pump-7 HIGH`, `
			1m HIGH finding, new: pump-7 violates ports`},
		{"digest", notification.Config{DigestBelow: correlation.Label(defender.High)}, `
			0s  pump-7 MEDIUM
			1m  meter-2 HIGH
			2m  pump-8 MEDIUM
			3m  pump-8 MEDIUM archived
			4m  pump-9 MEDIUM
			5m  pump-9 HIGH
			1h  digest
			2h  digest`, `
			1m HIGH finding, new: meter-2 violates ports
			5m HIGH finding, worse (was MEDIUM): pump-9 violates ports
			1h Digest: 3 findings below HIGH`},
		{"reminder", notification.Config{Remind: correlation.Label(defender.Critical)}, `
			0s  pump-7 CRITICAL
			1m  pump-8 CRITICAL
			2m  pump-8 CRITICAL archived
			3m  pump-9 HIGH
			1h  remind
			1h  remind
			2h  pump-7 HIGH
			3h  remind`, `
			0s CRITICAL finding, new: pump-7 violates ports
			1m CRITICAL finding, new: pump-8 violates ports
			2m CRITICAL finding, over: pump-8 violates ports
			3m HIGH finding, new: pump-9 violates ports
			1h Reminder: 1 finding of severity CRITICAL still open`},
		{"a reminder has the incident, not its parts", notification.Config{Rules: rules, HoldSeconds: 60, Remind: correlation.Label(defender.Critical)}, `
			0s  chain incident pump-7 CRITICAL
			1s  pump-7 ports CRITICAL
			1h  remind`, `
			0s CRITICAL incident, new: chain pump-7
			1h Reminder: 1 finding of severity CRITICAL still open`},
		{"a reminder has the part that outlives its incident", notification.Config{Rules: rules, HoldSeconds: 60, Remind: correlation.Label(defender.Critical)}, `
			0s  chain incident pump-7 CRITICAL
			1s  pump-7 ports CRITICAL
			2s  pump-7 bytes HIGH
			24h chain incident pump-7 CRITICAL archived
			25h remind
			26h pump-7 ports CRITICAL archived
			27h remind`, `
			0s CRITICAL incident, new: chain pump-7
			24h CRITICAL incident, over: chain pump-7
			25h Reminder: 1 finding of severity CRITICAL still open`},
		{"a reminder has the part of an incident that is not severe enough for it", notification.Config{Rules: rules, HoldSeconds: 60, Remind: correlation.Label(defender.Critical)}, `
			0s  chain incident pump-7 HIGH
			1s  pump-7 ports CRITICAL
			1h  remind`, `
			0s HIGH incident, new: chain pump-7
			1h Reminder: 1 finding of severity CRITICAL still open`},
		{"a reminder knows which incident covers a part now", notification.Config{Rules: rules, HoldSeconds: 60, Remind: correlation.Label(defender.High)}, `
			0s  chain incident pump-7 CRITICAL
			1s  pump-7 ports HIGH
			10m chain incident pump-7 CRITICAL archived
			20m storm campaign ports CRITICAL
			21m pump-7 ports CRITICAL
			1h  remind
			2h  storm campaign ports CRITICAL archived
			3h  remind`, `
			0s CRITICAL incident, new: chain pump-7
			10m CRITICAL incident, over: chain pump-7
			20m CRITICAL incident, new: storm
			1h Reminder: 1 finding of severity HIGH still open
			2h CRITICAL incident, over: storm
			3h Reminder: 1 finding of severity HIGH still open`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.config)
			got := timeline(t, r, c.in)
			want := strings.TrimSpace(strings.ReplaceAll(c.want, "\n\t\t\t", "\n"))
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if r.count(contract.MetricFailed) > 0 || len(r.queue) > 0 {
				t.Errorf("%d failures, %d messages in the queue; want none", r.count(contract.MetricFailed), len(r.queue))
			}
			if people, chat := r.on(people), r.on(chat); strings.Join(people, "\n") != strings.Join(chat, "\n") {
				t.Errorf("chat received other messages than people:\n%s", strings.Join(chat, "\n"))
			}
		})
	}
}

// Security Hub keeps the time of a finding's first occurrence. A message and a list have that of the
// present one.
func TestFindingThatOpensAgainIsOpenSinceThen(t *testing.T) {
	for name, config := range map[string]notification.Config{"message": {}, "digest": {DigestBelow: correlation.Label(defender.Critical)}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, config)
			for i, state := range []string{"", "archived", "", ""} {
				at := noon.Add(time.Duration(i) * time.Hour)
				e := finding{name: "pump-7", severity: "HIGH", state: state, at: at, more: map[string]any{"FirstObservedAt": noon.Format(time.RFC3339)}}
				if i == 3 {
					e.severity = "CRITICAL" // the same occurrence
				}
				r.send(e.event())
				r.run(at)
				r.request(contract.NotifyDigest)
			}
			all := r.on(people)
			var bodies []string
			for _, p := range r.published {
				if p.topic == people {
					bodies = append(bodies, p.body)
				}
			}
			for i, want := range []string{"12:00", "12:00", "14:00", "14:00"} {
				if len(bodies) != 4 || !strings.Contains(strings.Join(strings.Fields(bodies[i]), " "), "ince 2026-11-30 "+want) {
					t.Errorf("message %d of %d: %v, want since %s", i, len(bodies), all, want)
				}
			}
		})
	}
}
