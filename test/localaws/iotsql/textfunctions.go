package iotsql

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"strings"
	"unicode/utf8"
)

// maxPadding is the most spaces of lpad and rpad.
const maxPadding = 1000

// textFunctions convert their arguments to strings; without conversion the
// result is Undefined.
var textFunctions = map[string]function{
	"length": {min: 1, max: 1, eval: texts(func(s []string) value {
		return newInt(int64(utf8.RuneCountInString(s[0])))
	})},
	"numbytes":   {min: 1, max: 1, eval: texts(func(s []string) value { return newInt(int64(len(s[0]))) })},
	"lower":      {min: 1, max: 1, eval: texts(func(s []string) value { return text(strings.ToLower(s[0])) })},
	"upper":      {min: 1, max: 1, eval: texts(func(s []string) value { return text(strings.ToUpper(s[0])) })},
	"trim":       {min: 1, max: 1, eval: texts(func(s []string) value { return text(strings.TrimSpace(s[0])) })},
	"ltrim":      {min: 1, max: 1, eval: texts(func(s []string) value { return text(strings.TrimLeft(s[0], " \t")) })},
	"rtrim":      {min: 1, max: 1, eval: texts(func(s []string) value { return text(strings.TrimRight(s[0], " \t")) })},
	"startswith": {min: 2, max: 2, eval: texts(func(s []string) value { return boolean(strings.HasPrefix(s[0], s[1])) })},
	"endswith":   {min: 2, max: 2, eval: texts(func(s []string) value { return boolean(strings.HasSuffix(s[0], s[1])) })},
	"indexof":    {min: 2, max: 2, eval: texts(indexOf)},
	"replace": {min: 3, max: 3, eval: texts(func(s []string) value {
		return text(strings.ReplaceAll(s[0], s[1], s[2]))
	})},
	"concat":         {min: 0, max: -1, eval: pure(concat)},
	"substring":      {min: 2, max: 3, eval: pure(substring)},
	"lpad":           {min: 2, max: 2, eval: pure(pad(func(s, spaces string) string { return spaces + s }))},
	"rpad":           {min: 2, max: 2, eval: pure(pad(func(s, spaces string) string { return s + spaces }))},
	"chr":            {min: 1, max: 1, eval: pure(chr)},
	"regexp_matches": {min: 2, max: 2, eval: regexpMatches, check: wantRegexp},
	"regexp_replace": {min: 3, max: 3, eval: regexpReplace, check: wantRegexp},
	"regexp_substr":  {min: 2, max: 2, eval: regexpSubstr, check: wantRegexp},
	"md5":            {min: 1, max: 1, eval: hashed(md5.New)},
	"sha1":           {min: 1, max: 1, eval: hashed(sha1.New)},
	"sha224":         {min: 1, max: 1, eval: hashed(sha256.New224)},
	"sha256":         {min: 1, max: 1, eval: hashed(sha256.New)},
	"sha384":         {min: 1, max: 1, eval: hashed(sha512.New384)},
	"sha512":         {min: 1, max: 1, eval: hashed(sha512.New)},
}

// texts makes a function of strings, Undefined where an argument is none.
func texts(f func([]string) value) func(*scope, []value) (value, error) {
	return pure(func(args []value) value {
		converted, ok := toTexts(args)
		if !ok {
			return undefined{}
		}
		return f(converted)
	})
}

func toTexts(args []value) ([]string, bool) {
	converted := make([]string, len(args))
	for i, a := range args {
		s, ok := toText(a)
		if !ok {
			return nil, false
		}
		converted[i] = s
	}
	return converted, true
}

// hashed makes a function that gives the hash of a string in hexadecimal.
func hashed(algorithm func() hash.Hash) func(*scope, []value) (value, error) {
	return texts(func(s []string) value {
		h := algorithm()
		h.Write([]byte(s[0]))
		return text(hex.EncodeToString(h.Sum(nil)))
	})
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
	anyArray, anyText := false, false
	for _, a := range args {
		switch a.(type) {
		case undefined:
			return undefined{}
		case array:
			anyArray = true
		case text:
			anyText = true
		}
	}
	if anyArray {
		joined := array{}
		for _, a := range args {
			if elements, ok := a.(array); ok {
				joined = append(joined, elements...)
			} else {
				joined = append(joined, a)
			}
		}
		return joined
	}
	if len(args) == 1 {
		if n, ok := args[0].(number); ok {
			return text(n.String())
		}
		return args[0]
	}
	converted, ok := toTexts(args)
	if !ok || !anyText {
		return undefined{}
	}
	return text(strings.Join(converted, ""))
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

// pad makes a function that joins a string and a number of spaces.
func pad(join func(s, spaces string) string) func([]value) value {
	return func(args []value) value {
		s, ok := toText(args[0])
		if !ok {
			return undefined{}
		}
		n, ok := toNumber(args[1])
		if !ok {
			return undefined{}
		}
		return text(join(s, strings.Repeat(" ", int(n.clamp(0, maxPadding)))))
	}
}

// chr gives an ASCII character.
func chr(args []value) value {
	n, ok := toNumber(args[0])
	if !ok {
		return undefined{}
	}
	code, ok := n.int64()
	if !ok || code < 0 || code > 127 {
		return undefined{}
	}
	return text(rune(code))
}
