package iotsql

import (
	"errors"
	"fmt"
	"strings"

	"github.com/alecthomas/participle/v2"
	"github.com/alecthomas/participle/v2/lexer"
)

// maxSQLBytes is AWS's limit for SQL, actions and description of a rule
// together ("AWS IoT Core rules engine limits and quotas").
const maxSQLBytes = 128 << 10

// maxDepth bounds the recursion of the parser. AWS documents no such limit; no
// statement that a person writes comes near.
const maxDepth = 100

// hints explain the token that the parser stopped at, or the one before it: what
// users of other SQL write and AWS IoT SQL lacks.
var hints = map[string]string{
	"SET":      "SET @name = expression, ... comes once, before SELECT",
	"LIKE":     "AWS IoT SQL has no LIKE; use startswith, endswith, indexof or regexp_matches",
	"BETWEEN":  "AWS IoT SQL has no BETWEEN; use >= and <=",
	"GROUP":    "AWS IoT SQL has no GROUP BY",
	"ORDER":    "AWS IoT SQL has no ORDER BY",
	"HAVING":   "AWS IoT SQL has no HAVING",
	"JOIN":     "AWS IoT SQL has no JOIN",
	"LIMIT":    "AWS IoT SQL has no LIMIT",
	"UNION":    "AWS IoT SQL has no UNION",
	"DISTINCT": "AWS IoT SQL has no DISTINCT",
	"IS":       "AWS IoT SQL has no IS; use isNull(x) or isUndefined(x)",
	"!":        "not equal is <>",
	"[":        "an element of an array is get(array, index)",
	".*":       ".* is a column of SELECT; elsewhere name the object itself",
	"--":       "AWS IoT SQL has no comments",
	"/*":       "AWS IoT SQL has no comments",
	"WHEN":     "CASE has only the form CASE v WHEN x THEN y ... ELSE z END",
	"$":        "a substitution template belongs to an action, not to SQL",
	"@":        "a variable name is @ and then letters, digits and underscores",
	"`":        "a key that is no plain name is get(*, 'key')",
	";":        "a statement has no end mark",
	"'":        "the string has no end",
	`"`:        "the string has no end",
}

// scan reads the tokens of sql before the parser does, for the limits and for
// what an error needs to name.
func scan(sql string) ([]lexer.Token, error) {
	if len(sql) > maxSQLBytes {
		return nil, fmt.Errorf("SQL of %d bytes, want at most %d", len(sql), maxSQLBytes)
	}
	lex, err := sqlLexer.LexString("", sql)
	if err != nil {
		return nil, syntaxError(err, sql, nil)
	}
	all, err := lexer.ConsumeAll(lex)
	if err != nil {
		return nil, syntaxError(err, sql, nil)
	}
	tokens := all[:0]
	space := sqlLexer.Symbols()["Space"]
	depth := 0
	for _, token := range all {
		if token.Type == space {
			continue
		}
		switch strings.ToUpper(token.Value) {
		case "(", "[", "{", "CASE":
			depth++
		case ")", "]", "}", "END":
			depth--
		}
		if depth > maxDepth {
			return nil, fmt.Errorf("line %d column %d: nested deeper than %d, which the local cloud does not run",
				token.Pos.Line, token.Pos.Column, maxDepth)
		}
		tokens = append(tokens, token)
	}
	return tokens, nil
}

// syntaxError names what the parser did not expect, where, and the way out if
// it is known.
func syntaxError(err error, sql string, tokens []lexer.Token) error {
	var at participle.Error
	if !errors.As(err, &at) {
		return err
	}
	pos := at.Position()
	unexpected := "the end"
	if pos.Offset < len(sql) {
		unexpected = string([]rune(sql[pos.Offset:])[:1])
	}
	previous, next := "", ""
	for i, token := range tokens {
		if token.Pos.Offset == pos.Offset && !token.EOF() {
			unexpected = token.Value
			if i > 0 {
				previous = tokens[i-1].Value
			}
			next = tokens[i+1].Value
		}
	}
	hint := ""
	for _, token := range []string{previous + unexpected, unexpected + next, unexpected, previous} {
		if hint == "" {
			hint = hints[strings.ToUpper(token)]
		}
	}
	if hint == "" {
		// What is not in quotes is a name of our grammar and tells nobody anything.
		if _, expected, found := strings.Cut(at.Message(), `(expected "`); found {
			hint = `want "` + strings.TrimSuffix(expected, ")")
		}
	}
	if hint != "" {
		hint = ": " + hint
	}
	if unexpected == "the end" {
		unexpected = "end"
	} else {
		unexpected = fmt.Sprintf("%q", unexpected)
	}
	return fmt.Errorf("line %d column %d: unexpected %s%s", pos.Line, pos.Column, unexpected, hint)
}
