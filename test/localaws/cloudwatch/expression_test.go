package cloudwatch

import (
	"strings"
	"testing"
)

func TestExpressions(t *testing.T) {
	v := values{"a": 6, "b": 4}
	ids := []string{"a", "b", "none"}
	for text, want := range map[string]float64{
		"a": 6, "a + b + a": 16, "FILL(none, 0) + FILL(a, 0)": 6, "FILL(none, -1)": -1, "MAX(METRICS())": 6, "MAX(METRICS())+FILL(b,1)": 10,
	} {
		e, err := parseExpression(text, ids)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, ok := e(v); !ok || got != want {
			t.Errorf("%s is %v, has a value %v; want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"none", "a + none", "none + a"} {
		e, err := parseExpression(text, ids)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, ok := e(v); ok {
			t.Errorf("%s is %v, want no value", text, got)
		}
	}
}

func TestUnsupportedExpressionsAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"": "expression", "a +": "expression", "c": "c is not the ID", "a + c": "c is not the ID", "c + a": "c is not the ID", "FILL(c, 0)": "c is not the ID",
		"a * b": `"a * b"`, "a - b": `"a - b"`, "a / b": `"a / b"`, "-a": `"-a"`, "(a)": `"(a)"`, "MIN(METRICS())": "MIN", "SUM([a, b])": "SUM", "MAX(a)": "MAX",
		"ANOMALY_DETECTION_BAND(a, 2)": "ANOMALY_DETECTION_BAND", "IF(a > b, 1, 0)": "IF", "FILL(a, REPEAT)": "REPEAT", "FILL(a)": "FILL", "FILL(a, 1.2.3)": "1.2.3",
		"METRICS()": "METRICS", `MAX(METRICS("a"))`: "MAX",
	} {
		if _, err := parseExpression(text, []string{"a", "b"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzExpression(f *testing.F) {
	f.Add("FILL(a, 0) + MAX(METRICS())")
	f.Fuzz(func(t *testing.T, text string) {
		if e, err := parseExpression(text, []string{"a"}); err == nil {
			e(values{"a": 1})
			e(nil)
		}
	})
}
