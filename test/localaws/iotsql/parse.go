package iotsql

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a statement. AWS limits the size of SQL, actions and description together ("AWS IoT
// Core rules engine limits and quotas"). It documents no limit of the depth; the one here is far
// above what a person writes.
const (
	maxSQLBytes = 128 << 10
	maxDepth    = 100
)

// hints explain the token at which the parser stopped, or the one before it: syntax of other SQL
// dialects that AWS IoT SQL lacks, and syntax that this package does not support.
var hints = map[string]string{
	"SET":      "the local AWS does not support SET; write the expression out",
	"LIKE":     "AWS IoT SQL has no LIKE; use startswith or endswith",
	"BETWEEN":  "AWS IoT SQL has no BETWEEN; use >= and <=",
	"GROUP":    "AWS IoT SQL has no GROUP BY",
	"ORDER":    "AWS IoT SQL has no ORDER BY",
	"HAVING":   "AWS IoT SQL has no HAVING",
	"JOIN":     "AWS IoT SQL has no JOIN",
	"LIMIT":    "AWS IoT SQL has no LIMIT",
	"UNION":    "AWS IoT SQL has no UNION",
	"DISTINCT": "AWS IoT SQL has no DISTINCT",
	"IS":       "AWS IoT SQL has no IS; use isNull(x) or isUndefined(x)",
	"IN":       "the local AWS does not support IN; use OR",
	"EXISTS":   "the local AWS does not support EXISTS",
	"(SELECT":  "the local AWS does not support nested SELECT",
	"CASE":     "the local AWS does not support CASE; use cast(condition AS Int)",
	"!":        "not equal is <>",
	"%":        "the local AWS does not support %",
	"{":        "the local AWS does not support objects in SQL",
	"[":        "the local AWS does not support arrays in SQL",
	".*":       "the local AWS does not select the keys of an object; name the object itself",
	"--":       "AWS IoT SQL has no comments",
	"/*":       "AWS IoT SQL has no comments",
	"$":        "a substitution template belongs to an action, not to SQL",
	"@":        "the local AWS does not support SET and its variables",
	"`":        "the local AWS does not support keys in back quotes",
	";":        "a statement has no end mark",
	"'":        "the string has no end",
	`"`:        "the string has no end",
}

// kind is the kind of a token.
type kind int

const (
	end kind = iota
	keyword
	identifier
	numeral
	quoted // with its quotes, so that a string never equals a keyword
	symbol
)

type token struct {
	kind         kind
	text         string
	line, column int
}

var (
	space     = regexp.MustCompile(`^\s+`)
	tokenForm = regexp.MustCompile(`^(?:([\p{L}_][\p{L}\p{N}_]*)|([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|('[^']*'|"[^"]*")|(<>|<=|>=|[-+*/%=<>(){}\[\],.:]))`)
	keywords  = strings.Fields("SELECT FROM WHERE AS AND OR NOT IN EXISTS CASE WHEN THEN ELSE END TRUE FALSE NULL")
)

// parser reads one statement or template. Each method reads the part in its name, and moves to the
// first token after it.
type parser struct {
	tokens   []token
	i, depth int
}

// syntaxError already names the line, column and token.
type syntaxError struct{ text string }

func (e syntaxError) Error() string { return e.text }

// within adds the clause to an error, unless that names the token.
func within(clause string, err error) error {
	if err == nil || errors.As(err, new(syntaxError)) {
		return err
	}
	return fmt.Errorf("%s: %w", clause, err)
}

// placed is an error with its line and column.
type placed struct{ error }

func (t token) at(format string, args ...any) error {
	return placed{fmt.Errorf("line %d column %d: %w", t.line, t.column, fmt.Errorf(format, args...))}
}

// scan reads all tokens.
func scan(sql string) (*parser, error) {
	if len(sql) > maxSQLBytes {
		return nil, fmt.Errorf("SQL of %d bytes, want at most %d", len(sql), maxSQLBytes)
	}
	p := &parser{}
	t := token{line: 1, column: 1}
	for rest := sql; ; {
		for _, r := range space.FindString(rest) {
			rest = rest[utf8.RuneLen(r):]
			if t.column++; r == '\n' {
				t.line, t.column = t.line+1, 1
			}
		}
		t.kind, t.text = end, ""
		if rest == "" {
			p.tokens = append(p.tokens, t)
			return p, nil
		}
		groups := tokenForm.FindStringSubmatch(rest)
		if groups == nil || strings.HasPrefix(rest, "--") || strings.HasPrefix(rest, "/*") {
			_, size := utf8.DecodeRuneInString(rest)
			if groups != nil {
				size = 2
			}
			t.kind, t.text = symbol, rest[:size]
			p.tokens, p.i = append(p.tokens, t), len(p.tokens)
			return nil, p.unexpected("")
		}
		for i, kind := range []kind{identifier, numeral, quoted, symbol} {
			if t.text = groups[i+1]; t.text != "" {
				t.kind = kind
				break
			}
		}
		if t.kind == identifier && slices.Contains(keywords, strings.ToUpper(t.text)) {
			t.kind = keyword
		}
		p.tokens = append(p.tokens, t)
		t.column += utf8.RuneCountInString(t.text)
		rest = rest[len(t.text):]
	}
}

func (p *parser) token() token { return p.tokens[p.i] }

// is reports whether the token at an offset from the current one is one of these keywords or
// symbols.
func (p *parser) is(offset int, words ...string) bool {
	if p.i+offset < 0 || p.i+offset >= len(p.tokens) {
		return false
	}
	t := p.tokens[p.i+offset]
	return (t.kind == keyword || t.kind == symbol) && slices.Contains(words, strings.ToUpper(t.text))
}

// isName reports whether the current token is a word that is a keyword in one place only.
func (p *parser) isName(word string) bool {
	return p.token().kind == identifier && strings.EqualFold(p.token().text, word)
}

// take moves past a keyword or symbol, and reports whether it was there.
func (p *parser) take(word string) bool {
	ok := p.is(0, word)
	if ok {
		p.i++
	}
	return ok
}

func (p *parser) want(word string) error {
	if !p.take(word) {
		return p.unexpected(word)
	}
	return nil
}

// text returns the current token, which must be of one of these kinds, and moves past it.
func (p *parser) text(kinds ...kind) (string, error) {
	t := p.token()
	if !slices.Contains(kinds, t.kind) {
		return "", p.unexpected("")
	}
	p.i++
	return t.text, nil
}

// unexpected returns an error about the current token, with a hint if there is one.
func (p *parser) unexpected(want string) error {
	t := p.token()
	near := func(offset int) string {
		if i := p.i + offset; i >= 0 && i < len(p.tokens) {
			return strings.ToUpper(p.tokens[i].text)
		}
		return ""
	}
	hint := ""
	for _, words := range []string{near(-1) + near(0), near(0) + near(1), near(0), near(-1)} {
		if hint == "" {
			hint = hints[words]
		}
	}
	if hint == "" && want != "" {
		hint = fmt.Sprintf("want %q", want)
	}
	if hint != "" {
		hint = ": " + hint
	}
	text := "end"
	if t.kind != end {
		text = fmt.Sprintf("%q", t.text)
	}
	return syntaxError{fmt.Sprintf("line %d column %d: unexpected %s%s", t.line, t.column, text, hint)}
}

func (p *parser) statement() (*Statement, error) {
	s := &Statement{}
	if err := p.selection(s); err != nil {
		return nil, err
	}
	if p.take("FROM") {
		from := p.token()
		if from.kind != quoted || from.text[0] != '\'' || !p.is(1, "WHERE") && p.tokens[p.i+1].kind == symbol {
			return nil, errors.New("FROM: want a topic filter in single quotes")
		}
		p.i++
		s.filter = unquote(from.text)
		if err := checkTopicFilter(s.filter); err != nil {
			return nil, err
		}
	}
	if p.take("WHERE") {
		var err error
		if s.where, err = p.expression(0); err != nil {
			return nil, within("WHERE", err)
		}
	}
	if p.token().kind != end {
		return nil, p.unexpected("")
	}
	return s, nil
}

// selection reads SELECT. VALUE is a keyword, except where it can only be a key of that name.
func (p *parser) selection(s *Statement) error {
	if err := p.want("SELECT"); err != nil {
		return err
	}
	if p.isName("VALUE") && !p.is(1, ",", ".", "FROM", "AS") && p.tokens[p.i+1].kind != end {
		p.i++
		e, err := p.argument("SELECT VALUE", true)
		if err == nil && p.is(0, "AS") {
			err = errors.New("AS: one value has no key; leave AS out")
		}
		s.value = e
		return within("SELECT VALUE", err)
	}
	for more := true; more; more = p.take(",") {
		it, err := p.item()
		if err != nil {
			return within(fmt.Sprintf("SELECT item %d", len(s.items)+1), err)
		}
		s.items = append(s.items, it)
	}
	return nil
}

// item reads one column. AWS documents the name of a column without AS only for a key of the
// message.
func (p *parser) item() (item, error) {
	if p.take("*") {
		if p.is(0, "AS") {
			return item{}, errors.New("* AS: the local AWS does not nest the message")
		}
		return item{}, nil
	}
	e, err := p.expression(0)
	it := item{expr: e}
	switch {
	case err != nil:
	case p.take("AS"):
		it.key, err = p.text(identifier, keyword)
		if err == nil && p.is(0, ".") {
			err = fmt.Errorf("AS %s.%s: AWS does not document what an alias with a dot makes", it.key, p.tokens[p.i+1].text)
		}
	case p.is(0, ".") && p.is(1, "*"):
		err = p.unexpected("")
	default:
		var ok bool
		if it.key, ok = keyOf(e); !ok {
			err = errors.New("no AS: AWS documents no key for an expression without alias")
		}
	}
	return it, err
}

// precedence lists the binary operators from the lowest precedence on. NOT is between AND and
// the comparisons.
var precedence = [][]string{{"OR"}, {"AND"}, {"=", "<>", "<=", ">=", "<", ">"}, {"+", "-"}, {"*", "/"}}

const comparisons = 2 // the level of the comparisons, which do not chain

func (p *parser) expression(level int) (expr, error) {
	if level == comparisons && p.take("NOT") {
		of, err := p.nested(func() (expr, error) { return p.expression(comparisons) })
		return not{of}, err
	}
	if level == len(precedence) {
		return p.member()
	}
	left, err := p.expression(level + 1)
	for err == nil && p.is(0, precedence[level]...) {
		op := strings.ToUpper(p.token().text)
		p.i++
		var right expr
		if right, err = p.expression(level + 1); err != nil {
			return nil, err
		}
		left = binary{op, left, right}
		if level == comparisons {
			break
		}
	}
	return left, err
}

// nested limits the depth of the recursion.
func (p *parser) nested(read func() (expr, error)) (expr, error) {
	if p.depth++; p.depth > maxDepth+1 {
		return nil, p.token().at("nested deeper than %d, which the local AWS does not support", maxDepth)
	}
	defer func() { p.depth-- }()
	return read()
}

func (p *parser) member() (expr, error) {
	of, err := p.nested(p.primary)
	for err == nil && p.is(0, ".") && !p.is(1, "*") {
		p.i++
		var key string
		key, err = p.text(identifier, keyword)
		of = member{of, key}
	}
	return of, err
}

func (p *parser) primary() (expr, error) {
	t := p.token()
	switch {
	case p.is(0, "TRUE", "FALSE"):
		p.i++
		return literal{strings.EqualFold(t.text, "TRUE")}, nil
	case p.take("NULL"):
		return literal{nil}, nil
	case p.is(0, "(") && !p.is(1, "SELECT"):
		p.i++
		e, err := p.expression(0)
		if err == nil {
			err = p.want(")")
		}
		return e, err
	case p.take("-"):
		digits, err := p.text(numeral)
		return p.number(t, "-"+digits, err)
	case t.kind == numeral:
		p.i++
		return p.number(t, t.text, nil)
	case t.kind == quoted:
		p.i++
		return literal{unquote(t.text)}, nil
	case t.kind == identifier:
		if p.i++; p.take("(") {
			e, err := p.call(t.text)
			if err != nil && !errors.As(err, new(syntaxError)) && !errors.As(err, new(placed)) {
				err = t.at("%w", err)
			}
			return e, err
		}
		return name{t.text}, nil
	}
	if p.is(0, "(") {
		p.i++
	}
	return nil, p.unexpected("")
}

func (p *parser) number(t token, digits string, err error) (expr, error) {
	if err != nil {
		return nil, err
	}
	v := parseNumber(digits)
	if isUndefined(v) {
		return nil, t.at("number %s is out of range, want at most 9.999E999", digits)
	}
	return literal{v}, nil
}

// list reads elements, separated by commas, up to the closing symbol.
func (p *parser) list(closing string, element func() error) error {
	for first := true; !p.take(closing); first = false {
		if !first && !p.take(",") {
			return p.unexpected(closing)
		}
		if err := element(); err != nil {
			return err
		}
	}
	return nil
}

// argument reads an expression, or * if message allows that.
func (p *parser) argument(of string, message bool) (expr, error) {
	if !p.is(0, "*") {
		return p.expression(0)
	}
	if !message {
		return nil, fmt.Errorf("%s: * is the first argument of encode only", of)
	}
	p.i++
	return payload{}, nil
}

func unquote(s string) string { return s[1 : len(s)-1] }

// keyOf returns the last key of an expression that is a path of keys.
func keyOf(e expr) (string, bool) {
	switch e := e.(type) {
	case name:
		return e.key, true
	case member:
		_, ok := keyOf(e.of)
		return e.key, ok
	}
	return "", false
}
