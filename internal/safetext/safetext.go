// Package safetext shows text that a device or another party wrote. Such text may hold control
// characters that change a terminal, and bidirectional characters that reorder a line.
package safetext

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape returns s with each character that is not printable as an escape of Go's syntax: \n,
// \x1b, \u202e. Invalid UTF-8 becomes \x and the byte. Of all spaces only U+0020 is printable.
func Escape(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case !unprintable(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

// EscapeJSON returns a JSON document with each character that is not printable as a JSON escape.
// The document's value stays the same: valid JSON has such characters only inside of strings,
// except for line breaks and tabs, which stay.
func EscapeJSON(document string) string {
	var b strings.Builder
	for _, r := range document {
		switch {
		case !unprintable(r), r == '\n', r == '\r', r == '\t':
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
