package asff_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/internal/asff"
)

// fitting returns a finding that no limit changes.
func fitting() asff.Finding {
	return asff.Finding{
		SchemaVersion: "2018-10-08", ID: "defenderhub/device-event/eu-central-1/pump-7/tamper",
		ProductARN: asff.DefaultProductARN("aws", "eu-central-1", "123456789012"), GeneratorID: "g", AWSAccountID: "123456789012",
		CreatedAt: asff.Milliseconds(1767225600000), UpdatedAt: asff.Milliseconds(1767225600001),
		Title: "Device pump-7 reports tamper.", Description: "The lid was opened.", RecordState: asff.Active,
		FindingProviderFields: asff.FindingProviderFields{Severity: asff.FindingSeverity{Label: "HIGH"}, Types: []string{asff.TypeUnusualBehaviors}},
		Resources:             []asff.Resource{{Type: "Other", ID: "pump-7", Partition: "aws", Region: "eu-central-1"}},
	}
}

func TestFitLeavesFittingFindingUnchanged(t *testing.T) {
	f := fitting()
	f.ProductFields = map[string]string{"EventType": "tamper"}
	f.Resources[0].Details = &asff.ResourceDetails{Other: map[string]string{"Principal": "p"}}
	f.Remediation = &asff.Remediation{Recommendation: asff.Recommendation{Text: "Look at it.", URL: "https://example.com"}}
	f.SourceURL, f.CompanyName, f.ProductName = "https://example.com/a?b=c#d", "Example", "Fleet"
	if got := f.Fit(); !reflect.DeepEqual(got, f) {
		t.Errorf("got %+v, want %+v", got, f)
	}
}

// A field at its limit is unchanged. Fit ends a longer one with an ellipsis, on a character boundary.
func TestFitLimitsEachLength(t *testing.T) {
	pair := func(m map[string]string) string {
		for k, v := range m {
			return k + "=" + v
		}
		return ""
	}
	for _, c := range []struct {
		field string
		limit int
		set   func(*asff.Finding, string)
		get   func(asff.Finding) string
	}{
		{"Title", 256, func(f *asff.Finding, s string) { f.Title = s }, func(f asff.Finding) string { return f.Title }},
		{"Description", 1024, func(f *asff.Finding, s string) { f.Description = s }, func(f asff.Finding) string { return f.Description }},
		{"CompanyName", 128, func(f *asff.Finding, s string) { f.CompanyName = s }, func(f asff.Finding) string { return f.CompanyName }},
		{"ProductName", 128, func(f *asff.Finding, s string) { f.ProductName = s }, func(f asff.Finding) string { return f.ProductName }},
		{"Remediation", 512, func(f *asff.Finding, s string) {
			f.Remediation = &asff.Remediation{Recommendation: asff.Recommendation{Text: s}}
		},
			func(f asff.Finding) string { return f.Remediation.Recommendation.Text }},
		{"Severity.Original", 64, func(f *asff.Finding, s string) { f.FindingProviderFields.Severity.Original = s },
			func(f asff.Finding) string { return f.FindingProviderFields.Severity.Original }},
		{"Resource.Type", 256, func(f *asff.Finding, s string) { f.Resources[0].Type = s }, func(f asff.Finding) string { return f.Resources[0].Type }},
		{"ProductFields key", 128, func(f *asff.Finding, s string) { f.ProductFields = map[string]string{s: "v"} },
			func(f asff.Finding) string { return strings.TrimSuffix(pair(f.ProductFields), "=v") }},
		{"ProductFields value", 2048, func(f *asff.Finding, s string) { f.ProductFields = map[string]string{"k": s} },
			func(f asff.Finding) string { return strings.TrimPrefix(pair(f.ProductFields), "k=") }},
		{"Details value", 1024, func(f *asff.Finding, s string) {
			f.Resources[0].Details = &asff.ResourceDetails{Other: map[string]string{"k": s}}
		},
			func(f asff.Finding) string { return strings.TrimPrefix(pair(f.Resources[0].Details.Other), "k=") }},
	} {
		for _, letter := range []string{"a", "ä", "€", "🔑"} {
			f, at, over := fitting(), strings.Repeat(letter, c.limit), strings.Repeat(letter, c.limit+1)
			c.set(&f, at)
			if got := c.get(f.Fit()); got != at {
				t.Errorf("%s of %d %s: got %d characters", c.field, c.limit, letter, utf8.RuneCountInString(got))
			}
			c.set(&f, over)
			if got := c.get(f.Fit()); got != strings.Repeat(letter, c.limit-1)+"…" {
				t.Errorf("%s of %d %s: got %d characters, ending %q", c.field, c.limit+1, letter, utf8.RuneCountInString(got), got[len(got)-4:])
			}
		}
	}
}

func TestFitKeepsLongIDsDistinct(t *testing.T) {
	ids := map[string]func(*asff.Finding) *string{
		"Id":          func(f *asff.Finding) *string { return &f.ID },
		"GeneratorId": func(f *asff.Finding) *string { return &f.GeneratorID },
		"Resource.Id": func(f *asff.Finding) *string { return &f.Resources[0].ID },
	}
	for name, id := range ids {
		f, at := fitting(), strings.Repeat("ä", 512)
		*id(&f) = at
		if f = f.Fit(); *id(&f) != at {
			t.Errorf("%s of 512 characters was changed", name)
		}
		seen := map[string]bool{}
		for _, end := range []string{"a", "b", "ab"} {
			f := fitting()
			*id(&f) = at + end
			f = f.Fit()
			got := *id(&f)
			if utf8.RuneCountInString(got) != 512 || !strings.HasPrefix(got, strings.Repeat("ä", 479)+"#") || seen[got] {
				t.Errorf("%s of %d characters became %d: %.20q", name, 512+len(end), utf8.RuneCountInString(got), got[len(got)-33:])
			}
			seen[got] = true
		}
	}
}

func TestFitLimitsNumbers(t *testing.T) {
	f := fitting()
	f.ProductFields, f.FindingProviderFields.Types = map[string]string{}, nil
	details := map[string]string{}
	for i := range 60 {
		f.ProductFields[fmt.Sprintf("k%02d", i)] = "v"
		details[fmt.Sprintf("k%02d", i)] = "v"
		f.FindingProviderFields.Types = append(f.FindingProviderFields.Types, fmt.Sprintf("TTPs/%02d", i))
		f.FindingProviderFields.RelatedFindings = append(f.FindingProviderFields.RelatedFindings, asff.RelatedFinding{ProductARN: "arn", ID: strings.Repeat("x", 600)})
		f.Resources = append(f.Resources, asff.Resource{Type: "Other", ID: fmt.Sprint(i), Details: &asff.ResourceDetails{Other: details}})
	}
	got := f.Fit()
	if n := len(got.ProductFields); n != 47 || got.ProductFields["k46"] == "" { // Security Hub adds three
		t.Errorf("%d product fields, want the first 47", n)
	}
	if n := len(got.FindingProviderFields.Types); n != 50 || got.FindingProviderFields.Types[49] != "TTPs/49" {
		t.Errorf("%d types, want the first 50", n)
	}
	if related := got.FindingProviderFields.RelatedFindings; len(related) != 10 || len(related[9].ID) > 512 {
		t.Errorf("%d related findings, want 10 with IDs of at most 512 characters", len(related))
	}
	if n := len(got.Resources); n != 32 || got.Resources[0].ID != "pump-7" || got.Resources[31].ID != "30" {
		t.Errorf("%d resources, want the first 32", n)
	}
	if n := len(got.Resources[1].Details.Other); n != 50 {
		t.Errorf("%d details, want 50", n)
	}
}

// Security Hub rejects a string that has only white space.
func TestFitLeavesNoBlankString(t *testing.T) {
	const blank = " \t\u00a0\u3000\ufeff\x00"
	f := asff.Finding{
		ID: "i", GeneratorID: blank, Title: blank, Description: blank, SourceURL: blank, CompanyName: blank, ProductName: blank,
		Remediation:           &asff.Remediation{Recommendation: asff.Recommendation{Text: blank, URL: blank}},
		ProductFields:         map[string]string{blank: "v", "k": blank, "": "v"},
		FindingProviderFields: asff.FindingProviderFields{Severity: asff.FindingSeverity{Original: blank}, Types: []string{blank, "TTPs"}},
		Resources:             []asff.Resource{{Type: blank, ID: blank, Region: blank, Details: &asff.ResourceDetails{Other: map[string]string{"k": ""}}}, {}},
	}
	want := asff.Finding{
		SchemaVersion: "2018-10-08", ID: "i", GeneratorID: "defenderhub", Title: "Security finding", Description: "Security finding",
		FindingProviderFields: asff.FindingProviderFields{Types: []string{"TTPs"}},
		Resources:             []asff.Resource{{Type: "Other", ID: "unknown"}, {Type: "Other", ID: "unknown"}},
	}
	if got := f.Fit(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := (asff.Finding{ID: "i", Title: "t"}).Fit(); got.Description != "t" || len(got.Resources) != 1 {
		t.Errorf("a finding with a title alone: got %+v, want the title as description, and one resource", got)
	}
}

func TestFitDropsLinksAndRegionsThatAreTooLong(t *testing.T) {
	f := fitting()
	f.SourceURL = "https://example.com/" + strings.Repeat("a", 2048)
	f.Remediation = &asff.Remediation{Recommendation: asff.Recommendation{URL: f.SourceURL}}
	f.Resources[0].Region = "a-region-of-seventeen"
	got := f.Fit()
	if got.SourceURL != "" || got.Remediation != nil || got.Resources[0].Region != "" {
		t.Errorf("got %+v, want no source URL, remediation and Region", got)
	}
}

func TestFitRemovesControlCharacters(t *testing.T) {
	f := fitting()
	f.Title = "Device a\nb\r\u2028c \x1b[31m\u202Etxt.exe\u2066 \xff 12\u200F/\u200E34\u061C reports tamper."
	f.ID = "a\nb"
	got := f.Fit()
	if want := "Device a b  c  [31m txt.exe  \uFFFD 12 / 34  reports tamper."; got.Title != want || got.ID != "a b" {
		t.Errorf("got title %q, ID %q, want %q, %q", got.Title, got.ID, want, "a b")
	}
}

func TestFitDoesNotChangeItsReceiver(t *testing.T) {
	oversized := func() asff.Finding {
		f := fitting()
		f.Title = strings.Repeat("t", 300)
		f.ProductFields = map[string]string{"": "v", "k": strings.Repeat("<", 2000)}
		f.FindingProviderFields.Types = []string{"", "TTPs"}
		f.Remediation = &asff.Remediation{Recommendation: asff.Recommendation{Text: " t "}}
		for i := range 40 {
			f.Resources = append(f.Resources, asff.Resource{ID: strings.Repeat("i", 600), Details: &asff.ResourceDetails{Other: map[string]string{"": "v", "k": strings.Repeat("<", 5000), "i": fmt.Sprint(i)}}})
		}
		return f
	}
	f := oversized()
	f.Fit()
	if !reflect.DeepEqual(f, oversized()) {
		t.Error("the finding was changed")
	}
}

// The other limits allow a finding far larger than 240 KB.
func TestFitLimitsTheSize(t *testing.T) {
	pairs := func(n, key, value int, letter string) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprintf("%02d", i)+strings.Repeat(letter, key-2)] = strings.Repeat(letter, value)
		}
		return m
	}
	for _, letter := range []string{"a", "<", "🔑", `"`} {
		f := fitting()
		f.ID, f.GeneratorID = strings.Repeat(letter, 512), strings.Repeat(letter, 512)
		f.Title, f.Description = strings.Repeat(letter, 256), strings.Repeat(letter, 1024)
		f.SourceURL = strings.Repeat("<", 2048)
		f.CompanyName, f.ProductName = strings.Repeat(letter, 128), strings.Repeat(letter, 128)
		f.Remediation = &asff.Remediation{Recommendation: asff.Recommendation{Text: strings.Repeat(letter, 512), URL: f.SourceURL}}
		f.ProductFields = pairs(47, 128, 2048, letter)
		f.Resources = nil
		for range 32 {
			f.Resources = append(f.Resources, asff.Resource{
				Type: strings.Repeat(letter, 256), ID: strings.Repeat(letter, 512), Partition: "aws-us-gov", Region: "eu-central-1",
				Details: &asff.ResourceDetails{Other: pairs(50, 128, 1024, letter)},
			})
		}
		f = f.Fit()
		f.FirstObservedAt, f.LastObservedAt = f.CreatedAt, f.UpdatedAt
		if bytes := size(t, f); bytes > asff.MaxFindingBytes {
			t.Errorf("%s: %d bytes, want at most %d", letter, bytes, asff.MaxFindingBytes)
		}
		if len(f.Resources) != 32 || len(f.ProductFields) != 47 || f.Title == "" {
			t.Errorf("%s: %d resources, %d product fields, title %q, want 32, 47 and a title", letter, len(f.Resources), len(f.ProductFields), f.Title)
		}
	}
	// If a finding is slightly too large, Fit cuts only the ends of its longest values.
	f := fitting()
	f.ProductFields = map[string]string{"k": "short"}
	f.Resources[0].Details = &asff.ResourceDetails{Other: pairs(50, 10, 1000, "<")}
	got := f.Fit()
	if n := len(got.Resources[0].Details.Other); n != 50 || got.ProductFields["k"] != "short" || len(got.Resources[0].Details.Other["49<<<<<<<<"]) < 500 || size(t, got) > asff.MaxFindingBytes {
		t.Errorf("slightly too large: %d bytes, %d details, product fields %v, want 50 shorter details", size(t, got), n, got.ProductFields)
	}
}

// TestFitLimitsSizesAroundTheLimit tries sizes around the limit. Fit does not measure every finding,
// and must leave room for later timestamps.
func TestFitLimitsSizesAroundTheLimit(t *testing.T) {
	for letter, resources := range map[string]int{"a": 5, "<": 1} {
		sized := func(value, description int) asff.Finding {
			f := fitting()
			f.Description = strings.Repeat("a", description)
			f.SourceURL = "https://example.com/" + strings.Repeat("<", 2000)
			f.Remediation = &asff.Remediation{Recommendation: asff.Recommendation{URL: f.SourceURL}}
			other := map[string]string{}
			for i := range 50 {
				other[fmt.Sprint(i)] = strings.Repeat(letter, value)
			}
			f.Resources = nil
			for range resources {
				f.Resources = append(f.Resources, asff.Resource{Type: "Other", ID: "i", Details: &asff.ResourceDetails{Other: other}})
			}
			f = f.Fit()
			f.FirstObservedAt, f.LastObservedAt = f.CreatedAt, f.UpdatedAt
			return f
		}
		cut := func(value int) bool { return len(sized(value, 1).Resources[0].Details.Other["0"]) < value }
		first := sort.Search(1024, cut)
		if first < 500 || first > 1000 {
			t.Fatalf("Fit cuts values from %d %s on, want 500 to 1000", first, letter)
		}
		for value := first - 2; value <= first+2; value++ {
			for description := 1; description < 300; description += 40 {
				if bytes := size(t, sized(value, description)); bytes > asff.MaxFindingBytes {
					t.Errorf("values of %d %s, description of %d: %d bytes, want at most %d", value, letter, description, bytes, asff.MaxFindingBytes)
				}
			}
		}
	}
}

func size(t *testing.T, f asff.Finding) int {
	t.Helper()
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return len(text)
}

// strange generates texts that Fit must change, and texts around each limit.
func strange() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"", " ", "a", "\x00", "\u202e", "\xff", "…", "<>&\"\\", "🔑", "\u0301"}),
		rapid.String(),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 8), func(b []byte) string { return string(b) }),
		rapid.Custom(func(t *rapid.T) string {
			unit := rapid.SampledFrom([]string{"a", " ", "ä", "€ ", "🔑", "<", "\xff", "a\n"}).Draw(t, "unit")
			return strings.Repeat(unit, rapid.SampledFrom([]int{1, 15, 16, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 2049}).Draw(t, "times"))
		}),
	)
}

// findings generates findings with strange texts, and numbers around each limit.
func findings() *rapid.Generator[asff.Finding] {
	pairs := rapid.OneOf(rapid.MapOfN(strange(), strange(), 0, 6), rapid.MapOfN(rapid.StringN(1, 3, -1), rapid.Just("v"), 45, 60))
	resource := rapid.Custom(func(t *rapid.T) asff.Resource {
		r := asff.Resource{Type: strange().Draw(t, "type"), ID: strange().Draw(t, "id"), Region: strange().Draw(t, "region")}
		if rapid.Bool().Draw(t, "details") {
			r.Details = &asff.ResourceDetails{Other: pairs.Draw(t, "other")}
		}
		return r
	})
	return rapid.Custom(func(t *rapid.T) asff.Finding {
		f := fitting()
		for name, field := range map[string]*string{
			"id": &f.ID, "generator": &f.GeneratorID, "title": &f.Title, "description": &f.Description, "url": &f.SourceURL,
			"company": &f.CompanyName, "product": &f.ProductName, "original": &f.FindingProviderFields.Severity.Original,
		} {
			*field = strange().Draw(t, name)
		}
		f.ID = "i" + f.ID
		f.FindingProviderFields.Types = rapid.SliceOfN(strange(), 0, 55).Draw(t, "types")
		f.ProductFields = pairs.Draw(t, "fields")
		f.Resources = rapid.OneOf(rapid.SliceOfN(resource, 0, 3), rapid.SliceOfN(rapid.Just(asff.Resource{ID: "i"}), 30, 35)).Draw(t, "resources")
		if rapid.Bool().Draw(t, "remediation") {
			f.Remediation = &asff.Remediation{Recommendation: asff.Recommendation{Text: strange().Draw(t, "text"), URL: strange().Draw(t, "link")}}
		}
		return f
	})
}

// Security Hub must accept the result of Fit. A second Fit changes nothing.
func TestFitIsWithinEveryLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := findings().Draw(t, "finding").Fit()
		check := func(field, s string, least, most int) {
			n := utf8.RuneCountInString(s)
			if n < least || n > most || n > 0 && strings.TrimFunc(s, unicode.IsSpace) == "" {
				t.Fatalf("%s has %d characters: %.40q, want %d to %d", field, n, s, least, most)
			}
			if !utf8.ValidString(s) {
				t.Fatalf("%s is not UTF-8: %.40q", field, s)
			}
		}
		pairs := func(field string, m map[string]string, most, value int) {
			if m != nil && len(m) == 0 || len(m) > most {
				t.Fatalf("%s has %d pairs, want nil or 1 to %d", field, len(m), most)
			}
			for k, v := range m {
				check(field+" key", k, 1, 128)
				check(field+" value", v, 1, value)
			}
		}
		check("Id", f.ID, 1, 512)
		check("GeneratorId", f.GeneratorID, 1, 512)
		check("Title", f.Title, 1, 256)
		check("Description", f.Description, 1, 1024)
		check("CompanyName", f.CompanyName, 0, 128)
		check("ProductName", f.ProductName, 0, 128)
		check("Severity.Original", f.FindingProviderFields.Severity.Original, 0, 64)
		if f.Remediation != nil {
			r := f.Remediation.Recommendation
			check("Recommendation", r.Text+r.URL, 1, 2048+512)
			check("Recommendation.Text", r.Text, 0, 512)
		}
		if n := len(f.FindingProviderFields.Types); n > 50 {
			t.Fatalf("%d types, want at most 50", n)
		}
		pairs("ProductFields", f.ProductFields, 47, 2048)
		if n := len(f.Resources); n < 1 || n > 32 {
			t.Fatalf("%d resources, want 1 to 32", n)
		}
		for _, r := range f.Resources {
			check("Resource.Type", r.Type, 1, 256)
			check("Resource.Id", r.ID, 1, 512)
			check("Resource.Region", r.Region, 0, 16)
			if r.Details != nil {
				pairs("Details", r.Details.Other, 50, 1024)
			}
		}
		text, err := json.Marshal(f)
		if err != nil || len(text) > asff.MaxFindingBytes {
			t.Fatalf("%d bytes, error %v, want at most %d", len(text), err, asff.MaxFindingBytes)
		}
		if again := f.Fit(); !reflect.DeepEqual(again, f) {
			t.Fatalf("a second Fit returns %+v, want %+v", again, f)
		}
	})
}

func ExampleDefaultProductARN() {
	fmt.Println(asff.DefaultProductARN("aws-cn", "cn-north-1", "123456789012"))
	// Output: arn:aws-cn:securityhub:cn-north-1:123456789012:product/123456789012/default
}

func TestTimestamps(t *testing.T) {
	at := asff.Timestamp{Time: time.Date(2026, 1, 1, 1, 2, 3, 999_999_999, time.FixedZone("", 3600))}
	if got := at.String(); got != "2026-01-01T00:02:03.999Z" {
		t.Errorf("got %s", got)
	}
	for text, want := range map[string]string{
		`"2022-11-09T22:45:00Z"`:          "2022-11-09T22:45:00.000Z",
		`"2022-11-06T22:11:40.941Z"`:      "2022-11-06T22:11:40.941Z",
		`"2022-11-06T23:11:40.941+01:00"`: "2022-11-06T22:11:40.941Z",
	} {
		var got asff.Timestamp
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.String() != want {
			t.Errorf("%s: got %s, error %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{`""`, `"now"`, `1767225600`, `"2022-11-09"`} {
		var got asff.Timestamp
		if err := json.Unmarshal([]byte(text), &got); err == nil {
			t.Errorf("%s: got %s, want an error", text, got)
		}
	}
}

func TestMillisecondsSurviveJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := asff.Milliseconds(rapid.Int64Range(0, 253402300799999).Draw(t, "ms"))
		text, err := json.Marshal(map[string]any{"at": want})
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ At asff.Timestamp }
		if err := json.Unmarshal(text, &got); err != nil || got.At != want {
			t.Fatalf("%s: got %v, %v, want %v", text, got.At, err, want)
		}
	})
}

// The JSON of a finding has the names of the ASFF, and no empty strings.
func TestFindingsAreWrittenAsASFF(t *testing.T) {
	text, err := json.Marshal(fitting().Fit())
	if err != nil {
		t.Fatal(err)
	}
	var top map[string]any
	if err := json.Unmarshal(text, &top); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"AwsAccountId", "CreatedAt", "Description", "FindingProviderFields", "GeneratorId", "Id", "ProductArn",
		"RecordState", "Resources", "SchemaVersion", "Title", "UpdatedAt",
	}
	if got := slices.Sorted(maps.Keys(top)); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if strings.Contains(string(text), `""`) || !strings.Contains(string(text), `"CreatedAt":"2026-01-01T00:00:00.000Z"`) {
		t.Errorf("got %s", text)
	}
}
