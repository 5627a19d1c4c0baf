package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// node is an object of the report and its path.
type node struct {
	path   string
	fields map[string]any
}

// maxNesting limits the levels of a CBOR report. The format has eight levels, and each costs
// another pass over the rest.
const maxNesting = 32

var cborMode = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		MaxNestedLevels: maxNesting, MaxArrayElements: MaxBytes, MaxMapPairs: MaxBytes, IndefLength: cbor.IndefLengthAllowed,
		UTF8: cbor.UTF8DecodeInvalid, MapKeyByteString: cbor.MapKeyByteStringAllowed,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return mode
}()

// byteOrderMark is the prefix of texts of some Windows tools.
var byteOrderMark = []byte("\uFEFF")

// decodeTree decodes JSON, or CBOR if the payload cannot be a JSON object. A CBOR map begins with a
// byte of at least 0xA0, or with a tag, never with a brace or white space.
//
// more reports whether the payload has anything besides the tree: trailing data, or items of a
// CBOR map that cannot be decoded. White space and the zero byte that ends a C string do not
// count.
func decodeTree(payload []byte) (tree node, more bool, err error) {
	trimmed := bytes.TrimLeft(bytes.TrimPrefix(payload, byteOrderMark), " \t\r\n")
	if len(trimmed) == 0 {
		return node{}, false, errors.New("empty, want a JSON or CBOR object")
	}
	var v any
	var rest []byte
	if trimmed[0] == '{' {
		if v, rest, err = decodeJSON(trimmed); err != nil {
			return node{}, false, fmt.Errorf("want a JSON object: %w", err)
		}
	} else {
		var first cbor.RawMessage
		if rest, err = cborMode.UnmarshalFirst(payload, &first); err != nil {
			return node{}, false, fmt.Errorf("want a JSON or CBOR object: %w", err)
		}
		v = plain(first, &more)
	}
	fields, ok := v.(map[string]any)
	if !ok {
		return node{}, false, errors.New("want a JSON or CBOR object")
	}
	more = more || len(bytes.Trim(rest, " \t\r\n\x00")) > 0
	return node{fields: fields}, more, nil
}

// decodeJSON keeps numbers as written: a float64 changes integers above 2^53.
func decodeJSON(text []byte) (v any, rest []byte, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err = d.Decode(&v); err != nil {
		cleaned, changed := withoutNaN(text)
		if !changed {
			return nil, nil, err
		}
		text = cleaned
		d = json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err = d.Decode(&v); err != nil {
			return nil, nil, err
		}
	}
	return v, text[d.InputOffset():], nil
}

// withoutNaN replaces NaN and infinities, which some libraries write though JSON lacks them, with
// null.
func withoutNaN(text []byte) (cleaned []byte, changed bool) {
	cleaned = make([]byte, 0, len(text))
	quoted := false
scan:
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\' && i+1 < len(text):
			cleaned = append(cleaned, c)
			i++
		case c == '"':
			quoted = !quoted
		case !quoted:
			for _, name := range []string{"-Infinity", "Infinity", "NaN"} {
				if bytes.HasPrefix(text[i:], []byte(name)) {
					cleaned, changed = append(cleaned, "null"...), true
					i += len(name) - 1
					continue scan
				}
			}
		}
		cleaned = append(cleaned, text[i])
	}
	return cleaned, changed
}

// plain converts CBOR into the values that JSON decodes to. Tags, byte strings, NaN and keys that
// are not text become nil, which no field accepts, or are left out. It decodes each item
// separately, so that a bad item spoils no other. It sets lost if an item of a map cannot be
// decoded.
func plain(item cbor.RawMessage, lost *bool) any {
	const (
		list  = 4
		table = 5
		tag   = 6
		// selfDescribed is the tag that only says that CBOR follows.
		selfDescribed = 55799
	)
	if len(item) == 0 {
		return nil
	}
	switch item[0] >> 5 {
	case list:
		var items []cbor.RawMessage
		_ = cborMode.Unmarshal(item, &items) // the bytes are well-formed; an unsupported item stays nil
		all := make([]any, len(items))
		for i, inner := range items {
			all[i] = plain(inner, lost)
		}
		return all
	case table:
		var pairs map[any]cbor.RawMessage
		*lost = cborMode.Unmarshal(item, &pairs) != nil || *lost
		fields := make(map[string]any, len(pairs))
		for k, inner := range pairs {
			if name, ok := k.(string); ok {
				fields[strings.ToValidUTF8(name, "\uFFFD")] = plain(inner, lost)
			}
		}
		return fields
	case tag:
		var t cbor.RawTag
		if cborMode.Unmarshal(item, &t) != nil || t.Number != selfDescribed {
			return nil
		}
		return plain(t.Content, lost)
	}
	var v any
	if cborMode.Unmarshal(item, &v) != nil {
		return nil
	}
	switch v := v.(type) {
	case string:
		return strings.ToValidUTF8(v, "\uFFFD")
	case bool:
		return v
	case uint64:
		return json.Number(strconv.FormatUint(v, 10))
	case int64:
		return json.Number(strconv.FormatInt(v, 10))
	case float64:
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			return json.Number(strconv.FormatFloat(v, 'g', -1, 64))
		}
	}
	return nil
}

// asNumber returns the value of a number that float64 can hold.
func asNumber(v any) (float64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return f, err == nil
}

// pick returns the field by its long or its short name.
func (n node) pick(long, short string) (any, bool) {
	if v, ok := n.fields[long]; ok {
		return v, true
	}
	v, ok := n.fields[short]
	return v, ok
}

// find is pick. If both names are present, it counts the short one as discarded.
func (r *Report) find(n node, long, short string) (any, bool) {
	_, hasLong := n.fields[long]
	_, hasShort := n.fields[short]
	if hasLong && hasShort {
		r.discard(n.child(long))
	}
	return n.pick(long, short)
}

func (n node) child(name string) string {
	if n.path == "" {
		return name
	}
	return n.path + "." + name
}

func (r *Report) object(n node, long, short string) (node, bool) {
	v, ok := r.find(n, long, short)
	if !ok {
		return node{}, false
	}
	fields, ok := v.(map[string]any)
	if !ok {
		r.discard(n.child(long))
	}
	return node{n.child(long), fields}, ok
}

func (r *Report) list(n node, long, short string) ([]any, bool) {
	v, ok := r.find(n, long, short)
	if !ok {
		return nil, false
	}
	list, ok := v.([]any)
	if !ok {
		r.discard(n.child(long))
	}
	return list, ok
}

// maxCount is the largest count that is accepted: above it float64, which some agents use, is not
// exact. A wrapped unsigned 64-bit counter is far above it.
const maxCount = 1 << 53

// count reads an integer that is not negative. given reports whether the field is present.
func (r *Report) count(n node, long, short string) (value int64, ok, given bool) {
	v, given := r.find(n, long, short)
	if !given {
		return 0, false, false
	}
	f, ok := asNumber(v)
	if !ok || f < 0 || f != math.Trunc(f) || f > maxCount {
		r.discard(n.child(long))
		return 0, false, true
	}
	return int64(f), true, true
}
