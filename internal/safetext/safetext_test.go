package safetext_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/defenderhub/defenderhub/internal/safetext"
)

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "",
		"pump-7 is wet":          "pump-7 is wet",
		"Pümpe 7 ✓ 泵":            "Pümpe 7 ✓ 泵",
		"red\x1b[31m":            `red\x1b[31m`,
		"two\nlines\r\n\tand":    `two\nlines\r\n\tand`,
		"abc\u202etxt.exe":       `abc\u202etxt.exe`,
		"\u2066isolate\u2069":    `\u2066isolate\u2069`,
		"zero\u200bwidth\ufeff":  `zero\u200bwidth\ufeff`,
		"C1 \u009b31m":           `C1 \u009b31m`,
		"no-break\u00a0space":    `no-break\u00a0space`,
		"bad \xff\xfe":           `bad \xff\xfe`,
		"a tag \U000e0041":       `a tag \U000e0041`,
		"replacement \ufffd":     "replacement \ufffd",
		`C:\new stays readable`:  `C:\new stays readable`,
		"line separator\u2028is": `line separator\u2028is`,
	} {
		if got := safetext.Escape(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("red\x1b[31m \u202e \xff \U000e0041")
	f.Fuzz(func(t *testing.T, text string) {
		got := safetext.Escape(text)
		if !utf8.ValidString(got) || strings.IndexFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
			t.Errorf("Escape(%q) returns %q, which is invalid UTF-8 or does not print", text, got)
		}
		document, err := json.MarshalIndent(map[string]string{text: text}, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		escaped := safetext.EscapeJSON(string(document))
		var before, after map[string]string
		if err := json.Unmarshal(document, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(escaped), &after); err != nil || !reflect.DeepEqual(before, after) {
			t.Errorf("%q: the escaped JSON %s is read as %q, error %v", text, escaped, after, err)
		}
		if strings.ContainsFunc(escaped, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }) {
			t.Errorf("%q: the escaped JSON %q has a character that does not print", text, escaped)
		}
	})
}
