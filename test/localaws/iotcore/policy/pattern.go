package policy

import (
	"regexp"
	"strings"
	"sync"
)

// Pattern is a string of a policy document with wildcards and variables. * matches any characters,
// ? matches one, and ${name} is the value of a policy variable. Wildcards in that value are
// literal. The characters + and # have no special meaning.
type Pattern struct{ text string }

// special matches variables and wildcards.
var special = regexp.MustCompile(`\$\{[^}]*\}?|[*?]`)

// ParsePattern parses a pattern. Its error is an *UnsupportedError for an unknown variable, and a
// *MalformedError for a variable without its closing brace.
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

// isCharacter reports whether a variable is an escaped special character.
func isCharacter(name string) bool { return name == "*" || name == "?" || name == "$" }

// String returns the text of the pattern in the document.
func (p Pattern) String() string { return p.text }

// fill replaces variables by their values. It converts each wildcard with wildcard, and all other
// text with literal. resolved is false if a variable has no value.
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

// compiled caches regular expressions, because the broker evaluates policies for each message.
var compiled sync.Map

// Match reports whether text matches the pattern with the variables' values. resolved is false if a
// variable has no value: nothing matches then.
func (p Pattern) Match(text string, values Values) (matched, resolved bool) {
	expression, ok := p.fill(values, strings.NewReplacer("*", ".*", "?", ".").Replace, regexp.QuoteMeta)
	if !ok {
		return false, false
	}
	re, known := compiled.Load(expression)
	if !known {
		made, err := regexp.Compile("(?s)^" + expression + "$")
		if err != nil {
			return false, true // the pattern is not valid UTF-8
		}
		re, _ = compiled.LoadOrStore(expression, made)
	}
	return re.(*regexp.Regexp).MatchString(text), true
}

// literalText returns the text with the values of its variables. Wildcards stay as they are.
func (p Pattern) literalText(values Values) (string, bool) {
	same := func(s string) string { return s }
	return p.fill(values, same, same)
}
