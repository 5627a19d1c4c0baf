package iotsql

import (
	"github.com/alecthomas/participle/v2"
	"github.com/alecthomas/participle/v2/lexer"
)

// sqlLexer keeps the quotes of strings, so that a string never equals a
// keyword. Comment and Hint are tokens that no rule takes: they are there for
// the error to name.
var sqlLexer = lexer.MustSimple([]lexer.SimpleRule{
	{Name: "Space", Pattern: `\s+`},
	{Name: "Comment", Pattern: `--|/\*`},
	{Name: "Keyword", Pattern: `(?i)(SELECT|FROM|WHERE|AS|AND|OR|NOT|IN|EXISTS|CASE|WHEN|THEN|ELSE|END|TRUE|FALSE|NULL)\b`},
	{Name: "Variable", Pattern: `@[A-Za-z0-9_]+`},
	{Name: "Name", Pattern: `[\p{L}_][\p{L}\p{N}_]*`},
	{Name: "Number", Pattern: `[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?`},
	{Name: "String", Pattern: `'[^']*'|"[^"]*"`},
	{Name: "Operator", Pattern: `<>|<=|>=|[-+*/%=<>]`},
	{Name: "Punctuation", Pattern: `[(){}\[\],.:]`},
})

// Two tokens of lookahead tell a nested query from a parenthesis and a call
// from a name; more would only let nested mistakes cost exponential time.
var (
	statementParser = participle.MustBuild[statementSyntax](parserOptions...)
	templateParser  = participle.MustBuild[argumentSyntax](parserOptions...)
	parserOptions   = []participle.Option{
		participle.Lexer(sqlLexer),
		participle.Elide("Space"),
		participle.CaseInsensitive("Keyword", "Name"),
		participle.UseLookahead(2),
	}
)

type statementSyntax struct {
	Set   []*assignmentSyntax `parser:"( 'SET':Name @@ ( ',' @@ )* )?"`
	Query *querySyntax        `parser:"@@"`
}

type assignmentSyntax struct {
	Name string            `parser:"@Variable '='"`
	Expr *expressionSyntax `parser:"@@"`
}

// querySyntax takes VALUE for the keyword except where only a key named value
// makes sense.
type querySyntax struct {
	Value *argumentSyntax   `parser:"'SELECT' ( 'VALUE':Name (?! ',' | '.' | 'FROM' | 'AS' | EOF) @@"`
	Items []*itemSyntax     `parser:"           | @@ ( ',' @@ )* )"`
	From  *expressionSyntax `parser:"( 'FROM' @@ )?"`
	Where *expressionSyntax `parser:"( 'WHERE' @@ )?"`
}

type itemSyntax struct {
	Pos   lexer.Position
	All   bool              `parser:"( @'*'"`
	Expr  *expressionSyntax `parser:"| @@"`
	Keys  bool              `parser:"  ( '.' @'*' )? )"`
	Alias []string          `parser:"( 'AS' @(Name|Keyword) ( '.' @(Name|Keyword) )* )?"`
}

// argumentSyntax is what a function, SELECT VALUE or a template takes. Type is
// for cast alone.
type argumentSyntax struct {
	All  bool              `parser:"  @'*'"`
	Expr *expressionSyntax `parser:"| @@"`
	Type string            `parser:"  ( 'AS' @Name )?"`
}

// The levels of precedence, from OR to the literals.
type (
	expressionSyntax struct {
		First *andSyntax   `parser:"@@"`
		Rest  []*andSyntax `parser:"( 'OR' @@ )*"`
	}

	andSyntax struct {
		First *notSyntax   `parser:"@@"`
		Rest  []*notSyntax `parser:"( 'AND' @@ )*"`
	}

	notSyntax struct {
		Not  []string          `parser:"@'NOT'*"`
		Expr *comparisonSyntax `parser:"@@"`
	}

	comparisonSyntax struct {
		Pos   lexer.Position
		Left  *sumSyntax `parser:"@@"`
		Op    string     `parser:"( @( '=' | '<>' | '<=' | '>=' | '<' | '>' | 'IN' )"`
		Right *sumSyntax `parser:"  @@ )?"`
	}

	sumSyntax struct {
		First *productSyntax `parser:"@@"`
		Rest  []*sumTerm     `parser:"@@*"`
	}

	sumTerm struct {
		Op   string         `parser:"@( '+' | '-' )"`
		Expr *productSyntax `parser:"@@"`
	}

	productSyntax struct {
		First *memberSyntax  `parser:"@@"`
		Rest  []*productTerm `parser:"@@*"`
	}

	productTerm struct {
		Op   string        `parser:"@( '*' | '/' | '%' )"`
		Expr *memberSyntax `parser:"@@"`
	}

	memberSyntax struct {
		Primary *primarySyntax `parser:"@@"`
		Keys    []string       `parser:"( '.' @(Name|Keyword) )*"`
	}
)

type primarySyntax struct {
	Pos      lexer.Position
	Number   *string           `parser:"  @( '-'? Number )"`
	String   *string           `parser:"| @String"`
	Constant *string           `parser:"| @( 'TRUE' | 'FALSE' | 'NULL' )"`
	Case     *caseSyntax       `parser:"| @@"`
	Exists   *querySyntax      `parser:"| 'EXISTS' '(' @@ ')'"`
	Query    *querySyntax      `parser:"| '(' (?= 'SELECT') @@ ')'"`
	Group    *expressionSyntax `parser:"| '(' @@ ')'"`
	Array    *arraySyntax      `parser:"| @@"`
	Object   *objectSyntax     `parser:"| @@"`
	Call     *callSyntax       `parser:"| @@"`
	Variable *string           `parser:"| @Variable"`
	Name     *string           `parser:"| @Name"`
}

type caseSyntax struct {
	Of   *expressionSyntax `parser:"'CASE' @@"`
	When []*whenSyntax     `parser:"@@+"`
	Else *expressionSyntax `parser:"( 'ELSE' @@ )? 'END'"`
}

type whenSyntax struct {
	When *expressionSyntax `parser:"'WHEN' @@"`
	Then *expressionSyntax `parser:"'THEN' @@"`
}

type arraySyntax struct {
	Elements []*expressionSyntax `parser:"'[' ( @@ ( ',' @@ )* )? ']'"`
}

type objectSyntax struct {
	Members []*keyValueSyntax `parser:"'{' ( @@ ( ',' @@ )* )? '}'"`
}

type keyValueSyntax struct {
	Key   string            `parser:"@String ':'"`
	Value *expressionSyntax `parser:"@@"`
}

type callSyntax struct {
	Pos  lexer.Position
	Name string            `parser:"@Name '('"`
	Args []*argumentSyntax `parser:"( @@ ( ',' @@ )* )? ')'"`
}
