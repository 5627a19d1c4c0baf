package defenderhub_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
)

func detectTemplate(t *testing.T, props defenderhub.DetectProps) template {
	t.Helper()
	stack := newStack()
	if props.Native == nil {
		props.Native = &defenderhub.NativeProps{}
	}
	defenderhub.NewDetect(stack, jsii.String("Detect"), &props)
	return synth(t, stack)
}

func TestWithoutEngineNothingIsDeployed(t *testing.T) {
	for _, props := range []*defenderhub.DetectProps{nil, {}} {
		detect := defenderhub.NewDetect(newStack(), jsii.String("Detect"), props)
		if len(*detect.Node().Children()) > 0 || detect.Native() != nil || detect.SelfManaged() != nil {
			t.Errorf("%v deploys %v", props, *detect.Node().Children())
		}
	}
}

func TestDemoProfileIsThatOfTheAWSWalkthrough(t *testing.T) {
	p := detectTemplate(t, defenderhub.DetectProps{Behaviors: defender.DemoBehaviors()}).one(t, "AWS::IoT::SecurityProfile").Properties
	want := `[{"Criteria":{"ComparisonOperator":"less-than","ConsecutiveDatapointsToAlarm":1,"ConsecutiveDatapointsToClear":1,"Value":{"Count":"8"}},"Metric":"aws:message-byte-size","Name":"small-messages"}]`
	if got := text(p["Behaviors"]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	want = `[{"Fn::Join":["",["arn:",{"Ref":"AWS::Partition"},":iot:",{"Ref":"AWS::Region"},":",{"Ref":"AWS::AccountId"},":all/things"]]}]`
	if got := text(p["TargetArns"]); got != want {
		t.Errorf("targets %s, want %s", got, want)
	}
	if p["SecurityProfileName"] != nil {
		t.Errorf("physical name %v, want none", p["SecurityProfileName"])
	}
}

func TestEveryKindOfCriteriaReachesCloudFormation(t *testing.T) {
	for _, c := range []struct {
		criteria defender.Criteria
		want     string
	}{
		{defender.MessagesSent.LessThanEquals(5, defender.Window15m), `{"ComparisonOperator":"less-than-equals","DurationSeconds":900,"Value":{"Count":"5"}}`},
		{defender.DisconnectDuration.LessThan(60), `{"ComparisonOperator":"less-than","Value":{"Count":"60"}}`},
		{defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("10.0.0.0/8")), `{"ComparisonOperator":"in-cidr-set","Value":{"Cidrs":["10.0.0.0/8"]}}`},
		{defender.ListeningTCPPorts.NotInPorts(23, 65535), `{"ComparisonOperator":"not-in-port-set","Value":{"Ports":[23,65535]}}`},
		{defender.MessageByteSize.LessThanPercentile(defender.P99_9, defender.Window1h), `{"ComparisonOperator":"less-than","DurationSeconds":3600,"StatisticalThreshold":{"Statistic":"p99.9"}}`},
		{defender.AllBytesOut.Learned(defender.HighConfidence), `{"MlDetectionConfig":{"ConfidenceLevel":"HIGH"}}`},
		{defender.CustomNumber("temperature").LessThan(40.5, defender.Window5m), `{"ComparisonOperator":"less-than","DurationSeconds":300,"Value":{"Number":40.5}}`},
		{defender.CustomNumberList("levels").In(1, 2.5), `{"ComparisonOperator":"in-set","Value":{"Numbers":[1,2.5]}}`},
		{defender.CustomStringList("modules").NotIn("telnetd"), `{"ComparisonOperator":"not-in-set","Value":{"Strings":["telnetd"]}}`},
		{defender.CustomIPAddressList("peers").NotInCIDRs(netip.MustParsePrefix("2001:db8::/32")), `{"ComparisonOperator":"not-in-cidr-set","Value":{"Cidrs":["2001:db8::/32"]}}`},
	} {
		tp := detectTemplate(t, defenderhub.DetectProps{Behaviors: []defender.Behavior{{Name: "b", Criteria: c.criteria, ToAlarm: 2, ToClear: 3}}})
		profile := tp.one(t, "AWS::IoT::SecurityProfile")
		got := path(profile.Properties["Behaviors"].([]any)[0], "Criteria").(map[string]any)
		if got["ConsecutiveDatapointsToAlarm"] != 2.0 || got["ConsecutiveDatapointsToClear"] != 3.0 {
			t.Errorf("%s: want 2 datapoints to alarm and 3 to clear in %s", c.criteria.Normal(), text(got))
		}
		delete(got, "ConsecutiveDatapointsToAlarm")
		delete(got, "ConsecutiveDatapointsToClear")
		if text(got) != c.want {
			t.Errorf("%s: got %s, want %s", c.criteria.Normal(), text(got), c.want)
		}
		custom := c.criteria.Metric().CustomMetricType()
		if custom == "" {
			continue
		}
		metric := tp.one(t, "AWS::IoT::CustomMetric")
		if metric.Properties["MetricType"] != custom || metric.Properties["MetricName"] != c.criteria.Metric().Name {
			t.Errorf("custom metric %v, want %s of type %s", metric.Properties, c.criteria.Metric().Name, custom)
		}
		if !slices.Equal(profile.DependsOn, tp.ids("AWS::IoT::CustomMetric")) {
			t.Errorf("the profile depends on %v, want the custom metric", profile.DependsOn)
		}
	}
}

func TestProfilesTargetsAndRetainedMetrics(t *testing.T) {
	stack := newStack()
	shared := defender.CustomNumber("temperature")
	detect := defenderhub.NewDetect(stack, jsii.String("Detect"), &defenderhub.DetectProps{
		Behaviors: []defender.Behavior{{Name: "quiet", Criteria: shared.LessThan(40, defender.Window5m), SuppressAlerts: true}},
		Targets:   []defender.Target{defender.RegisteredThings, defender.ThingGroup("pumps")},
		Profiles: []defender.SecurityProfile{
			{Name: "gateways", Description: "Gateways", Behaviors: []defender.Behavior{{Name: "hot", Criteria: shared.LessThan(60, defender.Window5m)}}},
			{RetainedMetrics: []defender.Metric{defender.MessagesSent, defender.CustomStringList("modules")}},
		},
		Native: &defenderhub.NativeProps{RetainedMetrics: []defender.Metric{defender.Disconnects}, ExistingCustomMetrics: []string{"modules"}},
	}).Native()
	if got := len(detect.Profiles()); got != 3 || len(detect.ProfileNames()) != 3 {
		t.Errorf("%d profiles, want 3", got)
	}
	if metrics := detect.CustomMetrics(); len(metrics) != 1 || metrics["temperature"] == nil {
		t.Errorf("custom metrics %v, want temperature alone", metrics)
	}
	tp := synth(t, stack)
	byID := map[string]string{}
	for _, id := range tp.ids("AWS::IoT::SecurityProfile") {
		byID[id[:len(id)-8]] = text(tp[id].Properties) // without the CDK's hash
	}
	for id, parts := range map[string][]string{
		"DetectProfile":         {":all/registered-things", ":thinggroup/pumps", `"SuppressAlerts":true`, `"AdditionalMetricsToRetainV2":[{"Metric":"aws:num-disconnects"}]`},
		"DetectProfilegateways": {`"SecurityProfileName":"gateways"`, `"SecurityProfileDescription":"Gateways"`, ":all/things", `"Name":"hot"`},
		"DetectProfile1":        {`"AdditionalMetricsToRetainV2":[{"Metric":"aws:num-messages-sent"},{"Metric":"modules"}]`},
	} {
		for _, part := range parts {
			if !strings.Contains(byID[id], part) {
				t.Errorf("%s lacks %s: %s", id, part, byID[id])
			}
		}
	}
}

func TestBehaviorsShareDimensions(t *testing.T) {
	filters := &defender.Dimension{TopicFilters: []string{"fleet/${iot:ClientId}/data"}}
	tp := detectTemplate(t, defenderhub.DetectProps{Behaviors: []defender.Behavior{
		{Name: "in", Criteria: defender.MessageByteSize.LessThan(8), Dimension: filters},
		{Name: "out", Criteria: defender.MessagesSent.LessThan(8, defender.Window5m), Dimension: &defender.Dimension{TopicFilters: filters.TopicFilters, NotIn: true}},
	}})
	dimension := tp.one(t, "AWS::IoT::Dimension")
	if dimension.Properties["Type"] != "TOPIC_FILTER" || text(dimension.Properties["StringValues"]) != `["fleet/${iot:ClientId}/data"]` || dimension.Properties["Name"] != nil {
		t.Errorf("got the dimension %v, want one with the topic filter and no name", dimension.Properties)
	}
	ref := `{"DimensionName":{"Ref":"` + tp.ids("AWS::IoT::Dimension")[0] + `"},"Operator":`
	behaviors := tp.one(t, "AWS::IoT::SecurityProfile").Properties["Behaviors"].([]any)
	for i, operator := range []string{`"IN"}`, `"NOT_IN"}`} {
		if got := text(path(behaviors[i], "MetricDimension")); got != ref+operator {
			t.Errorf("got %s, want %s", got, ref+operator)
		}
	}
}

func TestAlertsGoToTheGivenTopic(t *testing.T) {
	stack := newStack()
	topic := awssns.NewTopic(stack, jsii.String("Own"), nil)
	detect := defenderhub.NewDetect(stack, jsii.String("Detect"), &defenderhub.DetectProps{Behaviors: defender.DemoBehaviors(), Native: &defenderhub.NativeProps{Topic: topic}}).Native()
	if detect.Topic() != awssns.ITopic(topic) || detect.Key() != nil {
		t.Error("a new topic or key, want the given topic alone")
	}
	tp := synth(t, stack)
	target := text(path(tp.one(t, "AWS::IoT::SecurityProfile").Properties, "AlertTargets", "SNS"))
	if !strings.Contains(target, tp.ids("AWS::SNS::Topic")[0]) {
		t.Errorf("alerts go to %s, want the given topic", target)
	}
	role := text(tp.one(t, "AWS::IAM::Role").Properties)
	if !strings.Contains(role, "securityprofile/*") || strings.Contains(role, "kms:") {
		t.Errorf("the role is %s, want the security profiles in it and no key", role)
	}
}

func TestDeployTimeNamesAreNotValidated(t *testing.T) {
	group, other := *awscdk.Fn_ImportValue(jsii.String("Group")), *awscdk.Fn_ImportValue(jsii.String("Other"))
	tp := detectTemplate(t, defenderhub.DetectProps{
		Behaviors: []defender.Behavior{{Name: group, Criteria: defender.MessageByteSize.LessThan(8), Dimension: &defender.Dimension{TopicFilters: []string{group + "/#/+", other}}}},
		Targets:   []defender.Target{defender.ThingGroup(group), defender.ThingGroup(other), defender.AllThings},
		Profiles:  []defender.SecurityProfile{{Name: group, Description: group, RetainedMetrics: []defender.Metric{defender.Disconnects}}},
	})
	for id, r := range tp {
		if strings.Contains(id, "TOKEN") || strings.Contains(text(r), "Token[") {
			t.Errorf("%s contains an unresolved token: %s", id, text(r))
		}
	}
}

func TestErrorForTwoEnginesSaysHowToFixIt(t *testing.T) {
	_, message := faults(t, func() {
		defenderhub.NewDetect(newStack(), jsii.String("Detect"), &defenderhub.DetectProps{
			Behaviors: defender.DemoBehaviors(), Native: &defenderhub.NativeProps{}, SelfManaged: &defenderhub.SelfManagedProps{},
		})
	})
	want := `SelfManaged: "set", want nothing here: Native is set as well, and one engine judges the behaviors. ` +
		"Leave out Native to use no Device Defender Detect, or SelfManaged in an account that has Detect"
	if !strings.HasSuffix(message, "\n"+want) {
		t.Errorf("got %s, want %s", message, want)
	}
}

func TestWrongDetectPropsAreErrors(t *testing.T) {
	demo, native := defender.DemoBehaviors(), &defenderhub.NativeProps{}
	number := defender.Behavior{Name: "n", Criteria: defender.CustomNumber("m").LessThan(1, defender.Window5m)}
	token := *awscdk.Fn_ImportValue(jsii.String("Metric"))
	list := defender.Behavior{Name: "l", Criteria: defender.CustomNumberList("m").In(1)}
	profiles := func(n int, targets ...defender.Target) (all []defender.SecurityProfile) {
		for range n {
			all = append(all, defender.SecurityProfile{Behaviors: demo, Targets: targets})
		}
		return all
	}
	// Each list of topic filters is used by two behaviors, which share a dimension.
	filtered := func(lists int) (all []defender.Behavior) {
		for i := range 2 * lists {
			in := &defender.Dimension{TopicFilters: []string{fmt.Sprintf("t/%d", i/2)}, NotIn: i%2 == 1}
			all = append(all, defender.Behavior{Name: fmt.Sprintf("f%d", i), Criteria: defender.MessageByteSize.LessThan(8), Dimension: in})
		}
		return all
	}
	custom := func(metrics int) (all []defender.SecurityProfile) {
		all = []defender.SecurityProfile{{Behaviors: demo}, {Behaviors: demo}}
		for i := range metrics {
			all[i%2].RetainedMetrics = append(all[i%2].RetainedMetrics, defender.CustomNumber(fmt.Sprintf("m%d", i)))
		}
		return all
	}
	for name, c := range map[string]struct {
		props defenderhub.DetectProps
		want  []string
	}{
		"ten dimensions":          {defenderhub.DetectProps{Native: native, Behaviors: filtered(10), Profiles: []defender.SecurityProfile{{Behaviors: filtered(10)}}}, nil},
		"eleven dimensions":       {defenderhub.DetectProps{Native: native, Behaviors: demo, Profiles: []defender.SecurityProfile{{Behaviors: filtered(12)}}}, []string{"Profiles[0].Behaviors[20].Dimension"}},
		"100 custom metrics":      {defenderhub.DetectProps{Native: native, Profiles: custom(100)}, nil},
		"101 custom metrics":      {defenderhub.DetectProps{Native: native, Profiles: custom(101)}, []string{"Behaviors"}},
		"two engines":             {defenderhub.DetectProps{Behaviors: demo, Native: native, SelfManaged: &defenderhub.SelfManagedProps{}}, []string{"SelfManaged"}},
		"native without behavior": {defenderhub.DetectProps{Native: native}, []string{"Behaviors"}},
		"criteria, no engine":     {defenderhub.DetectProps{Behaviors: []defender.Behavior{{Name: "b"}}}, []string{"Behaviors[0].Criteria", "Behaviors"}},
		"behaviors, no engine":    {defenderhub.DetectProps{Behaviors: demo}, []string{"Behaviors"}},
		"profiles, no engine":     {defenderhub.DetectProps{Profiles: profiles(1)}, []string{"Profiles"}},
		"target, metric":          {defenderhub.DetectProps{Behaviors: demo, Targets: []defender.Target{defender.ThingGroup("")}, Native: &defenderhub.NativeProps{RetainedMetrics: []defender.Metric{nil}}}, []string{"Targets[0]", "Native.RetainedMetrics[0]"}},
		"profiles":                {defenderhub.DetectProps{Profiles: []defender.SecurityProfile{{Name: "p"}, {Name: "p", Behaviors: demo}, {Name: "a b", Behaviors: demo}}}, []string{"Profiles[0].Behaviors", "Profiles[1].Name", "Profiles[2].Name", "Profiles"}},
		"one metric, two types":   {defenderhub.DetectProps{Behaviors: []defender.Behavior{number}, Profiles: []defender.SecurityProfile{{Behaviors: []defender.Behavior{list}}}}, []string{"Profiles", "Behaviors"}},
		"metric with a deploy-time name": {defenderhub.DetectProps{
			Behaviors: []defender.Behavior{{Name: "n", Criteria: defender.CustomNumber(token).LessThan(1, defender.Window5m)}, {Name: "o"}},
			Native:    &defenderhub.NativeProps{RetainedMetrics: []defender.Metric{defender.Disconnects, defender.CustomNumber(token)}},
		}, []string{"Behaviors[1].Criteria", "Behaviors[0].Criteria", "Native.RetainedMetrics[1]"}},
		"deploy-time group twice":  {defenderhub.DetectProps{Behaviors: demo, Targets: []defender.Target{defender.ThingGroup(token), defender.ThingGroup(token)}}, []string{"Targets[1]", "Behaviors"}},
		"five profiles per target": {defenderhub.DetectProps{Native: native, Behaviors: demo, Profiles: append(profiles(4), profiles(5, defender.ThingGroup(token))...)}, nil},
		"six profiles per target":  {defenderhub.DetectProps{Native: native, Behaviors: demo, Profiles: append(profiles(5), profiles(7, defender.RegisteredThings)...)}, []string{"Profiles[4].Targets", "Profiles[10].Targets"}},
		"six profiles, no engine":  {defenderhub.DetectProps{Behaviors: demo, Profiles: profiles(5)}, []string{"Behaviors"}},
		"unused existing metric":   {defenderhub.DetectProps{Behaviors: []defender.Behavior{number}, Native: &defenderhub.NativeProps{ExistingCustomMetrics: []string{"m", "o"}}}, []string{"Native.ExistingCustomMetrics[1]"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := faults(t, func() { defenderhub.NewDetect(newStack(), jsii.String("Detect"), &c.props) })
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
