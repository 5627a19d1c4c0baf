package securityhubtest

import "strings"

type filterKind int

const (
	stringFilter filterKind = iota
	dateFilter
	mapFilter
)

// attribute is an attribute of findings by which GetFindings filters and sorts.
type attribute struct {
	kind filterKind
	path []string // path in the finding, through all elements of lists
}

// attributes are the supported members of AwsSecurityFindingFilters, with their paths. Without a
// path, the attribute is the finding's member of that name.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_AwsSecurityFindingFilters.html
var attributes = func() map[string]attribute {
	table := map[string]attribute{}
	for kind, names := range map[filterKind]string{
		stringFilter: `AwsAccountId CompanyName Description GeneratorId Id ProductArn ProductName RecordState
			Region SourceUrl Title VerificationState Type=Types ComplianceStatus=Compliance.Status
			FindingProviderFieldsSeverityLabel=FindingProviderFields.Severity.Label
			FindingProviderFieldsTypes=FindingProviderFields.Types NoteText=Note.Text NoteUpdatedBy=Note.UpdatedBy
			RelatedFindingsId=RelatedFindings.Id RelatedFindingsProductArn=RelatedFindings.ProductArn
			ResourceId=Resources.Id ResourcePartition=Resources.Partition ResourceRegion=Resources.Region
			ResourceType=Resources.Type SeverityLabel=Severity.Label WorkflowStatus=Workflow.Status`,
		dateFilter: "CreatedAt FirstObservedAt LastObservedAt UpdatedAt",
		mapFilter: `ProductFields UserDefinedFields ResourceDetailsOther=Resources.Details.Other
			ResourceTags=Resources.Tags`,
	} {
		for _, entry := range strings.Fields(names) {
			name, path, other := strings.Cut(entry, "=")
			if !other {
				path = name
			}
			table[name] = attribute{kind, strings.Split(path, ".")}
		}
	}
	return table
}()

// values returns all values at the attribute's path.
func (a attribute) values(f object) []any { return valuesAt(f, a.path) }

func valuesAt(v any, path []string) []any {
	if elements, ok := v.([]any); ok {
		var all []any
		for _, e := range elements {
			all = append(all, valuesAt(e, path)...)
		}
		return all
	}
	if len(path) == 0 {
		return []any{v}
	}
	if o, ok := v.(object); ok && o[path[0]] != nil {
		return valuesAt(o[path[0]], path[1:])
	}
	return nil
}
