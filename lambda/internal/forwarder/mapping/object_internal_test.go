package mapping

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/internal/leanjson"
)

// FuzzObject checks that an object has the same members as a map.
func FuzzObject(f *testing.F) {
	for _, value := range []string{
		`{"cidrs":["192.0.2.0/24","2001:db8::/32"]}`, `{"count":54}`, `{"number":20.0,"numbers":[1,-6,1e21]}`, `{"a":"ü\n","a":7,"\u0061":""}`,
		`{"":[],"b":["","x",null,[1,[2]]],"c":{"z":"<&>","y":[1.50]}}`, `{"count":1},"value":{"cidrs":["a"]},"value":null,"value":{"ports":[1e2]}`,
		`{"a":0123}`, `{"a":1e999}`, `{"a":9007199254740993,"b":-0,"c":999999999999999}`, `null`, `[]`, `7`, `"a"`, `{"a":true,"b":null}`, `{}`, `{"count":1},"value":[]`,
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		message := []byte(`{"value":` + value + `}`)
		var got struct{ Value object }
		var want struct{ Value map[string]any }
		gotErr, wantErr := leanjson.Unmarshal(message, &got), json.Unmarshal(message, &want)
		if (gotErr == nil) != (wantErr == nil) {
			t.Fatalf("%s: error %v, want %v", message, gotErr, wantErr)
		}
		if gotErr != nil {
			return
		}
		all := []member{}
		for _, name := range slices.Sorted(maps.Keys(want.Value)) {
			all = append(all, member{name, wanted(want.Value[name])})
		}
		if members := got.Value.members(); fmt.Sprintf("%q", members) != fmt.Sprintf("%q", all) {
			t.Fatalf("%s: %q, want %q", message, members, all)
		}
	})
}

// wanted returns the text that a member should have for a value that encoding/json decoded.
func wanted(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = wanted(e)
		}
		return strings.Join(parts, ",")
	}
	text, _ := json.Marshal(value)
	return string(text)
}
