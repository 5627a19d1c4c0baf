package iam

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore/policy"
)

// cache caches values from the emulator.
type cache[V any] struct {
	mu    sync.Mutex
	known map[string]*V
}

// Changed empties the cache, because roles or policies may have changed.
func (c *cache[V]) Changed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = nil
}

// get returns the cached value of a name, or reads it. It does not cache that a value is missing.
func (c *cache[V]) get(name string, read func() (*V, error)) (*V, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found, ok := c.known[name]; ok {
		return found, nil
	}
	found, err := read()
	if err != nil || found == nil {
		return nil, err
	}
	if c.known == nil {
		c.known = map[string]*V{}
	}
	c.known[name] = found
	return found, nil
}

// Resources are the policies of queues, topics, functions and KMS keys in the emulator, cached until
// Changed is called.
type Resources struct {
	// API is the emulator itself.
	API awsapi.Client
	cache[guarded]
}

// guarded is a queue, a topic, a function, or a customer-managed key.
type guarded struct {
	arn    string
	policy document
	key    string // the ID, ARN or alias of the KMS key that encrypts it, or ""
}

// find returns the queue, topic or function with an ARN. It returns nil if there is none, and for
// other resources, whose policies are not evaluated.
func (r *Resources) find(ctx context.Context, arn string) (*guarded, error) {
	return r.get(arn, func() (found *guarded, err error) {
		var attributes map[string]string
		switch parts := strings.Split(arn+":::::", ":"); parts[2] {
		case "sqs":
			attributes, err = r.queue(ctx, r.API.Endpoint+"/"+parts[4]+"/"+parts[5])
		case "sns":
			attributes, err = r.topic(ctx, arn)
		case "lambda":
			attributes, err = r.function(ctx, arn)
		}
		if err == nil && attributes != nil {
			found = &guarded{arn: arn, key: attributes["KmsMasterKeyId"]}
			if text := attributes["Policy"]; text != "" {
				found.policy, err = parseDocument(text)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("read the policy of %s: %w", arn, err)
		}
		return found, nil
	})
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

// function returns the policy of a function. If it has none, nobody may invoke it.
func (r *Resources) function(ctx context.Context, arn string) (map[string]string, error) {
	var out struct{ Policy string }
	err := r.API.REST(ctx, "lambda", http.MethodGet, "/2015-03-31/functions/"+arn[strings.LastIndex(arn, ":")+1:]+"/policy", nil, &out)
	if awsapi.HasCode(err, "ResourceNotFoundException") {
		err = nil
	}
	return map[string]string{"Policy": out.Policy}, err
}

// findKey returns the key with an ID, ARN or alias.
func (r *Resources) findKey(ctx context.Context, name string) (*guarded, error) {
	return r.get(name, func() (*guarded, error) {
		var described struct{ KeyMetadata struct{ Arn string } }
		var out struct{ Policy string }
		err := r.API.Target(ctx, "kms", "TrentService.DescribeKey", map[string]string{"KeyId": name}, &described)
		if err == nil {
			err = r.API.Target(ctx, "kms", "TrentService.GetKeyPolicy", map[string]string{"KeyId": described.KeyMetadata.Arn, "PolicyName": "default"}, &out)
		}
		var parsed document
		if err == nil {
			parsed, err = parseDocument(out.Policy)
		}
		if err != nil {
			return nil, fmt.Errorf("read the policy of key %s: %w", name, err)
		}
		return &guarded{arn: described.KeyMetadata.Arn, policy: parsed}, nil
	})
}

// caller is the service or the role that requests a resource.
type caller struct {
	service string // "events.amazonaws.com"
	account string
	role    string // its ARN
	session string // the ARN of the session in it
}

// reach is how the Principal element of a statement matches a caller.
type reach int

const (
	stranger reach = iota
	member         // by its account, whose own policies must allow the request too
	meant          // by itself, or by *
)

// reaches returns how the Principal element matches a caller.
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

// allows evaluates the policy of a resource for a caller. delegated reports whether it delegates the
// decision to the account.
func allows(d document, c caller, action, resource string, keys policy.Values) (answer verdict, delegated bool, err error) {
	answer, err = decide([]document{d}, func(s statement) (bool, error) {
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

// encrypting are the actions on the KMS key of a queue or a topic that an action on it needs.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
// https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
var encrypting = map[string][]string{
	"sqs:SendMessage":    {"kms:GenerateDataKey", "kms:Decrypt"},
	"sqs:ReceiveMessage": {"kms:Decrypt"},
	"sns:Publish":        {"kms:GenerateDataKey", "kms:Decrypt"},
}

// Deliver returns nil if a service may perform an action on a queue, a topic or a function for its
// resource sourceARN. The policies of the target and of its key decide. For a target that does not
// exist it returns nil: the service itself reports that.
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
		// The default policy of SNS topics allows alarms by this key. EventBridge does not send it:
		// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-troubleshooting.html
		keys[keySourceOwner] = []string{e.Account}
	}
	ask := func(guard document, action, resource string, keys policy.Values) error {
		answer, _, err := allows(guard, by, action, resource, keys)
		if err == nil {
			refusal := &DeniedError{Principal: sourceARN, Service: service, Action: action, Resource: resource}
			err = refusal.of(answer, "a", "resource-based policy")
		} else {
			err = fmt.Errorf("policy of %s, asked for %s by %s: %w", resource, action, service, err)
		}
		if err != nil {
			return e.deny(err)
		}
		return nil
	}
	if err := ask(found.policy, action, resource, keys); err != nil || found.key == "" {
		return err
	}
	if strings.Contains(found.key, "alias/aws/") {
		because := fmt.Sprintf("because the policy of %s, which encrypts it and cannot be changed, does not let %s use the key", found.key, service)
		return e.deny(&DeniedError{sourceARN, service, action, resource, because})
	}
	k, err := e.Resources.findKey(ctx, found.key)
	if err != nil {
		return e.deny(err)
	}
	for _, use := range encrypting[action] {
		if err := ask(k.policy, use, k.arn, e.through(resource, keys)); err != nil {
			return err
		}
	}
	return nil
}

// through adds the condition keys of a service's use of a key for a queue or a topic.
func (e *Enforcer) through(resource string, keys policy.Values) policy.Values {
	more := maps.Clone(keys)
	more[keyViaService] = []string{strings.Split(resource, ":")[2] + "." + e.Region + ".amazonaws.com"}
	more[keyCallerAccount] = []string{e.Account}
	return more
}
