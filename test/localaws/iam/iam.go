// Package iam enforces the policies of roles on what functions, and services such as the
// rules of AWS IoT, do in them, and those of queues, topics and their KMS keys on what
// services send. It works out which action on which resource a request is, as AWS's Service
// Authorization Reference has it, and refuses what no policy allows, in the words of AWS.
// Requests with other credentials than those of functions are not judged: users may do all.
//
// Not judged are the policies of other resources, keys of those, and grants of keys.
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

// Enforcer judges what is done in roles.
type Enforcer struct {
	// Account and Region are where everything is.
	Account, Region string
	Roles           *Roles
	Resources       *Resources
	// Denied receives each denial once.
	Denied func(error)

	mu       sync.Mutex
	sessions map[string]Session // by access key
	denials  []string
}

// Session is a role in somebody's hands.
type Session struct {
	Role string // its ARN
	Name string // of a function: the function's
}

// DeniedError is a request that the role, or the service, may not make.
type DeniedError struct {
	Principal        string // the ARN of the session, or of that for which the service asks
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

// of is the refusal that a policy's answer is, nil for none.
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

// Assume is how a service assumes a role for a resource of this account, "" for one that
// AWS does not say to name its resource.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html
func (e *Enforcer) Assume(ctx context.Context, service, sourceARN, roleARN, session string) (Session, error) {
	r, err := e.Roles.find(ctx, roleARN)
	if err != nil && ctx.Err() == nil { // a role that cannot be read allows nothing
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

// Issue makes credentials by which requests are known as the session's.
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

// Allow is nil when the session may carry out the actions on a resource, which is * for
// actions that take none, or else an error for the first that it may not: a [*DeniedError]
// or what is not known here. It remembers that.
func (e *Enforcer) Allow(ctx context.Context, s Session, resource string, actions ...string) error {
	err := e.Check(ctx, s, resource, actions...)
	if err != nil && ctx.Err() == nil {
		return e.deny(err)
	}
	return err
}

// Check is [Enforcer.Allow] for what is tried again: it remembers no denial.
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

// allow asks the policies of the role and, where it has one, of the resource, and those of
// the key that encrypts it.
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
		return nil // for everybody in the account, by way of the service
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

// permitted asks the policies of a resource and of the role. In one account either may
// allow, but for a key, whose policy must allow or leave it to the account.
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
	if err == nil && r.boundary != nil { // which always must allow
		err = ask("a", "permissions boundary", r.boundary, false)
	}
	return err
}

// keys are the condition keys that every request has.
func (e *Enforcer) keys() policy.Values {
	// Nothing here is encrypted on its way; what runs on AWS is.
	return policy.Values{keyRequestedRegion: {e.Region}, keySecureTransport: {"true"}}
}

func (e *Enforcer) principal(r *role, s Session) string {
	return fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", cloudformation.Partition(e.Region), e.Account, r.name, s.Name)
}

func (e *Enforcer) arn(service, resource string) string {
	return cloudformation.Request{AccountID: e.Account, Region: e.Region}.ARN(service, resource)
}

// deny remembers a denial.
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

// Denials are the different denials so far.
func (e *Enforcer) Denials() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.denials)
}

// Polling are the actions that Lambda performs in a function's role to feed it from a queue
// or a stream.
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
