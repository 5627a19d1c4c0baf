package entity

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/incident"
)

// Shared returns the policies, role aliases and roles that a finding is about, as
// "policy/NAME", "rolealias/NAME" and "role/ARN". There are none for a finding of another account or
// Region.
func Shared(home Home, e findingevent.Event) []string {
	if !home.at(e) {
		return nil
	}
	var all []string
	add := func(kind, name string) {
		if name != "" && !slices.Contains(all, kind+name) {
			all = append(all, kind+name)
		}
	}
	for _, r := range e.Resources {
		switch r.Type {
		case policyType:
			add(policyKind, strings.TrimPrefix(r.ID, home.arn("policy/")))
		case "AwsIamRole":
			add(roleKind, r.ID)
		}
	}
	if _, ok := e.DeviceSource(); !ok {
		return all
	}
	for _, fields := range described(home, e) {
		_, alias, _ := strings.Cut(fields["RoleAliasArn"], ":rolealias/")
		add(policyKind, fields["PolicyName"])
		add(aliasKind, alias)
		add(roleKind, fields["IamRoleArn"])
	}
	return all
}

// The kinds of shared resources.
const (
	policyKind = "policy/"
	aliasKind  = "rolealias/"
	roleKind   = "role/"
)

// use is what a thing uses.
type use struct{ resources []string }

// maxUses is how many policies, role aliases and roles of a device are read.
const maxUses = 30

// Uses returns what a device uses: the policies of its certificates and groups, the role aliases
// that they allow by name, and the roles behind these. It is empty for a device that is not a thing
// of this account and Region.
func (r *Resolver) Uses(ctx context.Context, home Home, d incident.Entity, now time.Time) ([]string, error) {
	if d.Kind != correlation.Thing || d.Account != home.Account || d.Region != home.Region {
		return nil, nil
	}
	t, err := r.describe(ctx, d.Name, now)
	if err != nil || !t.registered {
		return nil, err
	}
	u, err := r.used.Get(d.Name, now, func() (use, error) { return r.findUses(ctx, d.Name, t) })
	return u.resources, err
}

func (r *Resolver) findUses(ctx context.Context, name string, t thing) (use, error) {
	var all []string
	add := func(resource string) (added bool) {
		if slices.Contains(all, resource) || len(all) == maxUses {
			return false
		}
		all = append(all, resource)
		return true
	}
	for _, principal := range t.principals {
		if !strings.Contains(principal, ":cert/") {
			continue
		}
		out, err := r.api.GetEffectivePolicies(ctx, &iot.GetEffectivePoliciesInput{Principal: aws.String(principal), ThingName: &name})
		if missing(err) {
			continue
		}
		if err != nil {
			return use{}, fmt.Errorf("GetEffectivePolicies: %w", err)
		}
		for _, p := range out.EffectivePolicies {
			add(policyKind + aws.ToString(p.PolicyName))
			for _, alias := range roleAliases(aws.ToString(p.PolicyDocument)) {
				if !add(aliasKind + alias) {
					continue
				}
				role, err := r.roleOf(ctx, alias)
				if err != nil {
					return use{}, err
				}
				if role != "" {
					add(roleKind + role)
				}
			}
		}
	}
	return use{all}, nil
}

func (r *Resolver) roleOf(ctx context.Context, alias string) (string, error) {
	out, err := r.api.DescribeRoleAlias(ctx, &iot.DescribeRoleAliasInput{RoleAlias: &alias})
	if missing(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("DescribeRoleAlias: %w", err)
	}
	if out.RoleAliasDescription == nil {
		return "", nil
	}
	return aws.ToString(out.RoleAliasDescription.RoleArn), nil
}

// texts is a JSON string or a list of strings.
type texts []string

func (t *texts) UnmarshalJSON(data []byte) error {
	var list []string
	if json.Unmarshal(data, &list) == nil {
		*t = list
		return nil
	}
	var one string
	if json.Unmarshal(data, &one) == nil {
		*t = texts{one}
	}
	return nil
}

// statement is a statement of a policy.
type statement struct {
	Effect           string
	Action, Resource texts
}

// statements is a list of statements, or one.
type statements []statement

func (s *statements) UnmarshalJSON(data []byte) error {
	var list []statement
	if json.Unmarshal(data, &list) == nil {
		*s = list
		return nil
	}
	var one statement
	if json.Unmarshal(data, &one) == nil {
		*s = statements{one}
	}
	return nil
}

// roleAliasCharacters are the allowed characters of role alias names.
// https://docs.aws.amazon.com/iot/latest/apireference/API_DescribeRoleAlias.html
const roleAliasCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789=,@-_"

// roleAliases returns the role aliases that a policy allows by name. A wildcard names none: such a
// device may use any alias.
func roleAliases(document string) []string {
	var policy struct{ Statement statements }
	if json.Unmarshal([]byte(document), &policy) != nil {
		return nil
	}
	var all []string
	for _, s := range policy.Statement {
		allows := slices.ContainsFunc(s.Action, func(a string) bool {
			return a == "*" || strings.EqualFold(a, "iot:*") || strings.EqualFold(a, "iot:AssumeRoleWithCertificate")
		})
		if s.Effect != "Allow" || !allows {
			continue
		}
		for _, resource := range s.Resource {
			_, alias, found := strings.Cut(resource, ":rolealias/")
			if found && alias != "" && len(alias) <= 128 && strings.Trim(alias, roleAliasCharacters) == "" && !slices.Contains(all, alias) {
				all = append(all, alias)
			}
		}
	}
	return all
}

// Device returns a device as a resource of a finding.
func Device(home Home, d incident.Entity) asff.Resource {
	r := asff.Resource{Type: "Other", ID: d.Name, Partition: home.Partition, Region: d.Region}
	where := Home{home.Partition, d.Account, d.Region}
	switch d.Kind {
	case correlation.Thing:
		r.Type, r.Details = thingType, &asff.ResourceDetails{Other: map[string]string{"ThingArn": where.arn("thing/" + d.Name)}}
	case correlation.Client:
		r.Details = &asff.ResourceDetails{Other: map[string]string{"ClientId": d.Name}}
	case correlation.Campaign:
		r.Type, r.ID = "AwsAccount", "AWS::::Account:"+d.Account
	}
	return r
}

// Aliases returns a device as resources of a finding: the device, then its client ID, its
// certificates, the resources that its attributes name, and uses. A device that is not a thing of
// this account and Region has no aliases.
func (r *Resolver) Aliases(ctx context.Context, home Home, d incident.Entity, uses []string, now time.Time) ([]asff.Resource, error) {
	resource := func(kind, id string, details map[string]string) asff.Resource {
		r := asff.Resource{Type: kind, ID: id, Partition: home.Partition, Region: d.Region}
		if len(details) > 0 {
			r.Details = &asff.ResourceDetails{Other: details}
		}
		return r
	}
	all := []asff.Resource{Device(home, d)}
	if d.Kind != correlation.Thing || d.Account != home.Account || d.Region != home.Region {
		return all, nil
	}
	t, err := r.describe(ctx, d.Name, now)
	if err != nil {
		return nil, err
	}
	if t.clientID != "" && t.clientID != d.Name {
		all = append(all, resource("Other", t.clientID, map[string]string{"ClientId": t.clientID}))
	}
	for _, p := range t.principals {
		if _, id, ok := strings.Cut(p, ":cert/"); ok {
			all = append(all, resource("Other", id, map[string]string{"ResourceType": "DEVICE_CERTIFICATE", "DeviceCertificateId": id}))
		}
	}
	for _, attribute := range r.config.Attributes {
		if value := t.attributes[attribute]; value != "" {
			all = append(all, resource("Other", value, map[string]string{"ThingAttribute": attribute}))
		}
	}
	for _, u := range uses {
		kind, name, _ := strings.Cut(u, "/")
		switch kind + "/" {
		case policyKind:
			all = append(all, resource(policyType, name, nil))
		case aliasKind:
			all = append(all, resource("Other", home.arn("rolealias/"+name), map[string]string{"ResourceType": "ROLE_ALIAS", "RoleAliasArn": home.arn("rolealias/" + name)}))
		case roleKind:
			all = append(all, resource("AwsIamRole", name, nil))
		}
	}
	return all, nil
}
