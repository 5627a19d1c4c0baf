// Package iam enforces IAM policies: those of roles on functions, and on services such as the rules of
// AWS IoT, and those of queues, topics and their KMS keys on services that send to them. It
// determines the action and resource of each request by AWS's Service Authorization Reference, and
// denies it in AWS's words if no policy allows it. Requests with other credentials than those of
// functions are allowed, because users may do everything.
//
// It does not evaluate policies and keys of other resources, or grants of keys.
package iam

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore/policy"
)

// Enforcer enforces IAM policies.
type Enforcer struct {
	// Account and Region are those of all resources.
	Account, Region string
	Roles           *Roles
	Resources       *Resources
	// Denied is called once with each denial.
	Denied func(error)

	mu       sync.Mutex
	sessions map[string]Session // by access key
	denials  []string
}

// Session is a session of a role.
type Session struct {
	Role string // its ARN
	Name string // for a function, its name
}

// DeniedError is the error for a request that policies deny.
type DeniedError struct {
	Principal        string // the ARN of the session, or of the resource that the service acts for
	Service          string // "" for a role
	Action, Resource string
	Because          string
}

func (e *DeniedError) Error() string {
	kind, through := "User", ""
	if e.Service != "" {
		kind, through = "Resource", " ("+e.Service+")"
	}
	return fmt.Sprintf("%s: %s%s is not authorized to perform: %s on resource: %s %s", kind, e.Principal, through, e.Action, e.Resource, e.Because)
}

// of returns the error for a verdict, or nil if that allows the request.
func (e *DeniedError) of(answer verdict, article, kind string) error {
	switch answer {
	case denied:
		e.Because = fmt.Sprintf("with an explicit deny in %s %s", article, kind)
		return e
	case notAllowed:
		e.Because = fmt.Sprintf("because no %s allows the %s action", kind, e.Action)
		return e
	}
	return nil
}

// Assume assumes a role for a service and its resource. sourceARN is "" for a service that does not
// send the ARN of its resource.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html
func (e *Enforcer) Assume(ctx context.Context, service, sourceARN, roleARN, session string) (Session, error) {
	r, err := e.Roles.find(ctx, roleARN)
	if err != nil && ctx.Err() == nil { // an unreadable role allows nothing
		err = e.deny(err)
	}
	if err != nil {
		return Session{}, err
	}
	keys := e.keys()
	keys[keySourceAccount], keys[keyIsService], keys[keyServiceName] = []string{e.Account}, []string{"true"}, []string{service}
	if sourceARN != "" {
		keys[keySourceARN] = []string{sourceARN}
	}
	answer := notAllowed
	if r != nil {
		answer, err = decide([]document{r.trust}, func(s statement) (bool, error) { return s.lets(service, keys) })
	}
	switch {
	case err != nil:
		return Session{}, e.deny(fmt.Errorf("trust policy of role %s: %w", r.name, err))
	case answer != allowed:
		return Session{}, e.deny(fmt.Errorf("%s is unable to assume role (sts:AssumeRole) on resource: %s, for %s", service, roleARN, session))
	}
	return Session{Role: roleARN, Name: session}, nil
}

// Issue returns credentials for a session.
func (e *Enforcer) Issue(s Session) aws.Credentials {
	key := "ASIA" + rand.Text()[:16] // the form of temporary keys
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sessions == nil {
		e.sessions = map[string]Session{}
	}
	e.sessions[key] = s
	return aws.Credentials{AccessKeyID: key, SecretAccessKey: "local", SessionToken: "local", Source: "local AWS"}
}

func (e *Enforcer) session(accessKey string) (Session, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, ok := e.sessions[accessKey]
	return s, ok
}

// Allow returns nil if the session may perform the actions on a resource, which is * for actions
// without resources. Otherwise it returns an error for the first denied action, a [*DeniedError],
// or for a policy that is not supported. It records the error as a denial.
func (e *Enforcer) Allow(ctx context.Context, s Session, resource string, actions ...string) error {
	err := e.Check(ctx, s, resource, actions...)
	if err != nil && ctx.Err() == nil {
		return e.deny(err)
	}
	return err
}

// Check is [Enforcer.Allow] for a request that is retried: it does not record denials.
func (e *Enforcer) Check(ctx context.Context, s Session, resource string, actions ...string) error {
	r, err := e.Roles.find(ctx, s.Role)
	if err != nil {
		return err
	}
	if r == nil {
		return fmt.Errorf("the role %s does not exist", s.Role)
	}
	for _, action := range actions {
		if err := e.allow(ctx, r, s, action, resource); err != nil {
			return err
		}
	}
	return nil
}

// allow evaluates the policies of the role, of the resource, and of the key that encrypts the
// resource.
func (e *Enforcer) allow(ctx context.Context, r *role, s Session, action, resource string) error {
	keys := e.keys()
	keys[keyPrincipalAccount], keys[keyPrincipalARN], keys[keyIsService] = []string{e.Account}, []string{r.arn}, []string{"false"}
	found, err := e.Resources.find(ctx, resource)
	if err != nil {
		return err
	}
	if found == nil {
		found = &guarded{}
	}
	by := caller{account: e.Account, role: r.arn, session: e.principal(r, s)}
	if err := e.permitted(r, by, found.policy, true, action, resource, keys); err != nil || found.key == "" {
		return err
	}
	if strings.Contains(found.key, "alias/aws/") {
		return nil // everybody in the account may use it through the service
	}
	k, err := e.Resources.findKey(ctx, found.key)
	if err != nil {
		return err
	}
	for _, use := range encrypting[action] {
		if err := e.permitted(r, by, k.policy, false, use, k.arn, e.through(resource, keys)); err != nil {
			return err
		}
	}
	return nil
}

// permitted evaluates the policies of a resource and of the role. In one account, either may allow a
// request. For a key, its policy must allow the request, or delegate to the account.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic_policy-eval-basics-id-rdp.html
func (e *Enforcer) permitted(r *role, by caller, guard document, either bool, action, resource string, keys policy.Values) error {
	answer, delegated, err := allows(guard, by, action, resource, keys)
	if err != nil {
		return fmt.Errorf("policy of %s, asked for %s: %w", resource, action, err)
	}
	refusal := &DeniedError{Principal: by.session, Action: action, Resource: resource}
	if answer == denied || answer == notAllowed && !delegated && !either {
		return refusal.of(answer, "a", "resource-based policy")
	}
	ask := func(article, kind string, documents []document, enough bool) error {
		answer, err := decide(documents, func(s statement) (bool, error) { return s.on(action, resource, keys) })
		switch {
		case err != nil:
			return fmt.Errorf("policies of role %s, asked for %s on %s: %w", r.name, action, resource, err)
		case answer == notAllowed && enough:
			return nil
		}
		return refusal.of(answer, article, kind)
	}
	err = ask("an", "identity-based policy", r.policies, answer == allowed)
	if err == nil && r.boundary != nil { // it must always allow the request
		err = ask("a", "permissions boundary", r.boundary, false)
	}
	return err
}

// keys returns the condition keys that every request has.
func (e *Enforcer) keys() policy.Values {
	// Requests are not encrypted here, but they are on AWS.
	return policy.Values{keyRequestedRegion: {e.Region}, keySecureTransport: {"true"}}
}

func (e *Enforcer) principal(r *role, s Session) string {
	return fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", cloudformation.Partition(e.Region), e.Account, r.name, s.Name)
}

func (e *Enforcer) arn(service, resource string) string {
	return cloudformation.Request{AccountID: e.Account, Region: e.Region}.ARN(service, resource)
}

// deny records a denial.
func (e *Enforcer) deny(err error) error {
	e.mu.Lock()
	first := !slices.Contains(e.denials, err.Error())
	if first {
		e.denials = append(e.denials, err.Error())
	}
	e.mu.Unlock()
	if first && e.Denied != nil {
		e.Denied(err)
	}
	return err
}

// Denials returns the distinct denials so far.
func (e *Enforcer) Denials() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.denials)
}

// Polling returns the actions that Lambda performs in a function's role to read a queue or a stream.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
// https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-create.html
func Polling(sourceARN string) []string {
	if strings.Contains(sourceARN, ":kinesis:") {
		return []string{
			"kinesis:DescribeStream", "kinesis:DescribeStreamSummary", "kinesis:GetRecords", "kinesis:GetShardIterator",
			"kinesis:ListShards", "kinesis:SubscribeToShard",
		}
	}
	return []string{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
}
