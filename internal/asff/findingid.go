package asff

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/defenderhub/defenderhub/defender"
)

// FindingID joins the parts of a finding's identity with "/". It escapes the parts, so that
// different parts never give the same ID. An ID of over 512 characters ends with "#" and a hash.
//
// Parts identify the problem and the resource, never a time: a repeat must be the same finding.
func FindingID(source defender.Source, region string, parts ...string) string {
	id := make([]byte, 0, maxID)
	id = append(append(append(id, "defenderhub/"...), source.String()...), '/')
	id = append(id, region...)
	for _, p := range parts {
		id = append(append(id, '/'), escapePart(p)...)
	}
	return fitID(string(id), maxID)
}

// escapePart writes separators and unprintable bytes as %XX: clients whose IDs differ only in
// such bytes must not share a finding.
func escapePart(part string) string {
	special := func(r rune) bool { return r == '%' || r == '/' || r == '#' || !unicode.IsPrint(r) }
	if utf8.ValidString(part) && strings.IndexFunc(part, special) < 0 {
		return part
	}
	var b strings.Builder
	for len(part) > 0 {
		r, n := utf8.DecodeRuneInString(part)
		if special(r) || r == utf8.RuneError && n == 1 {
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
