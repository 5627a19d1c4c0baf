package iam

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
)

// Roles are the roles of the account as the emulator keeps them. They are read again only
// after Changed.
type Roles struct {
	// API is the emulator itself.
	API awsapi.Client
	// Managed are the managed policies that a stack names in a role of this name: the
	// emulator attaches none of them.
	Managed func(role string) []string
	cache[role]
}

// role is a role with all that its policies say.
type role struct {
	name, arn string
	trust     document
	policies  []document
	boundary  []document // empty without one
}

// find is the role with the ARN, nil when there is none.
func (r *Roles) find(ctx context.Context, arn string) (*role, error) {
	return r.get(arn, func() (*role, error) {
		name := arn[strings.LastIndex(arn, "/")+1:]
		found, err := r.read(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("read role %s: %w", name, err)
		}
		if found == nil || found.arn != arn {
			return nil, nil
		}
		return found, nil
	})
}

// query calls IAM for a role or a policy.
func (r *Roles) query(ctx context.Context, out any, action string, parameters ...string) error {
	form := url.Values{}
	for pair := range slices.Chunk(parameters, 2) {
		form.Set(pair[0], pair[1])
	}
	return r.API.Query(ctx, "iam", "2010-05-08", action, form, out)
}

func (r *Roles) read(ctx context.Context, name string) (*role, error) {
	var described struct {
		ARN      string `xml:"GetRoleResult>Role>Arn"`
		Trust    string `xml:"GetRoleResult>Role>AssumeRolePolicyDocument"`
		Boundary string `xml:"GetRoleResult>Role>PermissionsBoundary>PermissionsBoundaryArn"`
	}
	err := r.query(ctx, &described, "GetRole", "RoleName", name)
	if awsapi.HasCode(err, "NoSuchEntity") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	made := &role{name: name, arn: described.ARN}
	if made.trust, err = encoded(described.Trust); err != nil {
		return nil, err
	}
	var inline struct {
		Names []string `xml:"ListRolePoliciesResult>PolicyNames>member"`
	}
	var attached struct {
		ARNs []string `xml:"ListAttachedRolePoliciesResult>AttachedPolicies>member>PolicyArn"`
	}
	if err := r.query(ctx, &inline, "ListRolePolicies", "RoleName", name); err != nil {
		return nil, err
	}
	if err := r.query(ctx, &attached, "ListAttachedRolePolicies", "RoleName", name); err != nil {
		return nil, err
	}
	for _, one := range inline.Names {
		parsed, err := r.document(ctx, "GetRolePolicy", "RoleName", name, "PolicyName", one)
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", one, err)
		}
		made.policies = append(made.policies, parsed)
	}
	for _, arn := range append(r.Managed(name), attached.ARNs...) {
		parsed, err := r.managed(ctx, arn)
		if err != nil {
			return nil, err
		}
		made.policies = append(made.policies, parsed)
	}
	if described.Boundary != "" {
		parsed, err := r.managed(ctx, described.Boundary)
		if err != nil {
			return nil, err
		}
		made.boundary = []document{parsed}
	}
	return made, nil
}

// managed reads the default version of a managed policy.
func (r *Roles) managed(ctx context.Context, arn string) (parsed document, err error) {
	var described struct {
		Version string `xml:"GetPolicyResult>Policy>DefaultVersionId"`
	}
	if err = r.query(ctx, &described, "GetPolicy", "PolicyArn", arn); err == nil {
		parsed, err = r.document(ctx, "GetPolicyVersion", "PolicyArn", arn, "VersionId", described.Version)
	}
	if err != nil {
		return document{}, fmt.Errorf("managed policy %s: %w", arn, err)
	}
	return parsed, nil
}

// document is the one that an action answers.
func (r *Roles) document(ctx context.Context, action string, parameters ...string) (document, error) {
	var out struct {
		Inline  string `xml:"GetRolePolicyResult>PolicyDocument"`
		Managed string `xml:"GetPolicyVersionResult>PolicyVersion>Document"`
	}
	if err := r.query(ctx, &out, action, parameters...); err != nil {
		return document{}, err
	}
	return encoded(out.Inline + out.Managed)
}

// encoded reads a document as IAM answers it: URL-encoded.
func encoded(text string) (document, error) {
	decoded, err := url.PathUnescape(text)
	if err != nil {
		return document{}, fmt.Errorf("policy document: %w", err)
	}
	return parseDocument(decoded)
}
