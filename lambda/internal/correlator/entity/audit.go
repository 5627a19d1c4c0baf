package entity

import (
	"regexp"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
)

// auditKind says how to read the ID of a resource of an audit finding.
type auditKind struct {
	// field is the product field with the same value.
	field string
	// path is the part of an ARN before the name, "" if the ID is never an ARN.
	path string
	has  func(name string) bool
}

// auditKinds are the kinds of resources that name a device or what it uses, by Device Defender's
// type. A client chooses its ID, so a client ID that looks like an ARN is still a client ID.
var auditKinds = map[string]auditKind{
	"CLIENT_ID":          {"ClientId", "", func(id string) bool { return id != "" }},
	"DEVICE_CERTIFICATE": {"DeviceCertificateId", "cert/", certificate.IsID},
	"IOT_POLICY":         {"PolicyName", "policy/", regexp.MustCompile(`^[\w+=,.@-]{1,128}$`).MatchString},
	"ROLE_ALIAS":         {"RoleAliasArn", "rolealias/", regexp.MustCompile(`^[\w=,@-]{1,128}$`).MatchString},
}

// typeOf has the types of the resources that checks report, by their field in the AWS IoT API.
var typeOf = map[string]string{
	"clientId": "CLIENT_ID", "deviceCertificateId": "DEVICE_CERTIFICATE", "policyVersionIdentifier": "IOT_POLICY", "roleAliasArn": "ROLE_ALIAS",
}

// otherTypes are the ASFF types of which the kind is known.
var otherTypes = []string{thingType, policyType, "AwsIotAuditTask", "AwsIotAccountSettings", "AwsIamRole", "AwsAccount"}

// described returns the fields of a finding of audits or of Detect that name what it is about: its
// product fields, the details of its resources and, for an audit, the IDs of these. AWS documents
// the fields of its integration only for policies, so those of a certificate, a client ID or a role
// alias may be missing.
func described(home Home, e findingevent.Event) []map[string]string {
	all := []map[string]string{e.ProductFields}
	for _, r := range e.Resources {
		all = append(all, r.Details)
	}
	if source, ok := e.DeviceSource(); !ok || source != defender.AuditNotifications {
		return all
	}
	there := Home{home.Partition, e.Account, e.Region}
	whole := auditedType(e)
	var alike []map[string]string // resources without a type of their own that may be the audited one
	for _, r := range e.Resources {
		own := r.Details["ResourceType"]
		if own != "" {
			all = append(all, meaning(there, r, own))
		} else if fields := meaning(there, r, whole); fields != nil {
			alike = append(alike, fields)
		}
	}
	if len(alike) == 1 {
		all = append(all, alike[0])
	}
	return all
}

// auditedType returns Device Defender's type of the resource that an audit finding is about, "" if
// it is not known. The summary of a check is about no resource.
func auditedType(e findingevent.Event) string {
	if e.ProductFields["ReportType"] == "CheckSummary" {
		return ""
	}
	if kind := e.ProductFields["ResourceType"]; kind != "" {
		return kind
	}
	check, _ := defender.ParseCheck(e.ProductFields["CheckName"]) // an unknown check reports no known type
	return typeOf[check.Info().Identifier]
}

// meaning returns the product field for a resource of that type, nil if its ID does not have the
// type's form.
func meaning(home Home, r findingevent.Resource, kind string) map[string]string {
	k, known := auditKinds[kind]
	name := r.ID
	if k.path != "" {
		name = strings.TrimPrefix(name, home.arn(k.path))
	}
	if !known || slices.Contains(otherTypes, r.Type) || !k.has(name) {
		return nil
	}
	if kind == "ROLE_ALIAS" {
		name = home.arn(k.path + name)
	}
	return map[string]string{k.field: name}
}
