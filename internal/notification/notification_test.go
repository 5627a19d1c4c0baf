package notification_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/eventpatterntest"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/internal/notification"
)

const (
	account = "123456789012"
	region  = "eu-central-1"
)

// filter draws a valid filter.
func filter(rt *rapid.T) notification.Filter {
	some := func(name string, values ...string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(values), 0, 3, rapid.ID).Draw(rt, name)
	}
	f := notification.Filter{Severity: correlation.Label(rapid.IntRange(1, 5).Draw(rt, "severity")), Checks: some("checks", "LOGGING_DISABLED_CHECK", "REVOKED_CA_CERTIFICATE_STILL_ACTIVE_CHECK"), Behaviors: some("behaviors", "ports", "bytes")}
	if rapid.Bool().Draw(rt, "of sources") {
		f.Sources = some("sources", "behavior", "audit", "detect", "device-event")
	} else {
		f.Products = some("products", "aws/guardduty", "aws/securityhub", "default", findingevent.DetectProduct)
		for i := range rapid.SampledFrom([]int{0, 17}).Draw(rt, "further products") {
			f.Products = append(f.Products, fmt.Sprintf("company-%d/product-%d", rapid.IntRange(1, 99).Draw(rt, "company"), i))
		}
	}
	return f
}

// The pattern must match each finding that a filter selects, and its archived state.
func TestPatternMatchesTheFindingsOfTheFilters(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		filters := rapid.SliceOfN(rapid.Custom(filter), 1, 8).Draw(rt, "filters")
		arn := rapid.SampledFrom([]string{
			"arn:aws:securityhub:" + region + ":" + account + ":product/" + account + "/default", "arn:aws:securityhub:" + region + "::product/aws/guardduty",
			"arn:aws:securityhub:" + region + "::product/aws/iot-device-defender-detect", "arn:aws:securityhub:" + region + "::product/aws/iot-device-defender-audit",
			"arn:aws:securityhub:" + region + "::product/aws/securityhub", "arn:aws:securityhub:" + region + "::product/company-7/product-3",
		}).Draw(rt, "product")
		id := rapid.SampledFrom([]string{"x", "defenderhub/behavior/r/a/b/c", "defenderhub/audit/r/x", "defenderhub/correlation/r/chain/pump-7"}).Draw(rt, "id")
		fields := map[string]string{}
		for key, values := range map[string][]string{"CheckName": {"", "LOGGING_DISABLED_CHECK", "REVOKED_CA_CERT_CHECK", "OTHER_CHECK"}, "BehaviorName": {"", "ports", "other"}} {
			if v := rapid.SampledFrom(values).Draw(rt, key); v != "" {
				fields[key] = v
			}
		}
		e := findingevent.Event{ProductARN: arn, ID: id, ProductFields: fields, Severity: defender.Severity(rapid.IntRange(1, 5).Draw(rt, "label")), RecordState: asff.Active}
		state := rapid.SampledFrom([]string{"ACTIVE", "ARCHIVED"}).Draw(rt, "state")
		finding := map[string]any{
			"ProductArn": arn, "Id": id, "AwsAccountId": account, "Region": region, "ProductFields": fields,
			"Severity": map[string]string{"Label": e.Severity.String()}, "RecordState": state, "Workflow": map[string]string{"Status": "NEW"},
		}
		event := map[string]any{"source": "aws.securityhub", "detail-type": "Security Hub Findings - Imported", "detail": map[string]any{"findings": []any{finding}}}
		pattern := notification.Pattern(filters, account, region)
		if text, err := json.Marshal(pattern); err != nil || len(text) > 2048 {
			rt.Errorf("the pattern has %d characters, error %v, want at most 2048", len(text), err)
		}
		got := eventpatterntest.Matches(rt, pattern, event)
		for _, f := range filters {
			if f.Concerns(e) && (f.Severe(e.Severity) || state == "ARCHIVED") && !got {
				rt.Errorf("the filter %+v selects %+v, the pattern does not match it: %v", f, e, pattern)
			}
		}
		if other := notification.Pattern(filters, "000000000000", region); eventpatterntest.Matches(rt, other, event) {
			rt.Error("the pattern matches a finding of another account")
		}
	})
}

func TestPatternOfTheDefaultFilterIsNarrow(t *testing.T) {
	filters := []notification.Filter{{Severity: correlation.Label(defender.Medium)}}
	event := func(arn, id, severity string) any {
		return map[string]any{"source": "aws.securityhub", "detail-type": "Security Hub Findings - Imported", "detail": map[string]any{"findings": []any{map[string]any{
			"ProductArn": arn, "Id": id, "AwsAccountId": account, "Region": region, "Severity": map[string]string{"Label": severity}, "RecordState": "ACTIVE",
		}}}}
	}
	pattern := notification.Pattern(filters, account, region)
	const own, hub = "arn:aws:securityhub:eu-central-1:123456789012:product/123456789012/default", "arn:aws:securityhub:eu-central-1::product/aws/"
	for _, c := range []struct {
		arn, id, severity string
		want              bool
	}{
		{own, "defenderhub/behavior/x", "HIGH", true}, {own, "defenderhub/behavior/x", "LOW", false}, {own, "mine", "HIGH", false},
		{hub + "iot-device-defender-audit", "x", "MEDIUM", true}, {hub + "securityhub", "x", "CRITICAL", false}, {hub + "guardduty", "defenderhub/behavior/x", "HIGH", false},
	} {
		if got := eventpatterntest.Matches(t, pattern, event(c.arn, c.id, c.severity)); got != c.want {
			t.Errorf("%s, %s, %s: matches %v, want %v", c.arn, c.id, c.severity, got, c.want)
		}
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), notification.File)
	for content, fails := range map[string]bool{`{"filters":[{"severity":"LOW"}],"perMinute":3}`: false, `{"filters":[{"severity":"NONE"}]}`: true, `[`: true} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := notification.ReadFile(path); (err != nil) != fails || !fails && (c.PerMinute != 3 || c.Filters[0].Severity != correlation.Label(defender.Low)) {
			t.Errorf("%s: got %+v, error %v, want an error: %v", content, c, err, fails)
		}
	}
	if _, err := notification.ReadFile(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file is no error")
	}
}
