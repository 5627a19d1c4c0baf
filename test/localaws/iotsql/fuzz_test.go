package iotsql

import (
	"encoding/json"
	"testing"
)

// FuzzEval proves that no SQL, payload or template panics, and that what SELECT
// gives is JSON, nothing, or the payload as it came.
func FuzzEval(f *testing.F) {
	for _, sql := range []string{
		`SELECT * FROM 'a/#'`,
		`SELECT *, * AS p, b.c.*, topic(2) AS t FROM 'a/+' WHERE a > 1 AND NOT b = 'x' OR c IN [1, 2]`,
		`SET @v = (SELECT VALUE n FROM e WHERE EXISTS (SELECT * FROM f)) SELECT VALUE @v`,
		`SELECT CASE a WHEN 1 THEN cast(b AS Int) ELSE get_or_default(c, {"k": [null, -1.5E3]}) END AS x FROM 'a'`,
		`SELECT regexp_replace(a, "(b)", "$1") AS a, parse_time("yyyy", 1) AS b, time_to_epoch(c, "dd MMM yyyy z") AS d FROM 'a'`,
		`SELECT transform("enrichArray", a, b) AS x, encode(*, 'base64') AS y, decode(z, 'base64').q AS w FROM 'a'`,
	} {
		f.Add(sql, []byte(`{"a":1,"b":[{"c":"d"}],"e":[{"n":1}]}`), "${a}/${@v}")
		f.Add(sql, []byte("\xff raw"), "$${topic(1)}")
	}
	f.Fuzz(func(t *testing.T, sql string, payload []byte, field string) {
		s, err := Parse(sql)
		if err != nil {
			return
		}
		m := exampleMessage(string(payload))
		m.RegistryData = func(string, string, string) ([]byte, error) { return payload, nil }
		e, err := s.Begin(m)
		if err != nil {
			return
		}
		out, matched, err := e.Select()
		if err == nil && matched && len(out) > 0 && !json.Valid(out) && string(out) != string(payload) {
			t.Errorf("%q on %q: output %q", sql, payload, out)
		}
		if template, err := s.ParseTemplate(field); err == nil {
			_, _ = e.Expand(template)
		}
	})
}

// FuzzTimePatterns proves that no date pattern or text panics.
func FuzzTimePatterns(f *testing.F) {
	f.Add("yyyy-MM-dd'T'HH:mm:ss.SSSX", "2009-02-13T23:31:30.123Z", int64(1234567890123))
	f.Add("EEE, d MMM yy G hh a VV", "Fri, 13 Feb 09 AD 11 PM UTC+01:00", int64(-1))
	f.Fuzz(func(t *testing.T, pattern, s string, ms int64) {
		timeToEpoch([]value{text(s), text(pattern)})
		parseTime([]value{text(pattern), newInt(ms), text(s)})
	})
}
