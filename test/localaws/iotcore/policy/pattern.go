package policy

import (
	"strings"
	"unicode/utf8"
)

// Pattern is a string of a policy document with its wildcards and variables:
// * matches any characters, ? matches one, and ${name} stands for the value of
// a policy variable, which is compared literally even when it has wildcards in
// it. The characters + and # have no meaning here.
type Pattern struct {
	text     string
	elements []element
}

type element struct {
	kind  elementKind
	char  rune   // of a literal
	value string // name of a variable
}

type elementKind byte

const (
	literal elementKind = iota
	anyOne
	anyMany
	variable
)

// ParsePattern reads a pattern. An unknown variable is an *UnsupportedError, a
// variable without its closing brace a *MalformedError.
func ParsePattern(text string) (Pattern, error) {
	p := Pattern{text: text}
	for rest := text; rest != ""; {
		if strings.HasPrefix(rest, "${") {
			end := strings.IndexByte(rest, '}')
			if end < 0 {
				return Pattern{}, malformed("policy variable without } in %q", text)
			}
			e, err := parseVariable(rest[2:end])
			if err != nil {
				return Pattern{}, err
			}
			p.elements = append(p.elements, e)
			rest = rest[end+1:]
			continue
		}
		r, size := utf8.DecodeRuneInString(rest)
		rest = rest[size:]
		switch r {
		case '*':
			p.elements = append(p.elements, element{kind: anyMany})
		case '?':
			p.elements = append(p.elements, element{kind: anyOne})
		default:
			p.elements = append(p.elements, element{kind: literal, char: r})
		}
	}
	return p, nil
}

// parseVariable also knows the three fixed variables that stand for a character
// with a special meaning.
func parseVariable(name string) (element, error) {
	switch name {
	case "*", "?", "$":
		return element{kind: literal, char: rune(name[0])}, nil
	}
	if !KnownKey(name) {
		return element{}, &UnsupportedError{Element: "policy variable", Name: name}
	}
	return element{kind: variable, value: name}, nil
}

// String returns the pattern as the document has it.
func (p Pattern) String() string { return p.text }

// resolve puts the values of variables in place. It is false when one of them
// has no value in this request.
func (p Pattern) resolve(values Values) ([]element, bool) {
	out := make([]element, 0, len(p.elements))
	for _, e := range p.elements {
		if e.kind != variable {
			out = append(out, e)
			continue
		}
		value, ok := values.first(e.value)
		if !ok {
			return nil, false
		}
		for _, r := range value {
			out = append(out, element{kind: literal, char: r})
		}
	}
	return out, true
}

// Match reports whether text has the pattern, with variables taken from values;
// resolved is false when a variable has no value, and then nothing matches.
func (p Pattern) Match(text string, values Values) (matched, resolved bool) {
	elements, ok := p.resolve(values)
	if !ok {
		return false, false
	}
	return matchElements(elements, []rune(text)), true
}

// matchElements goes through both once and returns to the last * on a mismatch.
func matchElements(pattern []element, text []rune) bool {
	p, t := 0, 0
	star, resume := -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p].kind == anyMany:
			star, resume = p, t
			p++
		case p < len(pattern) && (pattern[p].kind == anyOne || pattern[p].char == text[t]):
			p++
			t++
		case star >= 0:
			resume++
			p, t = star+1, resume
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p].kind == anyMany {
		p++
	}
	return p == len(pattern)
}
