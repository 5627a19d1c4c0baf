package leanjson_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/internal/leanjson"
)

// document has a field of each kind.
type document struct {
	Text   string      `json:"text"`
	Number json.Number `json:"number,omitempty"`
	Whole  int64
	Flag   bool   `json:"flag"`
	Bytes  []byte `json:"bytes"`
	Own    own    `json:"own"`
	Inner  struct {
		Text  string `json:"text"`
		Inner struct{ Text string }
	} `json:"inner"`
	List    []string `json:"list"`
	Pointer *int64   `json:"pointer"`
	Hidden  string   `json:"-"`
	private string
}

// own has its own UnmarshalValue.
type own string

func (o *own) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	return o.UnmarshalValue(leanjson.Value(data))
}

func (o *own) UnmarshalValue(v leanjson.Value) error {
	if v.Kind() == '[' {
		return errNoList
	}
	*o += own(v)
	return nil
}

var errNoList = &json.SyntaxError{}

// documents are the seeds of the fuzz targets. leanjson decodes the first of them without encoding/json.
var documents = []string{
	`{"text":"a","number":-1.5e3,"Whole":-7,"flag":true,"bytes":"YWI=","own":{"a":["]}",1]},"inner":{"text":"b","Inner":{"Text":"c"}}}`,
	` { "text" : "ü" , "text" : "\u00e4\n\"\\" , "unknown":[{},[],"\\\"",null,true,-0.5e-7],"own":1,"own":2,"Hidden":"h","private":"p","bytes":"" } `,
	"\n{}\t", `{"text":"a` + "\xff\xc0" + `"}`, `{"\u0074ext":"a","bytes":"YW\nI="}`, `{"inner":{"text":"a"},"inner":{"Inner":{"Text":"b"}}}`, `{"own":"a","text":"` + strings.Repeat("long", 999) + `"}`,
	`{"TEXT":"a","text":"b"}`, `{"text":"b","Text":null}`, `{"teXt":"ſ","ſext":1,"Ñumber":2}`, `{"text":null,"number":null,"Whole":null,"flag":null,"bytes":null,"own":null,"inner":null}`,
	`{"text":1}`, `{"number":"12"}`, `{"number":"x"}`, `{"Whole":1.5}`, `{"Whole":1e3}`, `{"Whole":9223372036854775808}`, `{"flag":"true"}`, `{"bytes":"*"}`, `{"bytes":[1]}`, `{"own":[]}`,
	`{"inner":[]}`, `{"list":["a"],"pointer":3}`, `[]`, `null`, `"text"`, `7`, ``, `{`, `{"text":"a"}{}`, `{"text":"a",}`, `{"text":"` + "\x00" + `"}`,
}

func FuzzUnmarshal(f *testing.F) {
	for _, d := range documents {
		f.Add([]byte(d))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, want document
		gotErr, wantErr := leanjson.Unmarshal(slices.Clone(data), &got), json.Unmarshal(data, &want)
		if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(gotErr, wantErr) || got.private != "" {
			t.Fatalf("%q:\ngot  %+v, error %v\nwant %+v, error %v", data, got, gotErr, want, wantErr)
		}
	})
}

// tree returns the value as encoding/json decodes it into an any, with json.Number.
func tree(v leanjson.Value) any {
	switch v.Kind() {
	case '{':
		all := map[string]any{}
		for o := v.Object(); o.Next(); {
			all[o.Name] = tree(o.Value)
		}
		return all
	case '[':
		all := []any{}
		for l := v.List(); l.Next(); {
			all = append(all, tree(l.Value))
		}
		return all
	case '"':
		text, _ := v.Text()
		return text
	case 't', 'f':
		return v == "true"
	case 'n':
		return nil
	}
	return json.Number(v)
}

func FuzzParse(f *testing.F) {
	for _, d := range documents {
		f.Add([]byte(d))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := leanjson.Parse(data)
		var want any
		if wantErr := json.Unmarshal(data, &want); (err == nil) != json.Valid(data) || err != nil && err.Error() != wantErr.Error() {
			t.Fatalf("%q: error %v, want %v", data, err, wantErr)
		}
		if err != nil {
			return
		}
		d := json.NewDecoder(strings.NewReader(string(data)))
		d.UseNumber()
		if err := d.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if got := tree(v); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %#v, want %#v", data, got, want)
		}
	})
}

// Unmarshal allocates the copy of the document, the target and its bytes.
func TestAllocations(t *testing.T) {
	data := []byte(documents[0])
	if n := testing.AllocsPerRun(100, func() {
		var d document
		if err := leanjson.Unmarshal(data, &d); err != nil {
			t.Fatal(err)
		}
	}); n > 4 {
		t.Errorf("%v allocations, want at most 4", n)
	}
}

func TestTextOfALargeDocumentHasItsOwnMemory(t *testing.T) {
	var d document
	data := []byte(`{"text":"short","unknown":"` + strings.Repeat("x", 4096) + `"}`)
	before := testing.AllocsPerRun(1, func() {})
	if n := testing.AllocsPerRun(10, func() {
		d = document{}
		if err := leanjson.Unmarshal(data, &d); err != nil {
			t.Fatal(err)
		}
	}); n < before+2 || d.Text != "short" {
		t.Errorf("%v allocations, text %q, want at least those of the document and of the text, and short", n, d.Text)
	}
}
