package iotsql

import (
	"encoding/json"
	"testing"
)

// FuzzEval checks that no SQL, payload or template causes a panic, and that the output of SELECT is
// JSON, empty, or the unchanged payload.
func FuzzEval(f *testing.F) {
	for _, sql := range []string{
		`SELECT * FROM 'a/#'`,
		`SELECT *, b.c AS p, topic(2) AS t FROM 'a/+' WHERE a > 1 AND NOT b = 'x' OR c = e`,
		`SELECT VALUE cast(b AS Int) - -1.5E3`,
		`SELECT length(encode(*, 'base64')) / 4 * 3 - cast(endswith(encode(*, 'base64'), '=') AS Int) AS n, isUndefined(c) AS x FROM 'a'`,
	} {
		f.Add(sql, []byte(`{"a":1,"b":[{"c":"d"}],"e":[{"n":1}]}`), "${a}/${b.c}")
		f.Add(sql, []byte("\xff raw"), "$${topic(1)}")
	}
	f.Fuzz(func(t *testing.T, sql string, payload []byte, field string) {
		s, err := Parse(sql)
		if err != nil {
			return
		}
		m := exampleMessage(string(payload))
		e := s.Begin(m)
		out, matched, err := e.Select()
		if err == nil && matched && len(out) > 0 && !json.Valid(out) && string(out) != string(payload) {
			t.Errorf("%q on %q: output %q", sql, payload, out)
		}
		if template, err := ParseTemplate(field); err == nil {
			e.Expand(template)
		}
	})
}
