package templates

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// digested are the snapshots with one line per resource. The other snapshots are similar, and are
// whole templates for people to read.
var digested = []string{"native-detect-off", "incidents", "embedded", "aws-cn"}

// entry is a resource of a template, or an entry of another section.
type entry struct {
	kind, id string // the resource's type or the section; the logical ID
	body     any    // everything but the type
}

// entries returns the entries of a template, sorted by kind and logical ID.
func entries(text []byte) ([]entry, error) {
	var sections map[string]any
	if err := json.Unmarshal(text, &sections); err != nil {
		return nil, err
	}
	var all []entry
	for section, content := range sections {
		members, ok := content.(map[string]any)
		if !ok {
			all = append(all, entry{kind: section, id: "-", body: content})
			continue
		}
		for id, body := range members {
			e := entry{kind: section, id: id, body: body}
			if resource, ok := body.(map[string]any); ok && section == "Resources" {
				resource = maps.Clone(resource)
				e.kind, _ = resource["Type"].(string)
				delete(resource, "Type")
				e.body = resource
			}
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.kind+" "+a.id, b.kind+" "+b.id) })
	return all, nil
}

// line returns the entry with the digest of its body. JSON sorts the keys.
func (e entry) line() string {
	return fmt.Sprintf("%s %s %.12x\n", e.kind, e.id, sha256.Sum256([]byte(toJSON(e.body))))
}

func lines(all []entry) string {
	var text strings.Builder
	for _, e := range all {
		text.WriteString(e.line())
	}
	return text.String()
}

// changes returns the differences between two templates: entries, and paths with both values.
func changes(before, after []entry) []string {
	index := func(all []entry) map[string]entry {
		byID := map[string]entry{}
		for _, e := range all {
			byID[e.kind+" "+e.id] = e
		}
		return byID
	}
	old, now := index(before), index(after)
	var found []string
	for _, e := range before {
		if _, ok := now[e.kind+" "+e.id]; !ok {
			found = append(found, fmt.Sprintf("%s %s: removed", e.kind, e.id))
		}
	}
	for _, e := range after {
		was, ok := old[e.kind+" "+e.id]
		if !ok {
			found = append(found, fmt.Sprintf("%s %s: added: %s", e.kind, e.id, toJSON(e.body)))
			continue
		}
		for _, change := range differences("", was.body, e.body) {
			found = append(found, fmt.Sprintf("%s %s: %s", e.kind, e.id, change))
		}
	}
	return found
}

// differences returns each path at which two JSON values differ. It compares lists of equal
// length by element, others as a whole.
func differences(path string, was, is any) []string {
	switch was := was.(type) {
	case map[string]any:
		if is, ok := is.(map[string]any); ok {
			var found []string
			keys := maps.Clone(was)
			maps.Copy(keys, is)
			for _, key := range slices.Sorted(maps.Keys(keys)) {
				under := strings.TrimPrefix(path+"."+key, ".")
				a, had := was[key]
				b, has := is[key]
				switch {
				case !had:
					found = append(found, fmt.Sprintf("%s: nothing → %s", under, toJSON(b)))
				case !has:
					found = append(found, fmt.Sprintf("%s: %s → nothing", under, toJSON(a)))
				default:
					found = append(found, differences(under, a, b)...)
				}
			}
			return found
		}
	case []any:
		if is, ok := is.([]any); ok && len(is) == len(was) {
			var found []string
			for i := range was {
				found = append(found, differences(fmt.Sprintf("%s[%d]", path, i), was[i], is[i])...)
			}
			return found
		}
	}
	if a, b := toJSON(was), toJSON(is); a != b {
		return []string{fmt.Sprintf("%s: %s → %s", path, a, b)}
	}
	return nil
}

// checkDigests compares a template with the lines of its snapshot. The template itself is stored
// next to them, compressed, for the values that differ.
func checkDigests(t *testing.T, name string, text []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	now, err := entries(text)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		var compressed bytes.Buffer
		w := gzip.NewWriter(&compressed)
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		// The compressed bytes may depend on the Go version: do not rewrite an equal template.
		if before, err := previous(path); err != nil || !bytes.Equal(before, text) {
			if err := os.WriteFile(path+".json.gz", compressed.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path+".txt", []byte(lines(now)), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path + ".txt")
	if err != nil {
		t.Fatalf("%v; make snapshots writes it", err)
	}
	if string(want) == lines(now) {
		return
	}
	before, err := previous(path)
	if err != nil {
		t.Fatal(err)
	}
	then, err := entries(before)
	if err != nil {
		t.Fatal(err)
	}
	if lines(then) != string(want) {
		t.Fatalf("%s.txt and %[1]s.json.gz are from different commits: take both from one commit, or run make snapshots", path)
	}
	t.Errorf("the template differs from %s.txt; read the differences, and run make snapshots if you meant them:\n%s", path, strings.Join(changes(then, now), "\n"))
}

// previous returns the template of a snapshot's lines.
func previous(path string) ([]byte, error) {
	f, err := os.Open(path + ".json.gz")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return io.ReadAll(r)
}

func TestDifferencesOfTemplatesHaveTheirPathAndBothValues(t *testing.T) {
	const before = `{"Resources": {
		"Queue": {"Type": "AWS::SQS::Queue", "DeletionPolicy": "Delete", "Properties": {"VisibilityTimeout": 92, "Tags": [{"Key": "a", "Value": "1"}], "KmsMasterKeyId": "k"}},
		"Old": {"Type": "AWS::SNS::Topic"}, "Moved": {"Type": "AWS::SNS::Topic"}},
		"Outputs": {"Topic": {"Value": "x"}}, "Description": "d"}`
	for name, tt := range map[string]struct {
		from, to string
		want     []string
	}{
		"nothing":            {`"k"`, `"k"`, nil},
		"value":              {`92`, `93`, []string{"AWS::SQS::Queue Queue: Properties.VisibilityTimeout: 92 → 93"}},
		"in a list":          {`"1"`, `"2"`, []string{`AWS::SQS::Queue Queue: Properties.Tags[0].Value: "1" → "2"`}},
		"longer list":        {`"1"}]`, `"1"}, 7]`, []string{`AWS::SQS::Queue Queue: Properties.Tags: [{"Key":"a","Value":"1"}] → [{"Key":"a","Value":"1"},7]`}},
		"another kind":       {`92`, `{"Ref": "P"}`, []string{`AWS::SQS::Queue Queue: Properties.VisibilityTimeout: 92 → {"Ref":"P"}`}},
		"new property":       {`"KmsMasterKeyId": "k"`, `"KmsMasterKeyId": "k", "QueueName": "q"`, []string{`AWS::SQS::Queue Queue: Properties.QueueName: nothing → "q"`}},
		"no property":        {`, "KmsMasterKeyId": "k"`, ``, []string{`AWS::SQS::Queue Queue: Properties.KmsMasterKeyId: "k" → nothing`}},
		"beside properties":  {`"Delete"`, `"Retain"`, []string{`AWS::SQS::Queue Queue: DeletionPolicy: "Delete" → "Retain"`}},
		"another logical ID": {`"Old"`, `"New"`, []string{"AWS::SNS::Topic Old: removed", "AWS::SNS::Topic New: added: {}"}},
		"another type": {`"Moved": {"Type": "AWS::SNS::Topic"`, `"Moved": {"Type": "AWS::SNS::Subscription"`,
			[]string{"AWS::SNS::Topic Moved: removed", "AWS::SNS::Subscription Moved: added: {}"}},
		"output":      {`"x"`, `"y"`, []string{`Outputs Topic: Value: "x" → "y"`}},
		"description": {`"d"`, `"e"`, []string{`Description -: : "d" → "e"`}},
	} {
		t.Run(name, func(t *testing.T) {
			then, err := entries([]byte(before))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(before, tt.from) {
				t.Fatalf("the template has no %s", tt.from)
			}
			now, err := entries([]byte(strings.Replace(before, tt.from, tt.to, 1)))
			if err != nil {
				t.Fatal(err)
			}
			if got := changes(then, now); !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if same := lines(then) == lines(now); same != (tt.want == nil) {
				t.Errorf("the lines of both templates are equal: %v, want %v", same, tt.want == nil)
			}
		})
	}
}
