package iotsql

import (
	"errors"
	"regexp"
	"strings"
)

// withRegexp compiles the second argument: Undefined if it is wrong, an error if
// only the local cloud cannot run it.
func withRegexp(args []value, f func(re *regexp.Regexp, s []string) value) (value, error) {
	s, ok := toTexts(args)
	if !ok {
		return undefined{}, nil
	}
	re, err := compileRegexp(s[1])
	if errors.Is(err, errForeignRegexp) {
		return undefined{}, err
	}
	if err != nil {
		return undefined{}, nil
	}
	return f(re, s), nil
}

// regexpMatches is true if the string contains a match.
func regexpMatches(_ *scope, args []value) (value, error) {
	return withRegexp(args, func(re *regexp.Regexp, s []string) value {
		return boolean(re.MatchString(s[0]))
	})
}

// regexpSubstr gives the first match. AWS does not say what no match gives;
// Undefined is what a key without value gives.
func regexpSubstr(_ *scope, args []value) (value, error) {
	return withRegexp(args, func(re *regexp.Regexp, s []string) value {
		at := re.FindStringIndex(s[0])
		if at == nil {
			return undefined{}
		}
		return text(s[0][at[0]:at[1]])
	})
}

// regexpReplace replaces all matches; $1 in the replacement is a group.
func regexpReplace(_ *scope, args []value) (value, error) {
	return withRegexp(args, func(re *regexp.Regexp, s []string) value {
		template, ok := javaReplacement(s[2], re)
		if !ok {
			return undefined{}
		}
		return text(re.ReplaceAllString(s[0], template))
	})
}

// javaReplacement turns a replacement of Java, in which $12 is group 12 if there
// is one and else group 1 before a 2, and in which a backslash quotes, into one
// of Go. False is an invalid replacement.
func javaReplacement(s string, re *regexp.Regexp) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			if i++; i == len(s) {
				return "", false
			}
			writeLiteral(&b, s[i])
		case s[i] != '$':
			b.WriteByte(s[i])
		case strings.HasPrefix(s[i:], "${"):
			name, _, ok := strings.Cut(s[i+2:], "}")
			if !ok || re.SubexpIndex(name) < 0 {
				return "", false
			}
			b.WriteString("${" + name + "}")
			i += len(name) + 2
		default:
			digits := groupDigits(s[i+1:], re.NumSubexp())
			if digits == 0 {
				return "", false
			}
			b.WriteString("${" + s[i+1:i+1+digits] + "}")
			i += digits
		}
	}
	return b.String(), true
}

func writeLiteral(b *strings.Builder, c byte) {
	if c == '$' {
		b.WriteByte('$')
	}
	b.WriteByte(c)
}

// groupDigits counts the digits at the start of s that name a group.
func groupDigits(s string, groups int) int {
	group, digits := 0, 0
	for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
		next := group*10 + int(s[digits]-'0')
		if next > groups {
			break
		}
		group = next
		digits++
	}
	return digits
}
