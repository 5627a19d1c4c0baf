package iotsql

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// function is a built-in function of AWS IoT SQL.
type function struct {
	// min and max bound the number of arguments; any other number gives
	// Undefined, as AWS does. max -1 is any number.
	min, max int
	eval     func(s *scope, args []value) (value, error)
	// check refuses arguments at Parse; nil accepts all.
	check func(args []expr) error
}

// refused are functions that AWS has and the local cloud does not run, each with
// its reason.
var refused = map[string]string{
	"aws_lambda":              "it calls an external service",
	"get_dynamodb":            "it calls an external service",
	"get_secret":              "it calls an external service",
	"get_thing_shadow":        "it calls an external service",
	"machinelearning_predict": "it calls an external service",
	"get_mqtt_property":       "MQTT 5 headers do not reach the local rules engine",
	"get_user_properties":     "MQTT 5 headers do not reach the local rules engine",
	"md2":                     "the hash is obsolete; use sha256",
	"bitnot":                  "AWS's example, bitnot(13) = 2, is no complement in any width",
}

// call compiles the call of a function by its name, in any case.
func (c *compiler) call(e *callSyntax) (expr, error) {
	fn := strings.ToLower(e.Name)
	if why, ok := refused[fn]; ok {
		return nil, fmt.Errorf("function %s: the local cloud does not run it, %s", fn, why)
	}
	f, known := functions[fn]
	if !known && !slices.Contains([]string{"cast", "encode", "get_or_default"}, fn) {
		return nil, fmt.Errorf("function %s: AWS IoT SQL %s has no such function", e.Name, Version)
	}
	if fn != "cast" {
		for _, a := range e.Args {
			if a.Type != "" {
				return nil, fmt.Errorf("function %s: AS %s is for cast only", fn, a.Type)
			}
		}
	}
	args, err := c.arguments(fn, e.Args)
	if err != nil {
		return nil, err
	}
	switch fn {
	case "cast":
		return newCast(args, e.Args)
	case "encode":
		return newEncode(args)
	case "get_or_default":
		return newGetOrDefault(args), nil
	case "get_registry_data":
		if c.registryCalls++; c.registryCalls > 1 {
			return nil, errors.New("function get_registry_data: one call a statement")
		}
	}
	if f.check != nil {
		if err := f.check(args); err != nil {
			return nil, fmt.Errorf("function %s: %w", fn, err)
		}
	}
	return call{function: f, args: args}, nil
}

// arguments compiles the arguments; * is for the functions that AWS or its
// users give the payload to.
func (c *compiler) arguments(fn string, syntax []*argumentSyntax) ([]expr, error) {
	var args []expr
	for i, a := range syntax {
		if a.All {
			if i > 0 || fn != "encode" && fn != "get" {
				return nil, fmt.Errorf("function %s: * is the first argument of encode or get only", fn)
			}
			args = append(args, payload{})
			continue
		}
		e, err := c.expression(a.Expr)
		if err != nil {
			return nil, err
		}
		args = append(args, e)
	}
	return args, nil
}

// call is the call of a function of the table.
type call struct {
	function function
	args     []expr
}

func (c call) eval(s *scope) (value, error) {
	args := make([]value, len(c.args))
	for i, a := range c.args {
		v, err := a.eval(s)
		if err != nil {
			return undefined{}, err
		}
		args[i] = v
	}
	if len(args) < c.function.min || c.function.max >= 0 && len(args) > c.function.max {
		return undefined{}, nil
	}
	return c.function.eval(s, args)
}

// literalText is the constant string that an argument is.
func literalText(args []expr, i int) (string, bool) {
	if i >= len(args) {
		return "", false
	}
	l, ok := args[i].(literal)
	if !ok {
		return "", false
	}
	s, ok := l.value.(text)
	return string(s), ok
}

// wantBase64 checks the scheme of encode and decode, which AWS wants literal.
func wantBase64(args []expr) error {
	if len(args) < 2 {
		return nil
	}
	scheme, ok := literalText(args, 1)
	switch {
	case !ok:
		return errors.New("the scheme must be a literal string")
	case scheme == "proto":
		return errors.New("scheme 'proto': the local cloud does not run it")
	case scheme != "base64":
		return fmt.Errorf("scheme '%s', want 'base64'", scheme)
	}
	return nil
}

// wantRegexp refuses constant expressions that Java's engine knows and Go's does
// not. What neither knows is Undefined when it runs.
func wantRegexp(args []expr) error {
	pattern, ok := literalText(args, 1)
	if !ok {
		return nil
	}
	if _, err := compileRegexp(pattern); errors.Is(err, errForeignRegexp) {
		return err
	}
	return nil
}

var errForeignRegexp = errors.New("the local cloud does not run lookaround, backreferences and the like")

// compileRegexp tells apart an expression that is wrong everywhere from one that
// only Go's engine refuses.
func compileRegexp(pattern string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(pattern)
	var fault *syntax.Error
	if !errors.As(err, &fault) {
		return re, err
	}
	switch fault.Code {
	case syntax.ErrInvalidPerlOp, syntax.ErrInvalidEscape, syntax.ErrInvalidCharRange,
		syntax.ErrInvalidRepeatOp, syntax.ErrInvalidRepeatSize, syntax.ErrLarge, syntax.ErrInvalidNamedCapture:
		return nil, fmt.Errorf("regular expression %q: %w", pattern, errForeignRegexp)
	}
	return nil, err
}

// wantRegistryAPI checks what get_registry_data may ask.
func wantRegistryAPI(args []expr) error {
	if len(args) != 3 {
		return fmt.Errorf("%d arguments, want the API, the thing name and the role", len(args))
	}
	api, _ := literalText(args, 0)
	if api != "DescribeThing" && api != "ListThingGroupsForThing" {
		return errors.New(`the API must be the literal "DescribeThing" or "ListThingGroupsForThing"`)
	}
	if _, ok := literalText(args, 2); !ok {
		return errors.New("the role must be a literal ARN")
	}
	return nil
}

// wantTransformMode checks the mode, for which AWS takes no variable.
func wantTransformMode(args []expr) error {
	if _, ok := literalText(args, 0); !ok && len(args) == 3 {
		return errors.New("the mode must be a literal string")
	}
	return nil
}
