package deviceevent_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/deviceevent"
)

func ExampleDecode() {
	e, err := deviceevent.Decode([]byte(`{"type":"tamper","details":{"sensor":"lid"}}`))
	fmt.Println(e.Type, e.State, e.Details, err)
	_, err = deviceevent.Decode([]byte(`{"type":"Tamper!","state":"open","severity":"medium","time":"now","details":{"sensor":7},"tmie":1}`))
	fmt.Println(err)
	// Output:
	// tamper active map[sensor:lid] <nil>
	// device event: details["sensor"]: JSON number, want a string of 1 to 1024 characters
	// severity: "medium", want one of INFORMATIONAL, LOW, MEDIUM, HIGH, CRITICAL
	// state: "open", want "active" or "cleared"
	// time: JSON string, want a whole number of ms since 1970
	// type: "Tamper!", want 1 to 64 of a-z 0-9 -
	// "tmie", want no fields but type, state, severity, description, time and details
}

func TestDeviceEventRules(t *testing.T) {
	pairs := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`"k%d":"v"`, i))
		}
		return `{"type":"t","details":{` + strings.Join(all, ",") + `}}`
	}
	published := publishedSchema(t)
	detail := func(key, value string) string { return `{"type":"t","details":{"` + key + `":"` + value + `"}}` }
	for _, c := range []struct {
		rule, conforms, violates, want string
	}{
		{"JSON", ` {"type":"t"} `, `{"type":"t"`, "is not JSON: unexpected end"},
		{"one object", `{"type":"t"}`, `{"type":"t"}{}`, "is not JSON: invalid character '{'"},
		{"nothing published", `{"type":"t"}`, ``, "is not JSON: unexpected end"},
		{"not CBOR", `{"type":"t"}`, "\xa1dtypeat", "is not JSON: invalid character"},
		{"object", `{"type":"t"}`, `["type"]`, "JSON array, want an object"},
		{"object", `{"type":"t"}`, `"type"`, "JSON string, want an object"},
		{"object", `{"type":"t"}`, `null`, "JSON null, want an object"},
		{"type present", `{"type":"t"}`, `{}`, "type: missing, want 1 to 64 of a-z 0-9 -"},
		{"type not empty", `{"type":"-"}`, `{"type":""}`, `type: "", want 1 to 64`},
		{"type lower case", `{"type":"door-9"}`, `{"type":"Door"}`, `type: "Door", want`},
		{"type length", `{"type":"` + strings.Repeat("t", 64) + `"}`, `{"type":"` + strings.Repeat("t", 65) + `"}`, "want 1 to 64"},
		{"type a string", `{"type":"1"}`, `{"type":1}`, "type: JSON number, want"},
		{"type not null", `{"type":"null"}`, `{"type":null}`, "type: JSON null, want"},
		{"type one line", `{"type":"t"}`, `{"type":"t\n"}`, `type: "t\n", want`},
		{"state", `{"type":"t","state":"cleared"}`, `{"type":"t","state":"clear"}`, `state: "clear", want "active" or "cleared"`},
		{"state not empty", `{"type":"t","state":"active"}`, `{"type":"t","state":""}`, `state: "", want`},
		{"state a string", `{"type":"t","state":"active"}`, `{"type":"t","state":true}`, "state: JSON boolean, want"},
		{"severity", `{"type":"t","severity":"INFORMATIONAL"}`, `{"type":"t","severity":"info"}`, `severity: "info", want one of INFORMATIONAL`},
		{"severity not empty", `{"type":"t","severity":"LOW"}`, `{"type":"t","severity":""}`, `severity: "", want one of INFORMATIONAL`},
		{"description length", `{"type":"t","description":"` + strings.Repeat("ä", 1024) + `"}`, `{"type":"t","description":"` + strings.Repeat("ä", 1025) + `"}`, "(1025 characters)"},
		{"description a string", `{"type":"t","description":""}`, `{"type":"t","description":["d"]}`, "description: JSON array, want a text"},
		{"time", `{"type":"t","time":0}`, `{"type":"t","time":-1}`, "time: -1, want a whole number of ms since 1970"},
		{"time whole", `{"type":"t","time":1.7672256e12}`, `{"type":"t","time":1.5}`, "time: 1.5, want"},
		{"time exact", `{"type":"t","time":9007199254740991}`, `{"type":"t","time":9007199254740992}`, "want a whole number"},
		{"time a number", `{"type":"t","time":1767225600000}`, `{"type":"t","time":"1767225600000"}`, "time: JSON string, want"},
		{"time a float64", `{"type":"t","time":1e15}`, `{"type":"t","time":1e999}`, "time: JSON number, want"},
		{"time not null", `{"type":"t","time":1}`, `{"type":"t","time":null}`, "time: JSON null, want"},
		{"details an object", `{"type":"t","details":{}}`, `{"type":"t","details":[]}`, "details: JSON array, want an object of strings"},
		{"details not null", `{"type":"t","details":{}}`, `{"type":"t","details":null}`, "details: JSON null, want an object of strings"},
		{"number of details", pairs(20), pairs(21), "details: 21 pairs, want at most 20"},
		{"detail key", detail("k", "v"), detail("", "v"), `details: "", want keys of 1 to 64 characters`},
		{"detail key prints", detail("€", "v"), detail(` `, "v"), `details: " ", want keys`},
		{"detail key length", detail(strings.Repeat("ü", 64), "v"), detail(strings.Repeat("ü", 65), "v"), "want keys of 1 to 64 characters"},
		{"detail value", detail("k", "v"), detail("k", ""), `details["k"]: "", want a string of 1 to 1024 characters`},
		{"detail value prints", detail("k", "a\u3000"), detail("k", `\u3000\u0007`), "want a string of 1 to 1024"},
		{"detail value length", detail("k", strings.Repeat("ü", 1024)), detail("k", strings.Repeat("ü", 1025)), "(1025 characters)"},
		{"detail a string", detail("k", "1"), `{"type":"t","details":{"k":{"a":1}}}`, `details["k"]: JSON object, want`},
		{"detail not null", detail("k", "null"), `{"type":"t","details":{"k":null}}`, `details["k"]: JSON null, want`},
		{"known fields", `{"type":"t"}`, `{"type":"t","clientId":"pump-7"}`, `"clientId", want no fields but type, state`},
		{"case of fields", `{"type":"t","state":"active"}`, `{"type":"t","State":"active"}`, `"State", want no fields but`},
	} {
		if _, err := deviceevent.Decode([]byte(c.conforms)); err != nil {
			t.Errorf("%s: %s is rejected: %v", c.rule, c.conforms, err)
		}
		for payload, want := range map[string]bool{c.conforms: true, c.violates: false} {
			var value any
			if err := json.Unmarshal([]byte(payload), &value); err == nil && published.accepts(value) != want {
				t.Errorf("%s: the published schema accepts %.80s: %t, want %t", c.rule, payload, !want, want)
			}
		}
		e, err := deviceevent.Decode([]byte(c.violates))
		if err == nil || !strings.HasPrefix(err.Error(), "device event") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.rule, err, c.want)
		}
		if len(defender.FieldErrors(err)) > 1 {
			t.Errorf("%s: got several faults: %v", c.rule, err)
		}
		if !reflect.DeepEqual(e, deviceevent.Event{}) {
			t.Errorf("%s: got %+v with the error", c.rule, e)
		}
	}
}

// Errors repeat text from a device in logs and message attributes.
func TestErrorsAreShortAndHaveNoControlCharacters(t *testing.T) {
	long := strings.Repeat("x\\u0007\\n", 2000)
	many := make([]string, 3000)
	for i := range many {
		many[i] = fmt.Sprintf(`"unknown%d\n":1`, i)
	}
	var details []string
	for i := range 20 {
		details = append(details, fmt.Sprintf(`"%d\nlevel=ERROR":"%s"`, i, long))
	}
	for _, payload := range []string{
		`{"type":"` + long + `"}`,
		`{"` + long + `":1}`,
		`{` + strings.Join(many, ",") + `}`,
		`{"type":"t","details":{` + strings.Join(details, ",") + `}}`,
		`{"type":"t","details":{"` + long + `":""}}`,
		"{\"type\":\x1b[31m}",
	} {
		_, err := deviceevent.Decode([]byte(payload))
		if err == nil {
			t.Fatalf("%.80s is accepted, want an error", payload)
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' }) || strings.HasPrefix(line, "level=") || len(line) > 1000 {
				t.Errorf("%.80s: the line %.200q has a control character or is too long", payload, line)
			}
		}
		if n := strings.Count(err.Error(), "\n"); n > 30 {
			t.Errorf("%.80s: %d lines, want at most 30", payload, n)
		}
	}
}

func TestInvalidUTF8IsReplaced(t *testing.T) {
	e, err := deviceevent.Decode([]byte("{\"type\":\"t\",\"description\":\"a\xffb\"}"))
	if err != nil || e.Description != "a\uFFFDb" {
		t.Errorf("got %q, error %v, want a\uFFFDb", e.Description, err)
	}
}

// schema is the part of JSON Schema that the published file uses. Another keyword fails the test,
// because accepts would ignore it.
type schema struct {
	Meta                 string `json:"$schema"`
	ID                   string `json:"$id"`
	Title, Description   string
	Type                 string
	Required             []string
	Properties           map[string]*schema
	AdditionalProperties any
	PropertyNames        *schema
	MaxProperties        *int
	Pattern              string
	Enum                 []string
	MaxLength            *int
	Minimum, Maximum     *float64
}

func publishedSchema(t *testing.T) *schema {
	t.Helper()
	file, err := os.Open("../../docs/device-event.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var s schema
	d := json.NewDecoder(file)
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	if pairs, isSchema := s.Properties["details"].AdditionalProperties.(map[string]any); isSchema {
		text, _ := json.Marshal(pairs)
		var values schema
		if err := json.Unmarshal(text, &values); err != nil {
			t.Fatal(err)
		}
		s.Properties["details"].AdditionalProperties = &values
	}
	return &s
}

func (s *schema) accepts(value any) bool {
	switch v := value.(type) {
	case string:
		return (s.Type == "string" || s.Type == "") &&
			(s.Pattern == "" || regexp.MustCompile(s.Pattern).MatchString(v)) &&
			(s.Enum == nil || slices.Contains(s.Enum, v)) &&
			(s.MaxLength == nil || utf8.RuneCountInString(v) <= *s.MaxLength)
	case float64:
		return s.Type == "integer" && v == math.Trunc(v) && v >= *s.Minimum && v <= *s.Maximum
	case map[string]any:
		if s.Type != "object" || s.MaxProperties != nil && len(v) > *s.MaxProperties {
			return false
		}
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				return false
			}
		}
		for name, field := range v {
			if s.PropertyNames != nil && !s.PropertyNames.accepts(name) {
				return false
			}
			named := s.Properties[name]
			if named == nil {
				named, _ = s.AdditionalProperties.(*schema)
			}
			if named == nil || !named.accepts(field) {
				return false
			}
		}
		return true
	}
	return false
}

func TestPublishedSchemaNamesTheFieldsOfTheCode(t *testing.T) {
	s := publishedSchema(t)
	event := reflect.TypeFor[deviceevent.Event]()
	if event.NumField() != len(s.Properties) {
		t.Errorf("the schema has %d fields, deviceevent.Event %d", len(s.Properties), event.NumField())
	}
	for field := range event.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if s.Properties[name] == nil || s.Properties[name].Description == "" {
			t.Errorf("the schema lacks %s, or its description", name)
		}
		if slices.Contains(s.Required, name) == strings.Contains(options, "omitempty") {
			t.Errorf("%s is required in the schema or in the code, but not in both", name)
		}
	}
	if *s.Properties["details"].MaxProperties != deviceevent.MaxDetails {
		t.Errorf("maxProperties is %d, the code's limit %d", *s.Properties["details"].MaxProperties, deviceevent.MaxDetails)
	}
	if s.AdditionalProperties != false {
		t.Error("the schema allows other fields")
	}
}

// texts generates texts of about the longest allowed length, and special ones.
func texts(longest int) *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"", " ", "\u0085", "\u00a0", "\u3000", "\u2028", "\u200b", "\ufeff", "\u0007", "a", "ä", "active", "cleared", "LOW", "low", "tamper", "Tamper", "t\n"}),
		rapid.Map(rapid.IntRange(longest-1, longest+1), func(n int) string { return strings.Repeat("a", n) }),
		rapid.Map(rapid.IntRange(longest-1, longest+1), func(n int) string { return strings.Repeat("ä", n) }),
		rapid.StringN(0, 3, -1),
	)
}

func values() *rapid.Generator[any] {
	return rapid.OneOf(
		texts(64).AsAny(), texts(1024).AsAny(),
		rapid.SampledFrom([]any{nil, true, []any{}, -1.0, 0.0, 1.5, 1767225600000.0, float64(1<<53 - 1), float64(1 << 53), 1e300}),
		rapid.Map(rapid.MapOfN(texts(64), rapid.OneOf(texts(1024).AsAny(), rapid.Just[any](1.0)), 0, 2), func(m map[string]any) any { return m }),
		rapid.Map(rapid.IntRange(19, 21), func(n int) any {
			m := map[string]any{}
			for i := range n {
				m[fmt.Sprint(i)] = "v"
			}
			return m
		}),
	)
}

func TestPublishedSchemaAndCodeAcceptTheSameEvents(t *testing.T) {
	s := publishedSchema(t)
	conforming := map[string]*rapid.Generator[any]{
		"type":        rapid.StringMatching(`[a-z0-9-]{1,64}`).AsAny(),
		"state":       rapid.SampledFrom([]any{"active", "cleared"}),
		"severity":    rapid.SampledFrom([]any{"LOW", "CRITICAL"}),
		"description": rapid.StringN(0, 9, -1).AsAny(),
		"time":        rapid.Map(rapid.IntRange(0, 1<<50), func(n int) any { return float64(n) }),
		"details":     rapid.Just[any](map[string]any{"k": "v"}),
	}
	accepted, rejected := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		event := map[string]any{}
		for _, name := range []string{"type", "state", "severity", "description", "time", "details"} {
			if name == "type" || rapid.Bool().Draw(t, "has "+name) {
				event[name] = conforming[name].Draw(t, name)
			}
		}
		if rapid.IntRange(0, 2).Draw(t, "change") > 0 {
			name := rapid.SampledFrom([]string{"type", "state", "severity", "description", "time", "details", "Type", "other"}).Draw(t, "changed")
			event[name] = values().Draw(t, "value")
		}
		payload, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		var read any
		if err := json.Unmarshal(payload, &read); err != nil {
			t.Fatal(err)
		}
		_, err = deviceevent.Decode(payload)
		if s.accepts(read) != (err == nil) {
			t.Fatalf("%s: the schema accepts it: %t, the code returns the error %v", payload, s.accepts(read), err)
		}
		if err == nil {
			accepted++
		} else {
			rejected++
		}
	})
	if accepted == 0 || rejected == 0 {
		t.Errorf("%d events accepted, %d rejected, want some of each", accepted, rejected)
	}
}

// TestDocumentedDeviceEvents checks docs/device-events.md. Decode must accept each JSON example, and
// reject each event in the table with the documented error.
func TestDocumentedDeviceEvents(t *testing.T) {
	text, err := os.ReadFile("../../docs/device-events.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(text, -1)
	for _, example := range examples {
		if _, err := deviceevent.Decode(example[1]); err != nil {
			t.Errorf("%s: %v", example[1], err)
		}
	}
	rejections := regexp.MustCompile("(?m)^\\| `(.*?)` \\| `(device event.*?)` \\|$").FindAllSubmatch(text, -1)
	for _, r := range rejections {
		_, err := deviceevent.Decode(r[1])
		if err == nil || err.Error() != string(r[2]) {
			t.Errorf("%s: got %v, the page says %s", r[1], err, r[2])
		}
	}
	if len(examples) < 3 || len(rejections) < 5 {
		t.Errorf("the page has %d examples and %d rejected events, want at least 3 and 5", len(examples), len(rejections))
	}
}

func FuzzDecodeDeviceEvent(f *testing.F) {
	for _, seed := range []string{
		`{"type":"tamper"}`, `{"type":"t","state":"cleared","severity":"LOW","description":"d","time":1,"details":{"k":"v"}}`,
		`{"type":"t","time":1e3}`, `{"type":null}`, `[]`, `null`, ``, "\xa1dtypeat", `{"type":"t","details":{"":null}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		e, err := deviceevent.Decode(payload)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "device event") || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' && r != '\n' }) {
				t.Fatalf("the error %q has no prefix, or a control character", err)
			}
			return
		}
		again, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := deviceevent.Decode(again)
		if len(e.Details) == 0 {
			e.Details = nil // {} is not written
		}
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Fatalf("%s: got %+v, %v, want %+v", again, got, err, e)
		}
	})
}
