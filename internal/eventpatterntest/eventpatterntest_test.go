package eventpatterntest_test

import (
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/internal/eventpatterntest"
)

// imported is the shape of a Security Hub event: findings is a list of objects.
const imported = `{"source": "aws.securityhub", "detail-type": "Security Hub Findings - Imported",
	"detail": {"findings": [
		{"Severity": {"Label": "LOW", "Normalized": 1}, "RecordState": "ACTIVE", "Types": ["Unusual Behaviors"], "Resources": [{"Id": "dev-1"}, {"Id": "Dev-2"}]},
		{"Severity": {"Label": "CRITICAL", "Normalized": 90}, "RecordState": "ARCHIVED", "SourceIp": "10.1.2.3"}]}}`

func TestPatternsMatchAsEventBridgeDoes(t *testing.T) {
	for name, tc := range map[string]struct {
		pattern string
		want    bool
	}{
		"exact":                          {`{"source": ["aws.securityhub"]}`, true},
		"exact, other":                   {`{"source": ["aws.iot"]}`, false},
		"into a list of objects":         {`{"detail": {"findings": {"Severity": {"Label": ["CRITICAL"]}}}}`, true},
		"one element must match whole":   {`{"detail": {"findings": {"Severity": {"Label": ["CRITICAL"]}, "RecordState": ["ACTIVE"]}}}`, false},
		"one element matches whole":      {`{"detail": {"findings": {"Severity": {"Label": ["LOW"]}, "RecordState": ["ACTIVE"]}}}`, true},
		"list in a list":                 {`{"detail": {"findings": {"Resources": {"Id": [{"prefix": "Dev"}]}}}}`, true},
		"list of strings":                {`{"detail": {"findings": {"Types": ["Unusual Behaviors"]}}}`, true},
		"suffix":                         {`{"source": [{"suffix": "hub"}]}`, true},
		"suffix, other":                  {`{"source": [{"suffix": "iot"}]}`, false},
		"anything-but":                   {`{"source": [{"anything-but": ["aws.iot"]}]}`, true},
		"anything-but, refused":          {`{"source": [{"anything-but": "aws.securityhub"}]}`, false},
		"anything-but prefix":            {`{"source": [{"anything-but": {"prefix": "aws."}}]}`, false},
		"anything-but needs the field":   {`{"account": [{"anything-but": "1"}]}`, false},
		"exists":                         {`{"detail": {"findings": {"SourceIp": [{"exists": true}]}}}`, true},
		"exists false, in one element":   {`{"detail": {"findings": {"RecordState": ["ACTIVE"], "SourceIp": [{"exists": false}]}}}`, true},
		"exists false, of a missing key": {`{"account": [{"exists": false}]}`, true},
		"number as it is written":        {`{"detail": {"findings": {"Severity": {"Normalized": [90]}}}}`, true},
		"number written otherwise":       {`{"detail": {"findings": {"Severity": {"Normalized": [90.0]}}}}`, false},
		"anything-but number":            {`{"detail": {"findings": {"Severity": {"Normalized": [{"anything-but": [1, 90]}]}}}}`, false},
		"anything-but prefixes":          {`{"source": [{"anything-but": {"prefix": ["x.iot", "aws.sec"]}}]}`, false},
		"or, second":                     {`{"$or": [{"source": ["aws.iot"]}, {"detail-type": [{"prefix": "Security"}]}]}`, true},
		"or, neither":                    {`{"$or": [{"source": ["aws.iot"]}, {"detail-type": ["x"]}]}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := eventpatterntest.Parse([]byte(tc.pattern))
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Match([]byte(imported))
			if err != nil || got != tc.want {
				t.Errorf("matches: %v, error %v; want %v", got, err, tc.want)
			}
		})
	}
}

func TestUnsupportedPatternsAreRefused(t *testing.T) {
	for _, pattern := range []string{
		`{}`, `[]`, `{"source": "aws.iot"}`, `{"source": []}`, `{"source": [{"like": "x"}]}`, `{"source": [{"numeric": ["!", 1]}]}`,
		`{"source": [{"prefix": 1}]}`, `{"$or": [{"source": ["x"]}]}`, `{"source": [{"prefix": "a", "suffix": "b"}]}`, `{"source": [{"cidr": "10"}]}`,
		`{"source": [["a"]]}`, `{"source": [{"anything-but": []}]}`, `{"source": [{"anything-but": {}}]}`, `{"source": [{"anything-but": [null]}]}`,
		`{"source": [{"anything-but": {"numeric": ["=", 1]}}]}`, `{"source": [{"anything-but": {"exists": true}}]}`, `{"source": ["a"]} {}`,
		`{"source": [{"prefix": {"equals-ignore-case": "a"}}]}`, `{"source": [{"cidr": "10.0.0.0/8"}]}`, `{"source": [{"wildcard": "a\\\\*"}]}`,
		`{"source": [{"wildcard": "a*"}]}`, `{"source": [{"equals-ignore-case": "a"}]}`, `{"source": [{"anything-but": {"wildcard": "a*"}}]}`,
	} {
		if _, err := eventpatterntest.Parse([]byte(pattern)); err == nil {
			t.Errorf("%s: accepted, want an error", pattern)
		}
	}
}

func TestErrorsNameUnsupportedOperators(t *testing.T) {
	for pattern, want := range map[string]string{
		`{"source": [{"cidr": "10.0.0.0/8"}]}`:                    `"cidr"`,
		`{"source": [{"like": "x"}]}`:                             `"like"`,
		`{"source": [{"numeric": ["<", 1]}]}`:                     `"numeric"`,
		`{"source": [{"anything-but": {"cidr": "10.0.0.0/8"}}]}`:  `"cidr"`,
		`{"source": [{"suffix": {"equals-ignore-case": "HUB"}}]}`: "suffix",
		`{"detail": {"a": {"b": [{"wildcard": "a\\\\*"}]}}}`:      "detail.a.b: the local AWS does not support the operator \"wildcard\"",
	} {
		if _, err := eventpatterntest.Parse([]byte(pattern)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %s", pattern, err, want)
		}
	}
}

func FuzzPattern(f *testing.F) {
	f.Add(`{"source": [{"wildcard": "a*b"}]}`, imported)
	f.Add(`{"$or": [{"a": [{"exists": false}]}, {"b": [null]}]}`, `{"a": [[{}]]}`)
	f.Fuzz(func(t *testing.T, pattern, event string) {
		if p, err := eventpatterntest.Parse([]byte(pattern)); err == nil {
			p.Match([]byte(event))
		}
	})
}
