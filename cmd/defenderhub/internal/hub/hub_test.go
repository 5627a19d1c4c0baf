package hub_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/hub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
)

const (
	account = "123456789012"
	region  = "eu-west-1"
	own     = "arn:aws:securityhub:eu-west-1:123456789012:product/123456789012/default"
	native  = "arn:aws:securityhub:eu-west-1::product/aws/iot-device-defender-"
)

var start = time.Date(2026, 11, 30, 3, 0, 0, 0, time.UTC)

// local returns a client of a local Security Hub. Its clock moves a second per call, so that the
// quota of GetFindings suffices.
func local(t *testing.T) (*securityhub.Client, *securityhubtest.Hub) {
	t.Helper()
	now := start
	service := securityhubtest.New(securityhubtest.Config{
		Now:       func() time.Time { return now },
		AccountOf: func(*http.Request) string { return account },
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now = now.Add(time.Second)
		service.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return securityhub.New(securityhub.Options{
		Region: region, BaseEndpoint: aws.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
	}), service.Hub(account, region)
}

// testFinding is a finding to import. Its UpdatedAt is age before start.
type testFinding struct {
	product, id, severity, state string
	fields                       map[string]string
	resources, related           []string
	age                          time.Duration
}

func (f testFinding) text() json.RawMessage {
	at := start.Add(-f.age).Format("2006-01-02T15:04:05.000Z")
	var resources, related []map[string]string
	for _, r := range f.resources {
		resources = append(resources, map[string]string{"Type": "Other", "Id": r})
	}
	provider := map[string]any{"Severity": map[string]string{"Label": f.severity}, "Types": []string{"Unusual Behaviors"}}
	for _, id := range f.related {
		related = append(related, map[string]string{"ProductArn": own, "Id": id})
	}
	if related != nil {
		provider["RelatedFindings"] = related
	}
	finding := map[string]any{
		"SchemaVersion": "2018-10-08", "Id": f.id, "ProductArn": f.product, "GeneratorId": "g", "AwsAccountId": account,
		"CreatedAt": at, "UpdatedAt": at, "Title": "title of " + f.id, "Description": "d", "RecordState": f.state,
		"Resources": resources, "FindingProviderFields": provider,
	}
	if f.fields != nil {
		finding["ProductFields"] = f.fields
	}
	text, err := json.Marshal(finding)
	if err != nil {
		panic(err)
	}
	return text
}

// importAll imports findings of AWS's integrations one by one, and those of the account 100 at a
// time.
func importAll(t *testing.T, api *securityhub.Client, h *securityhubtest.Hub, all ...testFinding) {
	t.Helper()
	var ours []types.AwsSecurityFinding
	for _, f := range all {
		if f.product != own {
			if result, err := h.ImportNative(f.text()); err != nil || len(result.Failed) > 0 {
				t.Fatalf("%s: error %v, failed %+v", f.id, err, result.Failed)
			}
			continue
		}
		var finding types.AwsSecurityFinding
		if err := json.Unmarshal(f.text(), &finding); err != nil {
			t.Fatal(err)
		}
		ours = append(ours, finding)
	}
	for part := range slices.Chunk(ours, 100) {
		result, err := api.BatchImportFindings(t.Context(), &securityhub.BatchImportFindingsInput{Findings: part})
		if err != nil || len(result.FailedFindings) > 0 {
			t.Fatalf("BatchImportFindings: error %v, result %+v", err, result)
		}
	}
}

func fleet(t *testing.T) *securityhub.Client {
	api, h := local(t)
	if err := h.Enable(securityhubtest.Settings{}); err != nil {
		t.Fatal(err)
	}
	for _, product := range []string{"audit", "detect"} {
		if _, err := h.EnableProduct(native + product); err != nil {
			t.Fatal(err)
		}
	}
	importAll(t, api, h,
		testFinding{product: own, id: "defenderhub/behavior/eu-west-1/p/telnet/pump-7", severity: "HIGH", state: "ACTIVE", age: time.Minute,
			fields: map[string]string{"ThingName": "pump-7", "BehaviorName": "telnet", "ClientId": "gw-1"}, resources: []string{"pump-7"}},
		testFinding{product: own, id: "defenderhub/refused-connection/eu-west-1/gw-1/AUTH", severity: "MEDIUM", state: "ACTIVE", age: 2 * time.Minute,
			fields: map[string]string{"ClientId": "gw-1"}, resources: []string{"gw-1"}},
		testFinding{product: own, id: "defenderhub/device-event/eu-west-1/pump-7/tamper", severity: "LOW", state: "ARCHIVED", age: 48 * time.Hour,
			fields: map[string]string{"ThingName": "pump-7"}, resources: []string{"pump-7"}},
		testFinding{product: own, id: "defenderhub/correlation/eu-west-1/chain/pump-7", severity: "CRITICAL", state: "ACTIVE", age: 3 * time.Minute,
			fields:    map[string]string{"CorrelationEntity": "pump-7", "CorrelationRule": "chain"},
			resources: []string{"pump-7"}, related: []string{"defenderhub/behavior/eu-west-1/p/telnet/pump-7"}},
		testFinding{product: own, id: "somebody-else", severity: "CRITICAL", state: "ACTIVE", resources: []string{"i-1"}},
		testFinding{product: native + "audit", id: "123/AwsIotPolicy/open/1", severity: "CRITICAL", state: "ACTIVE", age: 4 * time.Minute,
			fields: map[string]string{"CheckName": "IOT_POLICY_OVERLY_PERMISSIVE_CHECK"}, resources: []string{"open"}},
		testFinding{product: native + "detect", id: "violation-1", severity: "MEDIUM", state: "ACTIVE", age: 5 * time.Minute,
			fields: map[string]string{"ThingName": "meter-2", "BehaviorName": "telnet"}, resources: []string{"meter-2"}},
	)
	return api
}

func TestFindSelects(t *testing.T) {
	api := fleet(t)
	for name, tt := range map[string]struct {
		q    hub.Query
		want string // sources and devices
	}{
		"everything about devices": {hub.Query{}, "behavior pump-7|refused-connection gw-1|correlation pump-7|aws/iot-device-defender-audit open|aws/iot-device-defender-detect meter-2|device-event pump-7"},
		"a thing":                  {hub.Query{Devices: []string{"pump-7"}}, "behavior pump-7|correlation pump-7|device-event pump-7"},
		"a client ID":              {hub.Query{Devices: []string{"gw-1"}}, "behavior pump-7|refused-connection gw-1"},
		"all names of a device":    {hub.Query{Devices: []string{"pump-7", "gw-1"}, State: asff.Active}, "behavior pump-7|refused-connection gw-1|correlation pump-7"},
		"a behavior":               {hub.Query{Behaviors: []string{"telnet"}}, "behavior pump-7|aws/iot-device-defender-detect meter-2"},
		"a behavior of a device":   {hub.Query{Behaviors: []string{"telnet"}, Devices: []string{"meter-2"}}, "aws/iot-device-defender-detect meter-2"},
		"a check":                  {hub.Query{Checks: []string{"IOT_POLICY_OVERLY_PERMISSIVE_CHECK"}}, "aws/iot-device-defender-audit open"},
		"a severity and above":     {hub.Query{Severity: defender.High}, "behavior pump-7|correlation pump-7|aws/iot-device-defender-audit open"},
		"archived":                 {hub.Query{State: asff.Archived}, "device-event pump-7"},
		"since":                    {hub.Query{Since: start.Add(-150 * time.Second)}, "behavior pump-7|refused-connection gw-1"},
		"an ID":                    {hub.Query{IDs: []string{"violation-1"}}, "aws/iot-device-defender-detect meter-2"},
		"nothing":                  {hub.Query{Devices: []string{"pump-8"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := hub.Find(t.Context(), api, region, tt.q)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range found {
				got = append(got, f.Source+" "+f.Device)
			}
			if strings.Join(got, "|") != tt.want {
				t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), tt.want)
			}
		})
	}
}

func TestFindReadsAllPages(t *testing.T) {
	api, h := local(t)
	if err := h.Enable(securityhubtest.Settings{}); err != nil {
		t.Fatal(err)
	}
	const n = 2500
	var all []testFinding
	for i := range n {
		all = append(all, testFinding{product: own, id: fmt.Sprintf("defenderhub/behavior/eu-west-1/p/telnet/thing-%d", i), severity: "HIGH", state: "ACTIVE", resources: []string{fmt.Sprint("thing-", i)}})
	}
	importAll(t, api, h, all...)
	found, err := hub.Find(t.Context(), api, region, hub.Query{})
	if err != nil || len(found) != n {
		t.Errorf("%d findings, error %v, want %d", len(found), err, n)
	}
}

func TestFindSaysThatSecurityHubIsOff(t *testing.T) {
	api, _ := local(t)
	_, err := hub.Find(t.Context(), api, region, hub.Query{})
	if !errors.As(err, new(cli.Todo)) || !strings.Contains(err.Error(), "enable-security-hub") {
		t.Errorf("error %v, want a cli.Todo that names enable-security-hub", err)
	}
}

func TestIncidentHasItsParts(t *testing.T) {
	api := fleet(t)
	found, err := hub.Find(t.Context(), api, region, hub.Query{Devices: []string{"pump-7"}})
	if err != nil {
		t.Fatal(err)
	}
	var incident hub.Finding
	for _, f := range found {
		if f.Rule == "chain" {
			incident = f
		}
	}
	for _, f := range found {
		if want := f.Source == "behavior"; incident.Has(f) != want {
			t.Errorf("%s is a part: %v, want %v", f.ID, !want, want)
		}
	}
}
