package devicedefender_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/devicedefender"
)

const iotARN = "arn:aws:iot:us-east-1:123456789012:"

func document(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

func allow(action, resource string) string {
	return `{"Effect":"Allow","Action":"` + action + `","Resource":"` + resource + `"}`
}

func deny(action, resource string) string {
	return `{"Effect":"Deny","Action":"` + action + `","Resource":"` + resource + `"}`
}

func allowIf(action, resource, condition string) string {
	return `{"Effect":"Allow","Action":"` + action + `","Resource":"` + resource + `","Condition":` + condition + `}`
}

const attached = `{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}`

// The cases that name a page are AWS's own examples.
func TestPolicyIsOverlyPermissive(t *testing.T) {
	everything := "iot:Connect, iot:Publish, iot:Subscribe, iot:DeleteThingShadow, iot:GetThingShadow, iot:UpdateThingShadow, " +
		"iot:DescribeJobExecution, iot:GetPendingJobExecutions, iot:StartNextPendingJobExecution, iot:UpdateJobExecution"
	for _, tt := range []struct {
		name, document string
		actions        string // that are too broad, "" for a compliant policy
	}{
		{"everything", allowAll, everything},
		{"everything of IoT", document(allow("iot:*", "*")), everything},
		{"AWS: any client", document(allow("iot:Connect", iotARN+"client/*")), "iot:Connect"},
		{"AWS: any client id without a thing", document(allow("iot:Connect", iotARN+"client/${iot:ClientId}")), "iot:Connect"},
		{"AWS: own client id of a thing", document(allowIf("iot:Connect", iotARN+"client/${iot:ClientId}", attached)), ""},
		{"AWS: own thing name", document(allowIf("iot:Connect", iotARN+"client/${iot:Connection.Thing.ThingName}", attached)), ""},
		{"any client of a kind", document(allow("iot:Connect", iotARN+"client/sensor-*")), "iot:Connect"},
		{"one character of any", document(allow("iot:Connect", iotARN+"client/sensor-?")), "iot:Connect"},
		{"several clients of a thing", document(allow("iot:Connect", iotARN+"client/${iot:Connection.Thing.ThingName}-*")), ""},
		{"one client", document(allow("iot:Connect", iotARN+"client/sensor-1")), ""},
		{"any client from one network", document(allowIf("iot:Connect", iotARN+"client/*", `{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`)), "iot:Connect"},
		{"any client id equal to its thing", document(allowIf("iot:Connect", iotARN+"client/*", `{"StringEquals":{"iot:ClientId":"${iot:Connection.Thing.ThingName}"}}`)), ""},
		{"any client, denied without a thing", document(allow("iot:Connect", iotARN+"client/*"),
			`{"Effect":"Deny","Action":"iot:Connect","Resource":"*","Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"false"}}}`), ""},
		{"any client, denied from some network", document(allow("iot:Connect", iotARN+"client/*"),
			`{"Effect":"Deny","Action":"iot:Connect","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}`), "iot:Connect"},
		{"all but connecting", document(`{"Effect":"Allow","NotAction":["iot:Publish","iot:Subscribe","iot:*Thing*","iot:*Job*"],"Resource":"*"}`), "iot:Connect"},
		{"all clients but one", document(`{"Effect":"Allow","Action":"iot:Connect","NotResource":"` + iotARN + `client/admin"}`), "iot:Connect"},
		{"AWS: shadow of any thing", document(allow("iot:Publish", iotARN+"topic/$aws/things/*/shadow/update")), "iot:Publish"},
		{"AWS: anything of any thing", document(allow("iot:Publish", iotARN+"topic/$aws/things/*")), "iot:Publish"},
		{"AWS: own shadow", document(allow("iot:Publish", iotARN+"topic/$aws/things/${iot:Connection.Thing.ThingName}/shadow/*")), ""},
		{"any topic of things of a type", document(allowIf("iot:Publish", "*", `{"StringEquals":{"iot:Connection.Thing.ThingTypeName":"pump"}}`)), "iot:Publish"},
		{"topics of the application", document(allow("iot:Publish", iotARN+"topic/building/*")), ""},
		{"AWS: filters of any thing", document(allow("iot:Subscribe", iotARN+"topicfilter/$aws/things/*")), "iot:Subscribe"},
		{"AWS: one filter with #", document(allow("iot:Subscribe", iotARN+"topicfilter/$aws/things/#")), "iot:Subscribe"},
		{"AWS: one filter with +", document(allow("iot:Subscribe", iotARN+"topicfilter/$aws/things/+/shadow/update")), "iot:Subscribe"},
		{"AWS: own filters", document(allow("iot:Subscribe", iotARN+"topicfilter/$aws/things/${iot:Connection.Thing.ThingName}/jobs/*")), ""},
		{"AWS: receive from any thing", document(allow("iot:Receive", iotARN+"topic/$aws/things/*")), ""},
		{"AWS: shadow of any thing over HTTP", document(allow("iot:GetThingShadow", iotARN+"thing/*")), "iot:GetThingShadow"},
		{"AWS: shadows of two things", document(`{"Effect":"Allow","Action":"iot:GetThingShadow","Resource":["` + iotARN + `thing/MyThing1","` + iotARN + `thing/MyThing2"]}`), ""},
		{"shadow of things of a kind", document(allow("iot:GetThingShadow", iotARN+"thing/sensor-*")), "iot:GetThingShadow"},
		{"allowed and denied", document(allow("*", "*"), deny("*", "*")), ""},
		{"denied in part", document(allow("iot:Connect", "*"), deny("iot:Connect", iotARN+"client/admin")), "iot:Connect"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, devicedefender.Config{})
			w.policy("p", tt.document)
			w.policy("tidy", tidy)
			w.enable()
			task := w.audit(defender.IoTPolicyOverlyPermissive)
			found := w.findings(task)
			if tt.actions == "" {
				if len(found) != 0 || w.describe(task).TaskStatistics.CompliantChecks == nil {
					t.Fatalf("found %v, want a compliant policy", found)
				}
				return
			}
			want := "Policy allows broad access to IoT data plane actions: [" + tt.actions + "]."
			if len(found) != 1 || *found[0].ReasonForNonCompliance != want || identifier(found[0].NonCompliantResource.ResourceIdentifier) != "p/1" {
				t.Fatalf("found %d: %+v, want %s", len(found), found, want)
			}
		})
	}
}

func TestOnlyTheDefaultVersionOfAPolicyCounts(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	w.policy("p", allowAll)
	w.newVersion("p", tidy)
	if status, counts, found := w.result(defender.IoTPolicyOverlyPermissive); status != "COMPLETED_COMPLIANT" || counts != "0/1" {
		t.Errorf("fixed: %s %s %v", status, counts, found)
	}
	w.newVersion("p", allowAll)
	if _, counts, found := w.result(defender.IoTPolicyOverlyPermissive); counts != "1/1" || !slices.Equal(found, []string{"p/3:ALLOWS_BROAD_ACCESS_TO_IOT_DATA_PLANE_ACTIONS"}) {
		t.Errorf("broken again: %s %v", counts, found)
	}
}

func TestPolicyIsMisconfigured(t *testing.T) {
	const wildcard = "POLICY_CONTAINS_MQTT_WILDCARDS_IN_DENY_STATEMENT"
	filter, receive := iotARN+"topicfilter/building/", iotARN+"topic/building/"
	for _, tt := range []struct {
		name, document string
		codes          []string
	}{
		{"AWS: MQTT wildcard in a denial", document(allow("iot:Subscribe", filter+"*"), deny("iot:Subscribe", filter+"control_room/#"), allow("iot:Receive", receive+"*")), []string{wildcard}},
		{"AWS: denied to receive as well", document(allow("iot:Subscribe", filter+"*"), deny("iot:Subscribe", filter+"control_room/*"),
			allow("iot:Receive", receive+"*"), deny("iot:Receive", receive+"control_room/*")), nil},
		{"no filter reaches the denied topic", document(allow("iot:Subscribe", filter+"hall/*"), deny("iot:Subscribe", filter+"control_room/*"), allow("iot:Receive", receive+"*")), nil},
		{"wildcard in a denied topic", document(allow("iot:*", "*"), deny("iot:Subscribe", filter+"control_room/*"), deny("iot:Publish", receive+"+/set")), []string{wildcard}},
		{"MQTT wildcard in an allowance", document(allow("iot:Subscribe", filter+"#"), allow("iot:Receive", receive+"*")), nil},
		{"no denial", allowAll, nil},
		{"MQTT wildcard in a client id", document(deny("iot:Connect", iotARN+"client/a+b")), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, devicedefender.Config{})
			w.policy("p", tt.document)
			w.enable()
			var want []string
			for _, code := range tt.codes {
				want = append(want, "p/1:"+code)
			}
			status, counts, found := w.result(defender.IoTPolicyPotentialMisconfiguration)
			if !slices.Equal(found, want) || (status == "COMPLETED_COMPLIANT") != (want == nil) || (counts == "0/1") != (want == nil) {
				t.Errorf("%s %s %v, want %v", status, counts, found, want)
			}
		})
	}
}
