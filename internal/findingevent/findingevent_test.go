package findingevent

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
)

func sample(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/imported.json")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestParseReadsTheSampleOfAWS(t *testing.T) {
	e, err := Parse([]byte(sample(t)))
	if err != nil {
		t.Fatal(err)
	}
	source, ok := e.DeviceSource()
	if !ok || source != defender.DetectNotifications || e.Product() != DetectProduct {
		t.Errorf("source %v, found %v, product %q, want those of Device Defender Detect", source, ok, e.Product())
	}
	if e.Account != "123456789012" || e.HubAccount != e.Account || e.Region != "us-east-1" || e.HubRegion != e.Region || !e.Open() || e.Severity != defender.Medium {
		t.Errorf("got %+v, want an open finding of MEDIUM in 123456789012, us-east-1", e)
	}
	if e.Resources[0].Type != "AwsIotRegisteredThing" || e.Resources[0].ID != "MyThing" || e.Resources[0].Details["IsRegisteredThing"] != "true" {
		t.Errorf("resources %+v, want the registered thing MyThing", e.Resources)
	}
	if e.ProductFields["MetricName"] != "aws:num-disconnects" || e.Types[0] != "Unusual Behaviors" {
		t.Errorf("fields %v, types %v, want the metric aws:num-disconnects and Unusual Behaviors", e.ProductFields, e.Types)
	}
	if want := time.Date(2022, 11, 9, 22, 45, 0, 0, time.UTC); !e.Order.Updated.Equal(want) || !e.CreatedAt.Equal(want) || e.Order.Event.Year() != 2026 || !e.Order.Processed.IsZero() {
		t.Errorf("times %+v, created %v, want %v, and an event of 2026 without ProcessedAt", e.Order, e.CreatedAt, want)
	}
}

// event returns an event with one finding. fields are additional JSON members of the finding.
func event(fields string) string {
	return `{"source":"aws.securityhub","detail-type":"Security Hub Findings - Imported","account":"111122223333","region":"eu-west-1","time":"2026-11-30T05:00:00Z",
	 "detail":{"findings":[{"Id":"f","ProductArn":"arn:aws:securityhub:eu-west-1::product/aws/guardduty","UpdatedAt":"2026-11-30T04:59:59.5Z"` + fields + `}]}}`
}

func TestEventsOfAnyProduct(t *testing.T) {
	for _, c := range []struct {
		name, fields string
		check        func(Event) bool
	}{
		{"finding without a Region", ``, func(e Event) bool { return e.Region == "eu-west-1" && e.Open() }},
		{"label of the provider", `,"FindingProviderFields":{"Severity":{"Label":"HIGH"},"Types":["a/b"]}`, func(e Event) bool { return e.Severity == defender.High && e.Types[0] == "a/b" }},
		{"an analyst's label wins", `,"Severity":{"Label":"LOW"},"FindingProviderFields":{"Severity":{"Label":"HIGH"}}`, func(e Event) bool { return e.Severity == defender.Low && !e.Original }},
		{"types of an analyst", `,"Types":["a"],"FindingProviderFields":{"Types":["b"]}`, func(e Event) bool { return !e.Original }},
		{"unchanged", `,"Types":["a"],"Severity":{"Label":"LOW"},"FindingProviderFields":{"Types":["a"],"Severity":{"Label":"LOW"}}`, func(e Event) bool { return e.Original }},
		{"suppressed", `,"Workflow":{"Status":"SUPPRESSED"}`, func(e Event) bool { return !e.Open() }},
		{"resolved", `,"Workflow":{"Status":"RESOLVED"}`, func(e Event) bool { return !e.Open() }},
		{"notified", `,"Workflow":{"Status":"NOTIFIED"}`, func(e Event) bool { return e.Open() }},
		{"archived", `,"RecordState":"ARCHIVED"`, func(e Event) bool { return !e.Open() && e.RecordState == asff.Archived }},
		{"numbers in place of strings", `,"ProductFields":{"n":1.5,"b":true,"o":{},"z":null}`, func(e Event) bool {
			return reflect.DeepEqual(e.ProductFields, map[string]string{"n": "1.5", "b": "true"})
		}},
		{"undocumented JSON types", `,"Severity":"HIGH","Types":"x","Resources":{},"Workflow":[],"ProductFields":3,"Remediation":[]`, func(e Event) bool { return len(e.Resources) == 0 && e.Severity == 0 }},
		{"resource that is not an object", `,"Resources":["x",{"Type":"AwsEc2Instance","Id":"i-1","Details":{"AwsEc2Instance":{"Type":"t3"}}}]`, func(e Event) bool { return len(e.Resources) == 2 && e.Resources[1].ID == "i-1" }},
		{"nanoseconds and an offset", `,"ProcessedAt":"2026-11-30T06:00:00.123456789+01:00"`, func(e Event) bool {
			return e.Order.Processed.Equal(time.Date(2026, 11, 30, 5, 0, 0, 123456789, time.UTC))
		}},
		{"offset without a colon", `,"ProcessedAt":"2024-01-04T15:25:10.5-1759"`, func(e Event) bool {
			return e.Order.Processed.Equal(time.Date(2024, 1, 5, 9, 24, 10, 500_000_000, time.UTC))
		}},
		{"offset of hours", `,"ProcessedAt":"2024-01-04T15:25:10+02"`, func(e Event) bool {
			return e.Order.Processed.Equal(time.Date(2024, 1, 4, 13, 25, 10, 0, time.UTC))
		}},
		{"related findings of the provider", `,"FindingProviderFields":{"RelatedFindings":[{"ProductArn":"p","Id":"i"},{}]}`, func(e Event) bool { return len(e.Related) == 1 && e.Related[0].ID == "i" }},
		{"default product without our ID", `,"ProductArn":"arn:aws:securityhub:r:1:product/1/default"`, func(e Event) bool { _, ok := e.DeviceSource(); return !ok && e.Product() == DefaultProduct }},
		{"default product with our ID", `,"ProductArn":"arn:aws:securityhub:r:1:product/1/default","Id":"defenderhub/behavior/r/p/b/c"`, func(e Event) bool {
			s, ok := e.DeviceSource()
			return ok && s == defender.BehaviorTransitions
		}},
		{"another product with our ID", `,"Id":"defenderhub/behavior/r/p/b/c"`, func(e Event) bool { _, ok := e.DeviceSource(); return !ok }},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := Parse([]byte(event(c.fields)))
			if err != nil || !c.check(e) {
				t.Errorf("%s: got %+v, error %v", c.fields, e, err)
			}
		})
	}
}

func TestEventsWithoutAReadableFindingAreErrors(t *testing.T) {
	one := event("")
	for _, c := range []struct{ name, text, want string }{
		{"no JSON", "{", "not JSON"},
		{"another event", strings.Replace(one, "- Imported", "- Custom Action", 1), "Custom Action"},
		{"another service", strings.Replace(one, "aws.securityhub", "mine", 1), `"mine"`},
		{"no finding", `{"source":"aws.securityhub","detail-type":"Security Hub Findings - Imported","detail":{"findings":[]}}`, "0 findings"},
		{"no ID", strings.Replace(one, `"Id":"f"`, `"Id":""`, 1), "lacks Id"},
		{"no time", strings.Replace(one, "2026-11-30T04:59:59.5Z", "yesterday", 1), "UpdatedAt"},
		{"a time that no table can hold", strings.Replace(one, "2026-11-30T04:59:59.5Z", "0000-01-01T00:00:00+23:00", 1), "UpdatedAt"},
		{"finding is text", `{"source":"aws.securityhub","detail-type":"Security Hub Findings - Imported","detail":{"findings":["x"]}}`, "not JSON"},
	} {
		if _, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that says %q", c.name, err, c.want)
		}
	}
}

func TestOrder(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	ascending := []Order{
		{Updated: at(1), Processed: at(9), Event: at(9)},
		{Updated: at(2)},
		{Updated: at(2), Event: at(7)},
		{Updated: at(2), Processed: at(3), Event: at(1)},
		{Updated: at(2), Processed: at(4)},
		{Updated: at(2), Processed: at(4), Event: at(1)},
	}
	for i, a := range ascending {
		for j, b := range ascending {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := a.Compare(b); got != want {
				t.Errorf("order %d compared with %d: got %d, want %d", i, j, got, want)
			}
		}
		var back Order
		text, err := json.Marshal(a)
		if err == nil {
			err = json.Unmarshal(text, &back)
		}
		if err != nil || a.Compare(back) != 0 {
			t.Errorf("%s is read as %+v, error %v", text, back, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample(f))
	f.Add(event(`,"Resources":[{"Details":{"Other":{"a":null}}}],"Types":[1,null]`))
	f.Fuzz(func(t *testing.T, message string) {
		e, err := Parse([]byte(message))
		if err != nil {
			return
		}
		if e.ID == "" || e.ProductARN == "" || e.Order.Updated.IsZero() {
			t.Errorf("no identity or time: %+v", e)
		}
		if e.Order.Compare(e.Order) != 0 {
			t.Error("the order of an event differs from itself")
		}
		for k, v := range e.ProductFields {
			if v == "" {
				t.Errorf("the product field %q is empty", k)
			}
		}
		if source, ok := e.DeviceSource(); ok && !source.Known() {
			t.Errorf("unknown source %v", source)
		}
		if _, err := json.Marshal(e.Order); err != nil {
			t.Error(err)
		}
	})
}
