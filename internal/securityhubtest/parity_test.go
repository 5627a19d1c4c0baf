package securityhubtest

import (
	"reflect"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
)

// fieldNames returns the names of the exported fields of an SDK type.
func fieldNames(of any) []string {
	var names []string
	for f := range fieldsOfType(reflect.TypeOf(of)) {
		names = append(names, f)
	}
	slices.Sort(names)
	return names
}

func fieldsOfType(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for f := range t.Fields() {
		if f.IsExported() {
			fields[f.Name] = f.Type
		}
	}
	return fields
}

// unknownTo returns the members that a rule does not know.
func unknownTo(r rule, names []string) []string {
	var unknown []string
	for _, name := range names {
		for _, fault := range faultsOf(r, object{name: nil}) {
			if fault == "data should NOT have additional properties, but has '"+name+"'" {
				unknown = append(unknown, name)
			}
		}
	}
	return unknown
}

func TestEveryMemberOfTheAPIIsKnown(t *testing.T) {
	for _, tt := range []struct {
		rule rule
		sdk  any
	}{
		{asff, types.AwsSecurityFinding{}},
		{resourceRule, types.Resource{}},
		{detailsRule, types.ResourceDetails{}},
		{severityRule, types.Severity{}},
		{findingProviderFieldsRule, types.FindingProviderFields{}},
	} {
		if unknown := unknownTo(tt.rule, fieldNames(tt.sdk)); unknown != nil {
			t.Errorf("%T: unknown members %v, want none", tt.sdk, unknown)
		}
	}
	if unknown := unknownTo(detailsRule, []string{"AwsIotThing", "AwsIotPolicy", "Others"}); len(unknown) != 3 {
		t.Errorf("unknown details %v, want all three that the API does not have", unknown)
	}
}

func TestFiltersAreThoseOfTheAPI(t *testing.T) {
	kinds := map[reflect.Type]filterKind{
		reflect.TypeFor[[]types.StringFilter](): stringFilter,
		reflect.TypeFor[[]types.DateFilter]():   dateFilter,
		reflect.TypeFor[[]types.MapFilter]():    mapFilter,
	}
	api := fieldsOfType(reflect.TypeFor[types.AwsSecurityFindingFilters]())
	for name, a := range attributes {
		if kind, ok := kinds[api[name]]; !ok || a.kind != kind {
			t.Errorf("%s has the kind %v, the API has %v", name, a.kind, api[name])
		}
	}
}

func TestPathsOfFiltersExistInTheAPI(t *testing.T) {
	for name, a := range attributes {
		at := reflect.TypeFor[types.AwsSecurityFinding]()
		for _, step := range a.path {
			for at.Kind() == reflect.Slice || at.Kind() == reflect.Pointer {
				at = at.Elem()
			}
			next, ok := fieldsOfType(at)[step]
			if !ok {
				t.Errorf("%s: %s has no %s", name, at, step)
				break
			}
			at = next
		}
		if at.Kind() == reflect.Map != (a.kind == mapFilter) {
			t.Errorf("the path of %s ends at a %s, but only the path of a map filter may end at a map", name, at)
		}
	}
}
