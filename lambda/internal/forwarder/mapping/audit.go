package mapping

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// AuditFinding returns the signal of a task's finding that is not suppressed. Its order is the
// task's start: a later task overrides it, an earlier one does not.
func (m Mapper) AuditFinding(t AuditTask, a types.AuditFinding) signal.Signal {
	const source = defender.AuditNotifications
	p := m.here()
	check, reason := CheckName(aws.ToString(a.CheckName)), aws.ToString(a.ReasonForNonComplianceCode)
	var kind types.ResourceType
	var identifier *types.ResourceIdentifier
	var additional map[string]string
	if n := a.NonCompliantResource; n != nil {
		kind, identifier, additional = n.ResourceType, n.ResourceIdentifier, n.AdditionalInfo
	}
	id := identify(identifier)
	parts := append([]string{string(kind)}, id.parts...)
	parts = append(parts, check)
	if reason != "" {
		parts = append(parts, reason)
	}
	f := m.finding(asff.FindingID(source, m.Region, parts...), aws.ToString(a.FindingId))
	if f.GeneratorID == "" {
		f.GeneratorID = t.ID
	}
	f.FindingProviderFields = m.auditFields(check, string(a.Severity))
	f.FindingProviderFields.RelatedFindings = []asff.RelatedFinding{{ProductARN: f.ProductARN, ID: m.summaryID(t, check)}}
	f.Title = auditTitle(check, reason)
	f.Description = fmt.Sprintf("%s %s is reported as non-compliant for %s by Audit task %s.", kind, strings.Join(id.parts, ":"), check, t.ID)
	if text := aws.ToString(a.ReasonForNonCompliance); text != "" {
		f.Description += " The non-compliant reason is " + sentence(text)
	}
	f.Remediation = auditRemedy(check)
	f.SourceURL = p.auditURL(t.ID, check)
	if id.policy != "" {
		f.SourceURL = p.policyURL(id.policy)
	}
	fields := pairs{
		"ReportType":    "AuditFinding",
		"CheckName":     check,
		"TaskId":        t.ID,
		"TaskStartTime": strconv.FormatInt(t.Started, 10),
		"IsSuppressed":  strconv.FormatBool(aws.ToBool(a.IsSuppressed)),
	}
	fields.set("TaskType", t.Type)
	fields.set("ScheduledAuditName", t.Schedule)
	fields.set("ReasonForNonComplianceCode", reason)
	fields.set("ResourceType", string(kind))
	fields.set("FindingId", aws.ToString(a.FindingId))
	for key, value := range id.fields {
		fields.set(key, value)
	}
	f.ProductFields = fields
	f.Resources = append([]asff.Resource{p.auditResource(kind, id, additional)}, p.related(a.RelatedResources)...)
	at := t.Started
	if a.FindingTime != nil {
		at = a.FindingTime.UnixMilli()
	}
	s := signal.New(source, f, at, signal.Order{Time: t.Started}, aws.ToString(a.ReasonForNonCompliance))
	s.Check = check
	return s
}

func auditTitle(check, reason string) string {
	if reason == "" {
		return check
	}
	return check + ": " + reason
}

// auditFields returns severity and types of a check's findings. The deployment's severity
// overrides the finding's, which overrides the check's.
func (m Mapper) auditFields(check, severity string) asff.FindingProviderFields {
	c, _ := defender.ParseCheck(check) // an unknown check has the zero row
	own, err := defender.ParseSeverity(severity)
	if err != nil {
		own = c.Severity()
	}
	set := m.Severities.Sources[defender.AuditNotifications]
	fields := unusual(set.Or(own).Or(defender.AuditNotifications.Severity()))
	fields.Severity.Original = severity
	switch {
	case c.Info().UnusualBehavior:
	case c == defender.CACertificateKeyQuality || c == defender.DeviceCertificateKeyQuality:
		fields.Types = []string{asff.TypeVulnerabilities + "/CVE"}
	default:
		fields.Types = []string{asff.TypeVulnerabilities}
	}
	return fields
}

// CheckName returns the check's current name if AWS used an older one.
func CheckName(name string) string {
	if c, err := defender.ParseCheck(name); err == nil {
		return c.String()
	}
	return name
}

func auditRemedy(check string) *asff.Remediation {
	c, err := defender.ParseCheck(check)
	if err != nil {
		return remedy("Read AWS's page about this audit check.", auditChecksURL)
	}
	return remedy(c.Info().Remediation, auditChecksURL)
}

// identity is a parsed resource identifier of the AWS IoT API.
type identity struct {
	parts  []string // of the finding's ID
	policy string   // the policy's name, for policies
	fields pairs    // as product fields
}

func identify(r *types.ResourceIdentifier) identity {
	if r == nil {
		return identity{parts: []string{"unknown"}}
	}
	id := identity{fields: pairs{}}
	add := func(key string, value *string) {
		if v := aws.ToString(value); v != "" {
			id.parts = append(id.parts, v)
			id.fields[key] = v
		}
	}
	add("DeviceCertificateId", r.DeviceCertificateId)
	add("CaCertificateId", r.CaCertificateId)
	add("CognitoIdentityPoolId", r.CognitoIdentityPoolId)
	add("ClientId", r.ClientId)
	if v := r.PolicyVersionIdentifier; v != nil {
		id.policy = aws.ToString(v.PolicyName)
		add("PolicyName", v.PolicyName)
		add("PolicyVersionId", v.PolicyVersionId)
	}
	add("Account", r.Account)
	add("IamRoleArn", r.IamRoleArn)
	add("RoleAliasArn", r.RoleAliasArn)
	if v := r.IssuerCertificateIdentifier; v != nil {
		add("IssuerId", v.IssuerId)
		add("IssuerCertificateSerialNumber", v.IssuerCertificateSerialNumber)
		add("IssuerCertificateSubject", v.IssuerCertificateSubject)
	}
	add("DeviceCertificateArn", r.DeviceCertificateArn)
	if len(id.parts) == 0 {
		id.parts = []string{"unknown"}
	}
	return id
}

// auditResource uses the types that AWS's own integration is known to send. The ASFF types of
// other resources are not documented.
func (p place) auditResource(kind types.ResourceType, id identity, additional map[string]string) asff.Resource {
	other := pairs{}
	for key, value := range additional {
		other.set(key, value)
	}
	switch {
	case id.policy != "":
		other.set("PolicyVersionId", id.fields["PolicyVersionId"])
		return p.resource("AwsIotPolicy", id.policy, other)
	case kind == types.ResourceTypeAccountSettings:
		return p.resource("AwsIotAccountSettings", id.parts[0], other)
	case kind == types.ResourceTypeIamRole:
		return p.resource("AwsIamRole", id.parts[0], other)
	}
	other.set("ResourceType", string(kind))
	for key, value := range id.fields {
		other.set(key, value)
	}
	return p.resource("Other", strings.Join(id.parts, "/"), other)
}

// related returns the resources that AWS lists beside the non-compliant one. A resource that is
// listed twice, such as a client that connected twice, is shown once with all details.
func (p place) related(list []types.RelatedResource) []asff.Resource {
	var all []asff.Resource
	index := map[string]int{}
	for _, r := range list {
		resource := p.auditResource(r.ResourceType, identify(r.ResourceIdentifier), r.AdditionalInfo)
		key := resource.Type + " " + string(r.ResourceType) + " " + resource.ID
		i, seen := index[key]
		if !seen {
			index[key] = len(all)
			all = append(all, resource)
			continue
		}
		if all[i].Details == nil {
			all[i] = resource
			continue
		}
		for k, v := range r.AdditionalInfo {
			other := all[i].Details.Other
			if was := other[k]; was != "" {
				v = was + "; " + v
			}
			other[k] = v
		}
	}
	return all
}
