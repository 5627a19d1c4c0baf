package iotsql

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"
)

// function is a built-in function of AWS IoT SQL.
type function struct {
	// min and max bound the number of arguments; any other number gives
	// Undefined, as AWS does. max -1 is any number.
	min, max int
	eval     func(s *scope, args []value) value
	// check refuses arguments at Parse; nil accepts all.
	check func(args []expr) error
}

// functions is the table of what runs, by name in lower case; cast is a special form.
var functions = map[string]function{
	"topic":          {0, 1, topic, nil},
	"clientid":       {0, 0, clientID, nil},
	"principal":      {0, 0, property(func(m *Message) string { return m.Principal }), nil},
	"sourceip":       {0, 0, property(func(m *Message) string { return m.SourceIP }), nil},
	"traceid":        {0, 0, property(func(m *Message) string { return m.TraceID }), nil},
	"accountid":      {0, 0, property(func(m *Message) string { return m.AccountID }), nil},
	"timestamp":      {0, 0, func(s *scope, _ []value) value { return newInt(s.message.Time.UnixMilli()) }, nil},
	"newuuid":        {0, 0, newUUID, nil},
	"encode":         {2, 2, pure(encode), wantBase64},
	"decode":         {2, 2, pure(decode), wantBase64},
	"get":            {2, 2, pure(get), nil},
	"get_or_default": {2, 2, pure(orElse), nil},
	"nanvl":          {2, 2, pure(orElse), nil},
	"isundefined":    {1, 1, pure(func(args []value) value { return boolean(isUndefined(args[0])) }), nil},
	"isnull":         {1, 1, pure(func(args []value) value { return boolean(isNull(args[0])) }), nil},

	"length":         {1, 1, texts(func(s []string) value { return newInt(int64(utf8.RuneCountInString(s[0]))) }), nil},
	"numbytes":       {1, 1, texts(func(s []string) value { return newInt(int64(len(s[0]))) }), nil},
	"lower":          {1, 1, texts(func(s []string) value { return text(strings.ToLower(s[0])) }), nil},
	"upper":          {1, 1, texts(func(s []string) value { return text(strings.ToUpper(s[0])) }), nil},
	"trim":           {1, 1, texts(func(s []string) value { return text(strings.TrimSpace(s[0])) }), nil},
	"startswith":     {2, 2, texts(func(s []string) value { return boolean(strings.HasPrefix(s[0], s[1])) }), nil},
	"endswith":       {2, 2, texts(func(s []string) value { return boolean(strings.HasSuffix(s[0], s[1])) }), nil},
	"indexof":        {2, 2, texts(indexOf), nil},
	"replace":        {3, 3, texts(func(s []string) value { return text(strings.ReplaceAll(s[0], s[1], s[2])) }), nil},
	"concat":         {0, -1, pure(concat), nil},
	"substring":      {2, 3, pure(substring), nil},
	"regexp_matches": {2, 2, texts(regexpMatches), wantRegexp},

	"abs":   {1, 1, ofNumber(func(n number) value { return newNumber(new(apd.Decimal).Abs(n.d)) }), nil},
	"ceil":  {1, 1, ofNumber(func(n number) value { return n.integral(arithmetic.Ceil) }), nil},
	"floor": {1, 1, ofNumber(number.floor), nil},
	"round": {1, 1, ofNumber(func(n number) value { return n.integral(halfUp.RoundToIntegralValue) }), nil},
}

// refused are functions that AWS has and the local cloud does not run, with the reason where
// it is another than that nobody needs them here.
var refused = func() map[string]string {
	all := map[string]string{}
	for _, names := range []struct{ why, functions string }{
		{", it calls an external service", "aws_lambda get_dynamodb get_registry_data get_secret get_thing_shadow machinelearning_predict"},
		{", MQTT 5 headers do not reach the local rules engine", "get_mqtt_property get_user_properties"},
		{"", "acos asin atan atan2 bitand bitnot bitor bitxor chr cos cosh exp ln log lpad ltrim md2 md5 mod parse_time power rand " +
			"regexp_replace regexp_substr remainder rpad rtrim sha1 sha224 sha256 sha384 sha512 sign sin sinh sql_version sqrt tan tanh " +
			"time_to_epoch transform trunc"},
	} {
		for _, name := range strings.Fields(names.functions) {
			all[name] = names.why
		}
	}
	return all
}()

// call reads the arguments of a function, whose name may be in any case.
func (p *parser) call(written string) (expr, error) {
	fn := strings.ToLower(written)
	if why, ok := refused[fn]; ok {
		return nil, fmt.Errorf("function %s: the local cloud does not run it%s", fn, why)
	}
	f, known := functions[fn]
	if !known && fn != "cast" {
		return nil, fmt.Errorf("function %s: AWS IoT SQL %s has no such function", written, Version)
	}
	var args []expr
	as := ""
	err := p.list(")", func() error {
		e, err := p.argument("function "+fn, len(args) == 0 && (fn == "encode" || fn == "get"))
		if err == nil && p.take("AS") {
			if as, err = p.text(identifier); err == nil && fn != "cast" {
				return fmt.Errorf("function %s: AS %s is for cast only", fn, as)
			}
		}
		if _, message := e.(payload); message && fn == "encode" {
			e = raw{}
		}
		args = append(args, e)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case fn == "cast" && (as == "" || len(args) != 1):
		return nil, errors.New("function cast: want cast(value AS type)")
	case fn == "cast":
		to, ok := castTypes[strings.ToLower(as)]
		if !ok {
			return nil, fmt.Errorf("function cast: AS %s, want String, Int, Decimal or Boolean", as)
		}
		f = function{min: 1, max: 1, eval: pure(func(args []value) value { return to(args[0]) })}
	case f.check != nil:
		if err := f.check(args); err != nil {
			return nil, fmt.Errorf("function %s: %w", fn, err)
		}
	}
	return call{f, args}, nil
}

// call is the call of a function.
type call struct {
	function function
	args     []expr
}

func (c call) eval(s *scope) value {
	if len(c.args) < c.function.min || c.function.max >= 0 && len(c.args) > c.function.max {
		return undefined{}
	}
	args := make([]value, len(c.args))
	for i, a := range c.args {
		args[i] = a.eval(s)
	}
	return c.function.eval(s, args)
}

// raw is * of encode: the payload byte for byte, JSON or not.
type raw struct{}

func (raw) eval(s *scope) value { return s.message.Payload }

// wantBase64 checks the scheme of encode and decode, which AWS wants literal.
func wantBase64(args []expr) error {
	if len(args) < 2 {
		return nil
	}
	l, _ := args[1].(literal)
	switch scheme, ok := l.value.(text); {
	case !ok:
		return errors.New("the scheme must be a literal string")
	case scheme == "proto":
		return errors.New("scheme 'proto': the local cloud does not run it")
	case scheme != "base64":
		return fmt.Errorf("scheme '%s', want 'base64'", scheme)
	}
	return nil
}

// wantRegexp takes literal expressions, and refuses those that Java's engine knows and Go's
// does not. What neither knows is Undefined when it runs.
func wantRegexp(args []expr) error {
	if len(args) < 2 {
		return nil
	}
	l, _ := args[1].(literal)
	pattern, ok := l.value.(text)
	if !ok {
		return errors.New("the local cloud runs literal regular expressions only")
	}
	_, err := regexp.Compile(string(pattern))
	var fault *syntax.Error
	if errors.As(err, &fault) && !slices.Contains([]syntax.ErrorCode{syntax.ErrMissingParen, syntax.ErrUnexpectedParen, syntax.ErrMissingBracket, syntax.ErrMissingRepeatArgument, syntax.ErrTrailingBackslash}, fault.Code) {
		return fmt.Errorf("regular expression %q: the local cloud does not run lookaround, backreferences and the like: %w", string(pattern), err)
	}
	return nil
}

func regexpMatches(s []string) value {
	re, err := regexp.Compile(s[1])
	if err != nil {
		return undefined{}
	}
	return boolean(re.MatchString(s[0]))
}

// pure makes a function of its arguments alone.
func pure(f func(args []value) value) func(*scope, []value) value {
	return func(_ *scope, args []value) value { return f(args) }
}

// property makes a function that gives a property of the message, Undefined if it has none.
func property(of func(*Message) string) func(*scope, []value) value {
	return func(s *scope, _ []value) value {
		if p := of(s.message); p != "" {
			return text(p)
		}
		return undefined{}
	}
}

// texts makes a function of strings, Undefined where an argument is none.
func texts(f func([]string) value) func(*scope, []value) value {
	return pure(func(args []value) value {
		converted := make([]string, len(args))
		for i, a := range args {
			var ok bool
			if converted[i], ok = toText(a); !ok {
				return undefined{}
			}
		}
		return f(converted)
	})
}

// ofNumber makes a function of a number, Undefined where the argument is none.
func ofNumber(f func(number) value) func(*scope, []value) value {
	return pure(func(args []value) value {
		if n, ok := toNumber(args[0]); ok {
			return f(n)
		}
		return undefined{}
	})
}

// topic gives the whole topic or a segment from 1 on, of Basic Ingest without
// the prefix.
func topic(s *scope, args []value) value {
	t := s.message.Topic
	if _, rest, ok := BasicIngest(t); ok {
		t = rest
	}
	if len(args) == 0 {
		return text(t)
	}
	levels := strings.Split(t, "/")
	n, ok := toNumber(args[0])
	if !ok {
		return undefined{}
	}
	if i, ok := n.int64(); ok && i >= 1 && i <= int64(len(levels)) {
		return text(levels[i-1])
	}
	return undefined{}
}

func clientID(s *scope, _ []value) value {
	if s.message.ClientID == "" {
		return text("n/a")
	}
	return text(s.message.ClientID)
}

func newUUID(s *scope, _ []value) value {
	if s.message.NewUUID == nil {
		return text(uuid.NewString())
	}
	return text(s.message.NewUUID())
}

func encode(args []value) value {
	if all, ok := args[0].([]byte); ok {
		return text(base64.StdEncoding.EncodeToString(all))
	}
	plain, ok := toText(args[0])
	if !ok {
		return undefined{}
	}
	return text(base64.StdEncoding.EncodeToString([]byte(plain)))
}

// decode gives a JSON document as a value and anything else as a string; what is
// not base64 is Null.
func decode(args []value) value {
	encoded, ok := toText(args[0])
	if !ok {
		return undefined{}
	}
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return null{}
	}
	if v, ok := decodeJSON(decoded); ok {
		return v
	}
	return text(strings.ToValidUTF8(string(decoded), "\uFFFD"))
}

// get takes an element by index, a character by index, or a value by key.
func get(args []value) value {
	switch of := args[0].(type) {
	case *object:
		if key, ok := args[1].(text); ok {
			return of.get(string(key))
		}
	case array:
		if i, ok := index(args[1], len(of)); ok {
			return of[i]
		}
	case text:
		runes := []rune(of)
		if i, ok := index(args[1], len(runes)); ok {
			return text(runes[i])
		}
	}
	return undefined{}
}

// index converts to an index below length.
func index(v value, length int) (int, bool) {
	n, ok := toNumber(v)
	if !ok {
		return 0, false
	}
	i, ok := n.int64()
	return int(i), ok && i >= 0 && i < int64(length)
}

func orElse(args []value) value {
	if isUndefined(args[0]) || isNull(args[0]) {
		return args[1]
	}
	return args[0]
}

// indexOf counts characters; what is not found is -1, as in Java.
func indexOf(s []string) value {
	i := strings.Index(s[0], s[1])
	if i < 0 {
		return newInt(-1)
	}
	return newInt(int64(utf8.RuneCountInString(s[0][:i])))
}

// concat joins arrays as soon as one argument is an array, and strings as soon
// as one is a string. A lone number becomes a string by AWS's example,
// concat(1) = "1".
func concat(args []value) value {
	if slices.ContainsFunc(args, isUndefined) {
		return undefined{}
	}
	var joined array
	anyArray, anyText := false, false
	for _, a := range args {
		elements, isArray := a.(array)
		if !isArray {
			elements = array{a}
		}
		_, isText := a.(text)
		anyArray, anyText = anyArray || isArray, anyText || isText
		joined = append(joined, elements...)
	}
	if anyArray {
		return joined
	}
	if len(args) == 1 {
		if n, ok := args[0].(number); ok {
			return text(n.String())
		}
		return args[0]
	}
	if !anyText {
		return undefined{}
	}
	return texts(func(s []string) value { return text(strings.Join(s, "")) })(nil, args)
}

// substring cuts from an index up to and without another, both 0-based and held
// within the string.
func substring(args []value) value {
	s, ok := toText(args[0])
	if !ok {
		return undefined{}
	}
	runes := []rune(s)
	bounds := []int64{0, int64(len(runes))}
	for i, a := range args[1:] {
		n, ok := toNumber(a)
		if !ok {
			return undefined{}
		}
		bounds[i] = n.clamp(0, int64(len(runes)))
	}
	if bounds[0] >= bounds[1] {
		return text("")
	}
	return text(runes[bounds[0]:bounds[1]])
}

// castTypes are the keywords after AS in cast.
var castTypes = map[string]func(value) value{
	"string": castText, "nvarchar": castText, "text": castText, "ntext": castText, "varchar": castText,
	"int": castInt, "integer": castInt, "decimal": castDecimal, "bool": castBoolean, "boolean": castBoolean,
}

func castText(v value) value {
	if s, ok := toText(v); ok {
		return text(s)
	}
	return undefined{}
}

// castDecimal is the conversion to Decimal plus that of Booleans.
func castDecimal(v value) value {
	if b, ok := v.(boolean); ok {
		if b {
			return newInt(1)
		}
		return newInt(0)
	}
	if n, ok := toNumber(v); ok {
		return n
	}
	return undefined{}
}

func castInt(v value) value {
	if n, ok := castDecimal(v).(number); ok {
		return n.floor()
	}
	return undefined{}
}

func castBoolean(v value) value {
	if n, ok := v.(number); ok {
		return boolean(!n.d.IsZero())
	}
	b, _ := toBoolean(v)
	return b
}
