package asff_test

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/internal/asff"
)

// anyFinding draws a finding. Each field is present or absent, with any kind of text.
func anyFinding(t *rapid.T) asff.Finding {
	text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.SampledFrom([]string{"plain", "\"<&>\\", "\u2028\x00\x7f", "\xff", "é漢"}))
	draw := func(name string) string { return text.Draw(t, name) }
	pairs := rapid.MapOfN(text, text, 0, 4)
	f := asff.Finding{
		SchemaVersion: draw("schema"), ID: draw("id"), ProductARN: draw("product"), GeneratorID: draw("generator"), AWSAccountID: draw("account"),
		CompanyName: draw("company"), ProductName: draw("name"), Title: draw("title"), Description: draw("description"), SourceURL: draw("url"),
		ProductFields: pairs.Draw(t, "fields"), RecordState: asff.RecordState(draw("state")),
	}
	for _, at := range []*asff.Timestamp{&f.CreatedAt, &f.UpdatedAt, &f.FirstObservedAt, &f.LastObservedAt} {
		if rapid.Bool().Draw(t, "time") {
			*at = asff.Milliseconds(rapid.Int64Range(0, 4_000_000_000_000).Draw(t, "ms"))
		}
	}
	if rapid.Bool().Draw(t, "remediation") {
		f.Remediation = &asff.Remediation{Recommendation: asff.Recommendation{Text: draw("text"), URL: draw("link")}}
	}
	f.Resources = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) asff.Resource {
		r := asff.Resource{Type: text.Draw(t, "type"), ID: text.Draw(t, "id"), Partition: text.Draw(t, "partition"), Region: text.Draw(t, "region")}
		if rapid.Bool().Draw(t, "details") {
			r.Details = &asff.ResourceDetails{Other: pairs.Draw(t, "other")}
		}
		return r
	}), 0, 3).Draw(t, "resources")
	p := &f.FindingProviderFields
	p.Severity.Label, p.Severity.Original, p.Types = draw("label"), draw("original"), rapid.SliceOfN(text, 0, 2).Draw(t, "types")
	for range rapid.IntRange(0, 2).Draw(t, "related") {
		p.RelatedFindings = append(p.RelatedFindings, asff.RelatedFinding{ProductARN: draw("arn"), ID: draw("related")})
	}
	if rapid.Bool().Draw(t, "nil lists") {
		f.Resources, p.Types = nil, nil
	}
	return f
}

func TestAppendJSONEqualsMarshal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := anyFinding(t)
		want, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.AppendJSON(nil); string(got) != string(want) {
			t.Fatalf("appended %s\nmarshaled %s", got, want)
		}
	})
}

func TestNoFindingIsLargerThanItsBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := anyFinding(t)
		if n, bound := len(f.AppendJSON(nil)), f.BytesBound(); n > bound {
			t.Fatalf("the finding has %d bytes, want at most its bound %d", n, bound)
		}
	})
}
