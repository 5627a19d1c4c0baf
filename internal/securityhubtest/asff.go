package securityhubtest

import "strings"

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
var asff = members(map[string]rule{
	"Action":                anyObject,
	"AwsAccountId":          pattern(`^\d{12}$`),
	"AwsAccountName":        text(50),
	"CompanyName":           text(128),
	"Compliance":            complianceRule,
	"Confidence":            percent,
	"CreatedAt":             instant,
	"Criticality":           percent,
	"Description":           text(1024),
	"Detection":             anyObject,
	"FindingProviderFields": findingProviderFieldsRule,
	"FirstObservedAt":       instant,
	"GeneratorDetails":      anyObject,
	"GeneratorId":           text(512),
	"Id":                    text(512),
	"LastObservedAt":        instant,
	"Malware":               listOf(0, 5),
	"Network":               anyObject,
	"NetworkPath":           listOf(0, 0),
	"Note": members(map[string]rule{
		"Text":      text(512),
		"UpdatedBy": text(0),
		"UpdatedAt": instant,
	}, "Text", "UpdatedBy", "UpdatedAt"),
	"PatchSummary":    anyObject,
	"Process":         anyObject,
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
}, "SchemaVersion", "Id", "ProductArn", "GeneratorId", "AwsAccountId", "CreatedAt",
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

var resourceRule = members(map[string]rule{
	"ApplicationArn":     text(0),
	"ApplicationName":    text(0),
	"DataClassification": anyObject,
	"Details":            members(detailsRules()),
	"Id":                 text(512),
	"Partition":          enum("aws", "aws-cn", "aws-us-gov"),
	"Region":             text(16),
	"ResourceRole":       text(0),
	"Tags":               pairs(50, 128, 256),
	"Type":               text(256),
}, "Type", "Id")

func detailsRules() map[string]rule {
	rules := map[string]rule{"Other": pairs(50, 128, 1024)}
	for _, name := range typedDetails {
		rules[name] = anyObject
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
