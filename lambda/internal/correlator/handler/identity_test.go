package handler_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/correlation"
	"github.com/defenderhub/defenderhub/internal/asff"
	rules "github.com/defenderhub/defenderhub/internal/correlation"
)

// anything returns a rule that matches every finding of MEDIUM severity or higher.
func anything() correlation.Rule {
	return correlation.Rule{Name: "any", Stages: []correlation.Stage{{Name: "any", Match: []correlation.Matcher{{Severity: defender.Medium}}}}}
}

// The device of a finding is read from its resources and product fields, and from the registry, never
// from a title or from a text that a device chose.
func TestDeviceOfAFinding(t *testing.T) {
	certificate := strings.Repeat("ab", 32)
	shared := strings.Repeat("cd", 32)
	native := func(resource map[string]any, fields map[string]string) finding {
		return finding{product: products + ":product/aws/iot-device-defender-audit", id: "audit", fields: fields, resources: []map[string]any{resource}}
	}
	detail := func(id string, details map[string]any) map[string]any {
		return map[string]any{"Type": "Other", "Id": id, "Details": map[string]any{"Other": details}}
	}
	titled := deviceEvent("sensor-1", "tamper")
	titled.title = "Registered thing pump-7 is in alarm for STATIC behavior x."
	titled.fields["Detail/ThingName"] = "pump-7"
	forged := duplicate("pump-7")
	forged.fields["PublishedBy"] = "sensor-1"
	joined := duplicate("pump-7#2")
	refused := duplicate("meter-2") // the client chose the ID, the certificate is pump-7's
	for _, c := range []struct {
		name string
		of   finding
		want string
	}{
		{"thing", behavior("pump-7", "m"), "any/pump-7 HIGH 1"},
		{"hostile title and details", titled, "any/sensor-1 HIGH 1"},
		{"forged event", forged, "any/sensor-1 HIGH 1"},
		{"client of the thing's certificate", joined, "any/pump-7 HIGH 1"},
		{"another client with the thing's certificate", refused, "any/pump-7 HIGH 1"},
		{"certificate of one thing", native(detail(certificate, map[string]any{"ResourceType": "DEVICE_CERTIFICATE", "DeviceCertificateId": certificate}), nil), "any/pump-7 HIGH 1"},
		{"certificate by product field", native(detail("x", nil), map[string]string{"DeviceCertificateId": certificate}), "any/pump-7 HIGH 1"},
		{"certificate of two things", native(detail(shared, map[string]any{"DeviceCertificateId": shared}), nil), "any/meter-2 HIGH 1, any/pump-7 HIGH 1"},
		{"client that is no thing", deviceEvent("sensor-9", "tamper"), "any/sensor-9 HIGH 1"},
		{"instance of a thing", guardDuty("i-0abc"), "any/gateway-1 HIGH 1"},
		{"instance of no thing", guardDuty("i-0def"), ""},
		{"policy", broadPolicy("broad"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, anything())
			r.must(c.of.at(start, "o").event())
			r.want(c.want)
			if n := r.counted("Unattributed"); (n == 1) != (c.want == "") {
				t.Errorf("%d findings without a device were counted", n)
			}
		})
	}
}

// integrated returns an audit finding of AWS's integration as it names resources other than policies
// in the local AWS: without product fields for the resource.
func integrated(check defender.Check, kind string, resources ...map[string]any) finding {
	return finding{
		product: products + ":product/aws/iot-device-defender-audit", id: account + "/" + kind + "/" + fmt.Sprint(resources) + "/" + check.String() + "/R", generator: "f", severity: "CRITICAL",
		fields: map[string]string{
			"ReportType": "AuditFinding", "CheckName": check.String(), "TaskId": "t", "TaskType": "SCHEDULED_AUDIT_TASK",
			"IsSuppressed": "false", "ReasonForNonComplianceCode": "R", "ResourceType": kind, "FindingId": "f", "TaskStartTime": "1",
		},
		resources: resources,
	}
}

func untyped(id string) map[string]any {
	return map[string]any{"Type": "Other", "Id": id, "Partition": "aws", "Region": region}
}

// without returns the finding without some product fields.
func (f finding) without(fields ...string) finding {
	f.fields = maps.Clone(f.fields)
	for _, name := range fields {
		delete(f.fields, name)
	}
	return f
}

func TestDeviceOfAnAuditFindingWithoutFieldsForItsResource(t *testing.T) {
	certificate, shared := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	arn := func(resource string) string { return "arn:aws:iot:" + region + ":" + account + ":" + resource }
	twice := integrated(defender.DeviceCertificateShared, "DEVICE_CERTIFICATE", untyped(certificate))
	client := integrated(defender.ConflictingClientIDs, "CLIENT_ID", untyped("meter-2"))
	summary := integrated(defender.ConflictingClientIDs, "", map[string]any{"Type": "AwsIotAuditTask", "Id": "f3021945485adf92487c273558fcaa51"})
	summary.fields["ReportType"] = "CheckSummary"
	marked := untyped(certificate)
	marked["Details"] = map[string]any{"Other": map[string]any{"ResourceType": "CLIENT_ID"}}
	for _, c := range []struct {
		name string
		of   finding
		want string
	}{
		{"certificate", twice, "any/pump-7 CRITICAL 1"},
		{"certificate of two things", integrated(defender.DeviceCertificateShared, "DEVICE_CERTIFICATE", untyped(shared)), "any/meter-2 CRITICAL 1, any/pump-7 CRITICAL 1"},
		{"certificate by its ARN", integrated(defender.DeviceCertificateExpiring, "DEVICE_CERTIFICATE", untyped(arn("cert/"+certificate))), "any/pump-7 CRITICAL 1"},
		{"certificate by its check", twice.without("ResourceType"), "any/pump-7 CRITICAL 1"},
		{"certificate beside client IDs", integrated(defender.DeviceCertificateShared, "DEVICE_CERTIFICATE", untyped(certificate), untyped("meter-2")), "any/pump-7 CRITICAL 1"},
		{"client", client, "any/meter-2 CRITICAL 1"},
		{"client by its check", client.without("ResourceType"), "any/meter-2 CRITICAL 1"},
		{"client that is no thing", integrated(defender.ConflictingClientIDs, "CLIENT_ID", untyped("sensor-9")), "any/sensor-9 CRITICAL 1"},
		{"thing by its ARN", integrated(defender.ConflictingClientIDs, "", map[string]any{"Type": "AwsIotRegisteredThing", "Id": arn("thing/pump-7")}), "any/pump-7 CRITICAL 1"},

		// A client chooses its ID: no form makes it another device's certificate.
		{"client ID like a certificate", integrated(defender.ConflictingClientIDs, "CLIENT_ID", untyped(certificate)), "any/" + certificate + " CRITICAL 1"},
		{"client ID like a certificate's ARN", integrated(defender.ConflictingClientIDs, "CLIENT_ID", untyped(arn("cert/"+certificate))), "any/" + strings.ReplaceAll(arn("cert/"+certificate), "/", "%2F") + " CRITICAL 1"},
		{"client ID like a certificate beside the certificate", integrated(defender.DeviceCertificateShared, "DEVICE_CERTIFICATE", untyped(certificate), untyped(shared)), ""},
		{"resource that is marked as a client", integrated(defender.DeviceCertificateShared, "DEVICE_CERTIFICATE", untyped(shared), marked), "any/" + certificate + " CRITICAL 1, any/meter-2 CRITICAL 1, any/pump-7 CRITICAL 1"},

		{"two clients", integrated(defender.ConflictingClientIDs, "CLIENT_ID", untyped("meter-2"), untyped("pump-7")), ""},
		{"text without a type", client.without("ResourceType", "CheckName"), ""},
		{"certificate without a type", twice.without("ResourceType", "CheckName"), ""},
		{"certificate of an authority", integrated(defender.CACertificateExpiring, "CA_CERTIFICATE", untyped(certificate)), ""},
		{"text that is no certificate", integrated(defender.DeviceCertificateShared, "DEVICE_CERTIFICATE", untyped("pump-7")), ""},
		{"certificate of another account", integrated(defender.DeviceCertificateShared, "DEVICE_CERTIFICATE", untyped("arn:aws:iot:us-east-1:111122223333:cert/"+certificate)), ""},
		{"no resources", integrated(defender.ConflictingClientIDs, "CLIENT_ID"), ""},
		{"summary of a check", summary, ""},
		{"role alias", integrated(defender.RoleAliasOverlyPermissive, "ROLE_ALIAS", untyped(arn("rolealias/camera"))), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, anything())
			r.must(c.of.at(start, "o").event())
			r.want(c.want)
			if n := r.counted("Unattributed"); (n == 1) != (c.want == "") {
				t.Errorf("%d findings without a device were counted", n)
			}
		})
	}
}

// AWS's integration is the default route of audits, so its findings must make these incidents.
func TestIncidentsFromAuditsOfTheIntegration(t *testing.T) {
	certificate := strings.Repeat("ab", 32)
	r := newRig(t, correlation.StolenIdentity(), correlation.BlastRadius(), correlation.Campaign(correlation.Spread{Devices: 2}))
	r.iot.attached[strings.Repeat("ef", 32)] = []string{"gateway-1"}
	r.must(
		integrated(defender.DeviceCertificateShared, "DEVICE_CERTIFICATE", untyped(certificate)).at(start, "o").event(),
		behavior("pump-7", "aws:source-ip-address").at(start, "o").event(),
		integrated(defender.RoleAliasOverlyPermissive, "ROLE_ALIAS", untyped("arn:aws:iot:us-east-1:123456789012:rolealias/camera")).at(start, "o").event(),
	)
	r.want("blast-radius/pump-7 CRITICAL 2, stolen-identity/pump-7 CRITICAL 2")
	r.must(integrated(defender.DeviceCertificateShared, "DEVICE_CERTIFICATE", untyped(strings.Repeat("ef", 32))).at(start.Add(time.Minute), "o").event())
	r.want("blast-radius/pump-7 CRITICAL 2, campaign/campaign/check DEVICE_CERTIFICATE_SHARED_CHECK CRITICAL 2, stolen-identity/pump-7 CRITICAL 2")
	if n := r.counted("Unattributed"); n != 0 {
		t.Errorf("%d findings without a device, want none", n)
	}
}

func TestAliasesOfADevice(t *testing.T) {
	r := newRig(t, correlation.TwoProducts())
	r.must(guardDuty("i-0abc").at(start, "o").event(), behavior("gateway-1", "aws:all-bytes-out").at(start.Add(time.Second), "o").event())
	var ids []string
	for _, res := range r.composites()["two-products/gateway-1"].Resources {
		ids = append(ids, res.Type+" "+res.ID)
	}
	if got, want := strings.Join(ids, ", "), "AwsIotRegisteredThing gateway-1, Other i-0abc, AwsEc2Instance arn:aws:ec2:us-east-1:123456789012:instance/i-0abc"; got != want {
		t.Errorf("resources %s, want %s", got, want)
	}
	if n := r.iot.calls["DescribeThing"]; n != 1 {
		t.Errorf("the thing was looked up %d times, want once", n)
	}
}

// A finding that no rule can match writes nothing and calls no service.
func TestFindingWithoutARuleWritesNothing(t *testing.T) {
	r := newRig(t, correlation.StolenIdentity(), correlation.Campaign(correlation.Spread{}))
	low := deviceEvent("pump-7", "tamper").at(start, "o")
	low.severity, low.created = "LOW", start
	composite := finding{product: ours, id: "defenderhub/correlation/us-east-1/stolen-identity/pump-7", generator: "defenderhub/correlation/stolen-identity", severity: "CRITICAL", resources: []map[string]any{thing("pump-7")}}
	r.must(low.event(), guardDuty("i-0abc").at(start, "o").event(), composite.at(start, "o").event())
	if r.table.writes != 0 || len(r.table.calls) != 0 || len(r.iot.calls) != 0 {
		t.Errorf("calls of the table %v and of AWS IoT %v, want none", r.table.calls, r.iot.calls)
	}
	// The same finding with another severity may have an older version that matches.
	low.created = start.Add(-time.Hour)
	r.must(low.event())
	if r.table.writes != 1 {
		t.Errorf("%d writes, want 1", r.table.writes)
	}
	older := deviceEvent("pump-7", "tamper").at(start.Add(-time.Minute), "o")
	r.must(older.event())
	r.want("")
}

// A composite finding is never a part, whatever the rule: correlation cannot feed itself.
func TestCompositeFindingsAreNeverParts(t *testing.T) {
	r := newRig(t, anything())
	r.must(behavior("pump-7", "m").at(start, "o").event())
	c := finding{product: ours, id: "defenderhub/correlation/us-east-1/any/pump-7", generator: "defenderhub/correlation/any", resources: []map[string]any{thing("pump-7")}}
	for i := range 5 {
		r.must(c.at(start.Add(time.Duration(i)*time.Second), "o").event())
	}
	if n := r.queue.count(); n != 1 {
		t.Errorf("%d messages, want one", n)
	}
}

func TestFindingsOfOtherAccountsAndRegions(t *testing.T) {
	foreign := behavior("pump-7", "aws:source-ip-address").at(start, "o")
	foreign.account = "111122223333"
	client := duplicate("pump-7").at(start, "o")
	client.account = "111122223333"
	elsewhere := behavior("pump-7", "aws:source-ip-address").at(start, "o")
	elsewhere.region = "eu-west-1"
	r := newRig(t, correlation.StolenIdentity())
	r.must(foreign.event(), client.event(), elsewhere.event())
	if r.want(""); r.table.writes != 0 {
		t.Errorf("%d writes for findings of other accounts and Regions, want none", r.table.writes)
	}
	r.config.Elsewhere = true
	r.deploy()
	r.must(foreign.event(), client.event(), elsewhere.event())
	r.want("stolen-identity/pump-7/111122223333/us-east-1 CRITICAL 2")
	if len(r.iot.calls) != 0 {
		t.Errorf("calls of the registry %v, want none", r.iot.calls)
	}
	r.must(duplicate("pump-7").at(start, "o").event())
	r.want("stolen-identity/pump-7/111122223333/us-east-1 CRITICAL 2")
}

// The rules that AWS publishes correlate by resource.
func TestRuleAboutAResource(t *testing.T) {
	r := newRig(t, correlation.Rule{
		Name: "backdoor", Severity: defender.Critical, Resources: []string{"AwsEc2Instance"},
		Stages: []correlation.Stage{
			{Name: "a backdoor", Match: []correlation.Matcher{{Products: []string{"aws/guardduty"}}}},
			{Name: "critical CVEs", AtLeast: 3, Match: []correlation.Matcher{{Products: []string{"aws/inspector"}, Severity: defender.Critical}}},
		},
	})
	cve := func(n int) string {
		f := guardDuty("i-0def")
		f.product, f.id, f.severity = products+":product/aws/inspector", fmt.Sprint("cve-", n), "CRITICAL"
		return f.at(start, "o").event()
	}
	r.must(guardDuty("i-0def").at(start, "o").event(), cve(1), cve(2))
	r.want("")
	r.must(cve(3))
	r.want("backdoor/resource/arn:aws:ec2:us-east-1:123456789012:instance%2Fi-0def CRITICAL 4")
}

// A resource's ID may be as long as an event: it is left out, the finding still counts.
func TestLongIDsOfResources(t *testing.T) {
	long := strings.Repeat("y", 60_000)
	r := newRig(t, anything(), correlation.Rule{
		Name: "image", Resources: []string{"Container"}, Stages: []correlation.Stage{{Name: "any", Match: []correlation.Matcher{{Severity: defender.Medium}}}},
	})
	var events []string
	for i := range 12 {
		f := guardDuty("i-0abc")
		f.id = fmt.Sprint("f", i)
		f.resources = append(f.resources, map[string]any{"Type": "Container", "Id": long})
		events = append(events, f.at(start.Add(time.Duration(i)*time.Second), "o").event())
	}
	r.must(events...)
	r.want("any/gateway-1 HIGH 12")
}

// After a deployment with other rules, composite findings of the old rules are no longer sent. A
// changed rule, and one that is deployed again, start over with the next events of their parts.
func TestChangedRules(t *testing.T) {
	r := newRig(t, correlation.StolenIdentity())
	r.must(stolen()...)
	old := r.config
	changed := correlation.StolenIdentity()
	changed.Window = 48 * time.Hour
	compiled, err := rules.Compile([]correlation.Rule{changed}, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.config.Rules = compiled
	r.deploy()
	n := r.queue.count()
	r.settle()
	if r.queue.count() != n {
		t.Error("a composite finding of an old rule was sent")
	}
	again := func(minutes int) {
		at := start.Add(time.Duration(minutes) * time.Minute)
		r.must(duplicate("pump-7").at(at, "o").event(), behavior("pump-7", "aws:source-ip-address").at(at, "o").event())
	}
	again(1)
	if c := r.composites()["stolen-identity/pump-7"]; c.Digest != compiled[0].Digest() || c.Parts != 2 {
		t.Errorf("composite finding %+v", c)
	}
	r.config = old
	r.deploy()
	again(2)
	if c := r.composites()["stolen-identity/pump-7"]; c.Digest != old.Rules[0].Digest() || c.Parts != 2 {
		t.Errorf("composite finding of the rule that is deployed again: %+v", c)
	}
}

// A rule is removed, and deployed again before the forwarder has archived its composite findings.
// Those whose parts ended meanwhile end too.
func TestRuleReturnsAfterItsPartsEnded(t *testing.T) {
	campaign := correlation.Campaign(correlation.Spread{Devices: 2})
	for _, rule := range []correlation.Rule{anything(), campaign} {
		for _, scheduled := range []bool{false, true} { // the schedule runs while the rule is not deployed
			r := newRig(t, rule)
			events := func(minutes int, letter string) {
				at := start.Add(time.Duration(minutes) * time.Minute)
				r.now = at
				r.must(behavior("pump-7", "m").at(at, letter).event(), behavior("pump-8", "m").at(at, letter).event())
			}
			events(0, "o")
			if r.active() == "" {
				t.Fatalf("%s is not active", rule.Name)
			}
			old := r.config
			other := anything()
			other.Name = "other"
			compiled, err := rules.Compile([]correlation.Rule{other}, 0)
			if err != nil {
				t.Fatal(err)
			}
			r.config.Rules = compiled
			r.deploy()
			if scheduled {
				r.now = start.Add(90 * time.Minute)
				if err := r.due(); err != nil {
					t.Fatal(err)
				}
			}
			events(100, "x")
			r.config = old
			r.deploy()
			for hour := 2; hour < 30; hour++ {
				r.now = start.Add(time.Duration(hour) * time.Hour)
				if err := r.due(); err != nil {
					t.Fatal(err)
				}
			}
			for id, c := range r.composites() {
				if c.Rule == rule.Name && c.State == asff.Active {
					t.Errorf("%s is active, the schedule ran meanwhile: %v", id, scheduled)
				}
			}
		}
	}
}

// The composite finding of a removed rule is not sent, and its state is deleted after some days.
func TestRemovedRuleIsForgotten(t *testing.T) {
	r := newRig(t, anything())
	r.must(behavior("pump-7", "m").at(start, "o").event())
	r.config.Rules = nil
	r.deploy()
	n := r.queue.count()
	for hour := range 24 * 4 {
		r.now = start.Add(time.Duration(hour) * time.Hour)
		if err := r.due(); err != nil {
			t.Fatal(err)
		}
	}
	if r.queue.count() != n {
		t.Error("a composite finding of a removed rule was sent")
	}
	writes := r.table.writes
	r.now = r.now.Add(time.Hour)
	if err := r.due(); err != nil || r.table.writes != writes {
		t.Errorf("after four days: %d writes, error %v; want none", r.table.writes-writes, err)
	}
}

// While nothing changes, an active composite finding is sent again after an hour, then daily.
func TestActiveFindingIsSentDaily(t *testing.T) {
	rule := correlation.StolenIdentity()
	rule.Window = 10 * 24 * time.Hour
	r := newRig(t, rule)
	r.must(stolen()...)
	for hour := range 24 * 5 {
		r.now = start.Add(time.Duration(hour) * time.Hour)
		if err := r.due(); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.queue.count(); n < 5 || n > 7 {
		t.Errorf("%d messages in five days, want 5 to 7", n)
	}
	r.want("stolen-identity/pump-7 CRITICAL 2")
}

// A part raises the severity of the composite finding, which does not fall when that part ends.
func TestSeverityRisesWithItsParts(t *testing.T) {
	r := newRig(t, anything())
	alarm := func(kind, severity string, seconds int, letter string) string {
		f := deviceEvent("pump-7", kind).at(start.Add(time.Duration(seconds)*time.Second), letter)
		f.severity = severity
		return f.event()
	}
	r.must(alarm("a", "MEDIUM", 1, "o"))
	r.want("any/pump-7 HIGH 1")
	r.must(alarm("b", "CRITICAL", 2, "o"))
	r.want("any/pump-7 CRITICAL 2")
	r.must(alarm("b", "CRITICAL", 3, "x"))
	r.want("any/pump-7 CRITICAL 1")
	r.must(alarm("a", "LOW", 4, "o")) // an analyst lowers it below the rule's severity
	r.want("")
	r.must(alarm("c", "MEDIUM", 5, "o"))
	r.want("any/pump-7 HIGH 1")
}

func TestUnreadableEventsAreRetried(t *testing.T) {
	r := newRig(t, anything())
	good := behavior("pump-7", "m").at(start, "o").event()
	again := r.handle("{", good, strings.Replace(good, "Imported", "Custom Action", 1))
	if fmt.Sprint(again) != "[0 2]" || r.counted("Unreadable") != 2 {
		t.Errorf("events %v are retried, want [0 2]", again)
	}
	r.want("any/pump-7 HIGH 1")
	for _, event := range []string{`{}`, `[]`, `{"defenderhub":"correlate"}`, `{"defenderhub":"close","at":"2026-11-30T00:00:00Z"}`} {
		if _, err := r.handler.Handle(invocation(), json.RawMessage(event)); err == nil {
			t.Errorf("%s: no error", event)
		}
	}
}

func FuzzEvent(f *testing.F) {
	f.Add(behavior("pump-7", "m").at(start, "o").event())
	f.Add(guardDuty("i-0abc").at(start, "x").event())
	f.Add(broadPolicy("broad").at(start, "s").event())
	f.Add(integrated(defender.DeviceCertificateShared, "DEVICE_CERTIFICATE", untyped(strings.Repeat("ab", 32)), untyped("pump-7")).at(start, "o").event())
	f.Add(strings.Replace(duplicate("pump-7").at(start, "o").event(), account, "111122223333", 1))
	f.Fuzz(func(t *testing.T, body string) {
		r := newRig(t, append(correlation.BuiltIn(), anything())...)
		r.now = start.Add(time.Hour)
		first := r.handle(body)
		active := r.active()
		if second := r.handle(body); fmt.Sprint(first) != fmt.Sprint(second) || r.active() != active {
			t.Errorf("second delivery: %v are retried, active %s; first: %v, %s", second, r.active(), first, active)
		}
		if err := r.due(); err != nil {
			t.Error(err)
		}
	})
}
