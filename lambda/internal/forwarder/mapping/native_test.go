package mapping_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
)

// native is a finding of AWS's own integration.
type native struct {
	Title, Description, SourceUrl string
	Types                         []string
	ProductFields                 map[string]string
	Resources                     []asff.Resource
	FindingProviderFields         asff.FindingProviderFields
}

// compare requires that our finding has all fields of AWS's own, except the named details. Ours may
// have more product fields.
func compare(t *testing.T, sampleName string, ours asff.Finding, except ...string) {
	t.Helper()
	var want native
	if err := json.Unmarshal(sample(t, sampleName), &want); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(want.ProductFields, func(k, _ string) bool { return strings.HasPrefix(k, "aws/securityhub/") })
	for k, v := range want.ProductFields {
		if ours.ProductFields[k] != v {
			t.Errorf("product field %s is %q, AWS sends %q", k, ours.ProductFields[k], v)
		}
	}
	for i, r := range ours.Resources {
		r.Partition, want.Resources[i].Partition = "", ""
		if want.Resources[i].Details != nil {
			maps.DeleteFunc(want.Resources[i].Details.Other, func(k, _ string) bool { return strings.Contains(strings.Join(except, " "), k) })
		}
		if !reflect.DeepEqual(r, want.Resources[i]) {
			t.Errorf("resource %+v, AWS sends %+v", r, want.Resources[i])
		}
	}
	fields := ours.FindingProviderFields
	fields.Severity.Original, fields.RelatedFindings = "", nil // more than AWS sends
	if ours.Title != want.Title || ours.SourceURL != want.SourceUrl || !strings.HasPrefix(ours.Description, want.Description) || !reflect.DeepEqual(fields, want.FindingProviderFields) {
		t.Errorf("ours %q, %q, %q, %v\nAWS's %q, %q, %q, %v", ours.Title, ours.Description, ours.SourceURL, fields, want.Title, want.Description, want.SourceUrl, want.FindingProviderFields)
	}
}

func TestAuditFindingsLookLikeNativeOnes(t *testing.T) {
	task := mapping.AuditTask{ID: "9f71b6e90cfb57d4ac671be3a4898e6a", Type: "ON_DEMAND_AUDIT_TASK", Status: "COMPLETED", Started: 1667772700554}
	compare(t, "asff-native-audit", mapper("us-west-2").AuditFinding(task, auditFindings(t, "list-audit-findings").Findings[0]).Finding)
}

func TestAuditFindingsAreRelatedToTheirCheckSummary(t *testing.T) {
	found := auditFindings(t, "list-audit-findings").Findings[0]
	for _, task := range []mapping.AuditTask{
		{ID: "t", Type: "ON_DEMAND_AUDIT_TASK"}, {ID: "t", Type: "SCHEDULED_AUDIT_TASK", Schedule: "daily"},
	} {
		task.Checks = []mapping.AuditCheck{{Name: aws.ToString(found.CheckName), Status: "COMPLETED_NON_COMPLIANT"}}
		summary := mapper("us-west-2").CheckSummaries(task)[0].Finding
		related := mapper("us-west-2").AuditFinding(task, found).Finding.FindingProviderFields.RelatedFindings
		if len(related) != 1 || related[0].ID != summary.ID || related[0].ProductARN != summary.ProductARN {
			t.Errorf("related to %v, want the summary %s", related, summary.ID)
		}
	}
}

func TestCheckSummariesLookLikeNativeOnes(t *testing.T) {
	task := mapping.AuditTask{
		ID: "f3021945485adf92487c273558fcaa51", Type: "SCHEDULED_AUDIT_TASK", Schedule: "daily_audit_schedule", Status: "COMPLETED",
		Checks: []mapping.AuditCheck{{Name: "DEVICE_CERTIFICATE_KEY_QUALITY_CHECK", Status: "COMPLETED_NON_COMPLIANT", NonCompliant: 2, Suppressed: 1, Total: 1000}},
	}
	compare(t, "asff-native-check-summary", mapper("us-east-1").CheckSummaries(task)[0].Finding)
}

func TestDetectFindingsLookLikeNativeOnes(t *testing.T) {
	alert := `{"violationEventTime":1668033900000,"thingName":"MyThing","securityProfileName":"MySecurityProfile",
		"behavior":{"name":"MyBehavior","metric":"aws:num-disconnects","criteria":{"comparisonOperator":"less-than","value":{"count":1},
		"durationSeconds":300,"consecutiveDatapointsToAlarm":1,"consecutiveDatapointsToClear":1}},
		"violationEventType":"in-alarm","metricValue":{"count":2},"violationId":"e92a782593c6f5b1fc7cb6a443dc1a12"}`
	s, err := mapper("us-east-1").Detect([]byte(alert), mapping.Origin{Account: account, Region: "us-east-1", Sent: sent})
	if err != nil {
		t.Fatal(err)
	}
	// An alarm does not say whether the thing is registered.
	compare(t, "asff-native-detect", s.Finding, "IsRegisteredThing")
}

func TestDetectIDsEqualTheSample(t *testing.T) {
	var request struct{ Findings []asff.Finding }
	if err := json.Unmarshal(sample(t, "batch-import-findings-request"), &request); err != nil {
		t.Fatal(err)
	}
	want := request.Findings[0]
	got := recorded(t)["detect"][0].Finding
	if got.ID != want.ID || got.ProductARN != want.ProductARN || got.GeneratorID != want.GeneratorID {
		t.Errorf("got %s, %s, %s, want %s, %s, %s", got.ID, got.ProductARN, got.GeneratorID, want.ID, want.ProductARN, want.GeneratorID)
	}
}
