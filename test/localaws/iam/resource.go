package iam

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore/policy"
)

// Resources are the policies of queues, topics and KMS keys as the emulator keeps them. They
// are read again only after Changed.
type Resources struct {
	// API is the emulator itself.
	API awsapi.Client

	mu    sync.Mutex
	known map[string]*guarded // by ARN
	keys  map[string]*key     // by whatever names it
}

// guarded is a queue or a topic.
type guarded struct {
	policy []document
	key    string // names the KMS key that encrypts it, "" for none of KMS
}

// key is a customer-managed key.
type key struct {
	arn    string
	policy []document
}

// Changed says that policies may have changed.
func (r *Resources) Changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known, r.keys = nil, nil
}

// find is the queue or topic with the ARN; nil where there is none, or something else, whose
// policies are not judged.
func (r *Resources) find(ctx context.Context, arn string) (*guarded, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if found, ok := r.known[arn]; ok {
		return found, nil
	}
	var attributes map[string]string
	var err error
	switch parts := strings.Split(arn+":::::", ":"); parts[2] {
	case "sqs":
		attributes, err = r.queue(ctx, r.API.Endpoint+"/"+parts[4]+"/"+parts[5])
	case "sns":
		attributes, err = r.topic(ctx, arn)
	}
	if err != nil {
		return nil, fmt.Errorf("read the policy of %s: %w", arn, err)
	}
	if attributes == nil {
		return nil, nil
	}
	found := &guarded{key: attributes["KmsMasterKeyId"]}
	if text := attributes["Policy"]; text != "" {
		parsed, err := parseDocument(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", arn, err)
		}
		found.policy = []document{parsed}
	}
	if r.known == nil {
		r.known = map[string]*guarded{}
	}
	r.known[arn] = found
	return found, nil
}

func (r *Resources) queue(ctx context.Context, url string) (map[string]string, error) {
	var out struct{ Attributes map[string]string }
	err := r.API.Target(ctx, "sqs", "AmazonSQS.GetQueueAttributes", map[string]any{"QueueUrl": url, "AttributeNames": []string{"All"}}, &out)
	if awsapi.HasCode(err, "AWS.SimpleQueueService.NonExistentQueue") || awsapi.HasCode(err, "QueueDoesNotExist") {
		return nil, nil
	}
	return out.Attributes, err
}

func (r *Resources) topic(ctx context.Context, arn string) (map[string]string, error) {
	var out struct {
		Entries []struct {
			Key   string `xml:"key"`
			Value string `xml:"value"`
		} `xml:"GetTopicAttributesResult>Attributes>entry"`
	}
	err := r.API.Query(ctx, "sns", "2010-03-31", "GetTopicAttributes", map[string][]string{"TopicArn": {arn}}, &out)
	if awsapi.HasCode(err, "NotFound") {
		return nil, nil
	}
	attributes := map[string]string{}
	for _, e := range out.Entries {
		attributes[e.Key] = e.Value
	}
	return attributes, err
}

// findKey is the key with an id, ARN or alias.
func (r *Resources) findKey(ctx context.Context, name string) (*key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if found, ok := r.keys[name]; ok {
		return found, nil
	}
	var described struct {
		KeyMetadata struct {
			ARN string `json:"Arn"`
		}
	}
	var out struct{ Policy string }
	err := r.API.Target(ctx, "kms", "TrentService.DescribeKey", map[string]string{"KeyId": name}, &described)
	if err == nil {
		err = r.API.Target(ctx, "kms", "TrentService.GetKeyPolicy", map[string]string{"KeyId": described.KeyMetadata.ARN, "PolicyName": "default"}, &out)
	}
	if err != nil {
		return nil, fmt.Errorf("read the policy of key %s: %w", name, err)
	}
	parsed, err := parseDocument(out.Policy)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	found := &key{arn: described.KeyMetadata.ARN, policy: []document{parsed}}
	if r.keys == nil {
		r.keys = map[string]*key{}
	}
	r.keys[name] = found
	return found, nil
}

// caller is who asks for a resource that has a policy: a service, or a role.
type caller struct {
	service string // "events.amazonaws.com"
	account string
	role    string // its ARN
	session string // the ARN of the session in it
}

// reach is how far the Principal element of a statement takes in a caller.
type reach int

const (
	stranger reach = iota
	member         // as one of an account, to whom the account's own policies must give what it allows
	meant          // by itself, or as everybody
)

// reaches reads the Principal element.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
func (s statement) reaches(c caller) (reach, error) {
	if len(s.NotPrincipal) > 0 {
		return stranger, &policy.UnsupportedError{Element: "policy element", Name: "NotPrincipal"}
	}
	if bytes.Equal(bytes.TrimSpace(s.Principal), []byte(`"*"`)) {
		return meant, nil
	}
	var principal struct{ AWS, Service policy.OneOrMore }
	if err := json.Unmarshal(s.Principal, &principal); err != nil {
		return stranger, fmt.Errorf("Principal %s: %w", s.Principal, err) //nolint:staticcheck // an element's name
	}
	switch {
	case slices.Contains(principal.AWS, "*"):
		return meant, nil
	case c.service != "":
		if slices.Contains(principal.Service, c.service) {
			return meant, nil
		}
		return stranger, nil
	case slices.Contains(principal.AWS, c.role), slices.Contains(principal.AWS, c.session):
		return meant, nil
	case slices.ContainsFunc(principal.AWS, func(p string) bool {
		return p == c.account || strings.HasSuffix(p, ":iam::"+c.account+":root")
	}):
		return member, nil
	}
	return stranger, nil
}

// allows is what a resource's policy says of a caller. Where it allows the account to allow,
// delegated is true.
func allows(documents []document, c caller, action, resource string, keys policy.Values) (answer verdict, delegated bool, err error) {
	answer, err = decide(documents, func(s statement) (bool, error) {
		to, err := s.reaches(c)
		if err != nil || to == stranger {
			return false, err
		}
		applies, err := s.on(action, resource, keys)
		if err != nil || !applies {
			return false, err
		}
		if s.Effect == policy.Allow && to == member {
			delegated = true
			return false, nil
		}
		return true, nil
	})
	return answer, delegated, err
}

// encrypting are the actions on the KMS key of a queue or a topic that its own actions take.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
// https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
var encrypting = map[string][]string{
	"sqs:SendMessage":    {"kms:GenerateDataKey", "kms:Decrypt"},
	"sqs:ReceiveMessage": {"kms:Decrypt"},
	"sns:Publish":        {"kms:GenerateDataKey", "kms:Decrypt"},
}

// Deliver is nil when a service may do something to a queue or a topic for a resource of
// this account, by the policies of that and of the key that encrypts it; what is neither
// exists for others to miss.
func (e *Enforcer) Deliver(ctx context.Context, service, sourceARN, resource, action string) error {
	found, err := e.Resources.find(ctx, resource)
	if err != nil {
		return e.deny(err)
	}
	if found == nil {
		return nil
	}
	by := caller{service: service, account: e.Account}
	keys := e.keys()
	keys[keySourceAccount], keys[keySourceARN] = []string{e.Account}, []string{sourceARN}
	keys[keyIsService], keys[keyServiceName] = []string{"true"}, []string{service}
	if service == "cloudwatch.amazonaws.com" {
		// By it the policy that Amazon SNS gives each topic takes alarms in. EventBridge does not have it:
		// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-troubleshooting.html
		keys[keySourceOwner] = []string{e.Account}
	}
	answer, _, err := allows(found.policy, by, action, resource, keys)
	if err != nil {
		return e.deny(fmt.Errorf("policy of %s, asked for %s by %s: %w", resource, action, service, err))
	}
	refusal := &DeniedError{Principal: sourceARN, Service: service, Action: action, Resource: resource}
	if err := refusal.of(answer, "a", "resource-based policy"); err != nil {
		return e.deny(err)
	}
	if found.key == "" {
		return nil
	}
	if strings.Contains(found.key, "alias/aws/") {
		refusal.Because = fmt.Sprintf("because the policy of %s, which encrypts it and cannot be changed, does not let %s use the key", found.key, service)
		return e.deny(refusal)
	}
	k, err := e.Resources.findKey(ctx, found.key)
	if err != nil {
		return e.deny(err)
	}
	for _, use := range encrypting[action] {
		answer, _, err := allows(k.policy, by, use, k.arn, e.through(resource, keys))
		if err != nil {
			return e.deny(fmt.Errorf("policy of key %s, asked for %s by %s: %w", k.arn, use, service, err))
		}
		refusal := &DeniedError{Principal: sourceARN, Service: service, Action: use, Resource: k.arn}
		if err := refusal.of(answer, "a", "resource-based policy"); err != nil {
			return e.deny(err)
		}
	}
	return nil
}

// through adds to the condition keys those that a use of a key by a service for a queue or
// a topic has.
func (e *Enforcer) through(resource string, keys policy.Values) policy.Values {
	more := policy.Values{keyViaService: {strings.Split(resource, ":")[2] + "." + e.Region + ".amazonaws.com"}, keyCallerAccount: {e.Account}}
	for k, v := range keys {
		more[k] = v
	}
	return more
}

// allowKey is nil when a role may use the key of a queue or a topic for an action on that.
func (e *Enforcer) allowKey(ctx context.Context, r *role, by caller, name, action, resource string, keys policy.Values) error {
	if strings.Contains(name, "alias/aws/") {
		return nil // for everybody in the account, by way of the service
	}
	k, err := e.Resources.findKey(ctx, name)
	if err != nil {
		return err
	}
	keys = e.through(resource, keys)
	for _, use := range encrypting[action] {
		answer, delegated, err := allows(k.policy, by, use, k.arn, keys)
		if err != nil {
			return fmt.Errorf("policy of key %s, asked for %s: %w", k.arn, use, err)
		}
		refusal := &DeniedError{Principal: by.session, Action: use, Resource: k.arn}
		if answer == denied || answer == notAllowed && !delegated {
			return refusal.of(answer, "a", "resource-based policy")
		}
		if err := e.identity(r, refusal, answer == allowed, keys); err != nil {
			return err
		}
		e.use(Use{r.name, use, k.arn})
	}
	return nil
}
