package mapping_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

func TestEndEventsArchiveTheirFindings(t *testing.T) {
	all := recorded(t)
	for name, want := range map[string]asff.RecordState{
		"detect": asff.Active, "detect-cleared": asff.Archived, "detect-invalidated": asff.Archived,
		"device-event": asff.Active, "device-event-cleared": asff.Archived,
		"check-summary": asff.Active, "check-summary-canceled": asff.Archived,
	} {
		if got := all[name][0].Finding.RecordState; got != want {
			t.Errorf("%s: state %s, want %s", name, got, want)
		}
	}
	if a, b := all["device-event"][0].Finding.ID, all["device-event-cleared"][0].Finding.ID; a != b {
		t.Errorf("raised with the ID %s, cleared with %s", a, b)
	}
	if a, b := all["detect-cleared"][0].Finding.ID, all["detect-invalidated"][0].Finding.ID; a != b {
		t.Errorf("cleared with the ID %s, invalidated with %s", a, b)
	}
}

func TestTopicNeverIdentifiesTheDevice(t *testing.T) {
	s := recorded(t)["device-event-mismatch"][0]
	if !strings.HasSuffix(s.Finding.ID, "/pump-7/tamper") || s.Finding.ProductFields["TopicMismatch"] != "pump-8" || !strings.Contains(s.Finding.Description, "pump-8") {
		t.Errorf("ID %s, product fields %v; want pump-7's, with the mismatch pump-8", s.Finding.ID, s.Finding.ProductFields)
	}
	if f := recorded(t)["device-event"][0].Finding; f.ProductFields["TopicMismatch"] != "" {
		t.Errorf("mismatch %q, want none", f.ProductFields["TopicMismatch"])
	}
}

func TestMismatchIsMentionedEvenInAFullDescription(t *testing.T) {
	payload := []byte(`{"type":"tamper","description":"` + strings.Repeat("ä", 1024) + `"}`)
	s, err := rule(mapper("us-east-1"), envelope(t, defender.DeviceEvents, "defenderhub/events/other", payload, map[string]any{"clientId": "pump-7"}))
	if err != nil || !strings.HasSuffix(s.Finding.Description, "The topic names another sender: other.") {
		t.Errorf("error %v, description ends in %q", err, s.Finding.Description[max(0, len(s.Finding.Description)-60):])
	}
}

func TestPayloadCannotChooseTheDevice(t *testing.T) {
	payload := []byte(`{"type":"tamper","details":{"clientId":"victim","ClientId":"victim"}}`)
	s, err := rule(mapper("us-east-1"), envelope(t, defender.DeviceEvents, "defenderhub/events/pump-7", payload, map[string]any{"clientId": "pump-7"}))
	if err != nil || s.Finding.ProductFields["ClientId"] != "pump-7" || s.Finding.Resources[0].ID != "pump-7" {
		t.Errorf("error %v, product fields %v; want pump-7's", err, s.Finding.ProductFields)
	}
}

// certificateID is the ID of an X.509 certificate.
var certificateID = strings.Repeat("ab12", 16)

func TestSendersWithoutClientIDAreIdentifiedByPrincipalOrTopic(t *testing.T) {
	payload := []byte(`{"type":"tamper"}`)
	for _, c := range []struct {
		more map[string]any
		id   string
	}{
		{map[string]any{"clientId": "n/a", "principal": "p1"}, "defenderhub/device-event/us-east-1/principal/p1/tamper"},
		{map[string]any{"clientId": "n/a", "principal": "AROAEXAMPLE:a"}, "defenderhub/device-event/us-east-1/principal/AROAEXAMPLE/tamper"},
		{map[string]any{"clientId": "n/a", "principal": "AROAEXAMPLE:b/c"}, "defenderhub/device-event/us-east-1/principal/AROAEXAMPLE/tamper"},
		{map[string]any{"clientId": "n/a", "principal": "AROAEXAMPLE:" + certificateID}, "defenderhub/device-event/us-east-1/principal/AROAEXAMPLE:" + certificateID + "/tamper"},
		{map[string]any{"clientId": "n/a", "principal": "us-east-1:0123-cognito"}, "defenderhub/device-event/us-east-1/principal/us-east-1:0123-cognito/tamper"},
		{map[string]any{"clientId": "n/a"}, "defenderhub/device-event/us-east-1/topic/defenderhub%2Fevents%2Fx/tamper"},
	} {
		s, err := rule(mapper("us-east-1"), envelope(t, defender.DeviceEvents, "defenderhub/events/x", payload, c.more))
		if err != nil || s.Finding.ID != c.id {
			t.Errorf("%v: error %v, ID %s, want %s", c.more, err, s.Finding.ID, c.id)
		}
		if want, _ := c.more["principal"].(string); s.Finding.ProductFields["Principal"] != want {
			t.Errorf("%v: product field Principal %q, want all of it", c.more, s.Finding.ProductFields["Principal"])
		}
		if f := s.Finding; f.ProductFields["TopicMismatch"] != "" || !strings.HasSuffix(f.Description, " The topic names x, but the sender has no client ID that proves it.") {
			t.Errorf("product fields %v, description %q; want no mismatch, because there is no client ID", f.ProductFields, f.Description)
		}
	}
}

func TestUnreadableRejectionsAreStillFindings(t *testing.T) {
	for _, topic := range []string{"$aws/things/myThing/defender/metrics/json/rejected", "$aws/things/myThing/defender/metrics/cbor/rejected"} {
		s, err := rule(mapper("us-east-1"), envelope(t, defender.RejectedReports, topic, []byte{0xff, 0x00}, nil))
		if err != nil || s.Finding.ID != "defenderhub/rejected-report/us-east-1/myThing/Unknown" || !strings.Contains(s.Finding.Description, "could not be read") {
			t.Errorf("%s: error %v, ID %s, description %q", topic, err, s.Finding.ID, s.Finding.Description)
		}
	}
}

func TestMessageThatCannotBecomeAFindingIsRefused(t *testing.T) {
	m := mapper("us-east-1")
	here := mapping.Origin{Account: account, Region: "us-east-1", Sent: sent}
	detect := func(body string) error { _, err := m.Detect([]byte(body), here); return err }
	audit := func(body string, o mapping.Origin) error { _, err := m.AuditTask([]byte(body), o); return err }
	byRule := func(source defender.Source, topic, payload string) error {
		_, err := rule(m, envelope(t, source, topic, []byte(payload), nil))
		return err
	}
	for name, err := range map[string]error{
		"not JSON":                     detect(`{`),
		"no behavior":                  detect(`{"violationId":"v","thingName":"t","securityProfileName":"p","violationEventType":"in-alarm"}`),
		"unknown event type":           detect(`{"violationId":"v","thingName":"t","securityProfileName":"p","behavior":{"name":"b"},"violationEventType":"asleep"}`),
		"audit without task":           audit(`{"taskStartTime":1}`, here),
		"audit without start":          audit(`{"taskId":"t"}`, here),
		"audit of another account":     audit(`{"taskId":"t","taskStartTime":1524740766191,"accountId":"210987654321"}`, here),
		"audit of another Region":      audit(`{"taskId":"t","taskStartTime":1524740766191}`, mapping.Origin{Region: "eu-west-1", Sent: sent}),
		"device event without type":    byRule(defender.DeviceEvents, "defenderhub/events/x", `{}`),
		"device event, unknown field":  byRule(defender.DeviceEvents, "defenderhub/events/x", `{"type":"a","more":1}`),
		"disconnect without client ID": byRule(defender.SecurityDisconnects, "other", `{"disconnectReason":"AUTH_ERROR"}`),
		"disconnect without reason":    byRule(defender.SecurityDisconnects, "other", `{"clientId":"c"}`),
		"disconnect that is not JSON":  byRule(defender.SecurityDisconnects, "other", `x`),
		"rejection without thing":      byRule(defender.RejectedReports, "other", `{}`),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestConsoleLinksStayInTheirPartition(t *testing.T) {
	for partition, want := range map[string]string{
		"aws":        "https://us-east-1.console.aws.amazon.com/iot/home?region=us-east-1#/dd/",
		"aws-cn":     "https://console.amazonaws.cn/iot/home?region=us-east-1#/dd/",
		"aws-us-gov": "https://console.amazonaws-us-gov.com/iot/home?region=us-east-1#/dd/",
	} {
		m := mapper("us-east-1")
		m.Partition = partition
		s, err := m.Detect(sample(t, "sns-detect"), mapping.Origin{Sent: sent})
		if err != nil || !strings.HasPrefix(s.Finding.SourceURL, want) {
			t.Errorf("%s: error %v, source URL %s, want %s", partition, err, s.Finding.SourceURL, want)
		}
		if arn := s.Finding.GeneratorID; !strings.HasPrefix(arn, "arn:"+partition+":iot:") {
			t.Errorf("%s: generator ID %s is of another partition", partition, arn)
		}
	}
}

func TestSeveritiesOfTheDeploymentWin(t *testing.T) {
	m := mapper("us-east-1")
	m.Severities = contract.Severities{
		Sources:   map[defender.Source]defender.Severity{defender.DetectNotifications: defender.Low, defender.DeviceEvents: defender.High, defender.AuditNotifications: defender.Informational},
		Behaviors: map[string]defender.Severity{"MessagesPub": defender.Critical},
	}
	here := mapping.Origin{Account: account, Region: "us-east-1", Sent: sent}
	label := func(s signal.Signal, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s.Finding.FindingProviderFields.Severity.Label
	}
	device := func(payload string) string {
		return label(rule(m, envelope(t, defender.DeviceEvents, "defenderhub/events/c", []byte(payload), map[string]any{"clientId": "c"})))
	}
	task := mapping.AuditTask{ID: "t", Started: 1}
	for name, got := range map[string][2]string{
		"behavior":        {label(m.Detect(sample(t, "sns-detect"), here)), "CRITICAL"},
		"source":          {label(m.Detect(sample(t, "sns-detect-ports"), here)), "LOW"},
		"event's own":     {device(`{"type":"a","severity":"LOW"}`), "LOW"},
		"event's default": {device(`{"type":"a"}`), "HIGH"},
		"audit":           {label(m.AuditFinding(task, types.AuditFinding{Severity: "HIGH"}), nil), "INFORMATIONAL"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: severity %s, want %s", name, got[0], got[1])
		}
	}
}

func TestTimesAreReadInMillisecondsAndSeconds(t *testing.T) {
	for text, want := range map[string]int64{"1573786800000": 1573786800000, "1573786800.5": 1573786800500, "1.5737868e9": 1573786800000} {
		alert := strings.Replace(string(sample(t, "sns-detect")), "1573786800000", text, 1)
		s, err := mapper("us-east-1").Detect([]byte(alert), mapping.Origin{Sent: sent})
		if err != nil || s.Time != want {
			t.Errorf("time %s: got %d, error %v, want %d", text, s.Time, err, want)
		}
	}
}

func TestTimeInTheFutureCountsAsTheTimeOfSending(t *testing.T) {
	alert := strings.Replace(string(sample(t, "sns-detect")), "1573786800000", "4102444800000", 1)
	s, err := mapper("us-east-1").Detect([]byte(alert), mapping.Origin{Sent: sent})
	if err != nil || s.Time != sent.UnixMilli() || s.Order.Time != sent.UnixMilli() {
		t.Errorf("error %v, time %d, order %d, want %d", err, s.Time, s.Order.Time, sent.UnixMilli())
	}
}

func TestOldNamesOfChecksAreUnderstood(t *testing.T) {
	task, err := mapper("us-east-1").AuditTask([]byte(`{"taskId":"t","taskStartTime":1524740766191,"taskStatus":"COMPLETED",
		"auditDetails":[{"checkName":"REVOKED_CA_CERT_CHECK","checkRunStatus":"COMPLETED_NON_COMPLIANT","suppressedNonCompliantResourceCount":3}]}`), mapping.Origin{Sent: sent})
	if err != nil || task.Checks[0].Name != "REVOKED_CA_CERTIFICATE_STILL_ACTIVE_CHECK" || task.Checks[0].Suppressed != 3 {
		t.Errorf("task %+v, error %v", task, err)
	}
}

func TestUnknownChecksAndResourcesAreStillFindings(t *testing.T) {
	s := mapper("us-east-1").AuditFinding(mapping.AuditTask{ID: "t", Started: 1}, types.AuditFinding{CheckName: aws.String("BRAND_NEW_CHECK"), RelatedResources: []types.RelatedResource{{}, {}}})
	accepted(t, "unknown check", s)
	if s.Finding.Title != "BRAND_NEW_CHECK" || s.Check != "BRAND_NEW_CHECK" {
		t.Errorf("title %q, check %q; want BRAND_NEW_CHECK", s.Finding.Title, s.Check)
	}
}

func TestEveryKindOfResourceHasItsOwnFinding(t *testing.T) {
	text := aws.String("same")
	ids := map[string]string{}
	for _, r := range []types.ResourceIdentifier{
		{Account: text}, {CaCertificateId: text}, {ClientId: text}, {CognitoIdentityPoolId: text}, {DeviceCertificateArn: text},
		{DeviceCertificateId: text}, {IamRoleArn: text}, {RoleAliasArn: text},
		{IssuerCertificateIdentifier: &types.IssuerCertificateIdentifier{IssuerId: text, IssuerCertificateSerialNumber: text, IssuerCertificateSubject: text}},
		{PolicyVersionIdentifier: &types.PolicyVersionIdentifier{PolicyName: text, PolicyVersionId: text}},
	} {
		for _, kind := range types.ResourceType("").Values() {
			s := mapper("us-east-1").AuditFinding(mapping.AuditTask{ID: "t", Started: 1}, types.AuditFinding{
				CheckName: aws.String("C"), NonCompliantResource: &types.NonCompliantResource{ResourceType: kind, ResourceIdentifier: &r}})
			accepted(t, string(kind), s)
			ids[s.Finding.ID] += fmt.Sprint(kind)
		}
	}
	// For each kind: one identifier alone, three parts of an issuer, and two of a policy.
	if kinds := len(types.ResourceType("").Values()); len(ids) != 3*kinds {
		t.Errorf("%d IDs, want %d", len(ids), 3*kinds)
	}
}

func FuzzRule(f *testing.F) {
	for _, source := range iotrule.Sources() {
		f.Add(source.String(), "$aws/things/t/defender/metrics/cbor/rejected", sample(f, "report-rejected"), "c", "p")
		f.Add(source.String(), "$aws/events/presence/disconnected/c", sample(f, "lifecycle-disconnected"), "c", "")
		f.Add(source.String(), "defenderhub/events/c", []byte(`{"type":"tamper","details":{"a":"b"}}`), "", "")
	}
	f.Fuzz(func(t *testing.T, source, topic string, payload []byte, clientID, principal string) {
		body, err := json.Marshal(map[string]any{"source": source, "topic": topic, "time": 1789441198000, "clientId": clientID, "principal": principal, "payload": base64.StdEncoding.EncodeToString(payload)})
		if err != nil {
			return
		}
		if s, err := rule(mapper("us-east-1"), body); err == nil {
			accepted(t, source, s)
		}
	})
}

func FuzzDetect(f *testing.F) {
	for _, name := range []string{"", "-cidrs", "-cleared", "-ml", "-numbers", "-statistical", "-strings"} {
		f.Add(sample(f, "sns-detect"+name))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if s, err := mapper("us-east-1").Detect(body, mapping.Origin{Sent: sent}); err == nil {
			accepted(t, "alert", s)
		}
	})
}

func FuzzAuditTask(f *testing.F) {
	for _, name := range []string{"sns-audit", "sns-audit-canceled", "sns-audit-failed-check"} {
		f.Add(sample(f, name))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		task, err := mapper("us-east-1").AuditTask(body, mapping.Origin{Sent: time.Unix(1789441198, 0)})
		if err != nil {
			return
		}
		for _, s := range mapper("us-east-1").CheckSummaries(task) {
			accepted(t, "summary", s)
		}
	})
}

func FuzzAuditFinding(f *testing.F) {
	f.Add(sample(f, "list-audit-findings"))
	task := mapping.AuditTask{ID: "t", Status: "COMPLETED", Type: "ON_DEMAND_AUDIT_TASK", Started: 1789441198000, Ended: 1789441198000}
	f.Fuzz(func(t *testing.T, answer []byte) {
		out, err := readAuditFindings(answer)
		if err != nil {
			return
		}
		for _, finding := range out.Findings {
			accepted(t, "finding", mapper("us-east-1").AuditFinding(task, finding))
		}
	})
}

// Topics of several accounts may feed one queue, and an alarm names no account. One account's
// alarm must not clear another's.
func TestAlertsOfTwoAccountsAreTwoFindings(t *testing.T) {
	m := mapper("us-east-1")
	alert := func(account, region string) asff.Finding {
		s, err := m.Detect(sample(t, "sns-detect"), mapping.Origin{Account: account, Region: region, Sent: sent})
		if err != nil {
			t.Fatal(err)
		}
		return s.Finding
	}
	ids := map[string]string{}
	for _, origin := range [][2]string{{account, "us-east-1"}, {account, "eu-west-1"}, {"210987654321", "us-east-1"}, {"210987654321", "eu-west-1"}} {
		f := alert(origin[0], origin[1])
		if other, ok := ids[f.ID]; ok {
			t.Errorf("%v and %s have the same ID %s", origin, other, f.ID)
		}
		ids[f.ID] = strings.Join(origin[:], " ")
		if f.AWSAccountID != account {
			t.Errorf("%v: account %s, want %s: Security Hub accepts only the caller's", origin, f.AWSAccountID, account)
		}
	}
	if a, b := alert("", ""), alert(account, "us-east-1"); a.ID != b.ID {
		t.Errorf("ID with raw message delivery %s, without %s", a.ID, b.ID)
	}
}

// A refused client chooses its ID: a slash in it must not hide the client.
func TestClientIDsWithSlashesAreRead(t *testing.T) {
	for source, topic := range map[defender.Source]string{
		defender.SecurityDisconnects: "$aws/events/presence/disconnected/", defender.RefusedConnections: "$aws/events/presence/connect_failed/",
	} {
		for _, client := range []string{"pump-7", "site/pump-7", "/", "a//b"} {
			if filter := iotrule.Of(source).TopicFilter; !topicfilter.Matches(filter, topic+client) {
				t.Errorf("topic filter %s does not match %s%s", filter, topic, client)
			}
			payload, err := json.Marshal(map[string]string{"clientId": client, "disconnectReason": "AUTH_ERROR"})
			if err != nil {
				t.Fatal(err)
			}
			for _, payload := range []string{string(payload), `{"disconnectReason":"AUTH_ERROR"}`} {
				s, err := rule(mapper("us-east-1"), envelope(t, source, topic+client, []byte(payload), nil))
				if err != nil || s.Finding.Resources[0].ID != client || s.Finding.ProductFields["TopicMismatch"] != "" {
					t.Errorf("payload %s on the topic of %q: error %v, finding %+v", payload, client, err, s.Finding)
				}
			}
		}
		s, err := rule(mapper("us-east-1"), envelope(t, source, topic+"site/pump-8", []byte(`{"clientId":"site/pump-7","disconnectReason":"AUTH_ERROR"}`), nil))
		if err != nil || s.Finding.ProductFields["TopicMismatch"] != "site/pump-8" {
			t.Errorf("error %v, mismatch %q, want site/pump-8", err, s.Finding.ProductFields["TopicMismatch"])
		}
	}
}

// With Basic Ingest, a client sends a message to any rule that its policy allows, on any topic. Such a
// message about another client must not look like one of AWS IoT.
func TestForgedEventsAreMarked(t *testing.T) {
	m := mapper("us-east-1")
	for source, c := range map[defender.Source]struct{ topic, payload string }{
		defender.SecurityDisconnects: {"$aws/events/presence/disconnected/victim", `{"clientId":"victim","disconnectReason":"AUTH_ERROR","sessionIdentifier":"s","versionNumber":9}`},
		defender.RefusedConnections:  {"$aws/events/presence/connect_failed/victim", `{"clientId":"victim","connectFailureReason":"AUTHORIZATION_FAILED"}`},
		defender.RejectedReports:     {"$aws/things/victim/defender/metrics/json/rejected", `{"thingName":"victim","statusDetails":{"ErrorCode":"InvalidPayload"}}`},
	} {
		findingOf := func(body []byte) asff.Finding {
			s, err := rule(m, body)
			if err != nil {
				t.Fatalf("%s: %v", source, err)
			}
			return s.Finding
		}
		by := func(client string) asff.Finding {
			return findingOf(envelope(t, source, c.topic, []byte(c.payload), map[string]any{"clientId": client}))
		}
		byErrorAction := func(client string) asff.Finding {
			body, err := json.Marshal(map[string]any{"ruleName": "r", "topic": c.topic, "clientId": client, "base64OriginalPayload": []byte(c.payload)})
			if err != nil {
				t.Fatal(err)
			}
			return findingOf(body)
		}
		aws := findingOf(envelope(t, source, c.topic, []byte(c.payload), nil))
		for name, f := range map[string]asff.Finding{"AWS": by("n/a"), "the client itself": by("victim"), "AWS, by an error action": byErrorAction("n/a")} {
			if f.ID != aws.ID || f.ProductFields["PublishedBy"] != "" {
				t.Errorf("%s, published by %s: ID %s, product fields %v; want no publisher", source, name, f.ID, f.ProductFields)
			}
		}
		for name, f := range map[string]asff.Finding{"directly": by("attacker"), "by an error action": byErrorAction("attacker")} {
			if f.ID == aws.ID || f.ProductFields["PublishedBy"] != "attacker" || !strings.Contains(f.Description, "attacker published this") {
				t.Errorf("%s, forged %s: ID %s, product fields %v, description %q; want another ID and the publisher", source, name, f.ID, f.ProductFields, f.Description)
			}
		}
		if sql := iotrule.SQL(source, ""); !strings.Contains(sql, "clientid() AS clientId") {
			t.Errorf("the rule of %s does not select the publisher: %s", source, sql)
		}
	}
}

// A client that publishes an event about itself must not name another thing.
func TestClientThatPublishesAnEventCannotNameAnotherThing(t *testing.T) {
	for source, payload := range map[defender.Source]string{
		defender.SecurityDisconnects: `{"clientId":"attacker","thingName":"victim","disconnectReason":"AUTH_ERROR"}`,
		defender.RefusedConnections:  `{"clientId":"attacker","thingName":"victim"}`,
	} {
		by := func(client string) asff.Finding {
			s, err := rule(mapper("us-east-1"), envelope(t, source, "$aws/events/presence/x/attacker", []byte(payload), map[string]any{"clientId": client}))
			if err != nil {
				t.Fatal(err)
			}
			return s.Finding
		}
		if own := by("attacker"); own.Resources[0].ID != "attacker" || strings.Contains(own.Title+own.Description+fmt.Sprint(own.ProductFields), "victim") {
			t.Errorf("%s, published by the attacker: %+v names the victim", source, own)
		}
		if aws := by("n/a"); aws.Resources[0].ID != "victim" {
			t.Errorf("%s of AWS IoT: %+v, want the victim's", source, aws)
		}
	}
}

func TestDisconnectReasonsHaveTheirSeveritiesAndBothCauses(t *testing.T) {
	m := mapper("us-east-1")
	m.Severities.Sources = map[defender.Source]defender.Severity{defender.SecurityDisconnects: defender.High}
	m.Severities.Disconnects = map[string]defender.Severity{"DUPLICATE_CLIENTID": defender.Informational}
	for reason, want := range map[string]string{"DUPLICATE_CLIENTID": "INFORMATIONAL", "AUTH_ERROR": "HIGH"} {
		e := envelope(t, defender.SecurityDisconnects, "$aws/events/presence/disconnected/a", []byte(`{"clientId":"a","disconnectReason":"`+reason+`"}`), nil)
		s, err := rule(m, e)
		if err != nil {
			t.Fatal(err)
		}
		f := s.Finding
		if got := f.FindingProviderFields.Severity.Label; got != want {
			t.Errorf("%s: severity %s, want %s", reason, got, want)
		}
		if got := m.Restate(s.Source, "", "", f).FindingProviderFields.Severity.Label; got != want {
			t.Errorf("%s restated: severity %s, want %s", reason, got, want)
		}
		text := f.Description + f.Remediation.Recommendation.Text
		for _, cause := range []string{"cloned credentials", "unstable network", "network is unstable"} {
			if strings.Contains(text, cause) != (reason == "DUPLICATE_CLIENTID") {
				t.Errorf("%s: the text names %q: %v; text %s", reason, cause, strings.Contains(text, cause), text)
			}
		}
	}
}
