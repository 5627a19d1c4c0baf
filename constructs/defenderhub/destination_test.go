package defenderhub_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/aws-cdk-go/awscdk/v2/cxapi"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
)

const (
	topicARN = "arn:aws:sns:us-east-1:123456789012:on-call"
	queueARN = "arn:aws:sqs:us-east-1:123456789012:events"
	keyARN   = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

// notes returns this package's infos and warnings about a stack, by construct path.
func notes(stack awscdk.Stack) []string {
	var all []string
	annotations := assertions.Annotations_FromStack(stack)
	for level, found := range map[string]*[]*cxapi.SynthesisMessage{
		"info": annotations.FindInfo(jsii.String("*"), assertions.Match_AnyValue()), "warning": annotations.FindWarning(jsii.String("*"), assertions.Match_AnyValue()),
	} {
		for _, m := range *found {
			if note := fmt.Sprintf("%s %s: %v", level, *m.Id, m.Entry.Data); strings.Contains(note, "[ack: defenderhub:") {
				all = append(all, note)
			}
		}
	}
	slices.Sort(all)
	return all
}

// userTopic creates a topic of a user, encrypted with key.
func userTopic(stack awscdk.Stack, key awskms.IKey) awssns.ITopic {
	return awssns.NewTopic(stack, jsii.String("UserTopic"), &awssns.TopicProps{MasterKey: key})
}

// TestTopicsThatNoServiceCanPublishTo gives each prop for a topic one that would lose all messages.
func TestTopicsThatNoServiceCanPublishTo(t *testing.T) {
	for name, topic := range map[string]func(stack awscdk.Stack) awssns.ITopic{
		"FIFO": func(stack awscdk.Stack) awssns.ITopic {
			return awssns.NewTopic(stack, jsii.String("UserTopic"), &awssns.TopicProps{Fifo: jsii.Bool(true)})
		},
		"FIFO by its ARN": func(stack awscdk.Stack) awssns.ITopic {
			return awssns.Topic_FromTopicArn(stack, jsii.String("UserTopic"), jsii.String(topicARN+".fifo"))
		},
		"alias/aws/sns": func(stack awscdk.Stack) awssns.ITopic {
			return userTopic(stack, awskms.Alias_FromAliasName(stack, jsii.String("UserKey"), jsii.String("alias/aws/sns")))
		},
	} {
		for field, construct := range map[string]func(stack awscdk.Stack, topic awssns.ITopic){
			"Audit.Topic": func(stack awscdk.Stack, topic awssns.ITopic) {
				defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{Audit: &defenderhub.AuditProps{Topic: topic}})
			},
			"Detect.Native.Topic": func(stack awscdk.Stack, topic awssns.ITopic) {
				detect := nativeDetect()
				detect.Native.Topic = topic
				defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{Detect: detect})
			},
			"AlarmTopic": func(stack awscdk.Stack, topic awssns.ITopic) {
				defenderhub.NewRules(stack, jsii.String("Rules"), &defenderhub.RulesProps{AlarmTopic: topic})
			},
			"Forwarder.AlarmTopic": func(stack awscdk.Stack, topic awssns.ITopic) {
				defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{Forwarder: &defenderhub.ForwarderProps{AlarmTopic: topic}})
			},
			"Detect.SelfManaged.AlarmTopic": func(stack awscdk.Stack, topic awssns.ITopic) {
				defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
					Detect: selfManaged(defenderhub.SelfManagedProps{AlarmTopic: topic})})
			},
			"AuditTopic": func(stack awscdk.Stack, topic awssns.ITopic) {
				defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{AuditTopic: topic})
			},
			"DetectTopic": func(stack awscdk.Stack, topic awssns.ITopic) {
				defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{DetectTopic: topic})
			},
		} {
			stack := newStack()
			got, message := faults(t, func() { construct(stack, topic(stack)) })
			if !slices.Equal(got, []string{field}) || !strings.Contains(message, "want a standard topic") && !strings.Contains(message, "want a topic without a key, or with a customer-managed key") {
				t.Errorf("%s: faults of %v, want %s\n%s", name, got, field, message)
			}
		}
	}
}

func TestQueuesThatRulesCannotSendTo(t *testing.T) {
	for name, queue := range map[string]func(stack awscdk.Stack) awssqs.IQueue{
		"FIFO": func(stack awscdk.Stack) awssqs.IQueue {
			return awssqs.NewQueue(stack, jsii.String("Q"), &awssqs.QueueProps{Fifo: jsii.Bool(true)})
		},
		"FIFO by its ARN": func(stack awscdk.Stack) awssqs.IQueue {
			return awssqs.Queue_FromQueueArn(stack, jsii.String("Q"), jsii.String(queueARN+".fifo"))
		},
		"AWS managed key": func(stack awscdk.Stack) awssqs.IQueue {
			return awssqs.NewQueue(stack, jsii.String("Q"), &awssqs.QueueProps{Encryption: awssqs.QueueEncryption_KMS_MANAGED})
		},
		"alias of an AWS managed key": func(stack awscdk.Stack) awssqs.IQueue {
			key := awskms.Alias_FromAliasName(stack, jsii.String("K"), jsii.String("alias/aws/sqs"))
			return awssqs.NewQueue(stack, jsii.String("Q"), &awssqs.QueueProps{EncryptionMasterKey: key})
		},
		"ARN of an alias of an AWS managed key": func(stack awscdk.Stack) awssqs.IQueue {
			return awssqs.Queue_FromQueueAttributes(stack, jsii.String("Q"), &awssqs.QueueAttributes{
				QueueArn: jsii.String(queueARN), KeyArn: jsii.String("arn:aws:kms:us-east-1:123456789012:alias/aws/sqs"),
			})
		},
	} {
		for field, props := range map[string]func(awssqs.IQueue) *defenderhub.RulesProps{
			"Queue":      func(q awssqs.IQueue) *defenderhub.RulesProps { return &defenderhub.RulesProps{Queue: q} },
			"ErrorQueue": func(q awssqs.IQueue) *defenderhub.RulesProps { return &defenderhub.RulesProps{ErrorQueue: q} },
		} {
			stack := newStack()
			got, message := faults(t, func() { defenderhub.NewRules(stack, jsii.String("Rules"), props(queue(stack))) })
			if !slices.Equal(got, []string{field}) {
				t.Errorf("%s: faults of %v, want %s\n%s", name, got, field, message)
			}
		}
	}
}

// TestAWSManagedKeysAreRejected gives every EncryptionKey an AWS managed key.
func TestAWSManagedKeysAreRejected(t *testing.T) {
	stack := newStack()
	key := awskms.Alias_FromAliasName(stack, jsii.String("K"), jsii.String("alias/aws/sqs"))
	props := withPrebuilt(&defenderhub.DefenderHubProps{
		EncryptionKey: key, Audit: &defenderhub.AuditProps{EncryptionKey: key}, Detect: &defenderhub.DetectProps{EncryptionKey: key},
		Forwarder: &defenderhub.ForwarderProps{EncryptionKey: key},
	})
	got, _ := faults(t, func() { defenderhub.NewDefenderHub(stack, jsii.String("Hub"), props) })
	if want := []string{"EncryptionKey", "Audit.EncryptionKey", "Detect.EncryptionKey", "Forwarder.EncryptionKey"}; !slices.Equal(got, want) {
		t.Errorf("hub: got %v, want %v", got, want)
	}
	got, _ = faults(t, func() {
		defenderhub.NewRules(stack, jsii.String("Rules"), &defenderhub.RulesProps{EncryptionKey: key})
	})
	if !slices.Equal(got, []string{"EncryptionKey"}) {
		t.Errorf("rules: got %v, want EncryptionKey", got)
	}
}

// TestSendersCanUseTheKeysOfUsers encrypts the user's topics and queues with keys that are in no
// prop.
func TestSendersCanUseTheKeysOfUsers(t *testing.T) {
	stack := newStack()
	key := func(id string) awskms.IKey { return awskms.NewKey(stack, jsii.String(id), nil) }
	topic := func(id string) awssns.ITopic {
		return awssns.NewTopic(stack, jsii.String(id), &awssns.TopicProps{MasterKey: key(id + "Key")})
	}
	queue := func(id string) awssqs.IQueue {
		return awssqs.NewQueue(stack, jsii.String(id), &awssqs.QueueProps{EncryptionMasterKey: key(id + "Key")})
	}
	detect := nativeDetect()
	detect.Native.Topic = topic("Alerts")
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{
		EncryptionKey: key("HubKey"), Audit: &defenderhub.AuditProps{Topic: topic("Audits")}, Detect: detect,
	}))
	defenderhub.NewRules(stack, jsii.String("More"), &defenderhub.RulesProps{Queue: queue("Queue"), ErrorQueue: queue("ErrorQueue")})
	tpl := synth(t, stack)
	for role, keys := range map[string][]string{"HubAuditNotificationRole": {"AuditsKey"}, "HubDetectAlertRole": {"AlertsKey"}, "MorePolicy": {"QueueKey", "ErrorQueueKey"}} {
		kind := "AWS::IAM::Role"
		if role == "MorePolicy" {
			kind = "AWS::IAM::Policy"
		}
		statements := text(tpl.named(t, kind, role).Properties)
		for _, k := range keys {
			if want := fmt.Sprintf(`{"Action":["kms:Decrypt","kms:GenerateDataKey"],"Effect":"Allow","Resource":{"Fn::GetAtt":["%s","Arn"]}}`, tpl.idOf(t, "AWS::KMS::Key", k)); !strings.Contains(statements, want) {
				t.Errorf("%s cannot use %s: %s", role, k, statements)
			}
		}
		if strings.Count(statements, "kms:Decrypt") != len(keys) {
			t.Errorf("%s can use other keys than %v: %s", role, keys, statements)
		}
	}
	if got := notes(stack); got != nil {
		t.Errorf("notes %q, want none", got)
	}
}

// TestAlarmsReachTopicsOfUsers gives alarms an encrypted topic, with and without a policy.
func TestAlarmsReachTopicsOfUsers(t *testing.T) {
	const condition = `"Condition":{"ArnLike":{"aws:SourceArn":{"Fn::Join":["",["arn:",{"Ref":"AWS::Partition"},":cloudwatch:",{"Ref":"AWS::Region"},":",{"Ref":"AWS::AccountId"},":alarm:*"]]}}}`
	const principal = `"Principal":{"Service":"cloudwatch.amazonaws.com"}`
	for name, ssl := range map[string]bool{"with a policy": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			stack := newStack()
			topic := awssns.NewTopic(stack, jsii.String("OnCall"), &awssns.TopicProps{MasterKey: awskms.NewKey(stack, jsii.String("OnCallKey"), nil), EnforceSSL: jsii.Bool(ssl)})
			defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{
				Forwarder: &defenderhub.ForwarderProps{AlarmTopic: topic},
				Detect:    selfManaged(defenderhub.SelfManagedProps{AlarmTopic: topic}),
			}))
			tpl := synth(t, stack)
			if policy := text(tpl.named(t, "AWS::KMS::Key", "OnCallKey").Properties["KeyPolicy"]); strings.Count(policy, `"Action":["kms:Decrypt","kms:GenerateDataKey*"],`+condition+`,"Effect":"Allow",`+principal) != 1 {
				t.Errorf("the key's policy does not allow the alarms once: %s", policy)
			}
			var policies []string
			for _, id := range tpl.ids("AWS::SNS::TopicPolicy") {
				if p := text(tpl[id].Properties); strings.Contains(p, tpl.idOf(t, "AWS::SNS::Topic", "OnCall")) {
					policies = append(policies, p)
				}
			}
			// A new policy would replace the default one, with which Amazon SNS allows all services.
			if ssl && (len(policies) != 1 || strings.Count(policies[0], `"Action":"sns:Publish",`+condition+`,"Effect":"Allow",`+principal) != 1) || !ssl && policies != nil {
				t.Errorf("the topic's policies are %s, want one that allows the alarms: %v", policies, ssl)
			}
		})
	}
}

// TestNotesListThePermissionsOfImportedTopicsAndQueues imports topics and queues. Synthesis does
// not know their policies and keys.
func TestNotesListThePermissionsOfImportedTopicsAndQueues(t *testing.T) {
	stack := newStack()
	topic := func(id string) awssns.ITopic {
		return awssns.Topic_FromTopicArn(stack, jsii.String(id), jsii.String(topicARN+id))
	}
	detect := nativeDetect()
	detect.Native.Topic = topic("Alerts")
	onCall := topic("OnCall")
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{
		Audit: &defenderhub.AuditProps{Topic: topic("Audits")}, Detect: detect, Forwarder: &defenderhub.ForwarderProps{AlarmTopic: onCall},
	}))
	defenderhub.NewRules(stack, jsii.String("More"), &defenderhub.RulesProps{
		Sources: []defender.Source{defender.DeviceEvents},
		Queue:   awssqs.Queue_FromQueueArn(stack, jsii.String("Queue"), jsii.String(queueARN)),
		ErrorQueue: awssqs.Queue_FromQueueAttributes(stack, jsii.String("ErrorQueue"), &awssqs.QueueAttributes{
			QueueArn: jsii.String(queueARN + "-errors"), KeyArn: jsii.String(keyARN),
		}),
	})
	tpl := synth(t, stack)
	role := func(prefix string) string { return tpl.idOf(t, "AWS::IAM::Role", prefix) }
	from := func(role, action, resource string) string {
		return fmt.Sprintf(`{"Action":%s,"Effect":"Allow","Principal":{"AWS":"${%s.Arn}"},"Resource":"%s"}`, action, role, resource)
	}
	const withKey = `["kms:Decrypt","kms:GenerateDataKey"]`
	const alarms = `"Condition":{"ArnLike":{"aws:SourceArn":"arn:${AWS::Partition}:cloudwatch:${AWS::Region}:${AWS::AccountId}:alarm:*"}},"Effect":"Allow","Principal":{"Service":"cloudwatch.amazonaws.com"},"Resource":`
	want := map[string][]string{
		"info /Fleet/Alerts: ": {from(role("HubDetectAlertRole"), `"sns:Publish"`, topicARN+"Alerts"), from(role("HubDetectAlertRole"), withKey, "*")},
		"info /Fleet/Audits: ": {from(role("HubAuditNotificationRole"), `"sns:Publish"`, topicARN+"Audits"), from(role("HubAuditNotificationRole"), withKey, "*")},
		"info /Fleet/OnCall: ": {`{"Action":"sns:Publish",` + alarms + `"` + topicARN + `OnCall"}`, `{"Action":["kms:Decrypt","kms:GenerateDataKey*"],` + alarms + `"*"}`, "alias/aws/sns"},
		"info /Fleet/Queue: ":  {from(role("MoreRole"), `"sqs:SendMessage"`, queueARN), from(role("MoreRole"), withKey, "*")},
	}
	got := notes(stack)
	if len(got) != len(want) {
		t.Errorf("%d notes, want %d", len(got), len(want))
	}
	for _, note := range got {
		path, _, _ := strings.Cut(note, ": ")
		statements := want[path+": "]
		if statements == nil {
			t.Errorf("unexpected note %s", note)
		}
		for _, s := range statements {
			if !strings.Contains(note, s) {
				t.Errorf("no %s in\n%s", s, note)
			}
		}
	}
	if policy := text(tpl.named(t, "AWS::IAM::Policy", "MorePolicy").Properties); strings.Count(policy, `{"Action":["kms:Decrypt","kms:GenerateDataKey"],"Effect":"Allow","Resource":"`+keyARN+`"}`) != 1 {
		t.Errorf("the rules cannot use the key that was imported with the queue: %s", policy)
	}
}

// TestImportedKeysCauseAWarning imports keys in each way that the CDK has: the app cannot extend
// their policies. An alias of a key of the app causes no warning.
func TestImportedKeysCauseAWarning(t *testing.T) {
	const (
		logs       = `{"Action":["kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:GenerateDataKey*","kms:Describe*"],"Condition":{"ArnLike":{"kms:EncryptionContext:aws:logs:arn":"arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:*"}},"Effect":"Allow","Principal":{"Service":"logs.${AWS::Region}.${AWS::URLSuffix}"},"Resource":"*"}`
		sns        = `{"Action":["kms:Decrypt","kms:GenerateDataKey"],"Condition":{"ArnLike":{"aws:SourceArn":"arn:${AWS::Partition}:sns:${AWS::Region}:${AWS::AccountId}:*"}},"Effect":"Allow","Principal":{"Service":"sns.amazonaws.com"},"Resource":"*"}`
		cloudWatch = `{"Action":["kms:Decrypt","kms:GenerateDataKey*"],"Condition":{"ArnLike":{"aws:SourceArn":"arn:${AWS::Partition}:cloudwatch:${AWS::Region}:${AWS::AccountId}:alarm:*"}},"Effect":"Allow","Principal":{"Service":"cloudwatch.amazonaws.com"},"Resource":"*"}`
		all        = `{"Fn::Join":["",["arn:",{"Ref":"AWS::Partition"},":kms:",{"Ref":"AWS::Region"},":",{"Ref":"AWS::AccountId"},":key/*"]]}`
	)
	for name, c := range map[string]struct {
		key      func(stack awscdk.Stack) awskms.IKey
		resource string
		warned   bool
	}{
		"ARN": {func(stack awscdk.Stack) awskms.IKey {
			return awskms.Key_FromKeyArn(stack, jsii.String("Key"), jsii.String(keyARN))
		}, `"Resource":"` + keyARN + `"`, true},
		"alias": {func(stack awscdk.Stack) awskms.IKey {
			return awskms.Alias_FromAliasName(stack, jsii.String("Key"), jsii.String("alias/fleet"))
		}, `"Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/fleet"}},"Effect":"Allow","Resource":` + all, true},
		"ARN of an alias": {func(stack awscdk.Stack) awskms.IKey {
			return awskms.Key_FromKeyArn(stack, jsii.String("Key"), jsii.String("arn:aws:kms:us-east-1:123456789012:alias/fleet"))
		}, `"Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/fleet"}},"Effect":"Allow","Resource":"arn:aws:kms:us-east-1:123456789012:key/*"`, true},
		"alias of an imported key": {func(stack awscdk.Stack) awskms.IKey {
			return awskms.Alias_FromAliasAttributes(stack, jsii.String("Alias"), &awskms.AliasAttributes{
				AliasName: jsii.String("alias/fleet"), AliasTargetKey: awskms.Key_FromKeyArn(stack, jsii.String("Key"), jsii.String(keyARN)),
			})
		}, `"Resource":"` + keyARN + `"`, true},
		"alias of an own key": {func(stack awscdk.Stack) awskms.IKey {
			return awskms.NewAlias(stack, jsii.String("Alias"), &awskms.AliasProps{AliasName: jsii.String("alias/fleet"), TargetKey: awskms.NewKey(stack, jsii.String("Key"), nil)})
		}, `"Resource":{"Fn::GetAtt":["Key961B73FD","Arn"]}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			stack := newStack()
			key := c.key(stack)
			topic := userTopic(stack, key)
			defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{
				EncryptionKey: key, Subscriptions: &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Off},
				Audit: &defenderhub.AuditProps{RunOnDeploy: true}, Detect: selfManaged(defenderhub.SelfManagedProps{}),
				Forwarder: &defenderhub.ForwarderProps{AlarmTopic: topic},
			}))
			tpl := synth(t, stack)
			for _, id := range append(tpl.ids("AWS::IAM::Policy"), tpl.ids("AWS::IAM::Role")...) {
				if statements := text(tpl[id].Properties); strings.Contains(statements, `"kms:`) && !strings.Contains(statements, c.resource) {
					t.Errorf("%s: %s, want %s", id, statements, c.resource)
				}
			}
			got := notes(stack)
			if !c.warned {
				if got != nil {
					t.Errorf("notes %q, want none", got)
				}
				return
			}
			if len(got) != 3 {
				t.Errorf("%d notes, want 3: %s", len(got), strings.Join(got, "\n"))
			}
			for _, statement := range []string{logs, sns, cloudWatch} {
				if !slices.ContainsFunc(got, func(note string) bool {
					return strings.HasPrefix(note, "warning /Fleet/") && strings.Contains(note, statement)
				}) {
					t.Errorf("no %s in\n%s", statement, strings.Join(got, "\n"))
				}
			}
		})
	}
}

// TestExtendedPoliciesCauseNoWarning uses a key of another stack of the app.
func TestExtendedPoliciesCauseNoWarning(t *testing.T) {
	app := awscdk.NewApp(nil)
	keys, stack := awscdk.NewStack(app, jsii.String("Keys"), nil), awscdk.NewStack(app, jsii.String("Fleet"), nil)
	key := awskms.NewKey(keys, jsii.String("Key"), nil)
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{EncryptionKey: key}))
	if got := append(notes(keys), notes(stack)...); got != nil {
		t.Errorf("notes %q, want none", got)
	}
	if policy := text(synth(t, keys).one(t, "AWS::KMS::Key").Properties["KeyPolicy"]); !strings.Contains(policy, "kms:EncryptionContext:aws:logs:arn") {
		t.Errorf("the key's policy does not allow CloudWatch Logs: %s", policy)
	}
}
