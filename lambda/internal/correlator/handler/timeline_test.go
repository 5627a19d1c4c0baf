package handler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/correlation"
	"github.com/defenderhub/defenderhub/internal/asff"
	rules "github.com/defenderhub/defenderhub/internal/correlation"
)

func severityOf(c rules.Composite) string { return defender.Severity(c.Severity).String() }

// line has the letters of one finding for at, one per step.
type line struct {
	of      finding
	letters string
}

// TestBuiltInRules plays timelines for each built-in rule. Wanted is the number of parts of the
// composite finding after each step, "." while it is not active.
func TestBuiltInRules(t *testing.T) {
	const address, refusals, telnet, bytesOut, silent, lost = "aws:source-ip-address", "aws:num-authorization-failures", "aws:listening-tcp-ports", "aws:all-bytes-out", "defenderhub:minutes-since-report", "aws:disconnect-duration"
	for _, c := range []struct {
		rule      correlation.Rule
		finding   string // its ID
		severity  string
		timelines map[string][]line
		want      map[string]string
	}{
		{correlation.StolenIdentity(), "stolen-identity/pump-7", "CRITICAL", map[string][]line{
			"opens, grows, shrinks, ends, reopens": {
				{duplicate("pump-7"), "    o . . . x . o ."},
				{behavior("pump-7", address), ". o . x . . . o"},
				{audit("CONFLICTING_CLIENT_IDS_CHECK", "pump-7"), ". . o . . x . ."},
			},
			"one kind of evidence alone": {
				{duplicate("pump-7"), "o . . ."},
				{audit("CONFLICTING_CLIENT_IDS_CHECK", "pump-7"), ". o . ."},
			},
			"another device's address": {
				{duplicate("pump-7"), "o . . ."},
				{behavior("meter-2", address), ". o . ."},
			},
		}, map[string]string{
			"opens, grows, shrinks, ends, reopens": ". 2 3 2 1 . . 2", "one kind of evidence alone": ". . . .", "another device's address": ". . . .",
		}},
		{correlation.CompromiseChain(), "compromise-chain/meter-2", "CRITICAL", map[string][]line{
			"opens, shrinks, ends, reopens": {
				{behavior("meter-2", refusals), "o . . . x . o . . ."},
				{behavior("meter-2", telnet), ". o . . . x . o . ."},
				{behavior("meter-2", bytesOut), ". . o x . . . . o ."},
			},
			"in another order": {
				{behavior("meter-2", refusals), ". . o ."},
				{behavior("meter-2", telnet), ". o . ."},
				{behavior("meter-2", bytesOut), "o . . ."},
			},
			"an analyst suppresses a part": {
				{behavior("meter-2", refusals), "o . . s . ."},
				{behavior("meter-2", telnet), ". o . . r ."},
				{behavior("meter-2", bytesOut), ". . o . . s"},
			},
		}, map[string]string{
			"opens, shrinks, ends, reopens": ". . 3 2 1 . . . 3 3", "in another order": ". . . .", "an analyst suppresses a part": ". . 3 2 1 .",
		}},
		{correlation.BlastRadius(), "blast-radius/pump-7", "CRITICAL", map[string][]line{
			"opens, grows, ends with the alarm, reopens": {
				{broadPolicy("broad"), "             o . . . . . ."},
				{behavior("pump-7", bytesOut), ". o . x . o ."},
				{behavior("pump-7", telnet), "  . . o . x . ."},
			},
			"the policy is found later, and is fixed": {
				{broadPolicy("broad"), "             . o . x . ."},
				{behavior("pump-7", bytesOut), "o . . . x ."},
			},
			"a policy that the device does not use": {
				{broadPolicy("other"), "             o . . ."},
				{behavior("pump-7", bytesOut), ". o . ."},
			},
			"the role behind its role alias": {
				{externalAccess("arn:aws:iam::123456789012:role/camera"), "o . . ."},
				{behavior("pump-7", bytesOut), ". o . ."},
			},
		}, map[string]string{
			"opens, grows, ends with the alarm, reopens": ". 2 3 2 . 2 2", "the policy is found later, and is fixed": ". 2 2 1 . .",
			"a policy that the device does not use": ". . . .", "the role behind its role alias": ". 2 2 2",
		}},
		{correlation.TamperAndSilence(), "tamper-and-silence/pump-7", "CRITICAL", map[string][]line{
			"opens, grows, shrinks, ends, reopens": {
				{deviceEvent("pump-7", "tamper"), "o . . . x . o"},
				{behavior("pump-7", silent), "    . o . x . . ."},
				{behavior("pump-7", lost), "      . . o . . x o"},
			},
			"silence alone": {{behavior("pump-7", silent), "o . ."}, {behavior("pump-7", lost), "o . ."}},
		}, map[string]string{"opens, grows, shrinks, ends, reopens": ". 2 3 2 1 . 2", "silence alone": ". . ."}},
		{correlation.SilencedAfterAlarm(), "silenced-after-alarm/pump-7", "HIGH", map[string][]line{
			"opens, shrinks, ends, reopens": {
				{behavior("pump-7", bytesOut), "o . x . o ."},
				{behavior("pump-7", silent), "  . o . x . o"},
			},
			"silent before the alarm": {
				{behavior("pump-7", bytesOut), ". o . ."},
				{behavior("pump-7", silent), "  o . . ."},
			},
			"two kinds of silence": {{behavior("pump-7", lost), "o . ."}, {behavior("pump-7", silent), ". o ."}},
		}, map[string]string{"opens, shrinks, ends, reopens": ". 2 1 . . 2", "silent before the alarm": ". . . .", "two kinds of silence": ". . ."}},
		{correlation.Campaign(correlation.Spread{Devices: 3}), "campaign/campaign/behavior b-aws:all-bytes-out", "HIGH", map[string][]line{
			"opens, grows, shrinks, ends, reopens": {
				{behavior("sensor-1", bytesOut), "o . . . x . . o"},
				{behavior("sensor-2", bytesOut), "o . . x . . . o"},
				{behavior("sensor-3", bytesOut), ". o . . . x . o"},
				{behavior("sensor-4", bytesOut), ". . o . x . . ."},
			},
			"two devices": {
				{behavior("sensor-1", bytesOut), "o . ."}, {behavior("sensor-2", bytesOut), "o . ."}, {behavior("sensor-3", telnet), "o . ."},
			},
		}, map[string]string{"opens, grows, shrinks, ends, reopens": ". 3 4 3 1 . . 3", "two devices": ". . ."}},
		{correlation.TwoProducts(), "two-products/gateway-1", "CRITICAL", map[string][]line{
			"opens, grows, shrinks, ends, reopens": {
				{behavior("gateway-1", bytesOut), "o . . . x . o"},
				{guardDuty("i-0abc"), "            . o . x . . o"},
				{behavior("gateway-1", telnet), "  . . o . . x ."},
			},
			"one service with two findings": {{behavior("gateway-1", bytesOut), "o . ."}, {audit("CONFLICTING_CLIENT_IDS_CHECK", "gateway-1"), "o . ."}},
			"an instance of no thing":       {{behavior("gateway-1", bytesOut), "o . ."}, {guardDuty("i-0def"), "o . ."}},
		}, map[string]string{"opens, grows, shrinks, ends, reopens": ". 2 3 2 1 . 2", "one service with two findings": ". . .", "an instance of no thing": ". . ."}},
	} {
		for name, lines := range c.timelines {
			t.Run(c.rule.Name+"/"+name, func(t *testing.T) {
				r := newRig(t, c.rule)
				var got []string
				for i := range strings.Fields(c.want[name]) {
					r.now = start.Add(time.Duration(i) * step(c.rule))
					for _, l := range lines {
						if letter := strings.Fields(l.letters)[i]; letter != "." {
							r.must(l.of.at(r.now, letter).event())
						}
					}
					r.now = r.now.Add(step(c.rule) / 2)
					if err := r.due(); err != nil {
						t.Fatal(err)
					}
					composite, ok := r.composites()[c.finding]
					switch {
					case !ok || composite.State != asff.Active:
						got = append(got, ".")
					default:
						got = append(got, fmt.Sprint(composite.Parts))
						if severityOf(composite) != c.severity {
							t.Errorf("step %d: severity %s, want %s", i, severityOf(composite), c.severity)
						}
					}
				}
				if text := strings.Join(got, " "); text != c.want[name] {
					t.Errorf("got  %s\nwant %s\n%s", text, c.want[name], &r.logs)
				}
				if n := len(r.composites()); n > 1 {
					t.Errorf("%d composite findings, want at most one", n)
				}
			})
		}
	}
}

// step returns the time between two letters: an hour, but two minutes for a campaign, whose window is
// an hour.
func step(r correlation.Rule) time.Duration {
	if r.Spread.Enabled() {
		return 2 * time.Minute
	}
	return time.Hour
}

// audit returns an audit finding about a client ID.
func audit(check, client string) finding {
	return finding{
		product: ours, id: "defenderhub/audit/us-east-1/CLIENT_ID/" + client + "/" + check, severity: "HIGH",
		fields:    map[string]string{"CheckName": check, "ClientId": client, "ReportType": "AuditFinding"},
		resources: []map[string]any{{"Type": "Other", "Id": client, "Details": map[string]any{"Other": map[string]any{"ResourceType": "CLIENT_ID", "ClientId": client}}}},
	}
}

// externalAccess returns a finding of IAM Access Analyzer about a role.
func externalAccess(role string) finding {
	return finding{
		product: products + ":product/aws/access-analyzer", id: "arn:aws:access-analyzer:us-east-1:123456789012:analyzer/a/finding/1", severity: "HIGH",
		resources: []map[string]any{{"Type": "AwsIamRole", "Id": role}},
	}
}

// Without events, the schedule ends the finding when its window has passed. The finding reopens under
// the same ID.
func TestWindowPassesWithoutEvents(t *testing.T) {
	r := newRig(t, correlation.StolenIdentity())
	r.must(duplicate("pump-7").at(start, "o").event())
	r.now = start.Add(time.Hour)
	r.must(behavior("pump-7", "aws:source-ip-address").at(r.now, "o").event())
	r.want("stolen-identity/pump-7 CRITICAL 2")
	for hour := 2; hour < 27; hour++ {
		r.now = start.Add(time.Duration(hour) * time.Hour)
		if err := r.due(); err != nil {
			t.Fatal(err)
		}
		switch {
		case hour < 24:
			r.want("stolen-identity/pump-7 CRITICAL 2")
		case hour < 25:
			r.want("stolen-identity/pump-7 CRITICAL 1")
		default:
			r.want("")
		}
	}
	if c := r.composites()["stolen-identity/pump-7"]; c.End != rules.WindowPassed {
		t.Errorf("ended by %q, want %q", c.End, rules.WindowPassed)
	}
	r.must(behavior("pump-7", "aws:source-ip-address").at(r.now, "o").event(), duplicate("pump-7").at(r.now, "o").event())
	r.want("stolen-identity/pump-7 CRITICAL 2")
}
