package asff

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/defenderhub/defenderhub/defender"
)

// FindingID joins the parts of a finding's identity with "/". Parts are escaped, so
// that different parts never give the same id; at over 512 characters the id ends
// in "#" and a hash. An id names what is wrong with which thing, never a time: a
// repeat is the same finding.
func FindingID(source defender.Source, region string, parts ...string) string {
	escaped := []string{"defenderhub", source.String(), region}
	for _, p := range parts {
		escaped = append(escaped, escapePart(p))
	}
	return fitID(strings.Join(escaped, "/"), maxID)
}

// escapePart writes as %XX the bytes of what has a meaning in an id or does not print:
// two clients whose ids differ in such a character must not share a finding.
func escapePart(part string) string {
	meaning := func(r rune) bool { return r == '%' || r == '/' || r == '#' || !unicode.IsPrint(r) }
	if utf8.ValidString(part) && strings.IndexFunc(part, meaning) < 0 {
		return part
	}
	var b strings.Builder
	for len(part) > 0 {
		r, n := utf8.DecodeRuneInString(part)
		if meaning(r) || r == utf8.RuneError && n == 1 {
			for _, c := range []byte(part[:n]) {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		} else {
			b.WriteString(part[:n])
		}
		part = part[n:]
	}
	return b.String()
}
