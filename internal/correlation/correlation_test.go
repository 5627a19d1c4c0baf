package correlation

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/correlation"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/findingevent"
)

func compiled(t testing.TB, rules ...correlation.Rule) []Rule {
	t.Helper()
	all, err := Compile(rules, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestReadFile(t *testing.T) {
	want := Config{Rules: compiled(t, correlation.BuiltIn()...), Attributes: []string{"instanceId"}, Elsewhere: true, MaxAgeMinutes: 5}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), File)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadFile(file)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, error %v, want %+v", got, err, want)
	}
	if _, err := ReadFile(file + "x"); err == nil {
		t.Error("a missing file is no error")
	}
}

func TestCompileReportsTheFaultsOfAllRules(t *testing.T) {
	shared := correlation.Campaign(correlation.Spread{Share: 0.1})
	_, err := Compile([]correlation.Rule{correlation.TwoProducts(), correlation.TwoProducts(), shared, {}}, 0)
	var got []string
	for _, f := range defender.FieldErrors(err) {
		got = append(got, strings.TrimSpace(f.Field+" "+f.Code))
	}
	if want := "[[1].Name [2].Spread.Share no-fleet-size [3].Name [3].Stages]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := Compile(make([]correlation.Rule, MaxRules+1), 0); !strings.Contains(err.Error(), "51 rules") {
		t.Errorf("%d rules: error %v, want one that says 51 rules", MaxRules+1, err)
	}
}

func TestSpreadNeedsTheLowerOfDevicesAndShare(t *testing.T) {
	for _, c := range []struct {
		spread correlation.Spread
		want   int
	}{
		{correlation.Spread{Devices: 40}, 40},
		{correlation.Spread{Share: 0.03}, 30},
		{correlation.Spread{Devices: 40, Share: 0.03}, 30},
		{correlation.Spread{Devices: 20, Share: 0.03}, 20},
		{correlation.Spread{Share: 0.0001}, 2},
	} {
		if got := compiled(t, correlation.Campaign(c.spread))[0].Devices; got != c.want {
			t.Errorf("%+v: %d devices, want %d", c.spread, got, c.want)
		}
	}
}

func TestTextsDoNotChangeTheDigest(t *testing.T) {
	rule := correlation.CompromiseChain()
	before := compiled(t, rule)[0].Digest()
	texts := rule
	texts.Title, texts.Description, texts.Remedy = "a", "b", "c"
	if compiled(t, texts)[0].Digest() != before {
		t.Error("title, description or remedy change the digest")
	}
	for name, change := range map[string]func(*correlation.Rule){
		"name":     func(r *correlation.Rule) { r.Name = "renamed" },
		"order":    func(r *correlation.Rule) { r.InOrder = false },
		"window":   func(r *correlation.Rule) { r.Window = 1 << 40 },
		"severity": func(r *correlation.Rule) { r.Severity = defender.Low },
		"stages":   func(r *correlation.Rule) { r.Stages = r.Stages[:2] },
	} {
		changed := rule
		change(&changed)
		if compiled(t, changed)[0].Digest() == before {
			t.Errorf("%s does not change the digest", name)
		}
	}
	live := Live(compiled(t, correlation.BuiltIn()...))
	parsed, err := ParseLiveRules(live.String())
	if err != nil || !reflect.DeepEqual(parsed, live) || !live[before] {
		t.Errorf("live rules %v, error %v, want %v", parsed, err, live)
	}
	if none, err := ParseLiveRules(""); err != nil || len(none) != 0 {
		t.Errorf("an empty string is read as %v, error %v, want no rules", none, err)
	}
	if _, err := ParseLiveRules("abc"); err == nil {
		t.Error("part of a digest is no error")
	}
}

func composite() Composite {
	return Composite{
		Rule: "stolen-identity", Digest: "abcdefgh", Account: "123456789012", Region: "eu-west-1", Kind: Thing, Entity: "pump-7",
		Revision: 5, State: asff.Active, Time: 4, Severity: Label(defender.Critical), Parts: 2, Title: "t",
		Resources: []asff.Resource{{Type: "AwsIotRegisteredThing", ID: "pump-7"}},
	}
}

func TestCompositesSurviveJSON(t *testing.T) {
	want := composite()
	text, err := json.Marshal(want)
	if err != nil || !strings.HasPrefix(string(text), `{"source":"correlation",`) {
		t.Fatalf("got %s, error %v, want the source first", text, err)
	}
	var got Composite
	if err := json.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, error %v, want %+v", got, err, want)
	}
	for name, change := range map[string]func(*Composite){
		"no rule":             func(c *Composite) { c.Rule = "" },
		"no Region":           func(c *Composite) { c.Region = "" },
		"unknown kind":        func(c *Composite) { c.Kind = "fleet" },
		"no entity":           func(c *Composite) { c.Entity = "" },
		"campaign of a thing": func(c *Composite) { c.Kind = Campaign },
		"key of a thing":      func(c *Composite) { c.Key = "behavior b" },
		"state":               func(c *Composite) { c.State = "OPEN" },
		"revision":            func(c *Composite) { c.Revision = 0 },
		"severity":            func(c *Composite) { c.Severity = 0 },
	} {
		c := composite()
		change(&c)
		text, err := json.Marshal(c)
		if err == nil {
			err = json.Unmarshal(text, &got)
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if json.Unmarshal([]byte(strings.Replace(string(text), "correlation", "behavior", 1)), &got) == nil {
		t.Error("another source: no error")
	}
}

func TestFindingIDs(t *testing.T) {

	for want, change := range map[string]func(*Composite){
		"defenderhub/correlation/eu-west-1/stolen-identity/pump-7":                        func(*Composite) {},
		"defenderhub/correlation/eu-west-1/stolen-identity/a%2Fb":                         func(c *Composite) { c.Entity = "a/b" },
		"defenderhub/correlation/eu-west-1/stolen-identity/pump-7/111122223333/eu-west-1": func(c *Composite) { c.Account = "111122223333" },
		"defenderhub/correlation/eu-west-1/stolen-identity/pump-7/123456789012/us-east-1": func(c *Composite) { c.Region = "us-east-1" },
		"defenderhub/correlation/eu-west-1/stolen-identity/resource/pump-7":               func(c *Composite) { c.Kind = Resource },
		"defenderhub/correlation/eu-west-1/stolen-identity/campaign/check x":              func(c *Composite) { c.Kind, c.Entity, c.Key = Campaign, "", "check x" },
	} {
		c := composite()
		change(&c)
		id := c.FindingID("123456789012", "eu-west-1")
		if id != want {
			t.Errorf("got %s, want %s", id, want)
		}
		if !IsComposite(findingevent.Event{ProductARN: asff.DefaultProductARN("aws", "r", "1"), ID: id}) {
			t.Errorf("IsComposite is false for %s", id)
		}
	}
}

func FuzzComposite(f *testing.F) {
	text, err := json.Marshal(composite())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		var c Composite
		if json.Unmarshal(text, &c) != nil {
			return
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var back Composite
		if err := json.Unmarshal(again, &back); err != nil {
			t.Errorf("%s: %v", again, err)
		}
		if c.FindingID("1", "r") == "" {
			t.Error("no ID")
		}
	})
}
