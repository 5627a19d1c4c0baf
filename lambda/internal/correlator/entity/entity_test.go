package entity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/incident"
)

var home = Home{"aws", "123456789012", "us-east-1"}

// fake is a registry in which the things of names exist. All have the same certificate, with policy
// attached.
type fake struct {
	API
	names    []string
	policy   string
	attached int
	groups   int // of a thing: each has the policy too
	calls    int
	fails    error
}

func (f *fake) DescribeThing(_ context.Context, in *iot.DescribeThingInput, _ ...func(*iot.Options)) (*iot.DescribeThingOutput, error) {
	f.calls++
	if !slices.Contains(f.names, *in.ThingName) {
		return nil, &types.ResourceNotFoundException{}
	}
	return &iot.DescribeThingOutput{DefaultClientId: aws.String("client of " + *in.ThingName)}, f.fails
}

func (f *fake) ListThingPrincipals(context.Context, *iot.ListThingPrincipalsInput, ...func(*iot.Options)) (*iot.ListThingPrincipalsOutput, error) {
	return &iot.ListThingPrincipalsOutput{Principals: []string{"arn:aws:iot:us-east-1:123456789012:cert/c1", "us-east-1:cognito"}}, f.fails
}

func (f *fake) ListPrincipalThings(context.Context, *iot.ListPrincipalThingsInput, ...func(*iot.Options)) (*iot.ListPrincipalThingsOutput, error) {
	out := &iot.ListPrincipalThingsOutput{}
	for i := range f.attached {
		out.Things = append(out.Things, fmt.Sprintf("thing-%02d", i))
	}
	return out, f.fails
}

func (f *fake) GetEffectivePolicies(_ context.Context, in *iot.GetEffectivePoliciesInput, _ ...func(*iot.Options)) (*iot.GetEffectivePoliciesOutput, error) {
	if !strings.HasSuffix(*in.Principal, ":cert/c1") {
		return nil, errors.New("no certificate")
	}
	all := []types.EffectivePolicy{{PolicyName: aws.String("fleet"), PolicyDocument: &f.policy}}
	for i := range f.groups {
		all = append(all, types.EffectivePolicy{PolicyName: aws.String(fmt.Sprint("group-", i)), PolicyDocument: &f.policy})
	}
	return &iot.GetEffectivePoliciesOutput{EffectivePolicies: all}, nil
}

func (f *fake) DescribeRoleAlias(_ context.Context, in *iot.DescribeRoleAliasInput, _ ...func(*iot.Options)) (*iot.DescribeRoleAliasOutput, error) {
	f.calls++
	if *in.RoleAlias == "gone" {
		return nil, &types.ResourceNotFoundException{}
	}
	return &iot.DescribeRoleAliasOutput{RoleAliasDescription: &types.RoleAliasDescription{RoleArn: aws.String("arn:aws:iam::123456789012:role/" + *in.RoleAlias)}}, nil
}

func resolver(t *testing.T, f *fake) *Resolver {
	t.Helper()
	clients, err := contract.ParseClientPattern("^(.+)#[0-9]+$")
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(f, Config{MaxAge: time.Hour, Size: 10, Clients: clients})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestDevicesOfOneCertificateAreBounded(t *testing.T) {
	r := resolver(t, &fake{attached: 11})
	e := findingevent.Event{
		Account: home.Account, Region: home.Region, ProductARN: "arn:aws:securityhub:us-east-1::product/aws/iot-device-defender-audit",
		ProductFields: map[string]string{"DeviceCertificateId": strings.Repeat("ab", 32)},
	}
	all, more, err := r.Devices(context.Background(), home, e, time.Now())
	if len(all) != MaxDevices || !more || err != nil || all[0].Name != "thing-00" {
		t.Errorf("got %v, more %t, error %v; want the first %d and more", all, more, err, MaxDevices)
	}
}

func TestFurtherConnectionInAnAuditCountsForItsThing(t *testing.T) {
	f := &fake{names: []string{"pump-7"}}
	r := resolver(t, f)
	audit := func(client string) findingevent.Event {
		return findingevent.Event{
			Account: home.Account, Region: home.Region, ProductARN: "arn:aws:securityhub:us-east-1::product/aws/iot-device-defender-audit",
			Resources: []findingevent.Resource{{Type: "Other", ID: client, Details: map[string]string{"ClientId": client}}},
		}
	}
	for client, want := range map[string]string{"pump-7#2": "thing pump-7", "pump-8#2": "client pump-8#2", "pump-7": "thing pump-7"} {
		all, _, err := r.Devices(context.Background(), home, audit(client), time.Now())
		if err != nil || len(all) != 1 || fmt.Sprint(all[0].Kind, " ", all[0].Name) != want {
			t.Errorf("client ID %s: got %v, error %v; want %s", client, all, err, want)
		}
	}
	f.fails = errors.New("throttled")
	if _, _, err := resolver(t, f).Devices(context.Background(), home, audit("pump-7"), time.Now()); !errors.Is(err, f.fails) {
		t.Errorf("throttled: error %v, want %v", err, f.fails)
	}
}

func TestAnswersOfTheRegistryExpire(t *testing.T) {
	f := &fake{names: []string{"pump-7"}}
	r := resolver(t, f)
	now := time.Now()
	for _, later := range []time.Duration{0, time.Minute, 59 * time.Minute, time.Hour} {
		if _, err := r.describe(context.Background(), "pump-7", now.Add(later)); err != nil {
			t.Fatal(err)
		}
	}
	if f.calls != 2 {
		t.Errorf("%d lookups, want 2", f.calls)
	}
}

func TestResourcesThatADeviceUses(t *testing.T) {
	f := &fake{names: []string{"pump-7"}, policy: `{"Statement":[
		{"Effect":"Allow","Action":["iot:Connect","iot:assumeRoleWithCertificate"],"Resource":["arn:aws:iot:us-east-1:123456789012:rolealias/camera","arn:aws:iot:us-east-1:123456789012:rolealias/gone"]},
		{"Effect":"Deny","Action":"iot:AssumeRoleWithCertificate","Resource":"arn:aws:iot:us-east-1:123456789012:rolealias/denied"},
		{"Effect":"Allow","Action":"iot:*","Resource":"arn:aws:iot:us-east-1:123456789012:rolealias/*"}]}`}
	r := resolver(t, f)
	device := incident.Entity{Account: home.Account, Region: home.Region, Kind: correlation.Thing, Name: "pump-7"}
	uses, err := r.Uses(context.Background(), home, device, time.Now())
	if want := "[policy/fleet rolealias/camera role/arn:aws:iam::123456789012:role/camera rolealias/gone]"; err != nil || fmt.Sprint(uses) != want {
		t.Errorf("uses %v, error %v; want %s", uses, err, want)
	}
	aliases, err := r.Aliases(context.Background(), home, device, uses, time.Now())
	var ids []string
	for _, a := range aliases {
		ids = append(ids, a.Type+" "+a.ID)
	}
	if want := "AwsIotRegisteredThing pump-7, Other client of pump-7, Other c1, AwsIotPolicy fleet, Other arn:aws:iot:us-east-1:123456789012:rolealias/camera, AwsIamRole arn:aws:iam::123456789012:role/camera, Other arn:aws:iot:us-east-1:123456789012:rolealias/gone"; err != nil || strings.Join(ids, ", ") != want {
		t.Errorf("aliases %v, error %v; want %s", ids, err, want)
	}
	device.Account = "111122223333"
	if uses, err := r.Uses(context.Background(), home, device, time.Now()); err != nil || len(uses) != 0 {
		t.Errorf("device of another account: uses %v, error %v; want none", uses, err)
	}
}

// A role alias that many policies name, and one that is not shown any more, cost no further lookup.
func TestRoleAliasesAreLookedUpOnce(t *testing.T) {
	var aliases []string
	for i := range 25 {
		aliases = append(aliases, fmt.Sprintf("%q", home.arn(fmt.Sprint("rolealias/a", i))))
	}
	f := &fake{names: []string{"pump-7"}, groups: 19, policy: `{"Statement":{"Effect":"Allow","Action":"*","Resource":[` + strings.Join(aliases, ",") + `]}}`}
	device := incident.Entity{Account: home.Account, Region: home.Region, Kind: correlation.Thing, Name: "pump-7"}
	uses, err := resolver(t, f).Uses(context.Background(), home, device, time.Now())
	if err != nil || len(uses) != maxUses || f.calls > 1+maxUses/2 {
		t.Errorf("%d uses, %d lookups, error %v; want %d uses, at most %d lookups", len(uses), f.calls, err, maxUses, 1+maxUses/2)
	}
}

// Shared names resources as Uses does.
func TestSharedResourcesOfAFinding(t *testing.T) {
	ours := "arn:aws:securityhub:us-east-1:123456789012:product/123456789012/default"
	native := func(kind, id string) findingevent.Event {
		return findingevent.Event{
			ProductARN: "arn:aws:securityhub:us-east-1::product/aws/iot-device-defender-audit", ProductFields: map[string]string{"ResourceType": kind},
			Resources: []findingevent.Resource{{Type: "Other", ID: id}},
		}
	}
	for name, c := range map[string]struct {
		event findingevent.Event
		want  string
	}{
		"policy":                    {findingevent.Event{ProductARN: "p", Resources: []findingevent.Resource{{Type: "AwsIotPolicy", ID: "fleet"}}}, "[policy/fleet]"},
		"role":                      {findingevent.Event{ProductARN: "p", Resources: []findingevent.Resource{{Type: "AwsIamRole", ID: "arn:r"}}}, "[role/arn:r]"},
		"role alias":                {findingevent.Event{ProductARN: ours, ID: "defenderhub/audit/r/x", ProductFields: map[string]string{"RoleAliasArn": home.arn("rolealias/camera")}}, "[rolealias/camera]"},
		"role alias by its ARN":     {native("ROLE_ALIAS", home.arn("rolealias/camera")), "[rolealias/camera]"},
		"role alias by its name":    {native("ROLE_ALIAS", "camera"), "[rolealias/camera]"},
		"role alias of an account":  {native("ROLE_ALIAS", "arn:aws:iot:us-east-1:111122223333:rolealias/camera"), "[]"},
		"policy by its ARN":         {native("IOT_POLICY", home.arn("policy/fleet")), "[policy/fleet]"},
		"typed policy by its ARN":   {findingevent.Event{ProductARN: "p", Resources: []findingevent.Resource{{Type: "AwsIotPolicy", ID: home.arn("policy/fleet")}}}, "[policy/fleet]"},
		"policy by its name":        {native("IOT_POLICY", "fleet"), "[policy/fleet]"},
		"client ID like a policy":   {native("CLIENT_ID", home.arn("policy/fleet")), "[]"},
		"text without a type":       {native("", "fleet"), "[]"},
		"fields of another product": {findingevent.Event{ProductARN: "arn:aws:securityhub:us-east-1::product/aws/guardduty", ProductFields: map[string]string{"PolicyName": "fleet"}}, "[]"},
	} {
		c.event.Account, c.event.Region = home.Account, home.Region
		if got := Shared(home, c.event); fmt.Sprint(got) != c.want {
			t.Errorf("%s: got %v, want %s", name, got, c.want)
		}
		c.event.Account = "111122223333"
		if got := Shared(home, c.event); len(got) != 0 {
			t.Errorf("%s of another account: got %v, want none", name, got)
		}
	}
}

func TestNamesOfAResource(t *testing.T) {
	for id, want := range map[string]string{
		"i-0abc": "[i-0abc]", "arn:aws:ec2:r:1:instance/i-0abc": "[arn:aws:ec2:r:1:instance/i-0abc i-0abc]", "arn:aws:sns:r:1:topic": "[arn:aws:sns:r:1:topic topic]",
	} {
		if got := fmt.Sprint(Names(id)); got != want {
			t.Errorf("%s: got %s, want %s", id, got, want)
		}
	}
}

func FuzzRoleAliases(f *testing.F) {
	f.Add(`{"Statement":[{"Effect":"Allow","Action":"iot:AssumeRoleWithCertificate","Resource":["arn:aws:iot:us-east-1:123456789012:rolealias/camera"]}]}`)
	f.Add(`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`)
	f.Fuzz(func(t *testing.T, document string) {
		for _, alias := range roleAliases(document) {
			if alias == "" || strings.ContainsAny(alias, "*?/") || len(alias) > 128 {
				t.Errorf("role alias %q", alias)
			}
		}
	})
}
