package correlation

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/correlation"
	"github.com/defenderhub/defenderhub/internal/eventpatterntest"
	"github.com/defenderhub/defenderhub/internal/findingevent"
)

const hub = "arn:aws:securityhub:us-east-1:"

const (
	guardDuty    = hub + ":product/aws/guardduty"
	nativeAudit  = hub + ":product/aws/iot-device-defender-audit"
	nativeDetect = hub + ":product/aws/iot-device-defender-detect"
	ownControls  = hub + ":product/aws/securityhub"
	ours         = hub + "123456789012:product/123456789012/default"
)

func TestMatchers(t *testing.T) {
	alarm := findingevent.Event{
		ProductARN: ours, ID: "defenderhub/behavior/us-east-1/p/b/c", Generator: "defenderhub/behavior/p", Severity: defender.Medium,
		Types: []string{"Unusual Behaviors"}, ProductFields: map[string]string{"BehaviorName": "b", "MetricName": "aws:source-ip-address"},
	}
	check := findingevent.Event{ProductARN: nativeAudit, ID: "x", Severity: defender.Critical, ProductFields: map[string]string{"CheckName": "REVOKED_CA_CERT_CHECK", "ReportType": "AuditFinding", "ReasonForNonComplianceCode": "R"}}
	summary := check
	summary.ProductFields = map[string]string{"CheckName": "REVOKED_CA_CERT_CHECK", "ReportType": "CheckSummary"}
	backdoor := findingevent.Event{ProductARN: guardDuty, ID: "y", Severity: defender.High, Types: []string{"TTPs/Command and Control/Backdoor:EC2-C&CActivity.B"}, ProductFields: map[string]string{"BehaviorName": "b", "MetricName": "aws:source-ip-address"}}
	control := findingevent.Event{ProductARN: ownControls, ID: "z", Generator: "security-control/EC2.9", Severity: defender.High}
	composite := findingevent.Event{ProductARN: ours, ID: "defenderhub/correlation/us-east-1/r/c", Generator: GeneratorPrefix + "r", Severity: defender.Critical}
	for _, c := range []struct {
		name    string
		matcher correlation.Matcher
		event   findingevent.Event
		want    bool
	}{
		{"source", correlation.Matcher{Sources: []defender.Source{defender.BehaviorTransitions}}, alarm, true},
		{"another source", correlation.Matcher{Sources: []defender.Source{defender.DeviceEvents}}, alarm, false},
		{"source of the integration", correlation.Matcher{Sources: []defender.Source{defender.AuditNotifications}}, check, true},
		{"older name of a check", correlation.Matcher{Checks: []defender.Check{defender.RevokedCACertificateStillActive}}, check, true},
		{"another check", correlation.Matcher{Checks: []defender.Check{defender.LoggingDisabled}}, check, false},
		{"summary of a check", correlation.Matcher{Checks: []defender.Check{defender.RevokedCACertificateStillActive}}, summary, false},
		{"reason", correlation.Matcher{Reasons: []string{"R"}}, check, true},
		{"metric", correlation.Matcher{Metrics: []defender.Metric{defender.SourceIPAddress}}, alarm, true},
		{"metric of another product", correlation.Matcher{Metrics: []defender.Metric{defender.SourceIPAddress}}, backdoor, false},
		{"behavior of another product", correlation.Matcher{Behaviors: []string{"b"}}, backdoor, false},
		{"excepted metric", correlation.Matcher{Sources: []defender.Source{defender.BehaviorTransitions}, ExceptMetrics: []defender.Metric{defender.SourceIPAddress}}, alarm, false},
		{"another excepted metric", correlation.Matcher{Sources: []defender.Source{defender.BehaviorTransitions}, ExceptMetrics: []defender.Metric{defender.AllBytesIn}}, alarm, true},
		{"prefix of a type", correlation.Matcher{Products: []string{"aws/guardduty"}, Types: []string{"TTPs/Command and Control/"}}, backdoor, true},
		{"another type", correlation.Matcher{Types: []string{"Effects/"}}, backdoor, false},
		{"severity", correlation.Matcher{Severity: defender.High}, backdoor, true},
		{"lower severity", correlation.Matcher{Severity: defender.High}, alarm, false},
		{"control that the matcher does not name", correlation.Matcher{Severity: defender.Low}, control, false},
		{"control", correlation.Matcher{Products: []string{"aws/securityhub"}, Generators: []string{"security-control/EC2.9"}}, control, true},
		{"composite by severity", correlation.Matcher{Severity: defender.Low}, composite, false},
		{"composite by product", correlation.Matcher{Products: []string{"default"}}, composite, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			rule := compiled(t, correlation.Rule{Name: "r", Stages: []correlation.Stage{{Name: "s", Match: []correlation.Matcher{c.matcher}}}})[0]
			if got := len(rule.Match(c.event)) == 1; got != c.want {
				t.Errorf("matches: %t, want %t", got, c.want)
			}
		})
	}
	if Key(alarm) != "behavior b" || Key(check) != "check REVOKED_CA_CERTIFICATE_STILL_ACTIVE_CHECK" || Key(summary) != "" || Key(backdoor) != "" {
		t.Errorf("keys %q %q %q %q, want those of the behavior, of the check, and none for the summary and GuardDuty", Key(alarm), Key(check), Key(summary), Key(backdoor))
	}
	for id, want := range map[string]string{"device-event/us-east-1/c/disconnected": "event disconnected", "security-disconnect/us-east-1/c/R": "reason R", "rejected-report/us-east-1/c": ""} {
		e := findingevent.Event{ProductARN: ours, ID: "defenderhub/" + id, ProductFields: map[string]string{"EventType": "disconnected"}}
		if strings.HasPrefix(id, "security") {
			e.ProductFields["DisconnectReason"] = "R"
		}
		if got := Key(e); got != want {
			t.Errorf("the key of %s is %q, want %q", id, got, want)
		}
	}
	if Service(alarm) != Service(check) || Service(backdoor) == Service(check) {
		t.Errorf("services %q %q %q, want the same for alarm and check, another for GuardDuty", Service(alarm), Service(check), Service(backdoor))
	}
}

// The pattern must match each finding that a rule matches. No rule matches a composite finding.
func TestPatternCoversTheRules(t *testing.T) {
	values := func(t *rapid.T, label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	rapid.Check(t, func(t *rapid.T) {
		subset := func(label string, from ...string) []string {
			return rapid.SliceOfNDistinct(rapid.SampledFrom(from), 0, 2, rapid.ID).Draw(t, label)
		}
		var rules []correlation.Rule
		for i := range rapid.IntRange(1, 12).Draw(t, "rules") {
			m := correlation.Matcher{
				Products: subset("products", "aws/guardduty", "aws/securityhub", "default", "aws/iot-device-defender-audit"),
				Types:    subset("types", "TTPs", "Unusual"), Generators: subset("generators", "security-control/", "defenderhub/"),
				Severity: rapid.SampledFrom([]defender.Severity{0, defender.Low, defender.High}).Draw(t, "severity"),
			}
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				m.Checks = []defender.Check{defender.LoggingDisabled, defender.RevokedCACertificateStillActive}
			case 1:
				m.Metrics = []defender.Metric{defender.SourceIPAddress, defender.AllBytesIn}
			case 2:
				m.Events = []string{strings.Repeat("tamper-", rapid.SampledFrom([]int{1, 30}).Draw(t, "length"))}
			case 3:
				m.Sources = []defender.Source{defender.RefusedConnections, defender.DetectNotifications}
			}
			r := correlation.Rule{Name: "r" + string(rune('a'+i)), Stages: []correlation.Stage{{Name: "s", Match: []correlation.Matcher{m}}}}
			if r.Validate() == nil {
				rules = append(rules, r)
			}
		}
		all, err := Compile(rules, 0)
		if err != nil || len(all) == 0 {
			t.Skip(err)
		}
		pattern := Pattern(all, "123456789012", "us-east-1")
		if text, _ := json.Marshal(pattern); len(text) > maxPattern {
			t.Fatalf("the pattern has %d characters, want at most %d", len(text), maxPattern)
		}
		finding := map[string]any{
			"Id":         values(t, "id", "x", "defenderhub/behavior/r/p/b", "defenderhub/audit/x", "defenderhub/device-event/x", "defenderhub/refused-connection/x", "defenderhub/correlation/r/x"),
			"ProductArn": values(t, "product", guardDuty, nativeAudit, nativeDetect, ownControls, ours), "GeneratorId": values(t, "generator", "security-control/EC2.9", "defenderhub/x", GeneratorPrefix+"r", "g"),
			"AwsAccountId": "123456789012", "Region": "us-east-1", "UpdatedAt": "2026-11-30T00:00:00Z",
			"Severity": map[string]any{"Label": values(t, "label", "LOW", "HIGH")},
			"Types":    []any{values(t, "type", "TTPs/x", "Unusual Behaviors")},
			"ProductFields": map[string]any{
				"CheckName": values(t, "check", "LOGGING_DISABLED_CHECK", "REVOKED_CA_CERT_CHECK", "x"), "MetricName": values(t, "metric", "aws:source-ip-address", "x"), "EventType": values(t, "event", "tamper-", "x"),
			},
		}
		event := map[string]any{"source": findingevent.Source, "detail-type": findingevent.DetailType, "detail": map[string]any{"findings": []any{finding}}}
		text, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := findingevent.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		matched := slices.ContainsFunc(all, func(r Rule) bool { return len(r.Match(parsed)) > 0 })
		if matched && !eventpatterntest.Matches(t, pattern, event) {
			p, _ := json.Marshal(pattern)
			t.Errorf("a rule matches %s, the pattern %s does not", text, p)
		}
		if matched && IsComposite(parsed) {
			t.Errorf("a rule matches the composite finding %s", text)
		}
	})
}

func TestPatternOfTheBuiltInRulesIsDetailed(t *testing.T) {
	p := Pattern(compiled(t, correlation.BuiltIn()...), "${Token[AWS.AccountId.10]}", "${Token[AWS.Region.11]}")
	composite := map[string]any{
		"source": findingevent.Source, "detail-type": findingevent.DetailType, "detail": map[string]any{"findings": []any{map[string]any{
			"Id": "defenderhub/correlation/r/x", "ProductArn": ours, "GeneratorId": GeneratorPrefix + "r", "Severity": map[string]any{"Label": "CRITICAL"},
			"AwsAccountId": "${Token[AWS.AccountId.10]}", "Region": "${Token[AWS.Region.11]}",
		}}},
	}
	if eventpatterntest.Matches(t, p, composite) {
		t.Error("the pattern matches a composite finding")
	}
	if text, _ := json.Marshal(p); !strings.Contains(string(text), "MEDIUM") {
		t.Errorf("the pattern selects no severities: %s", text)
	}
	if eventpatterntest.Matches(t, Pattern(nil, "", ""), composite) {
		t.Error("the pattern of no rules matches a finding")
	}
}
