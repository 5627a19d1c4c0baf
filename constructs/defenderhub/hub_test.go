package defenderhub_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// nativeDetect returns a Detect with the native engine and the demo profile.
func nativeDetect() *defenderhub.DetectProps {
	return &defenderhub.DetectProps{Native: &defenderhub.NativeProps{}, Behaviors: defender.DemoBehaviors()}
}

func TestDefaultsForwardTheSourcesOfRulesAlone(t *testing.T) {
	stack := newStack()
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{}))
	if got := hub.Sources(); !slices.Equal(got, iotrule.Sources()) {
		t.Errorf("forwards %v, want %v", got, iotrule.Sources())
	}
	if hub.Queue() == nil || hub.DeadLetterQueue() == nil || hub.Rules() == nil || hub.Subscriptions().Audit() == nil {
		t.Error("an accessor is nil")
	}
	if hub.Detect().Native() != nil || hub.Detect().SelfManaged() != nil {
		t.Error("an engine is deployed by default")
	}
	tp := synth(t, stack)
	for kind, want := range map[string]int{
		"AWS::SecurityHub::Hub": 0, "AWS::SecurityHub::ProductSubscription": 1, "AWS::IoT::SecurityProfile": 0,
		"AWS::IoT::TopicRule": 4, "AWS::IoT::Policy": 0, "AWS::Lambda::Function": 1, "AWS::SNS::Subscription": 0,
		"AWS::CloudWatch::Alarm": 7, "AWS::KMS::Key": 1,
	} {
		if got := len(tp.ids(kind)); got != want {
			t.Errorf("%d of %s, want %d", got, kind, want)
		}
	}
}

func TestSourcesFollowTheSubscriptions(t *testing.T) {
	existing := &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Existing}
	off := &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Off, Detect: defenderhub.Off}
	rules := iotrule.Sources()
	for name, c := range map[string]struct {
		props defenderhub.DefenderHubProps
		want  []defender.Source
	}{
		"all on":             {defenderhub.DefenderHubProps{Detect: nativeDetect()}, rules},
		"existing":           {defenderhub.DefenderHubProps{Subscriptions: existing}, rules},
		"all off":            {defenderhub.DefenderHubProps{Subscriptions: off, Detect: nativeDetect()}, append(slices.Clone(rules), defender.AuditNotifications, defender.DetectNotifications)},
		"off without engine": {defenderhub.DefenderHubProps{Subscriptions: off}, append(slices.Clone(rules), defender.AuditNotifications)},
		"chosen":             {defenderhub.DefenderHubProps{Forward: []defender.Source{defender.DeviceEvents}}, []defender.Source{defender.DeviceEvents}},
		"nothing":            {defenderhub.DefenderHubProps{NoForwarder: true}, nil},
		"empty":              {defenderhub.DefenderHubProps{Forward: []defender.Source{}}, rules},
	} {
		t.Run(name, func(t *testing.T) {
			hub := defenderhub.NewDefenderHub(newStack(), jsii.String("Hub"), withPrebuilt(&c.props))
			if got := hub.Sources(); !slices.Equal(got, c.want) {
				t.Errorf("forwards %v, want %v", got, c.want)
			}
			if (hub.Forwarder() == nil) != (len(c.want) == 0) || (hub.Queue() == nil) != (len(c.want) == 0) {
				t.Error("a forwarder without sources, or sources without a forwarder")
			}
		})
	}
}

func TestNativeEngineChangesOnlyDetect(t *testing.T) {
	for _, existing := range []defenderhub.Provision{defenderhub.Create, defenderhub.Existing} {
		audit := &defenderhub.AuditProps{Configuration: existing}
		without := hubTemplate(t, &defenderhub.DefenderHubProps{Audit: audit})
		with := hubTemplate(t, &defenderhub.DefenderHubProps{Audit: audit, Detect: nativeDetect()})
		for id, r := range without {
			if text(with[id]) != text(r) {
				t.Errorf("%s changes with the engine", id)
			}
		}
		for id := range with {
			if _, ok := without[id]; !ok && !strings.HasPrefix(id, "HubDetect") && !strings.HasPrefix(id, "HubSubscriptionsDetect") {
				t.Errorf("the engine adds %s, which is not part of Detect", id)
			}
		}
		if len(with) == len(without) {
			t.Error("the native engine deploys nothing")
		}
	}
}

func TestTwoHubsFitOneStack(t *testing.T) {
	stack := newStack()
	subscription := map[string]defenderhub.Provision{"Two": defenderhub.Existing}
	for _, id := range []string{"One", "Two"} {
		defenderhub.NewDefenderHub(stack, jsii.String(id), withPrebuilt(&defenderhub.DefenderHubProps{
			Detect: nativeDetect(),
			// These exist once per account and Region: only one hub can create them.
			Audit:         &defenderhub.AuditProps{Configuration: subscription[id]},
			Subscriptions: &defenderhub.ProductSubscriptionsProps{Audit: subscription[id], Detect: subscription[id]},
		}))
	}
	for id, r := range synth(t, stack) {
		for name, value := range r.Properties {
			// These are references, not names of resources.
			if slices.Contains([]string{"DisplayName", "MetricName", "PolicyName"}, name) {
				continue
			}
			if strings.HasSuffix(name, "Name") && text(value)[0] == '"' {
				t.Errorf("%s has the physical name %v", id, value)
			}
		}
	}
}

func TestCustomerManagedKeyReachesEverything(t *testing.T) {
	// New apps set this flag. With it, the CDK's own SqsSubscription causes a dependency cycle.
	flags := map[string]any{"@aws-cdk/aws-sns-subscriptions:restrictSqsDescryption": true}
	stack := awscdk.NewStack(awscdk.NewApp(&awscdk.AppProps{Context: &flags}), jsii.String("Fleet"), nil)
	key := awskms.NewKey(stack, jsii.String("Own"), &awskms.KeyProps{EnableKeyRotation: jsii.Bool(true)})
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{
		EncryptionKey: key, Detect: nativeDetect(),
		Subscriptions: &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Off, Detect: defenderhub.Off},
	}))
	tp := synth(t, stack)
	own := tp.ids("AWS::KMS::Key")
	if len(own) != 1 {
		t.Fatalf("keys %v, want the caller's alone", own)
	}
	for kind, property := range map[string][]string{
		"AWS::SQS::Queue": {"KmsMasterKeyId"}, "AWS::SNS::Topic": {"KmsMasterKeyId"}, "AWS::Logs::LogGroup": {"KmsKeyId"},
		"AWS::DynamoDB::Table": {"SSESpecification", "KMSMasterKeyId"},
	} {
		for _, id := range tp.ids(kind) {
			if got := text(path(tp[id].Properties, property...)); !strings.Contains(got, own[0]) {
				t.Errorf("%s is encrypted with %s, want %s", id, got, own[0])
			}
		}
	}
	for _, kind := range []string{"AWS::IAM::Role", "AWS::IAM::Policy"} {
		for _, id := range tp.ids(kind) {
			policy := text(tp[id].Properties)
			sends := strings.Contains(policy, "sqs:SendMessage") || strings.Contains(policy, "sns:Publish")
			if sends && (!strings.Contains(policy, "kms:GenerateDataKey") || !strings.Contains(policy, own[0])) {
				t.Errorf("%s sends, but cannot use the key: %s", id, policy)
			}
		}
	}
	grants, _ := path(tp[own[0]].Properties, "KeyPolicy", "Statement").([]any)
	for service, source := range map[string]string{"sns.": "aws:SourceArn", "logs.": "kms:EncryptionContext:aws:logs:arn"} {
		grant := slices.IndexFunc(grants, func(s any) bool { return strings.Contains(text(path(s, "Principal", "Service")), service) })
		if grant < 0 {
			t.Errorf("the policy of the key does not allow %s: %s", service, text(grants))
			continue
		}
		condition := text(path(grants[grant], "Condition", "ArnLike", source))
		if !strings.Contains(condition, `"AWS::AccountId"`) {
			t.Errorf("the policy of the key allows %s for sources of any account: %s", service, text(grants[grant]))
		}
	}
}

func TestTagsAspectsAndBoundariesReachTheConstruct(t *testing.T) {
	stack := newStack()
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{
		Detect: selfManaged(defenderhub.SelfManagedProps{Transport: defenderhub.TransportKinesis}),
	}))
	awscdk.Tags_Of(hub).Add(jsii.String("team"), jsii.String("fleet"), nil)
	awsiam.PermissionsBoundary_Of(hub).Apply(awsiam.ManagedPolicy_FromManagedPolicyName(stack, jsii.String("Limit"), jsii.String("limit")))
	other := constructs.NewConstruct(stack, jsii.String("Other"))
	hub.Node().AddDependency(other)
	tp := synth(t, stack)
	for _, id := range tp.ids("AWS::IAM::Role") {
		if tp[id].Properties["PermissionsBoundary"] == nil || tp[id].Properties["Tags"] == nil {
			t.Errorf("%s has no boundary or no tag", id)
		}
	}
	for _, kind := range []string{"AWS::SQS::Queue", "AWS::IoT::TopicRule", "AWS::IoT::ScheduledAudit", "AWS::Lambda::Function", "AWS::Kinesis::Stream", "AWS::DynamoDB::Table"} {
		for _, id := range tp.ids(kind) {
			if tp[id].Properties["Tags"] == nil {
				t.Errorf("%s has no tag", id)
			}
		}
	}
}

func TestOneErrorListsTheWrongPropsOfAllParts(t *testing.T) {
	fields, message := faults(t, func() {
		defenderhub.NewDefenderHub(newStack(), jsii.String("Hub"), &defenderhub.DefenderHubProps{
			Subscriptions: &defenderhub.ProductSubscriptionsProps{Audit: 7},
			Audit:         &defenderhub.AuditProps{Schedule: defender.Monthly(32), CertificateAgeDays: 29},
			Detect:        &defenderhub.DetectProps{Behaviors: []defender.Behavior{{Criteria: defender.MessageByteSize.LessThan(8)}}, Native: &defenderhub.NativeProps{}},
			Rules:         &defenderhub.RulesProps{EventTopic: "a/#/b"},
			Forwarder:     &defenderhub.ForwarderProps{Timeout: time.Hour},
			Forward:       []defender.Source{defender.DeviceEvents, defender.DeviceEvents},
		})
	})
	want := []string{"Subscriptions.Audit", "Audit.Schedule", "Audit.CertificateAgeDays", "Detect.Behaviors[0].Name", "Rules.EventTopic", "Forwarder.Timeout", "Forward[1]"}
	if !slices.Equal(fields, want) {
		t.Errorf("got %v, want %v", fields, want)
	}
	if !strings.HasPrefix(message, "defenderhub: invalid props of Fleet/Hub:\n") {
		t.Errorf("the error does not begin with the construct's path: %s", message)
	}
}

func TestSourcesThatNobodyOrTwoImportAreErrors(t *testing.T) {
	audit, detect := []defender.Source{defender.AuditNotifications}, []defender.Source{defender.DetectNotifications}
	off := &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Off, Detect: defenderhub.Off}
	existing := &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Existing}
	for name, c := range map[string]struct {
		props defenderhub.DefenderHubProps
		want  []string
	}{
		"audit twice":             {defenderhub.DefenderHubProps{Forward: audit}, []string{"Forward[0]"}},
		"audit twice, existing":   {defenderhub.DefenderHubProps{Forward: audit, Subscriptions: existing}, []string{"Forward[0]"}},
		"audit once":              {defenderhub.DefenderHubProps{Forward: audit, Subscriptions: off}, nil},
		"audit without a topic":   {defenderhub.DefenderHubProps{Forward: audit, Subscriptions: off, Audit: &defenderhub.AuditProps{Configuration: defenderhub.Existing}}, []string{"Forward[0]"}},
		"audit not imported":      {defenderhub.DefenderHubProps{Subscriptions: off, Audit: &defenderhub.AuditProps{Configuration: defenderhub.Existing}}, []string{"Subscriptions.Audit"}},
		"audit not named":         {defenderhub.DefenderHubProps{Subscriptions: off, Audit: &defenderhub.AuditProps{Configuration: defenderhub.Existing}, Forward: iotrule.Sources()}, nil},
		"detect twice":            {defenderhub.DefenderHubProps{Forward: detect, Detect: nativeDetect()}, []string{"Forward[0]"}},
		"detect once":             {defenderhub.DefenderHubProps{Forward: detect, Detect: nativeDetect(), Subscriptions: off}, nil},
		"detect without engine":   {defenderhub.DefenderHubProps{Forward: detect, Subscriptions: off}, []string{"Forward[0]"}},
		"sources, no forwarder":   {defenderhub.DefenderHubProps{Forward: iotrule.Sources(), NoForwarder: true}, []string{"Forward"}},
		"unknown":                 {defenderhub.DefenderHubProps{Forward: []defender.Source{99}}, []string{"Forward[0]"}},
		"sources chosen twice":    {defenderhub.DefenderHubProps{Rules: &defenderhub.RulesProps{Sources: iotrule.Sources()}}, []string{"Rules.Sources"}},
		"event topic in two ways": {defenderhub.DefenderHubProps{Forwarder: &defenderhub.ForwarderProps{EventTopic: "a/+"}}, []string{"Forwarder.EventTopic"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := faults(t, func() {
				defenderhub.NewDefenderHub(newStack(), jsii.String("Hub"), withPrebuilt(&c.props))
			})
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// An environment has at most 4 KB. It holds one severity per behavior name.
func TestSeveritiesOfBehaviorsFitTheFunction(t *testing.T) {
	named := func(name string, severity defender.Severity) defender.Behavior {
		return defender.Behavior{Name: name, Criteria: defender.MessageByteSize.LessThan(8), Severity: severity}
	}
	var many []defender.Behavior
	for i := range 100 {
		many = append(many, named(fmt.Sprintf("%s-%03d", strings.Repeat("b", 60), i), defender.High))
	}
	two := func(a, b defender.Severity) *defenderhub.DetectProps {
		return &defenderhub.DetectProps{Native: &defenderhub.NativeProps{}, Profiles: []defender.SecurityProfile{
			{Behaviors: []defender.Behavior{named("b", a)}}, {Behaviors: []defender.Behavior{named("a", a), named("b", b)}},
		}}
	}
	off := &defenderhub.ProductSubscriptionsProps{Detect: defenderhub.Off}
	for name, c := range map[string]struct {
		props defenderhub.DefenderHubProps
		want  []string
	}{
		"too many":                             {defenderhub.DefenderHubProps{Subscriptions: off, Detect: &defenderhub.DetectProps{Native: &defenderhub.NativeProps{}, Behaviors: many}}, []string{"Forwarder"}},
		"too many, but AWS sends them":         {defenderhub.DefenderHubProps{Detect: &defenderhub.DetectProps{Native: &defenderhub.NativeProps{}, Behaviors: many}}, nil},
		"two for one name":                     {defenderhub.DefenderHubProps{Subscriptions: off, Detect: two(defender.High, defender.Low)}, []string{"Detect.Profiles[1].Behaviors[1].Severity"}},
		"one is the default":                   {defenderhub.DefenderHubProps{Subscriptions: off, Detect: two(defender.High, defender.SeverityDefault)}, []string{"Detect.Profiles[1].Behaviors[1].Severity"}},
		"the same":                             {defenderhub.DefenderHubProps{Subscriptions: off, Detect: two(defender.High, defender.High)}, nil},
		"two for one name, but AWS sends them": {defenderhub.DefenderHubProps{Detect: two(defender.High, defender.Low)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			stack := newStack()
			got, message := faults(t, func() { defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&c.props)) })
			if !slices.Equal(got, c.want) {
				t.Fatalf("got %v, want %v; %s", got, c.want, message)
			}
			if c.want == nil {
				tp := synth(t, stack)
				for _, id := range tp.ids("AWS::Lambda::Function") {
					if size := len(text(path(tp[id].Properties, "Environment", "Variables"))); size > 4096 {
						t.Errorf("%s has an environment of %d bytes, want at most 4096", id, size)
					}
				}
			}
		})
	}
}

// The event types and the behaviors fit the environment of 4 KB alone, but not together.
func TestEventTypesAndBehaviorsFitTheFunctionTogether(t *testing.T) {
	types := func(n int) *defenderhub.ForwarderProps {
		p := &defenderhub.ForwarderProps{EventTypes: map[string]defender.Severity{}, Prebuilt: prebuilt}
		for i := range n {
			p.EventTypes[fmt.Sprintf("type-%040d", i)] = defender.Low
		}
		return p
	}
	behaviors := func(n int, severity defender.Severity) []defender.SecurityProfile {
		var profiles []defender.SecurityProfile
		for len(profiles)*50 < n {
			profile := defender.SecurityProfile{Name: fmt.Sprintf("Profile-%d", len(profiles))}
			for i := range 50 {
				profile.Behaviors = append(profile.Behaviors, defender.Behavior{
					Name: fmt.Sprintf("%s-%d-%d", strings.Repeat("b", 40), len(profiles), i), Criteria: defender.MessageByteSize.LessThan(8), Severity: severity,
				})
			}
			profiles = append(profiles, profile)
		}
		return profiles
	}
	for name, c := range map[string]struct {
		types  int
		detect *defenderhub.DetectProps
		want   []string
	}{
		"self-managed":        {0, &defenderhub.DetectProps{SelfManaged: &defenderhub.SelfManagedProps{Prebuilt: prebuilt}, Profiles: behaviors(300, defender.Low)}, nil},
		"types":               {55, nil, nil},
		"types, self-managed": {55, &defenderhub.DetectProps{SelfManaged: &defenderhub.SelfManagedProps{Prebuilt: prebuilt}, Profiles: behaviors(300, defender.Low)}, []string{"Forwarder"}},
		"native":              {0, &defenderhub.DetectProps{Native: &defenderhub.NativeProps{}, Profiles: behaviors(50, defender.High)}, nil},
		"types, native":       {25, &defenderhub.DetectProps{Native: &defenderhub.NativeProps{}, Profiles: behaviors(50, defender.High)}, []string{"Forwarder"}},
		"default severities":  {25, &defenderhub.DetectProps{Native: &defenderhub.NativeProps{}, Profiles: behaviors(50, defender.SeverityDefault)}, nil},
		"too many types":      {80, nil, []string{"Forwarder"}},
	} {
		t.Run(name, func(t *testing.T) {
			stack := newStack()
			got, message := faults(t, func() {
				defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{
					Subscriptions: &defenderhub.ProductSubscriptionsProps{Detect: defenderhub.Off}, Detect: c.detect, Forwarder: types(c.types),
				}))
			})
			if !slices.Equal(got, c.want) || c.want != nil && !strings.Contains(message, "EventTypes") {
				t.Fatalf("got %v, want %v; %s", got, c.want, message)
			}
			if children := *stack.Node().FindChild(jsii.String("Hub")).Node().Children(); c.want != nil && len(children) > 0 {
				t.Errorf("the hub created %v before its error", children)
			}
		})
	}

	stack := newStack()
	alone := types(55)
	alone.Detects = []*defenderhub.DetectProps{{SelfManaged: &defenderhub.SelfManagedProps{Prebuilt: prebuilt}, Profiles: behaviors(300, defender.Low)}}
	got, _ := faults(t, func() { defenderhub.NewForwarder(stack, jsii.String("Forwarder"), alone) })
	if want := []string{""}; !slices.Equal(got, want) {
		t.Errorf("a forwarder without the facade: got %v, want %v", got, want)
	}
}

func TestPropsThatTheFacadeSetsAreErrors(t *testing.T) {
	stack := newStack()
	queue, errors := awssqs.NewQueue(stack, jsii.String("Queue"), nil), awssqs.NewQueue(stack, jsii.String("Errors"), nil)
	topic := awssns.NewTopic(stack, jsii.String("Topic"), nil)
	key := awskms.NewKey(stack, jsii.String("Key"), nil)
	got, _ := faults(t, func() {
		defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{
			Rules:     &defenderhub.RulesProps{Queue: queue, ErrorQueue: errors, EncryptionKey: key},
			Forwarder: &defenderhub.ForwarderProps{AuditTopic: topic, DetectTopic: topic, Detects: []*defenderhub.DetectProps{nativeDetect()}},
			Detect:    connected(stack, nativeDetect()),
		})
	})
	want := []string{"Rules.Queue", "Rules.ErrorQueue", "Rules.EncryptionKey", "Detect.Forwarder", "Forwarder.Detects", "Forwarder.AuditTopic", "Forwarder.DetectTopic"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestWrongPropsCreateNoResource(t *testing.T) {
	stack := newStack()
	faults(t, func() {
		defenderhub.NewDefenderHub(stack, jsii.String("Hub"), &defenderhub.DefenderHubProps{Forward: []defender.Source{99}})
	})
	if children := *stack.Node().FindChild(jsii.String("Hub")).Node().Children(); len(children) > 0 {
		t.Errorf("the hub created %v before its error", children)
	}
}

func TestPropsOfTheCallerAreNotChanged(t *testing.T) {
	props := withPrebuilt(&defenderhub.DefenderHubProps{
		Detect: nativeDetect(), Rules: &defenderhub.RulesProps{}, Subscriptions: &defenderhub.ProductSubscriptionsProps{},
		Forward: []defender.Source{defender.DeviceEvents, defender.RejectedReports},
	})
	audit, detect, rules, forwarder := *props.Audit, *props.Detect, *props.Rules, *props.Forwarder
	defenderhub.NewDefenderHub(newStack(), jsii.String("Hub"), props)
	if text(audit.EncryptionKey) != text(props.Audit.EncryptionKey) || detect.EncryptionKey != props.Detect.EncryptionKey ||
		rules.Sources != nil || props.Rules.Sources != nil || forwarder.AuditTopic != props.Forwarder.AuditTopic ||
		!slices.Equal(props.Forward, []defender.Source{defender.DeviceEvents, defender.RejectedReports}) {
		t.Error("the caller's props changed")
	}
}
