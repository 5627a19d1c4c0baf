package cloudformation_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
)

// provider creates resources of any type and records the requests.
type provider struct {
	asked []cloudformation.Request
	err   error
	inert string
}

func (p *provider) Create(_ context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	p.asked = append(p.asked, r)
	return cloudformation.Resource{PhysicalID: "made-" + r.LogicalResourceID, Attributes: map[string]any{"Arn": "arn"}, Inert: p.inert}, p.err
}

func (p *provider) Update(_ context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	p.asked = append(p.asked, r)
	return cloudformation.Resource{PhysicalID: r.PhysicalResourceID}, p.err
}

func (p *provider) Delete(_ context.Context, r cloudformation.Request) error {
	p.asked = append(p.asked, r)
	return p.err
}

type reply struct {
	Status, Reason     string
	Untouched          bool
	PhysicalResourceID string `json:"PhysicalResourceId"`
	Data               map[string]any
}

// ask posts a request as the emulator's launcher does.
func ask(t *testing.T, r *cloudformation.Registry, request string) reply {
	t.Helper()
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(request)))
	var answer reply
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("status %d, body %q", w.Code, w.Body)
	}
	return answer
}

func TestProviderMakesTheResource(t *testing.T) {
	var r cloudformation.Registry
	p := &provider{inert: "does nothing"}
	r.Register("AWS::IoT::TopicRule", p)
	changes := 0
	r.OnChange(func() { changes++ })

	got := ask(t, &r, `{"RequestType":"Create","ResourceType":"AWS::IoT::TopicRule","StackId":"stack","LogicalResourceId":"Rule",
		"PhysicalResourceId":"Stack-Rule-1","ResourceProperties":{"RuleName":"r"},"AccountId":"123456789012","Region":"cn-north-1"}`)
	if got.Status != "SUCCESS" || got.PhysicalResourceID != "made-Rule" || got.Data["Arn"] != "arn" {
		t.Errorf("answer %+v, want the provider's resource", got)
	}
	asked := p.asked[0]
	if asked.StackID != "stack" || asked.PhysicalResourceID != "Stack-Rule-1" || asked.ResourceProperties["RuleName"] != "r" {
		t.Errorf("the provider got the request %+v", asked)
	}
	if arn := asked.ARN("iot", "rule/r"); arn != "arn:aws-cn:iot:cn-north-1:123456789012:rule/r" {
		t.Errorf("ARN %s", arn)
	}
	deployed, ok := r.Find("AWS::IoT::TopicRule", "made-Rule")
	if !ok || deployed.Inert != "does nothing" || deployed.LogicalID != "Rule" || changes != 1 {
		t.Errorf("deployed %+v, %d changes", deployed, changes)
	}

	got = ask(t, &r, `{"RequestType":"Update","ResourceType":"AWS::IoT::TopicRule","StackId":"stack","LogicalResourceId":"Rule","PhysicalResourceId":"made-Rule","ResourceProperties":{"RuleName":"s"}}`)
	if deployed := r.Deployed(""); got.Status != "SUCCESS" || len(deployed) != 1 || deployed[0].Properties["RuleName"] != "s" {
		t.Errorf("after the update: %+v, %+v", got, deployed)
	}
	got = ask(t, &r, `{"RequestType":"Delete","ResourceType":"AWS::IoT::TopicRule","StackId":"stack","LogicalResourceId":"Rule","PhysicalResourceId":"made-Rule"}`)
	if got.Status != "SUCCESS" || len(r.Deployed("")) != 0 || changes != 3 {
		t.Errorf("after the deletion: %+v, %+v", got, r.Deployed(""))
	}
}

func TestUnknownTypeIsRefused(t *testing.T) {
	var r cloudformation.Registry
	r.Register("AWS::IoT::TopicRule", &provider{})
	for _, unknown := range []string{"AWS::IoT::Widget", "Custom::Thing", "AWS::CloudFormation::WaitCondition"} {
		got := ask(t, &r, `{"RequestType":"Create","ResourceType":"`+unknown+`","LogicalResourceId":"X"}`)
		if got.Status != "FAILED" || !strings.Contains(got.Reason, unknown) {
			t.Errorf("%s: got %+v, want FAILED with a reason that names the type", unknown, got)
		}
	}
	if len(r.Deployed("")) != 0 {
		t.Errorf("refused resources are deployed: %v", r.Deployed(""))
	}
}

func TestEveryCustomTypeHasOneProvider(t *testing.T) {
	var r cloudformation.Registry
	p := &provider{}
	r.Register(cloudformation.CustomResource, p)
	for _, custom := range []string{"Custom::Greeting", "AWS::CloudFormation::CustomResource"} {
		if got := ask(t, &r, `{"RequestType":"Create","ResourceType":"`+custom+`","LogicalResourceId":"X"}`); got.Status != "SUCCESS" {
			t.Errorf("%s: %+v", custom, got)
		}
	}
	if p.asked[0].ResourceType != "Custom::Greeting" {
		t.Errorf("the provider got the type %s, want Custom::Greeting", p.asked[0].ResourceType)
	}
}

func TestReasonIsTheErrorOfTheProvider(t *testing.T) {
	var r cloudformation.Registry
	r.Register("AWS::IoT::TopicRule", &provider{err: errors.New("The rule already exists.")})
	for _, kind := range []string{"Create", "Update", "Delete"} {
		got := ask(t, &r, `{"RequestType":"`+kind+`","ResourceType":"AWS::IoT::TopicRule"}`)
		if got.Status != "FAILED" || got.Reason != "The rule already exists." {
			t.Errorf("%s: got %+v, want FAILED with the provider's error", kind, got)
		}
	}
	if got := ask(t, &r, `{"RequestType":"Adopt","ResourceType":"AWS::IoT::TopicRule"}`); got.Status != "FAILED" || !strings.Contains(got.Reason, "Adopt") {
		t.Errorf("unknown request: %+v", got)
	}
}

func TestRefusalSaysWhetherTheResourceIsUntouched(t *testing.T) {
	var r cloudformation.Registry
	p := &provider{}
	r.Register("AWS::IoT::TopicRule", p)
	for err, untouched := range map[error]bool{errors.New("it broke"): false, cloudformation.Untouched(errors.New("not updated here")): true} {
		p.err = err
		got := ask(t, &r, `{"RequestType":"Update","ResourceType":"AWS::IoT::TopicRule"}`)
		if got.Status != "FAILED" || got.Reason != err.Error() || got.Untouched != untouched {
			t.Errorf("error %v: got %+v, want untouched %v", err, got, untouched)
		}
	}
}

func TestLaterProviderReplacesTheEarlier(t *testing.T) {
	var r cloudformation.Registry
	plain, richer := &provider{}, &provider{}
	r.Register("AWS::IoT::TopicRule", plain)
	r.Register("AWS::IoT::TopicRule", richer)
	ask(t, &r, `{"RequestType":"Create","ResourceType":"AWS::IoT::TopicRule"}`)
	if len(plain.asked) != 0 || len(richer.asked) != 1 || !slices.Equal(r.Types(), []string{"AWS::IoT::TopicRule"}) {
		t.Errorf("the first provider got %d requests, the second %d, types %v; want 0, 1 and one type", len(plain.asked), len(richer.asked), r.Types())
	}
}

func TestResourcesOfTheEmulatorAreObserved(t *testing.T) {
	var r cloudformation.Registry
	for _, change := range []string{"Create", "Update"} {
		got := ask(t, &r, `{"RequestType":"Observed","Change":"`+change+`","ResourceType":"AWS::Lambda::Function","StackId":"s","LogicalResourceId":"F",
			"PhysicalResourceId":"f","ResourceProperties":{"Timeout":30}}`)
		if got.Status != "SUCCESS" {
			t.Errorf("%s: %+v", change, got)
		}
	}
	if all := r.Deployed("AWS::Lambda::Function"); len(all) != 1 || all[0].Properties["Timeout"] != 30.0 {
		t.Errorf("deployed %+v, want one function", all)
	}
	ask(t, &r, `{"RequestType":"Observed","Change":"Delete","ResourceType":"AWS::Lambda::Function","StackId":"s","LogicalResourceId":"F","PhysicalResourceId":"f"}`)
	if all := r.Deployed(""); len(all) != 0 {
		t.Errorf("deployed %+v after its deletion", all)
	}
}

func TestResourcesOfTheEmulatorAreCheckedBeforehand(t *testing.T) {
	var r cloudformation.Registry
	r.Check = func(req cloudformation.Request) error {
		if req.ResourceProperties["Timout"] != nil {
			return errors.New(string(req.RequestType) + ": no property Timout")
		}
		return nil
	}
	for _, change := range []string{"Create", "Update"} {
		request := `{"RequestType":"Checked","Change":"` + change + `","ResourceType":"AWS::Lambda::Function","ResourceProperties":{"`
		if got := ask(t, &r, request+`Timeout":30}}`); got.Status != "SUCCESS" {
			t.Errorf("%s: %+v", change, got)
		}
		if got := ask(t, &r, request+`Timout":30}}`); got.Status != "FAILED" || got.Reason != change+": no property Timout" {
			t.Errorf("%s: %+v", change, got)
		}
	}
	if all := r.Deployed(""); len(all) != 0 {
		t.Errorf("a check deployed %+v", all)
	}
}

func TestInvalidJSONIsABadRequest(t *testing.T) {
	w := httptest.NewRecorder()
	new(cloudformation.Registry).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{")))
	if w.Code != http.StatusBadRequest {
		t.Errorf("status %d, want 400", w.Code)
	}
}
