package mapping

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/internal/leanjson"
)

// object is a JSON object whose members are not known beforehand: "" for none. Its numbers are
// written as [json.Marshal] writes a float64.
type object leanjson.Value

// member is a member of an object as text for people.
type member struct{ name, text string }

// UnmarshalJSON accepts null, which is not an object.
func (o *object) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*o = ""
		return nil
	}
	return o.UnmarshalValue(leanjson.Value(data))
}

// UnmarshalValue adds the members of v to those that o has, as encoding/json adds to a map.
func (o *object) UnmarshalValue(v leanjson.Value) error {
	if *o == "" && v.Kind() == '{' && plain(v) {
		*o = object(v)
		return nil
	}
	var members map[string]any
	if *o != "" {
		_ = json.Unmarshal([]byte(*o), &members) // it is an object
	}
	if err := json.Unmarshal([]byte(v), &members); err != nil {
		return err
	}
	text, err := json.Marshal(members)
	*o = object(text)
	return err
}

// plain reports whether v is an object of texts, of integers that a float64 has exactly, and of
// lists of both.
func plain(v leanjson.Value) bool {
	for o := v.Object(); o.Next(); {
		if o.Value.Kind() != '[' {
			if !simple(o.Value) {
				return false
			}
			continue
		}
		for l := o.Value.List(); l.Next(); {
			if !simple(l.Value) {
				return false
			}
		}
	}
	return true
}

func simple(v leanjson.Value) bool {
	return v.Kind() == '"' || len(v) < 16 && strings.Trim(string(v), "0123456789") == ""
}

// members returns the members in the order of their names, the last one of each name.
func (o object) members() []member {
	if o == "" {
		return nil
	}
	var all []member
	for from := leanjson.Value(o).Object(); from.Next(); {
		all = slices.DeleteFunc(all, func(m member) bool { return m.name == from.Name })
		all = append(all, member{from.Name, show(from.Value)})
	}
	slices.SortFunc(all, func(a, b member) int { return cmp.Compare(a.name, b.name) })
	return all
}

// text returns the text of a member, "" if there is none.
func (o object) text(name string) string {
	for _, m := range o.members() {
		if m.name == name {
			return m.text
		}
	}
	return ""
}

// joined returns the texts of members. A value has one, whose name is its kind.
func joined(members []member) string {
	if len(members) == 1 {
		return members[0].text
	}
	var parts []string
	for _, m := range members {
		parts = append(parts, m.text)
	}
	return strings.Join(parts, " ")
}

// show returns a JSON value as text for people: numbers as written, lists with commas.
func show(v leanjson.Value) string {
	switch v.Kind() {
	case 'n':
		return ""
	case '"':
		text, _ := v.Text()
		return text
	case '[':
		var b strings.Builder
		b.Grow(len(v))
		comma := ""
		for l := v.List(); l.Next(); comma = "," {
			b.WriteString(comma)
			b.WriteString(show(l.Value))
		}
		return b.String()
	}
	return string(v)
}
