package providers

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

const snsVersion = "2010-03-31"

// Delivered reports whether the emulator delivers to subscriptions of a protocol.
func Delivered(protocol string) bool {
	return slices.Contains([]string{"sqs", "http", "https"}, protocol)
}

func (a Account) messaging() map[string]cloudformation.Declared {
	return map[string]cloudformation.Declared{
		"AWS::SNS::Subscription": {
			Make: a.subscribe,
			Remove: func(ctx context.Context, r cloudformation.Request) error {
				return a.API.Query(ctx, "sns", snsVersion, "Unsubscribe", url.Values{"SubscriptionArn": {r.PhysicalResourceID}}, nil)
			},
		},
		"AWS::SNS::TopicPolicy": policyOn("Topics", func(ctx context.Context, topic, policy string) error {
			if policy == "" { // Amazon SNS has no topic without a policy
				policy = fmt.Sprintf(defaultTopicPolicy, topic, strings.Split(topic, ":")[4])
			}
			return a.API.Query(ctx, "sns", snsVersion, "SetTopicAttributes", url.Values{
				"TopicArn": {topic}, "AttributeName": {"Policy"}, "AttributeValue": {policy},
			}, nil)
		}),
		"AWS::SQS::QueuePolicy": policyOn("Queues", func(ctx context.Context, queue, policy string) error {
			return a.API.Target(ctx, "sqs", "AmazonSQS.SetQueueAttributes", map[string]any{
				"QueueUrl": queue, "Attributes": map[string]string{"Policy": policy},
			}, nil)
		}),
		"AWS::S3::BucketPolicy": {Make: keepBucketPolicy, Change: keepBucketPolicy},
	}
}

func (a Account) subscribe(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	protocol, endpoint := text(r, "Protocol"), text(r, "Endpoint")
	if endpoint == "" {
		return cloudformation.Resource{}, fmt.Errorf("Invalid parameter: Endpoint (Service: Sns, Status Code: 400)") //nolint:staticcheck // AWS's words
	}
	form := url.Values{"TopicArn": {text(r, "TopicArn")}, "Protocol": {protocol}, "Endpoint": {endpoint}, "ReturnSubscriptionArn": {"true"}}
	n := 0
	for _, attribute := range []string{"FilterPolicy", "FilterPolicyScope", "RawMessageDelivery", "RedrivePolicy", "DeliveryPolicy", "ReplayPolicy", "SubscriptionRoleArn"} {
		value, there := r.ResourceProperties[attribute]
		if !there {
			continue
		}
		s, scalar := schema.String(value)
		if !scalar {
			encoded, err := json.Marshal(value)
			if err != nil {
				return cloudformation.Resource{}, err
			}
			s = string(encoded)
		}
		n++
		form.Set("Attributes.entry."+strconv.Itoa(n)+".key", attribute)
		form.Set("Attributes.entry."+strconv.Itoa(n)+".value", s)
	}
	var answer struct {
		XMLName xml.Name `xml:"SubscribeResponse"`
		ARN     string   `xml:"SubscribeResult>SubscriptionArn"`
	}
	if err := a.Emulator.Query(ctx, "sns", snsVersion, "Subscribe", form, &answer); err != nil {
		return cloudformation.Resource{}, err
	}
	made := cloudformation.Resource{PhysicalID: answer.ARN, Attributes: map[string]any{"Arn": answer.ARN}}
	if !Delivered(protocol) {
		made.Inert = "delivers to no endpoint of protocol " + protocol
	}
	return made, nil
}

// policyOn returns the provider of a type that sets one policy for each target in a list.
func policyOn(targets string, put func(ctx context.Context, target, policy string) error) cloudformation.Declared {
	on := func(properties map[string]any) []any {
		list, _ := properties[targets].([]any) // of strings, which the schema has validated
		return list
	}
	take := func(ctx context.Context, from, but []any) error {
		for _, t := range from {
			if slices.Contains(but, t) {
				continue
			}
			err := put(ctx, t.(string), "")
			if err != nil && !awsapi.HasCode(err, "QueueDoesNotExist") && !awsapi.HasCode(err, "NotFound") {
				return err
			}
		}
		return nil
	}
	apply := func(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
		policy, err := json.Marshal(r.ResourceProperties["PolicyDocument"])
		if err != nil {
			return cloudformation.Resource{}, err
		}
		for _, t := range on(r.ResourceProperties) {
			if err := put(ctx, t.(string), string(policy)); err != nil {
				return cloudformation.Resource{}, err
			}
		}
		if err := take(ctx, on(r.OldResourceProperties), on(r.ResourceProperties)); err != nil {
			return cloudformation.Resource{}, err
		}
		id := r.PhysicalResourceID
		return kept(id, map[string]any{"Id": id}, ""), nil
	}
	return cloudformation.Declared{
		Make: apply, Change: apply,
		Remove: func(ctx context.Context, r cloudformation.Request) error {
			return take(ctx, on(r.ResourceProperties), nil)
		},
	}
}

// defaultTopicPolicy is the policy of a topic without a policy of its own.
// https://docs.aws.amazon.com/sns/latest/dg/sns-access-policy-use-cases.html
const defaultTopicPolicy = `{"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [{
	"Sid": "__default_statement_ID", "Effect": "Allow", "Principal": {"AWS": "*"},
	"Action": ["SNS:GetTopicAttributes", "SNS:SetTopicAttributes", "SNS:AddPermission", "SNS:RemovePermission", "SNS:DeleteTopic",
		"SNS:Subscribe", "SNS:ListSubscriptionsByTopic", "SNS:Publish"],
	"Resource": %q, "Condition": {"StringEquals": {"AWS:SourceOwner": %q}}}]}`

// keepBucketPolicy does not send the policy to the emulator, which ignores conditions: the usual
// statement that denies plain HTTP would deny everything.
func keepBucketPolicy(_ context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	return kept(text(r, "Bucket"), nil, "not enforced"), nil
}

// lowerCamel converts the keys of CloudFormation properties to lower camel case, for APIs. The values
// of keys in free are the user's, and stay as they are.
func lowerCamel(value any, free ...string) any {
	switch v := value.(type) {
	case map[string]any:
		renamed := make(map[string]any, len(v))
		for key, inner := range v {
			if !slices.Contains(free, key) {
				inner = lowerCamel(inner, free...)
			}
			renamed[strings.ToLower(key[:1])+key[1:]] = inner
		}
		return renamed
	case []any:
		list := make([]any, len(v))
		for i, inner := range v {
			list[i] = lowerCamel(inner, free...)
		}
		return list
	}
	return value
}

const (
	kinesisStream = "AWS::Kinesis::Stream"
	kinesisTarget = "Kinesis_20131202."
	onDemand      = "ON_DEMAND"
	// shortestRetention is the default and minimum retention in hours.
	shortestRetention = 24
)

func (a Account) kinesis() map[string]cloudformation.Declared {
	return map[string]cloudformation.Declared{
		kinesisStream: {
			Make: a.createStream,
			Remove: func(ctx context.Context, r cloudformation.Request) error {
				return a.API.Target(ctx, "kinesis", kinesisTarget+"DeleteStream", map[string]any{"StreamName": r.PhysicalResourceID}, nil)
			},
		},
	}
}

// createStream creates a stream with its mode and encryption, which the emulator ignores in templates.
func (a Account) createStream(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	p := r.ResourceProperties
	name := named(r, "Name", 128)
	if err := a.unique(r, name); err != nil {
		return cloudformation.Resource{}, err
	}
	type object = map[string]any
	create := object{"StreamName": name, "StreamModeDetails": object{"StreamMode": "PROVISIONED"}, "ShardCount": 1}
	if mode, ok := p["StreamModeDetails"]; ok {
		create["StreamModeDetails"] = mode
		if mode.(object)["StreamMode"] == onDemand { // the schema has validated it
			delete(create, "ShardCount")
		}
	}
	if count, ok := schema.Float(p["ShardCount"]); ok && create["ShardCount"] != nil {
		create["ShardCount"] = int(count)
	}
	type call struct {
		operation string
		input     object
	}
	calls := []call{{"CreateStream", create}}
	if hours, ok := schema.Float(p["RetentionPeriodHours"]); ok && hours > shortestRetention {
		calls = append(calls, call{"IncreaseStreamRetentionPeriod", object{"StreamName": name, "RetentionPeriodHours": int(hours)}})
	}
	if encryption, ok := p["StreamEncryption"].(object); ok {
		calls = append(calls, call{"StartStreamEncryption", object{"StreamName": name, "EncryptionType": encryption["EncryptionType"], "KeyId": encryption["KeyId"]}})
	}
	for _, c := range calls {
		if err := a.API.Target(ctx, "kinesis", kinesisTarget+c.operation, c.input, nil); err != nil {
			return cloudformation.Resource{}, err
		}
	}
	return kept(name, map[string]any{"Arn": r.ARN("kinesis", "stream/"+name)}, ""), nil
}
