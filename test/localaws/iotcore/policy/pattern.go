package policy

import (
	"regexp"
	"strings"
	"sync"
)

// Pattern is a string of a policy document with its wildcards and variables:
// * matches any characters, ? matches one, and ${name} is the value of
// a policy variable, which is compared literally even when it has wildcards in
// it. The characters + and # have no meaning here.
type Pattern struct{ text string }

// special is what has a meaning in a pattern.
var special = regexp.MustCompile(`\$\{[^}]*\}?|[*?]`)

// ParsePattern reads a pattern. An unknown variable is an *UnsupportedError, a
// variable without its closing brace a *MalformedError.
func ParsePattern(text string) (Pattern, error) {
	for _, found := range special.FindAllString(text, -1) {
		name, closed := strings.CutSuffix(strings.TrimPrefix(found, "${"), "}")
		switch {
		case len(found) == 1:
		case !closed:
			return Pattern{}, malformed("policy variable without } in %q", text)
		case !isCharacter(name) && !KnownKey(name):
			return Pattern{}, &UnsupportedError{Element: "policy variable", Name: name}
		}
	}
	return Pattern{text}, nil
}

// isCharacter reports whether a variable is a character with a special meaning.
func isCharacter(name string) bool { return name == "*" || name == "?" || name == "$" }

// String returns the pattern as the document has it.
func (p Pattern) String() string { return p.text }

// fill puts the values of variables in place, and passes wildcards and all else through
// wildcard and literal. It is false when a variable has no value in this request.
func (p Pattern) fill(values Values, wildcard, literal func(string) string) (filled string, resolved bool) {
	rest := p.text
	for _, at := range special.FindAllStringIndex(p.text, -1) {
		before := len(p.text) - len(rest)
		found := p.text[at[0]:at[1]]
		filled += literal(p.text[before:at[0]])
		rest = p.text[at[1]:]
		if len(found) == 1 {
			filled += wildcard(found)
			continue
		}
		name := found[2 : len(found)-1]
		if !isCharacter(name) {
			if len(values[name]) == 0 {
				return "", false
			}
			name = values[name][0]
		}
		filled += literal(name)
	}
	return filled + literal(rest), true
}

// compiled keeps regular expressions by their text: a broker asks for each message.
var compiled sync.Map

// Match reports whether text has the pattern, with variables taken from values;
// resolved is false when a variable has no value, and then nothing matches.
func (p Pattern) Match(text string, values Values) (matched, resolved bool) {
	expression, ok := p.fill(values, strings.NewReplacer("*", ".*", "?", ".").Replace, regexp.QuoteMeta)
	if !ok {
		return false, false
	}
	re, known := compiled.Load(expression)
	if !known {
		made, err := regexp.Compile("(?s)^" + expression + "$")
		if err != nil {
			return false, true // text that is no UTF-8
		}
		re, _ = compiled.LoadOrStore(expression, made)
	}
	return re.(*regexp.Regexp).MatchString(text), true
}

// literalText quotes the wildcards, but not the variables.
func (p Pattern) literalText(values Values) (string, bool) {
	same := func(s string) string { return s }
	return p.fill(values, same, same)
}
