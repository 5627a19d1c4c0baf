package dynamodbtest

import (
	"slices"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// parser evaluates an expression while it reads it: conditions, filters and key conditions of
// comparisons, BETWEEN, attribute_exists, attribute_not_exists, begins_with, AND, OR, NOT and
// parentheses.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.OperatorsAndFunctions.html
type parser struct {
	text   string
	tokens []string
	names  map[string]string
	values Item
	item   Item
	used   map[string]bool
	err    error
}

// evaluate reports whether an expression holds for an item, which is nil if there is none. Unused
// names and values are errors, as in AWS.
func evaluate(text string, names map[string]string, values, item Item) (bool, error) {
	p := &parser{text: text, tokens: tokenize(text), names: names, values: values, item: item, used: map[string]bool{}}
	holds := p.or()
	if len(p.tokens) > 0 {
		p.fail("%q in", p.tokens[0])
	}
	for name := range names {
		if p.err == nil && !p.used[name] {
			p.err = invalid("Value provided in ExpressionAttributeNames unused in expressions: %s", name)
		}
	}
	for name := range values {
		if p.err == nil && !p.used[name] {
			p.err = invalid("Value provided in ExpressionAttributeValues unused in expressions: %s", name)
		}
	}
	return holds && p.err == nil, p.err
}

func tokenize(text string) []string {
	var tokens []string
	for i := 0; i < len(text); {
		c := rune(text[i])
		j := i + 1
		switch {
		case unicode.IsSpace(c):
			i = j
			continue
		case c == '#' || c == ':' || word(c):
			for j < len(text) && word(rune(text[j])) {
				j++
			}
		case (c == '<' || c == '>') && j < len(text) && (text[j] == '=' || c == '<' && text[j] == '>'):
			j++
		}
		tokens = append(tokens, text[i:j])
		i = j
	}
	return tokens
}

func word(c rune) bool { return c == '_' || unicode.IsLetter(c) || unicode.IsDigit(c) }

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = unsupported(format+" the expression %q", append(args, p.text)...)
	}
	p.tokens = nil
}

// next returns the next token.
func (p *parser) next() string {
	if len(p.tokens) == 0 {
		p.fail("the end of")
		return ""
	}
	token := p.tokens[0]
	p.tokens = p.tokens[1:]
	return token
}

// take reads a token if it is the next.
func (p *parser) take(token string) bool {
	if len(p.tokens) > 0 && strings.EqualFold(p.tokens[0], token) {
		p.tokens = p.tokens[1:]
		return true
	}
	return false
}

func (p *parser) or() bool {
	holds := p.and()
	for p.take("OR") {
		other := p.and()
		holds = holds || other
	}
	return holds
}

func (p *parser) and() bool {
	holds := p.term()
	for p.take("AND") {
		other := p.term()
		holds = holds && other
	}
	return holds
}

func (p *parser) term() bool {
	switch {
	case p.take("NOT"):
		return !p.term()
	case p.take("("):
		holds := p.or()
		p.expect(")")
		return holds
	case p.take("attribute_exists"):
		return p.path() != nil
	case p.take("attribute_not_exists"):
		return p.path() == nil
	case p.take("begins_with"):
		return p.beginsWith()
	}
	left := p.operand()
	operator := p.next()
	if strings.EqualFold(operator, "BETWEEN") {
		low := p.operand()
		p.expect("AND")
		high := p.operand()
		above, ok := compare(left, low)
		below, also := compare(left, high)
		return ok && also && above >= 0 && below <= 0
	}
	if !slices.Contains(comparisons, operator) {
		p.fail("%q in", operator)
		return false
	}
	order, ok := compare(left, p.operand())
	switch operator {
	case "=":
		return ok && order == 0
	case "<>":
		return !ok || order != 0
	case "<":
		return ok && order < 0
	case "<=":
		return ok && order <= 0
	case ">":
		return ok && order > 0
	}
	return ok && order >= 0
}

var comparisons = []string{"=", "<>", "<", "<=", ">", ">="}

func (p *parser) expect(token string) {
	if !p.take(token) {
		p.fail("anything but %q in", token)
	}
}

// path reads (NAME).
func (p *parser) path() types.AttributeValue {
	p.expect("(")
	v := p.operand()
	p.expect(")")
	return v
}

// beginsWith reads (NAME, PREFIX) of strings.
func (p *parser) beginsWith() bool {
	p.expect("(")
	v, ok := p.operand().(*types.AttributeValueMemberS)
	p.expect(",")
	prefix, isText := p.operand().(*types.AttributeValueMemberS)
	p.expect(")")
	if !isText {
		p.fail("begins_with without a string in")
		return false
	}
	return ok && strings.HasPrefix(v.Value, prefix.Value)
}

// operand reads #NAME or :VALUE. It returns nil for an attribute that the item lacks.
func (p *parser) operand() types.AttributeValue {
	token := p.next()
	p.used[token] = true
	switch {
	case strings.HasPrefix(token, "#") && p.names[token] != "":
		return p.item[p.names[token]]
	case strings.HasPrefix(token, ":") && p.values[token] != nil:
		return p.values[token]
	}
	p.fail("%q in", token)
	return nil
}
