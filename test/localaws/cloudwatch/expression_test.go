package cloudwatch

import (
	"strings"
	"testing"
)

func TestExpressions(t *testing.T) {
	v := values{"a": 6, "b": 4}
	ids := []string{"a", "b", "none"}
	for text, want := range map[string]float64{
		"a": 6, "a + b * 2": 14, "(a + b) * 2": 20, "a - b - 1": 1, "-a + 0.5": -5.5, "a / b": 1.5,
		"FILL(none, 0) + FILL(a, 0)": 6, "FILL(none, -1)": -1, "MAX(METRICS())": 6, "MIN(METRICS())": 4, "SUM([a, b, none])": 10, "AVG([a, b + 2])": 6,
		"FILL(MAX([none]), 3)": 3,
	} {
		e, err := parseExpression(text, ids)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, ok := e(v); !ok || got != want {
			t.Errorf("%s is %v, there %v; want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"none", "a + none", "none * a", "a / 0", "MAX([none])", "-none"} {
		e, err := parseExpression(text, ids)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, ok := e(v); ok {
			t.Errorf("%s is %v, want it to be missing", text, got)
		}
	}
}

func TestExpressionsThatAreNotUnderstoodSayWhy(t *testing.T) {
	for text, want := range map[string]string{
		"": "expression", "a +": "expression", "c": "c is not the id", "a + c": "c is not the id", "c + a": "c is not the id", "-c": "c is not", "a * c": "c is not", "c * a": "c is not",
		"ANOMALY_DETECTION_BAND(a, 2)": "ANOMALY_DETECTION_BAND", "IF(a > b, 1, 0)": "expression", "MAX(a)": "no single metric", "MAX([c])": "c is not",
		"FILL(a, REPEAT)": "REPEAT", "FILL(a)": "FILL", "FILL(c, 0)": "c is not", "METRICS()": "METRICS", "MAX(a, b)": "MAX", `MAX(METRICS("a"))`: "expression",
	} {
		if _, err := parseExpression(text, []string{"a", "b"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzExpression(f *testing.F) {
	f.Add("FILL(a, 0) + MAX(METRICS()) / -2")
	f.Fuzz(func(t *testing.T, text string) {
		if e, err := parseExpression(text, []string{"a"}); err == nil {
			e(values{"a": 1})
			e(nil)
		}
	})
}
