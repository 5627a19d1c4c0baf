package securityhubtest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
)

// variedFindings imports three findings that differ in each attribute that the filters below use.
func variedFindings(t *testing.T) (*cloud, *securityhub.Client) {
	t.Helper()
	c, _, client := enabled(t)
	mustImport(t, client,
		with(sample("a1"), with(provided(object{"Severity": object{"Label": "LOW"}, "Confidence": 10}), object{
			"Title": "lost", "RecordState": "ARCHIVED", "ProductFields": object{"CheckName": "X"},
			"UpdatedAt": "2026-09-10T00:00:00Z", "Sample": true,
			"Resources": []any{
				object{"Type": "AwsIotPolicy", "Id": "p1", "Tags": object{"team": "red"}, "Details": object{"Other": object{"PolicyVersionId": "1"}}},
				object{"Type": "AwsIotRegisteredThing", "Id": "t1"},
			},
		})),
		with(sample("a2"), with(provided(object{"Severity": object{"Label": "HIGH"}, "Types": []any{"TTPs", "Effects"}, "Confidence": 90}), object{
			"Title": "found", "ProductFields": object{"CheckName": "Y"}, "UpdatedAt": "2026-09-13T00:00:00Z",
			"Network":   object{"SourceIpV4": "10.1.2.3"},
			"Resources": []any{object{"Type": "AwsIotPolicy", "Id": "p2", "Details": object{"Other": object{"PolicyVersionId": "2"}}}},
		})),
		with(sample("b3"), with(provided(object{"Severity": object{"Label": "CRITICAL"}}), object{
			"Title": "Found", "ProductFields": object{"CheckName": "Z"}, "UpdatedAt": "2026-09-14T12:00:00Z",
			"Workflow":  object{"Status": "SUPPRESSED"},
			"Resources": []any{object{"Type": "AwsIotAuditTask", "Id": "t9"}},
		})),
	)
	return c, client
}

// texts returns string filters of pairs of a comparison and a value.
func texts(pairs ...string) []types.StringFilter {
	var filters []types.StringFilter
	for i := 0; i < len(pairs); i += 2 {
		filters = append(filters, types.StringFilter{Comparison: types.StringFilterComparison(pairs[i]), Value: &pairs[i+1]})
	}
	return filters
}

// fields returns map filters of triples of a key, a comparison and a value.
func fields(triples ...string) []types.MapFilter {
	var filters []types.MapFilter
	for i := 0; i < len(triples); i += 3 {
		filters = append(filters, types.MapFilter{Key: &triples[i], Comparison: types.MapFilterComparison(triples[i+1]), Value: &triples[i+2]})
	}
	return filters
}

func TestFilters(t *testing.T) {
	_, client := variedFindings(t)
	for _, tt := range []struct {
		name    string
		filters types.AwsSecurityFindingFilters
		want    string
	}{
		{"none", types.AwsSecurityFindingFilters{}, "a1 a2 b3"},
		{"equals", types.AwsSecurityFindingFilters{Title: texts("EQUALS", "found")}, "a2"},
		{"case", types.AwsSecurityFindingFilters{Title: texts("EQUALS", "FOUND")}, ""},
		{"equals or equals", types.AwsSecurityFindingFilters{Id: texts("EQUALS", "a1", "EQUALS", "b3")}, "a1 b3"},
		{"prefix", types.AwsSecurityFindingFilters{Id: texts("PREFIX", "a")}, "a1 a2"},
		{"prefix or equals", types.AwsSecurityFindingFilters{Id: texts("PREFIX", "b", "EQUALS", "a1")}, "a1 b3"},
		{"not equals", types.AwsSecurityFindingFilters{Id: texts("NOT_EQUALS", "a1")}, "a2 b3"},
		{"not equals and not equals", types.AwsSecurityFindingFilters{Id: texts("NOT_EQUALS", "a1", "NOT_EQUALS", "b3")}, "a2"},
		{"not prefix", types.AwsSecurityFindingFilters{Id: texts("PREFIX_NOT_EQUALS", "a")}, "b3"},
		{"prefix but not", types.AwsSecurityFindingFilters{Id: texts("PREFIX", "a", "NOT_EQUALS", "a1")}, "a2"},
		{"any resource", types.AwsSecurityFindingFilters{ResourceType: texts("EQUALS", "AwsIotRegisteredThing")}, "a1"},
		{"no resource", types.AwsSecurityFindingFilters{ResourceType: texts("NOT_EQUALS", "AwsIotRegisteredThing")}, "a2 b3"},
		{"and", types.AwsSecurityFindingFilters{ResourceType: texts("EQUALS", "AwsIotPolicy"), RecordState: texts("EQUALS", "ACTIVE")}, "a2"},
		{"absent is not equal", types.AwsSecurityFindingFilters{SourceUrl: texts("NOT_EQUALS", "x")}, "a1 a2 b3"},
		{"severity", types.AwsSecurityFindingFilters{SeverityLabel: texts("EQUALS", "HIGH", "EQUALS", "CRITICAL")}, "a2 b3"},
		{"provider's severity", types.AwsSecurityFindingFilters{FindingProviderFieldsSeverityLabel: texts("EQUALS", "LOW")}, "a1"},
		{"types", types.AwsSecurityFindingFilters{Type: texts("EQUALS", "Effects")}, "a2"},
		{"workflow", types.AwsSecurityFindingFilters{WorkflowStatus: texts("NOT_EQUALS", "SUPPRESSED")}, "a1 a2"},
		{"derived", types.AwsSecurityFindingFilters{ProductName: texts("EQUALS", "Default"), Region: texts("PREFIX", "eu")}, "a1 a2 b3"},
		{"product field", types.AwsSecurityFindingFilters{ProductFields: fields("CheckName", "EQUALS", "X")}, "a1"},
		{"product field or", types.AwsSecurityFindingFilters{ProductFields: fields("CheckName", "EQUALS", "X", "CheckName", "EQUALS", "Z")}, "a1 b3"},
		{"not product field", types.AwsSecurityFindingFilters{ProductFields: fields("CheckName", "NOT_EQUALS", "X")}, "a2 b3"},
		{"details", types.AwsSecurityFindingFilters{ResourceDetailsOther: fields("PolicyVersionId", "EQUALS", "2")}, "a2"},
		{"tags", types.AwsSecurityFindingFilters{ResourceTags: fields("team", "EQUALS", "red")}, "a1"},
		{"since", types.AwsSecurityFindingFilters{UpdatedAt: []types.DateFilter{{Start: aws.String("2026-09-13T00:00:00Z")}}}, "a2 b3"},
		{"until", types.AwsSecurityFindingFilters{UpdatedAt: []types.DateFilter{{End: aws.String("2026-09-13T02:00:00+02:00")}}}, "a1 a2"},
		{"between", types.AwsSecurityFindingFilters{UpdatedAt: []types.DateFilter{{Start: aws.String("2026-09-11T00:00:00Z"), End: aws.String("2026-09-14T00:00:00Z")}}}, "a2"},
	} {
		out, err := client.GetFindings(context.Background(), &securityhub.GetFindingsInput{Filters: &tt.filters})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := strings.Join(sdkIDs(out.Findings), " "); got != tt.want {
			t.Errorf("%s: found %q, want %q", tt.name, got, tt.want)
		}
	}
}

func sdkIDs(findings []types.AwsSecurityFinding) []string {
	var ids []string
	for _, f := range findings {
		ids = append(ids, *f.Id)
	}
	return ids
}

func TestInvalidFiltersAreErrors(t *testing.T) {
	c, _ := variedFindings(t)
	value := `{"Value":"x","Comparison":"EQUALS"}`
	eleven := "{"
	for i, name := range []string{"Id", "Title", "Type", "Region", "ProductArn", "AwsAccountId", "GeneratorId", "SeverityLabel", "Description", "SourceUrl", "RecordState"} {
		if i > 0 {
			eleven += ","
		}
		eleven += `"` + name + `":[` + value + `]`
	}
	eleven += "}"
	for name, filters := range map[string]string{
		"unknown":              `{"Titel":[` + value + `]}`,
		"keyword":              `{"Keyword":[{"Value":"x"}]}`,
		"no list":              `{"Title":` + value + `}`,
		"empty list":           `{"Title":[]}`,
		"21 values":            `{"Title":[` + strings.Repeat(value+",", 20) + value + `]}`,
		"11 attributes":        eleven,
		"no comparison":        `{"Title":[{"Value":"x"}]}`,
		"comparison":           `{"Title":[{"Value":"x","Comparison":"LIKE"}]}`,
		"automation rules":     `{"Title":[{"Value":"x","Comparison":"CONTAINS"}]}`,
		"blank":                `{"Title":[{"Value":" ","Comparison":"EQUALS"}]}`,
		"equals and not":       `{"Title":[` + value + `,{"Value":"x","Comparison":"NOT_EQUALS"}]}`,
		"equals and no prefix": `{"Title":[` + value + `,{"Value":"x","Comparison":"PREFIX_NOT_EQUALS"}]}`,
		"no key":               `{"ProductFields":[` + value + `]}`,
		"prefix of a field":    `{"ProductFields":[{"Key":"k","Value":"x","Comparison":"PREFIX"}]}`,
		"field and not":        `{"ProductFields":[{"Key":"k","Value":"x","Comparison":"EQUALS"},{"Key":"k","Value":"x","Comparison":"NOT_EQUALS"}]}`,
		"number":               `{"Confidence":[{"Gte":1}]}`,
		"no date":              `{"UpdatedAt":[{}]}`,
		"date":                 `{"UpdatedAt":[{"Start":"yesterday"}]}`,
		"days":                 `{"UpdatedAt":[{"DateRange":{"Value":1,"Unit":"DAYS"}}]}`,
		"days since":           `{"UpdatedAt":[{"Start":"2026-09-11T00:00:00Z","DateRange":{"Value":1,"Unit":"DAYS"}}]}`,
		"address":              `{"NetworkSourceIpV4":[{"Cidr":"10.0.0.0/8"}]}`,
		"boolean":              `{"Sample":[{"Value":true}]}`,
		"process":              `{"ProcessName":[` + value + `]}`,
	} {
		status, code, answer := c.signed(t, "POST", "/findings", `{"Filters":`+filters+`}`)
		if status != http.StatusBadRequest || code != "InvalidInputException" {
			t.Errorf("%s: status %d, %s, want InvalidInputException", name, status, answer)
		}
	}
	for _, body := range []string{
		`{"Filter":{}}`, `{"Filters":[]}`, `{"MaxResults":0}`, `{"MaxResults":101}`, `{"MaxResults":1.5}`, `{"MaxResults":"1"}`,
		`{"SortCriteria":[{"Field":"Title","SortOrder":"asc"}]}`, `{"NextToken":"x"}`, `[]`, `{`,
	} {
		if status, code, answer := c.signed(t, "POST", "/findings", body); status != http.StatusBadRequest || code != "InvalidInputException" {
			t.Errorf("%s: status %d, %s, want InvalidInputException", body, status, answer)
		}
	}
}

// Users run the filters in the docs at the end of a walk-through of an hour.
func TestFiltersInTheDocsAreValid(t *testing.T) {
	c, _ := variedFindings(t)
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range regexp.MustCompile(`--filters '([^']*)'`).FindAllSubmatch(text, -1) {
			found++
			if status, _, answer := c.signed(t, "POST", "/findings", fmt.Sprintf(`{"Filters":%s}`, command[1])); status != http.StatusOK {
				t.Errorf("%s: %s: status %d, %s, want 200", page, command[1], status, answer)
			}
		}
	}
	if found == 0 {
		t.Error("no page has a filter")
	}
}

func TestTenAttributesOfTwentyValuesAreAllowed(t *testing.T) {
	c, _ := variedFindings(t)
	filters := object{}
	for _, name := range []string{"Id", "Title", "Type", "Region", "ProductArn", "AwsAccountId", "GeneratorId", "SeverityLabel", "Description", "RecordState"} {
		filters[name] = repeated(20, object{"Value": "x", "Comparison": "NOT_EQUALS"})
	}
	if status, _, answer := c.signed(t, "POST", "/findings", string(raw(object{"Filters": filters}))); status != http.StatusOK || strings.Count(answer, `"SchemaVersion"`) != 3 {
		t.Errorf("status %d, %s, want three findings", status, answer)
	}
}

func TestPagesCoverAllFindingsOnce(t *testing.T) {
	_, h, client := enabled(t)
	var all []string
	for i := 0; i < 250; i += 50 {
		var findings []object
		for j := range 50 {
			id := fmt.Sprintf("%03d", i+j)
			all = append(all, id)
			findings = append(findings, sample(id))
		}
		mustImport(t, client, findings...)
	}
	for size, pages := range map[int32]int{0: 3, 100: 3, 7: 36, 50: 5} {
		input := &securityhub.GetFindingsInput{Filters: &types.AwsSecurityFindingFilters{RecordState: texts("EQUALS", "ACTIVE")}}
		if size > 0 {
			input.MaxResults = &size
		}
		var ids []string
		read := 0
		for paginator := securityhub.NewGetFindingsPaginator(client, input); paginator.HasMorePages(); read++ {
			page, err := paginator.NextPage(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, sdkIDs(page.Findings)...)
		}
		if !slices.Equal(ids, all) || read != pages {
			t.Errorf("pages of %d: %d findings on %d pages, want %d on %d", size, len(ids), read, len(all), pages)
		}
	}
	if !reflect.DeepEqual(idsOf(h.Findings()), all) {
		t.Error("Findings and GetFindings return different findings")
	}
}

func TestTokenIsValidOnlyForItsRequest(t *testing.T) {
	_, client := variedFindings(t)
	one := aws.Int32(1)
	out, err := client.GetFindings(context.Background(), &securityhub.GetFindingsInput{MaxResults: one})
	if err != nil || out.NextToken == nil {
		t.Fatal(out, err)
	}
	_, err = client.GetFindings(context.Background(), &securityhub.GetFindingsInput{
		MaxResults: one, NextToken: out.NextToken, Filters: &types.AwsSecurityFindingFilters{Id: texts("PREFIX", "a")},
	})
	wantError(t, err, "InvalidInputException", http.StatusBadRequest)
}

func TestGetFindingsReturnsStoredFindings(t *testing.T) {
	c, _, client := enabled(t)
	c.pass(90 * time.Second)
	mustImport(t, client, with(sample("<&>"), object{"FirstObservedAt": "2026-09-15T03:00:00.123456789Z"}))
	out, err := client.GetFindings(context.Background(), &securityhub.GetFindingsInput{})
	if err != nil {
		t.Fatal(err)
	}
	f := out.Findings[0]
	if *f.Id != "<&>" || *f.FirstObservedAt != "2026-09-15T03:00:00.123Z" || *f.ProcessedAt != "2026-09-15T03:01:30.000Z" ||
		*f.Severity.Normalized != 40 || f.Workflow.Status != types.WorkflowStatusNew || f.Resources[0].Details.Other["ThingName"] != "dev-IZWB" {
		t.Errorf("got %s, want the imported finding, with times in milliseconds", raw(f))
	}
}
