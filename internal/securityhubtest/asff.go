package securityhubtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
)

// The allowed values of fields.
var (
	severityLabels     = []string{"INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"}
	workflowStatuses   = []string{"NEW", "NOTIFIED", "RESOLVED", "SUPPRESSED"}
	verificationStates = []string{"UNKNOWN", "TRUE_POSITIVE", "FALSE_POSITIVE", "BENIGN_POSITIVE"}
)

// The derived product fields are among the 50 that a finding may have.
const (
	maxProductFields = 50
	derivedPrefix    = "aws/securityhub/"
	derivedFields    = 3
)

// The parts of the ASFF that both importers and customers write.
var (
	typesRule           = list(0, 50, text(0))
	userDefinedRule     = pairs(50, 128, 1024)
	relatedFindingsRule = list(1, 10, members(map[string]rule{
		"ProductArn": text(2048),
		"Id":         text(512),
	}, "ProductArn", "Id"))
)

// asff is the rule for an imported finding.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_AwsSecurityFinding.html
var asff = members(withObjects[types.AwsSecurityFinding](map[string]rule{
	"AwsAccountId":          pattern(`^\d{12}$`),
	"AwsAccountName":        text(50),
	"CompanyName":           text(128),
	"Compliance":            complianceRule,
	"Confidence":            percent,
	"CreatedAt":             instant,
	"Criticality":           percent,
	"Description":           text(1024),
	"FindingProviderFields": findingProviderFieldsRule,
	"FirstObservedAt":       instant,
	"GeneratorId":           text(512),
	"Id":                    text(512),
	"LastObservedAt":        instant,
	"Malware":               listOf(0, 5),
	"NetworkPath":           listOf(0, 0),
	"Note": members(map[string]rule{
		"Text":      text(512),
		"UpdatedBy": text(0),
		"UpdatedAt": instant,
	}, "Text", "UpdatedBy", "UpdatedAt"),
	"ProcessedAt":     instant,
	"ProductArn":      text(2048),
	"ProductFields":   productFieldsRule,
	"ProductName":     text(128),
	"RecordState":     enum("ACTIVE", "ARCHIVED"),
	"Region":          text(16),
	"RelatedFindings": relatedFindingsRule,
	"Remediation": members(map[string]rule{
		"Recommendation": members(map[string]rule{"Text": text(512), "Url": text(0)}),
	}),
	"Resources":             list(1, 32, resourceRule),
	"Sample":                boolean,
	"SchemaVersion":         enum("2018-10-08"),
	"Severity":              severityRule,
	"SourceUrl":             text(0),
	"ThreatIntelIndicators": listOf(1, 5),
	"Threats":               listOf(1, 32),
	"Title":                 text(256),
	"Types":                 typesRule,
	"UpdatedAt":             instant,
	"UserDefinedFields":     userDefinedRule,
	"VerificationState":     enum(verificationStates...),
	"Vulnerabilities":       listOf(0, 0),
	"Workflow":              members(map[string]rule{"Status": enum(workflowStatuses...)}),
	"WorkflowState":         enum("NEW", "ASSIGNED", "IN_PROGRESS", "DEFERRED", "RESOLVED"),
}), "SchemaVersion", "Id", "ProductArn", "GeneratorId", "AwsAccountId", "CreatedAt",
	"UpdatedAt", "Title", "Description", "Resources")

var findingProviderFieldsRule = members(map[string]rule{
	"Confidence":      percent,
	"Criticality":     percent,
	"RelatedFindings": relatedFindingsRule,
	"Severity": members(map[string]rule{
		"Label":    enum(severityLabels...),
		"Original": text(64),
	}),
	"Types": typesRule,
})

var severityRule = members(map[string]rule{
	"Label":      enum(severityLabels...),
	"Normalized": percent,
	"Original":   text(64),
	"Product":    number,
})

var resourceRule = members(withObjects[types.Resource](map[string]rule{
	"ApplicationArn":  text(0),
	"ApplicationName": text(0),
	"Details":         detailsRule,
	"Id":              text(512),
	"Partition":       enum("aws", "aws-cn", "aws-us-gov"),
	"Region":          text(16),
	"ResourceRole":    text(0),
	"Tags":            pairs(50, 128, 256),
	"Type":            text(256),
}), "Type", "Id")

// detailsRule has no type of AWS IoT: their details are in Other.
var detailsRule = members(withObjects[types.ResourceDetails](map[string]rule{"Other": pairs(50, 128, 1024)}))

// withObjects adds the objects of the API that are not in rules, with any members.
func withObjects[T any](rules map[string]rule) map[string]rule {
	for f := range reflect.TypeFor[T]().Fields() {
		if rules[f.Name] == nil && f.Type.Kind() == reflect.Pointer && f.Type.Elem().Kind() == reflect.Struct {
			rules[f.Name] = anyObject
		}
	}
	return rules
}

func complianceRule(path string, v any, report func(string)) {
	anyObject(path, v, report)
	if o, ok := v.(object); ok && o["Status"] != nil {
		enum("PASSED", "WARNING", "FAILED", "NOT_AVAILABLE")(path+".Status", o["Status"], report)
	}
}

// productFieldsRule leaves room for the fields that Security Hub adds.
func productFieldsRule(path string, v any, report func(string)) {
	most := maxProductFields - derivedFields
	if o, ok := v.(object); ok {
		for k := range o {
			if isDerived(k) {
				most++
			}
		}
	}
	pairs(most, 128, 2048)(path, v, report)
}

func isDerived(key string) bool {
	name, ok := strings.CutPrefix(key, derivedPrefix)
	return ok && (name == "FindingId" || name == "ProductName" || name == "CompanyName")
}

// severityAndTypes requires severity and types, in FindingProviderFields or at the top level.
func severityAndTypes(f object, report func(string)) {
	provided, _ := f["FindingProviderFields"].(object)
	top, _ := f["Severity"].(object)
	given, _ := provided["Severity"].(object)
	switch {
	case given["Label"] != nil, given == nil && (top["Label"] != nil || top["Normalized"] != nil):
	case provided == nil && top == nil:
		report("data should have required property 'FindingProviderFields', data should match some schema in anyOf")
	default:
		report("data.FindingProviderFields.Severity should have required property 'Label'")
	}
	if provided["Types"] == nil && f["Types"] == nil {
		report("data.FindingProviderFields should have required property 'Types'")
	}
}

// object is a JSON object. Stored findings are never modified: a change makes a new object.
type object = map[string]any

// decodeObject reads exactly one JSON object. Numbers stay as written, and null members count as
// absent, as in AWS's protocol.
func decodeObject(data []byte) (object, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var o object
	if err := decoder.Decode(&o); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data follows the object")
	}
	if o == nil {
		return nil, errors.New("null instead of an object")
	}
	dropNulls(o)
	return o, nil
}

// encode writes JSON as the service does, without escaping "<".
func encode(v any) []byte {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(fmt.Sprintf("securityhubtest: %T does not encode: %v", v, err))
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n"))
}

func dropNulls(v any) {
	switch v := v.(type) {
	case object:
		maps.DeleteFunc(v, func(_ string, member any) bool { return member == nil })
		for _, member := range v {
			dropNulls(member)
		}
	case []any:
		for _, element := range v {
			dropNulls(element)
		}
	}
}

// rule validates the value at a path. It reports each fault in the words of the service, which
// are those of a well-known JSON schema validator: "data.Title should NOT be longer than 256
// characters".
type rule func(path string, v any, report func(fault string))

// faultsOf returns the faults of v. They are sorted, because the order of maps is random.
func faultsOf(r rule, v any) []string {
	var faults []string
	r("data", v, func(fault string) { faults = append(faults, fault) })
	slices.Sort(faults)
	return faults
}

// isSpace matches \s of JavaScript, the validator's language.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r == '\uFEFF' }

// kind is a value of one JSON type. judge returns its fault, "" for none.
func kind[T any](name string, judge func(T) (fault string)) rule {
	return func(path string, v any, report func(string)) {
		t, ok := v.(T)
		if !ok {
			report(path + " should be " + name)
		} else if fault := judge(t); fault != "" {
			report(path + " " + fault)
		}
	}
}

// text is a string of 1 to most characters that is not only white space. 0 means no limit.
func text(most int) rule {
	return kind("string", func(s string) string {
		switch {
		case s == "":
			return "should NOT be shorter than 1 characters"
		case strings.TrimFunc(s, isSpace) == "":
			return `should match pattern ".*\S.*"`
		case most > 0 && utf8.RuneCountInString(s) > most:
			return fmt.Sprintf("should NOT be longer than %d characters", most)
		}
		return ""
	})
}

func enum(allowed ...string) rule {
	return func(path string, v any, report func(string)) {
		if s, ok := v.(string); !ok || !slices.Contains(allowed, s) {
			report(path + " should be equal to one of the allowed values")
		}
	}
}

func pattern(expression string) rule {
	re := regexp.MustCompile(expression)
	return func(path string, v any, report func(string)) {
		if s, ok := v.(string); !ok || !re.MatchString(s) {
			report(path + " should match pattern " + fmt.Sprintf("%q", expression))
		}
	}
}

var (
	number  = kind("number", func(json.Number) string { return "" })
	boolean = kind("boolean", func(bool) string { return "" })
	// percent is an integer from 0 to 100.
	percent = kind("integer", func(n json.Number) string {
		i, err := n.Int64()
		switch {
		case err != nil:
			return "should be integer"
		case i < 0:
			return "should be >= 0"
		case i > 100:
			return "should be <= 100"
		}
		return ""
	})
	// instant is a time in a format that AWS documents.
	instant = kind("string", func(s string) string {
		if _, ok := parseInstant(s); !ok {
			return `should match format "date-time"`
		}
		return ""
	})
)

// list has least to most elements; most 0 means no limit.
func list(least, most int, element rule) rule {
	return func(path string, v any, report func(string)) {
		elements, ok := v.([]any)
		switch {
		case !ok:
			report(path + " should be array")
			return
		case len(elements) < least:
			report(fmt.Sprintf("%s should NOT have fewer than %d items", path, least))
		case most > 0 && len(elements) > most:
			report(fmt.Sprintf("%s should NOT have more than %d items", path, most))
			return
		}
		for i, e := range elements {
			element(fmt.Sprintf("%s[%d]", path, i), e, report)
		}
	}
}

// pairs is a map from keys to texts with a limit of characters for each.
func pairs(most, key, value int) rule {
	return func(path string, v any, report func(string)) {
		o, ok := v.(object)
		switch {
		case !ok:
			report(path + " should be object")
			return
		case len(o) > most:
			report(fmt.Sprintf("%s should NOT have more than %d properties", path, most))
			return
		}
		for k, member := range o {
			at := fmt.Sprintf("%s['%s']", path, k)
			text(key)(at+" key", k, report)
			text(value)(at, member, report)
		}
	}
}

// members is an object with these members and no others.
func members(rules map[string]rule, required ...string) rule {
	return func(path string, v any, report func(string)) {
		o, ok := v.(object)
		if !ok {
			report(path + " should be object")
			return
		}
		for _, name := range required {
			if _, ok := o[name]; !ok {
				report(fmt.Sprintf("%s should have required property '%s'", path, name))
			}
		}
		for name, member := range o {
			if r, ok := rules[name]; ok {
				r(path+"."+name, member, report)
			} else {
				report(fmt.Sprintf("%s should NOT have additional properties, but has '%s'", path, name))
			}
		}
	}
}

// anything is a part of the ASFF whose shape this package does not know. It only checks that no
// string is blank.
func anything(path string, v any, report func(string)) {
	switch v := v.(type) {
	case string:
		text(0)(path, v, report)
	case []any:
		for i, e := range v {
			anything(fmt.Sprintf("%s[%d]", path, i), e, report)
		}
	case object:
		for name, member := range v {
			anything(path+"."+name, member, report)
		}
	}
}

func listOf(least, most int) rule { return list(least, most, anyObject) }

func anyObject(path string, v any, report func(string)) {
	if _, ok := v.(object); !ok {
		report(path + " should be object")
		return
	}
	anything(path, v, report)
}

var instantForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)$`)

// parseInstant parses the formats that AWS documents: Z or an offset of at most 18 hours, and at
// most 9 decimals. Security Hub keeps three decimals.
func parseInstant(s string) (time.Time, bool) {
	if !instantForm.MatchString(s) {
		return time.Time{}, false
	}
	t, err := time.Parse("2006-01-02T15:04:05Z07:00", s)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05Z0700", s)
	}
	if err != nil {
		return time.Time{}, false
	}
	if _, offset := t.Zone(); offset > 18*3600 || offset < -18*3600 {
		return time.Time{}, false
	}
	return t.Truncate(time.Millisecond), true
}

// formatInstant formats Security Hub's own times.
func formatInstant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
