package securityhubtest

import "strings"

type filterKind int

const (
	stringFilter filterKind = iota
	numberFilter
	dateFilter
	mapFilter
	ipFilter
	booleanFilter
	unsupportedFilter
)

// An attribute is something of a finding by which GetFindings filters and sorts.
type attribute struct {
	kind filterKind
	path []string // into the finding; lists on the way are looked into
}

// attributes are AwsSecurityFindingFilters. "@" stands for the attribute's own name.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_AwsSecurityFindingFilters.html
var attributes = attributeTable(`
string ProductArn @
string AwsAccountId @
string Id @
string GeneratorId @
string Region @
string Type Types
date FirstObservedAt @
date LastObservedAt @
date CreatedAt @
date UpdatedAt @
number SeverityProduct Severity.Product
number SeverityNormalized Severity.Normalized
string SeverityLabel Severity.Label
number Confidence @
number Criticality @
string Title @
string Description @
string RecommendationText Remediation.Recommendation.Text
string SourceUrl @
map ProductFields @
string ProductName @
string CompanyName @
map UserDefinedFields @
string MalwareName Malware.Name
string MalwareType Malware.Type
string MalwarePath Malware.Path
string MalwareState Malware.State
string NetworkDirection Network.Direction
string NetworkProtocol Network.Protocol
ip NetworkSourceIpV4 Network.SourceIpV4
ip NetworkSourceIpV6 Network.SourceIpV6
number NetworkSourcePort Network.SourcePort
string NetworkSourceDomain Network.SourceDomain
string NetworkSourceMac Network.SourceMac
ip NetworkDestinationIpV4 Network.DestinationIpV4
ip NetworkDestinationIpV6 Network.DestinationIpV6
number NetworkDestinationPort Network.DestinationPort
string NetworkDestinationDomain Network.DestinationDomain
string ProcessName Process.Name
string ProcessPath Process.Path
number ProcessPid Process.Pid
number ProcessParentPid Process.ParentPid
date ProcessLaunchedAt Process.LaunchedAt
date ProcessTerminatedAt Process.TerminatedAt
string ThreatIntelIndicatorType ThreatIntelIndicators.Type
string ThreatIntelIndicatorValue ThreatIntelIndicators.Value
string ThreatIntelIndicatorCategory ThreatIntelIndicators.Category
date ThreatIntelIndicatorLastObservedAt ThreatIntelIndicators.LastObservedAt
string ThreatIntelIndicatorSource ThreatIntelIndicators.Source
string ThreatIntelIndicatorSourceUrl ThreatIntelIndicators.SourceUrl
string ResourceType Resources.Type
string ResourceId Resources.Id
string ResourcePartition Resources.Partition
string ResourceRegion Resources.Region
map ResourceTags Resources.Tags
string ResourceAwsEc2InstanceType Resources.Details.AwsEc2Instance.Type
string ResourceAwsEc2InstanceImageId Resources.Details.AwsEc2Instance.ImageId
ip ResourceAwsEc2InstanceIpV4Addresses Resources.Details.AwsEc2Instance.IpV4Addresses
ip ResourceAwsEc2InstanceIpV6Addresses Resources.Details.AwsEc2Instance.IpV6Addresses
string ResourceAwsEc2InstanceKeyName Resources.Details.AwsEc2Instance.KeyName
string ResourceAwsEc2InstanceIamInstanceProfileArn Resources.Details.AwsEc2Instance.IamInstanceProfileArn
string ResourceAwsEc2InstanceVpcId Resources.Details.AwsEc2Instance.VpcId
string ResourceAwsEc2InstanceSubnetId Resources.Details.AwsEc2Instance.SubnetId
date ResourceAwsEc2InstanceLaunchedAt Resources.Details.AwsEc2Instance.LaunchedAt
string ResourceAwsS3BucketOwnerId Resources.Details.AwsS3Bucket.OwnerId
string ResourceAwsS3BucketOwnerName Resources.Details.AwsS3Bucket.OwnerName
string ResourceAwsIamAccessKeyUserName Resources.Details.AwsIamAccessKey.UserName
string ResourceAwsIamAccessKeyPrincipalName Resources.Details.AwsIamAccessKey.PrincipalName
string ResourceAwsIamAccessKeyStatus Resources.Details.AwsIamAccessKey.Status
date ResourceAwsIamAccessKeyCreatedAt Resources.Details.AwsIamAccessKey.CreatedAt
string ResourceAwsIamUserUserName Resources.Details.AwsIamUser.UserName
string ResourceContainerName Resources.Details.Container.Name
string ResourceContainerImageId Resources.Details.Container.ImageId
string ResourceContainerImageName Resources.Details.Container.ImageName
date ResourceContainerLaunchedAt Resources.Details.Container.LaunchedAt
map ResourceDetailsOther Resources.Details.Other
string ComplianceStatus Compliance.Status
string VerificationState @
string WorkflowState @
string WorkflowStatus Workflow.Status
string RecordState @
string RelatedFindingsProductArn RelatedFindings.ProductArn
string RelatedFindingsId RelatedFindings.Id
string NoteText Note.Text
date NoteUpdatedAt Note.UpdatedAt
string NoteUpdatedBy Note.UpdatedBy
unsupported Keyword @
number FindingProviderFieldsConfidence FindingProviderFields.Confidence
number FindingProviderFieldsCriticality FindingProviderFields.Criticality
string FindingProviderFieldsRelatedFindingsId FindingProviderFields.RelatedFindings.Id
string FindingProviderFieldsRelatedFindingsProductArn FindingProviderFields.RelatedFindings.ProductArn
string FindingProviderFieldsSeverityLabel FindingProviderFields.Severity.Label
string FindingProviderFieldsSeverityOriginal FindingProviderFields.Severity.Original
string FindingProviderFieldsTypes FindingProviderFields.Types
boolean Sample @
string ComplianceSecurityControlId Compliance.SecurityControlId
string ComplianceAssociatedStandardsId Compliance.AssociatedStandards.StandardsId
string VulnerabilitiesExploitAvailable Vulnerabilities.ExploitAvailable
string VulnerabilitiesFixAvailable Vulnerabilities.FixAvailable
string ComplianceSecurityControlParametersName Compliance.SecurityControlParameters.Name
string ComplianceSecurityControlParametersValue Compliance.SecurityControlParameters.Value
string AwsAccountName @
string ResourceApplicationName Resources.ApplicationName
string ResourceApplicationArn Resources.ApplicationArn
`)

func attributeTable(lines string) map[string]attribute {
	kinds := map[string]filterKind{
		"string": stringFilter, "number": numberFilter, "date": dateFilter, "map": mapFilter,
		"ip": ipFilter, "boolean": booleanFilter, "unsupported": unsupportedFilter,
	}
	table := map[string]attribute{}
	for line := range strings.Lines(strings.TrimSpace(lines)) {
		word := strings.Fields(line)
		kind, name, path := word[0], word[1], word[2]
		if path == "@" {
			path = name
		}
		table[name] = attribute{kinds[kind], strings.Split(path, ".")}
	}
	return table
}

// values returns everything that stands at the attribute's path.
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
