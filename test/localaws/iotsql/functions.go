package iotsql

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// function is a built-in function of AWS IoT SQL.
type function struct {
	// min and max limit the number of arguments. With any other number the function is
	// Undefined, as in AWS.
	min, max int
	eval     func(s *scope, args []value) value
	// check validates the arguments when the statement is parsed. Default: nil, all are valid.
	check func(args []expr) error
}

// functions are the supported functions by their name in lower case. cast, which has a syntax of
// its own, is not among them.
var functions = map[string]function{
	"topic":       {0, 1, topic, nil},
	"clientid":    {0, 0, clientID, nil},
	"principal":   {0, 0, property(func(m *Message) string { return m.Principal }), nil},
	"sourceip":    {0, 0, property(func(m *Message) string { return m.SourceIP }), nil},
	"traceid":     {0, 0, property(func(m *Message) string { return m.TraceID }), nil},
	"accountid":   {0, 0, property(func(m *Message) string { return m.AccountID }), nil},
	"timestamp":   {0, 0, func(s *scope, _ []value) value { return newInt(s.message.Time.UnixMilli()) }, nil},
	"newuuid":     {0, 0, newUUID, nil},
	"encode":      {2, 2, pure(encode), wantBase64},
	"isundefined": {1, 1, pure(func(args []value) value { return isUndefined(args[0]) }), nil},
	"isnull":      {1, 1, pure(func(args []value) value { return args[0] == nil }), nil},

	"length":     {1, 1, texts(func(s []string) value { return newInt(int64(utf8.RuneCountInString(s[0]))) }), nil},
	"startswith": {2, 2, texts(func(s []string) value { return strings.HasPrefix(s[0], s[1]) }), nil},
	"endswith":   {2, 2, texts(func(s []string) value { return strings.HasSuffix(s[0], s[1]) }), nil},
}

// refused are the functions of AWS that the local AWS does not support, with the reason. Without
// a reason, nobody needs the function here.
var refused = func() map[string]string {
	all := map[string]string{}
	for _, names := range []struct{ why, functions string }{
		{", it calls an external service", "aws_lambda get_dynamodb get_registry_data get_secret get_thing_shadow machinelearning_predict"},
		{", and AWS does not for a payload that is not JSON", "get_or_default"},
		{", MQTT 5 headers do not reach the local rules engine", "get_mqtt_property get_user_properties"},
		{"", "abs acos asin atan atan2 bitand bitnot bitor bitxor ceil chr concat cos cosh decode exp floor get indexof ln log lower lpad " +
			"ltrim md2 md5 mod nanvl numbytes parse_time power rand regexp_matches regexp_replace regexp_substr remainder replace round " +
			"rpad rtrim sha1 sha224 sha256 sha384 sha512 sign sin sinh sql_version sqrt substring tan tanh time_to_epoch " +
			"transform trim trunc upper"},
	} {
		for _, name := range strings.Fields(names.functions) {
			all[name] = names.why
		}
	}
	return all
}()

// call reads the arguments of a function. Its name may be in any case.
func (p *parser) call(written string) (expr, error) {
	fn := strings.ToLower(written)
	if why, ok := refused[fn]; ok {
		return nil, fmt.Errorf("function %s: the local AWS does not support it%s", fn, why)
	}
	f, known := functions[fn]
	if !known && fn != "cast" {
		return nil, fmt.Errorf("function %s: AWS IoT SQL %s has no such function", written, Version)
	}
	var args []expr
	as := ""
	err := p.list(")", func() error {
		e, err := p.argument("function "+fn, len(args) == 0 && fn == "encode")
		if err == nil && p.take("AS") {
			if as, err = p.text(identifier); err == nil && fn != "cast" {
				return fmt.Errorf("function %s: AS %s is for cast only", fn, as)
			}
		}
		if _, message := e.(payload); message {
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
		if as = strings.ToLower(as); as != "int" && as != "integer" {
			return nil, fmt.Errorf("function cast: AS %s: the local AWS casts to Int only", as)
		}
		f = function{min: 1, max: 1, eval: pure(func(args []value) value { return castInt(args[0]) })}
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
	if len(c.args) < c.function.min || len(c.args) > c.function.max {
		return undefined{}
	}
	args := make([]value, len(c.args))
	for i, a := range c.args {
		args[i] = a.eval(s)
	}
	return c.function.eval(s, args)
}

// raw is * as an argument of encode: the bytes of the payload, JSON or not.
type raw struct{}

func (raw) eval(s *scope) value { return s.message.Payload }

// wantBase64 checks the scheme of encode, which must be a literal in AWS.
func wantBase64(args []expr) error {
	if len(args) < 2 {
		return nil
	}
	l, _ := args[1].(literal)
	switch scheme, ok := l.value.(string); {
	case !ok:
		return errors.New("the scheme must be a literal string")
	case scheme == "proto":
		return errors.New("scheme 'proto': the local AWS does not support it")
	case scheme != "base64":
		return fmt.Errorf("scheme '%s', want 'base64'", scheme)
	}
	return nil
}

// pure makes an SQL function that depends only on its arguments.
func pure(f func(args []value) value) func(*scope, []value) value {
	return func(_ *scope, args []value) value { return f(args) }
}

// property makes an SQL function that returns a property of the message. An empty property is
// Undefined.
func property(of func(*Message) string) func(*scope, []value) value {
	return func(s *scope, _ []value) value {
		if p := of(s.message); p != "" {
			return p
		}
		return undefined{}
	}
}

// texts makes an SQL function of strings. It is Undefined if an argument does not convert to one.
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

// topic returns the whole topic, or one of its segments, which are numbered from 1. The prefix of
// Basic Ingest does not count.
func topic(s *scope, args []value) value {
	t := s.message.Topic
	if _, rest, ok := BasicIngest(t); ok {
		t = rest
	}
	if len(args) == 0 {
		return t
	}
	levels := strings.Split(t, "/")
	n, ok := toNumber(args[0])
	if !ok {
		return undefined{}
	}
	if i := n.floor(); i.IsInt64() && i.Int64() >= 1 && i.Int64() <= int64(len(levels)) {
		return levels[i.Int64()-1]
	}
	return undefined{}
}

func clientID(s *scope, _ []value) value {
	if s.message.ClientID == "" {
		return "n/a"
	}
	return s.message.ClientID
}

func newUUID(s *scope, _ []value) value {
	if s.message.NewUUID == nil {
		return uuid.NewString()
	}
	return s.message.NewUUID()
}

func encode(args []value) value {
	if all, ok := args[0].([]byte); ok {
		return base64.StdEncoding.EncodeToString(all)
	}
	plain, ok := toText(args[0])
	if !ok {
		return undefined{}
	}
	return base64.StdEncoding.EncodeToString([]byte(plain))
}

// castInt converts to Int. Unlike the implicit conversion it also converts Booleans.
func castInt(v value) value {
	if b, ok := v.(bool); ok {
		v = newInt(map[bool]int64{true: 1}[b])
	}
	if n, ok := toNumber(v); ok {
		return number{new(big.Rat).SetInt(n.floor())}
	}
	return undefined{}
}
