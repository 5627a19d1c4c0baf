package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const arn = "arn:aws:iot:us-east-1:123456789012:"

func statements(s ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(s, ",") + `]}`
}

func mustParse(t *testing.T, text string) *Document {
	t.Helper()
	d, err := Parse(text)
	if err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}
	return d
}

func TestEvaluate(t *testing.T) {
	device := Values{
		KeyClientID: {"sensor-1"}, KeySourceIP: {"10.1.2.3"}, KeySecureTransport: {"true"},
		KeyThingName: {"sensor-1"}, KeyThingIsAttached: {"true"},
		KeyThingAttribute + "site]": {"north"},
		KeyConnectAttributes:        {"PersistentConnect", "LastWill"},
	}
	allow := func(action, resource string) string {
		return fmt.Sprintf(`{"Effect":"Allow","Action":%q,"Resource":%q}`, action, resource)
	}
	deny := func(action, resource string) string {
		return fmt.Sprintf(`{"Effect":"Deny","Action":%q,"Resource":%q}`, action, resource)
	}
	when := func(effect, condition string) string {
		return fmt.Sprintf(`{"Effect":%q,"Action":"iot:*","Resource":"*","Condition":%s}`, effect, condition)
	}
	tests := []struct {
		name       string
		statements []string
		action     string
		resource   string
		values     Values
		want       Decision
	}{
		{"nothing allows", []string{allow("iot:Connect", "*")}, "iot:Publish", arn + "topic/a", device, Decision{}},
		{"everything", []string{allow("*", "*")}, "iot:Publish", arn + "topic/a", device, Decision{Allowed: true}},
		{"action wildcard", []string{allow("iot:Pub*", "*")}, "iot:Publish", arn + "topic/a", device, Decision{Allowed: true}},
		{"action in other case", []string{allow("iot:publish", "*")}, "iot:Publish", arn + "topic/a", device, Decision{Allowed: true}},
		{"exact resource", []string{allow("iot:Publish", arn+"topic/a/b")}, "iot:Publish", arn + "topic/a/b", device, Decision{Allowed: true}},
		{"exact resource, other topic", []string{allow("iot:Publish", arn+"topic/a/b")}, "iot:Publish", arn + "topic/a/bc", device, Decision{}},
		{"star crosses levels", []string{allow("iot:Publish", arn+"topic/a/*")}, "iot:Publish", arn + "topic/a/b/c", device, Decision{Allowed: true}},
		{"question mark is one character", []string{allow("iot:Publish", arn+"topic/a?c")}, "iot:Publish", arn + "topic/abc", device, Decision{Allowed: true}},
		{"question mark is not none", []string{allow("iot:Publish", arn+"topic/a?c")}, "iot:Publish", arn + "topic/ac", device, Decision{}},
		{"mqtt wildcard is literal", []string{allow("iot:Publish", arn+"topic/a/+")}, "iot:Publish", arn + "topic/a/b", device, Decision{}},
		{"mqtt wildcard in a filter", []string{allow("iot:Subscribe", arn+"topicfilter/a/+")}, "iot:Subscribe", arn + "topicfilter/a/+", device, Decision{Allowed: true}},
		{"topic is no topicfilter", []string{allow("iot:Subscribe", arn+"topic/a")}, "iot:Subscribe", arn + "topicfilter/a", device, Decision{}},
		{"other account", []string{allow("iot:Publish", "arn:aws:iot:us-east-1:210987654321:topic/a")}, "iot:Publish", arn + "topic/a", device, Decision{}},
		{"deny before allow", []string{allow("*", "*"), deny("iot:Publish", arn+"topic/secret")}, "iot:Publish", arn + "topic/secret", device, Decision{ExplicitDeny: true}},
		{"deny in another order", []string{deny("iot:Publish", arn+"topic/secret"), allow("*", "*")}, "iot:Publish", arn + "topic/secret", device, Decision{ExplicitDeny: true}},
		{"deny of another topic", []string{allow("*", "*"), deny("iot:Publish", arn+"topic/secret")}, "iot:Publish", arn + "topic/open", device, Decision{Allowed: true}},
		{"NotAction", []string{`{"Effect":"Allow","NotAction":["iot:Publish"],"Resource":"*"}`}, "iot:Publish", arn + "topic/a", device, Decision{}},
		{"NotAction, other action", []string{`{"Effect":"Allow","NotAction":["iot:Publish"],"Resource":"*"}`}, "iot:Connect", arn + "client/a", device, Decision{Allowed: true}},
		{"NotResource", []string{`{"Effect":"Allow","Action":"iot:*","NotResource":"` + arn + `topic/a*"}`}, "iot:Publish", arn + "topic/ab", device, Decision{}},
		{"NotResource, other topic", []string{`{"Effect":"Allow","Action":"iot:*","NotResource":"` + arn + `topic/a*"}`}, "iot:Publish", arn + "topic/b", device, Decision{Allowed: true}},
		{"client id variable", []string{allow("iot:Connect", arn+"client/${iot:ClientId}")}, "iot:Connect", arn + "client/sensor-1", device, Decision{Allowed: true}},
		{"thing name variable", []string{allow("iot:Publish", arn+"topic/d/${iot:Connection.Thing.ThingName}/up")}, "iot:Publish", arn + "topic/d/sensor-1/up", device, Decision{Allowed: true}},
		{"thing name variable, other thing", []string{allow("iot:Publish", arn+"topic/d/${iot:Connection.Thing.ThingName}/up")}, "iot:Publish", arn + "topic/d/sensor-2/up", device, Decision{}},
		{"thing attribute variable", []string{allow("iot:Publish", arn+"topic/${iot:Connection.Thing.Attributes[site]}")}, "iot:Publish", arn + "topic/north", device, Decision{Allowed: true}},
		{"variable without value", []string{allow("iot:Publish", arn+"topic/${iot:Connection.Thing.ThingTypeName}*")}, "iot:Publish", arn + "topic/x", device, Decision{}},
		{"NotResource without value does not allow", []string{`{"Effect":"Allow","Action":"iot:*","NotResource":"` + arn + `topic/${iot:DomainName}"}`}, "iot:Publish", arn + "topic/x", device, Decision{}},
		{"wildcard in a value stays literal", []string{allow("iot:Publish", arn+"topic/${iot:ClientId}")}, "iot:Publish", arn + "topic/anything", Values{KeyClientID: {"*"}}, Decision{}},
		{"escaped star", []string{allow("iot:Publish", arn+"topic/${*}")}, "iot:Publish", arn + "topic/a", device, Decision{}},
		{"escaped star is a star", []string{allow("iot:Publish", arn+"topic/${*}")}, "iot:Publish", arn + "topic/*", device, Decision{Allowed: true}},
		{"StringEquals", []string{when("Allow", `{"StringEquals":{"iot:ClientId":"sensor-1"}}`)}, "iot:Connect", arn + "client/sensor-1", device, Decision{Allowed: true}},
		{"StringEquals has no wildcards", []string{when("Allow", `{"StringEquals":{"iot:ClientId":"sensor-*"}}`)}, "iot:Connect", arn + "client/sensor-1", device, Decision{}},
		{"StringLike", []string{when("Allow", `{"StringLike":{"iot:ClientId":["pump-*","sensor-?"]}}`)}, "iot:Connect", arn + "client/sensor-1", device, Decision{Allowed: true}},
		{"StringNotEquals", []string{when("Deny", `{"StringNotEquals":{"iot:ClientId":"${iot:Connection.Thing.ThingName}"}}`), allow("*", "*")}, "iot:Connect", arn + "client/sensor-1", device, Decision{Allowed: true}},
		{"Bool as JSON", []string{when("Allow", `{"Bool":{"iot:Connection.Thing.IsAttached":[true]}}`)}, "iot:Connect", arn + "client/sensor-1", device, Decision{Allowed: true}},
		{"absent key does not hold", []string{when("Allow", `{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}`)}, "iot:Connect", arn + "client/x", Values{}, Decision{}},
		{"absent key with IfExists", []string{when("Allow", `{"BoolIfExists":{"iot:Connection.Thing.IsAttached":"true"}}`)}, "iot:Connect", arn + "client/x", Values{}, Decision{Allowed: true}},
		{"address in range", []string{when("Allow", `{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`)}, "iot:Connect", arn + "client/x", device, Decision{Allowed: true}},
		{"address out of range", []string{when("Deny", `{"NotIpAddress":{"aws:SourceIp":"192.168.0.0/16"}}`), allow("*", "*")}, "iot:Connect", arn + "client/x", device, Decision{ExplicitDeny: true}},
		{"ForAnyValue", []string{when("Deny", `{"ForAnyValue:StringEquals":{"iot:ConnectAttributes":["LastWill"]}}`), allow("*", "*")}, "iot:Connect", arn + "client/x", device, Decision{ExplicitDeny: true}},
		{"ForAllValues", []string{when("Allow", `{"ForAllValues:StringEquals":{"iot:ConnectAttributes":["PersistentConnect"]}}`)}, "iot:Connect", arn + "client/x", device, Decision{}},
		{"all conditions must hold", []string{when("Allow", `{"StringEquals":{"iot:ClientId":"sensor-1"},"IpAddress":{"aws:SourceIp":"192.168.0.0/16"}}`)}, "iot:Connect", arn + "client/x", device, Decision{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc := mustParse(t, statements(tt.statements...))
			got := Evaluate([]*Document{doc}, Request{Action: tt.action, Resource: tt.resource, Values: tt.values})
			if got != tt.want {
				t.Errorf("%s on %s: %+v, want %+v", tt.action, tt.resource, got, tt.want)
			}
		})
	}
}

func TestDenyOverridesTheAllowOfAnotherDocument(t *testing.T) {
	documents := []*Document{
		mustParse(t, statements(`{"Effect":"Allow","Action":"*","Resource":"*"}`)),
		mustParse(t, statements(`{"Effect":"Deny","Action":"iot:Connect","Resource":"*"}`)),
	}
	got := Evaluate(documents, Request{Action: "iot:Connect", Resource: arn + "client/x"})
	if got.Allowed || !got.ExplicitDeny {
		t.Errorf("decision %+v, want an explicit deny", got)
	}
}

func TestParseRefuses(t *testing.T) {
	one := `{"Effect":"Allow","Action":"iot:Publish","Resource":"*"`
	tests := []struct{ name, text, want string }{
		{"no JSON", `allow all`, "malformed"},
		{"text after it", statements(one+"}") + "x", "text after"},
		{"other version", `{"Version":"2008-10-17","Statement":[` + one + `}]}`, "2012-10-17"},
		{"no statement", `{"Version":"2012-10-17"}`, "Statement is missing"},
		{"empty statement list", `{"Version":"2012-10-17","Statement":[]}`, "at least one"},
		{"unknown element", statements(one + `,"Principal":"*"}`), "Principal"},
		{"wrong effect", statements(`{"Effect":"Permit","Action":"iot:Publish","Resource":"*"}`), "Effect"},
		{"both Action and NotAction", statements(one + `,"NotAction":"iot:Connect"}`), "Action and NotAction"},
		{"no resource", statements(`{"Effect":"Allow","Action":"iot:Publish"}`), "Resource and NotResource"},
		{"action without service", statements(`{"Effect":"Allow","Action":"Publish","Resource":"*"}`), `"Publish"`},
		{"resource that is no ARN", statements(`{"Effect":"Allow","Action":"iot:Publish","Resource":"topic/a"}`), `"topic/a"`},
		{"open variable", statements(`{"Effect":"Allow","Action":"iot:Publish","Resource":"` + arn + `topic/${iot:ClientId"}`), "without }"},
		{"too long", statements(`{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:` + strings.Repeat("x", MaxSize) + `"}`), "2048"},
		{"unknown variable", statements(`{"Effect":"Allow","Action":"iot:Publish","Resource":"` + arn + `topic/${iot:Weather}"}`), `policy variable "iot:Weather"`},
		{"unknown certificate variable", statements(`{"Effect":"Allow","Action":"iot:Publish","Resource":"` + arn + `topic/${iot:Certificate.Subject.CommonName}"}`), `policy variable "iot:Certificate.Subject.CommonName"`},
		{"unknown operator", statements(one + `,"Condition":{"DateLessThan":{"iot:ClientId":"x"}}}`), `condition operator "DateLessThan"`},
		{"unknown key", statements(one + `,"Condition":{"StringEquals":{"aws:PrincipalOrgID":"x"}}}`), `condition key "aws:PrincipalOrgID"`},
		{"bad range", statements(one + `,"Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/99"}}}`), "10.0.0.0/99"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one that says %q", err, tt.want)
			}
			var unsupported *UnsupportedError
			if errors.As(err, &unsupported) != strings.HasPrefix(tt.name, "unknown ") && tt.name != "unknown element" {
				t.Errorf("error of type %T, want *UnsupportedError only for unknown names", err)
			}
		})
	}
}

func TestWhiteSpaceDoesNotCountInTheSize(t *testing.T) {
	if _, err := Parse(statements(`{"Effect":"Allow","Action":"*","Resource":"*"}`) + strings.Repeat(" ", 3*MaxSize)); err != nil {
		t.Error(err)
	}
}

// A pattern matches the same texts as the equivalent regular expression.
func TestPatternAgreesWithRegexp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab/*?]{0,8}`).Draw(t, "pattern")
		text := rapid.StringMatching(`[ab/]{0,8}`).Draw(t, "text")
		p, err := ParsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		expr := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
		want := regexp.MustCompile(`^(?s)` + expr + `$`).MatchString(text)
		if got, _ := p.Match(text, nil); got != want {
			t.Fatalf("%q on %q: %v, want %v", pattern, text, got, want)
		}
	})
}

// No document makes Parse or Evaluate panic, and a deny of everything overrides each document that
// parses.
func FuzzParse(f *testing.F) {
	f.Add(statements(`{"Effect":"Allow","Action":["iot:Connect"],"Resource":["` + arn + `client/${iot:ClientId}"]}`))
	f.Add(statements(`{"Effect":"Deny","NotAction":"iot:*","NotResource":"*","Condition":{"ForAnyValue:StringLikeIfExists":{"iot:ClientId":["a*",true,1]}}}`))
	f.Add(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"${*}${?}${$}*"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := Parse(text)
		if err != nil {
			var m *MalformedError
			var u *UnsupportedError
			if !errors.As(err, &m) && !errors.As(err, &u) {
				t.Fatalf("error of type %T: %v", err, err)
			}
			return
		}
		request := Request{Action: "iot:Publish", Resource: arn + "topic/a", Values: Values{KeyClientID: {"*"}}}
		got := Evaluate([]*Document{doc}, request)
		if got.Allowed && got.ExplicitDeny {
			t.Fatalf("both allowed and denied by %s", text)
		}
		denied := append([]*Document{doc}, mustParse(t, statements(`{"Effect":"Deny","Action":"*","Resource":"*"}`)))
		if Evaluate(denied, request).Allowed {
			t.Fatalf("allowed despite a deny of everything by %s", text)
		}
	})
}
