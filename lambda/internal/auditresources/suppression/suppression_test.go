package suppression_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/auditresources/suppression"
)

// fakeIoT keeps suppressions as AWS IoT does. It first returns errs in order.
type fakeIoT struct {
	errs  []error
	have  map[string]iot.DescribeAuditSuppressionOutput
	calls []string
}

func key(check *string, r *types.ResourceIdentifier) string {
	text, _ := json.Marshal(r)
	return *check + string(text)
}

func (f *fakeIoT) call(name string) error {
	f.calls = append(f.calls, name)
	if len(f.errs) == 0 {
		return nil
	}
	err := f.errs[0]
	f.errs = f.errs[1:]
	return err
}

func (f *fakeIoT) CreateAuditSuppression(_ context.Context, in *iot.CreateAuditSuppressionInput, _ ...func(*iot.Options)) (*iot.CreateAuditSuppressionOutput, error) {
	if err := f.call("create"); err != nil {
		return nil, err
	}
	id := key(in.CheckName, in.ResourceIdentifier)
	if _, ok := f.have[id]; ok {
		return nil, &types.ResourceAlreadyExistsException{}
	}
	f.have[id] = iot.DescribeAuditSuppressionOutput{CheckName: in.CheckName, ResourceIdentifier: in.ResourceIdentifier, Description: in.Description, ExpirationDate: in.ExpirationDate, SuppressIndefinitely: in.SuppressIndefinitely}
	return &iot.CreateAuditSuppressionOutput{}, nil
}

func (f *fakeIoT) DescribeAuditSuppression(_ context.Context, in *iot.DescribeAuditSuppressionInput, _ ...func(*iot.Options)) (*iot.DescribeAuditSuppressionOutput, error) {
	if err := f.call("describe"); err != nil {
		return nil, err
	}
	found, ok := f.have[key(in.CheckName, in.ResourceIdentifier)]
	if !ok {
		return nil, &types.ResourceNotFoundException{}
	}
	return &found, nil
}

func (f *fakeIoT) UpdateAuditSuppression(_ context.Context, in *iot.UpdateAuditSuppressionInput, _ ...func(*iot.Options)) (*iot.UpdateAuditSuppressionOutput, error) {
	if err := f.call("update"); err != nil {
		return nil, err
	}
	id := key(in.CheckName, in.ResourceIdentifier)
	found := f.have[id]
	found.Description, found.ExpirationDate, found.SuppressIndefinitely = in.Description, in.ExpirationDate, in.SuppressIndefinitely
	f.have[id] = found
	return &iot.UpdateAuditSuppressionOutput{}, nil
}

func (f *fakeIoT) DeleteAuditSuppression(_ context.Context, in *iot.DeleteAuditSuppressionInput, _ ...func(*iot.Options)) (*iot.DeleteAuditSuppressionOutput, error) {
	if err := f.call("delete"); err != nil {
		return nil, err
	}
	delete(f.have, key(in.CheckName, in.ResourceIdentifier))
	return &iot.DeleteAuditSuppressionOutput{}, nil
}

// only returns the only suppression.
func (f *fakeIoT) only(t *testing.T) iot.DescribeAuditSuppressionOutput {
	t.Helper()
	if len(f.have) != 1 {
		t.Fatalf("%d suppressions, want one", len(f.have))
	}
	for _, s := range f.have {
		return s
	}
	panic("unreachable")
}

var now = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

const stack = "arn:aws:cloudformation:us-east-1:123456789012:stack/Fleet/5f6a"

func handle(f *fakeIoT, e cfn.Event) (id string, log string, err error) {
	if f.have == nil {
		f.have = map[string]iot.DescribeAuditSuppressionOutput{}
	}
	var lines bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := &suppression.Suppressor{IoT: f, Log: slog.New(slog.NewJSONHandler(&lines, nil)), Now: func() time.Time { return now }, Random: func(n int64) int64 { return n - 1 }}
	id, _, err = s.Handle(ctx, e)
	return id, lines.String(), err
}

func event(kind cfn.RequestType, resource map[string]any, more ...string) cfn.Event {
	properties := map[string]any{contract.SuppressionCheck: "CONFLICTING_CLIENT_IDS_CHECK", contract.SuppressionResource: resource, contract.SuppressionWhy: "Two gateways share it."}
	for i := 0; i < len(more); i += 2 {
		properties[more[i]] = more[i+1]
	}
	return cfn.Event{RequestType: kind, StackID: stack, LogicalResourceID: "Suppression", ResourceProperties: properties}
}

var pump = map[string]any{"clientId": "pump-7"}

func TestASuppressionLivesWithItsResource(t *testing.T) {
	f := &fakeIoT{}
	id, _, err := handle(f, event(cfn.RequestCreate, pump))
	if got := f.only(t); err != nil || id != "CONFLICTING_CLIENT_IDS_CHECK pump-7" || *got.Description != "Two gateways share it. [defenderhub Fleet/5f6a]" || !aws.ToBool(got.SuppressIndefinitely) || got.ExpirationDate != nil {
		t.Fatalf("created %q %+v, error %v", id, got, err)
	}
	later := event(cfn.RequestUpdate, pump, contract.SuppressionUntil, "2027-01-01T00:00:00Z", contract.SuppressionWhy, "Until the new gateways.")
	later.PhysicalResourceID = id
	next, _, err := handle(f, later)
	if got := f.only(t); err != nil || next != id || *got.Description != "Until the new gateways. [defenderhub Fleet/5f6a]" || got.SuppressIndefinitely != nil || !got.ExpirationDate.Equal(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Fatalf("updated %q %+v, error %v", next, got, err)
	}
	gone := event(cfn.RequestDelete, pump)
	gone.PhysicalResourceID = id
	for range 2 {
		if _, _, err := handle(f, gone); err != nil || len(f.have) > 0 {
			t.Errorf("deleted: error %v, %d suppressions left", err, len(f.have))
		}
	}
}

func TestForeignSuppressionIsReportedAndKept(t *testing.T) {
	for owner, description := range map[string]*string{
		"a person": aws.String("ask Ann"), "a person, without a description": nil, "another stack": aws.String("x [defenderhub Fleet/7777]"),
	} {
		f := &fakeIoT{}
		if _, _, err := handle(f, event(cfn.RequestCreate, pump)); err != nil {
			t.Fatal(err)
		}
		for id, s := range f.have {
			s.Description = description
			f.have[id] = s
		}
		for _, kind := range []cfn.RequestType{cfn.RequestCreate, cfn.RequestUpdate} {
			if _, _, err := handle(f, event(kind, pump)); err == nil || !strings.Contains(err.Error(), "create the audit suppression of CONFLICTING_CLIENT_IDS_CHECK for pump-7: somebody else made this suppression") {
				t.Errorf("suppression of %s, %s: error %v, want one that says that somebody else made it", owner, kind, err)
			}
		}
		expired := event(cfn.RequestUpdate, pump, contract.SuppressionUntil, "2026-11-30T23:59:59Z")
		for _, e := range []cfn.Event{event(cfn.RequestDelete, pump), expired} {
			if _, log, err := handle(f, e); err != nil || !strings.Contains(log, "a suppression that somebody else made is not deleted") {
				t.Errorf("suppression of %s, %s: error %v, log %s; want it kept, with a line in the log", owner, e.RequestType, err, log)
			}
		}
		if got := f.only(t); aws.ToString(got.Description) != aws.ToString(description) {
			t.Errorf("suppression of %s: description changed to %q", owner, aws.ToString(got.Description))
		}
	}
}

func TestExpiredSuppressionIsDeleted(t *testing.T) {
	f := &fakeIoT{}
	past := event(cfn.RequestCreate, pump, contract.SuppressionUntil, "2026-12-01T00:00:00Z")
	if _, _, err := handle(f, past); err != nil || len(f.have) > 0 {
		t.Errorf("created: error %v, %d suppressions; want none", err, len(f.have))
	}
	handle(f, event(cfn.RequestCreate, pump))
	past.RequestType = cfn.RequestUpdate
	if _, _, err := handle(f, past); err != nil || len(f.have) > 0 {
		t.Errorf("updated: error %v, %d suppressions; want none", err, len(f.have))
	}
}

func TestEveryKindOfResource(t *testing.T) {
	for name, c := range map[string]struct {
		resource map[string]any
		want     types.ResourceIdentifier
	}{
		"a1":                                  {map[string]any{"deviceCertificateId": "a1"}, types.ResourceIdentifier{DeviceCertificateId: aws.String("a1")}},
		"b2":                                  {map[string]any{"caCertificateId": "b2"}, types.ResourceIdentifier{CaCertificateId: aws.String("b2")}},
		"eu-west-1:1":                         {map[string]any{"cognitoIdentityPoolId": "eu-west-1:1"}, types.ResourceIdentifier{CognitoIdentityPoolId: aws.String("eu-west-1:1")}},
		"arn:aws:iot:us-east-1:1:rolealias/r": {map[string]any{"roleAliasArn": "arn:aws:iot:us-east-1:1:rolealias/r"}, types.ResourceIdentifier{RoleAliasArn: aws.String("arn:aws:iot:us-east-1:1:rolealias/r")}},
		"123456789012":                        {map[string]any{"account": "123456789012"}, types.ResourceIdentifier{Account: aws.String("123456789012")}},
		"fleet/1": {map[string]any{"policyVersionIdentifier": map[string]any{"policyName": "fleet", "policyVersionId": "1"}},
			types.ResourceIdentifier{PolicyVersionIdentifier: &types.PolicyVersionIdentifier{PolicyName: aws.String("fleet"), PolicyVersionId: aws.String("1")}}},
	} {
		f := &fakeIoT{}
		id, _, err := handle(f, event(cfn.RequestCreate, c.resource))
		if got := f.only(t); err != nil || !strings.HasSuffix(id, " "+name) || key(aws.String(""), got.ResourceIdentifier) != key(aws.String(""), &c.want) {
			t.Errorf("%s: physical ID %q, error %v, resource %s; want %s", name, id, err, key(aws.String(""), got.ResourceIdentifier), key(aws.String(""), &c.want))
		}
	}
}

func TestResourceWithWrongPropertiesFailsAndCanBeDeleted(t *testing.T) {
	for name, e := range map[string]cfn.Event{
		"unknown check": event(cfn.RequestCreate, pump, contract.SuppressionCheck, "NO_SUCH_CHECK"),
		"no resource":   event(cfn.RequestCreate, nil),
		"another field": event(cfn.RequestCreate, map[string]any{"iamRoleArn": "r"}),
		"not a text":    event(cfn.RequestCreate, map[string]any{"clientId": 7.0}),
		"not a time":    event(cfn.RequestCreate, pump, contract.SuppressionUntil, "tomorrow"),
	} {
		f := &fakeIoT{}
		id, _, err := handle(f, e)
		if err == nil || !strings.Contains(err.Error(), "property ") || id == "" {
			t.Errorf("%s: physical ID %q, error %v; want an error that names the property", name, id, err)
		}
		e.RequestType, e.PhysicalResourceID = cfn.RequestDelete, id
		if again, _, err := handle(f, e); err != nil || again != id || len(f.calls) > 0 {
			t.Errorf("%s: deletion: physical ID %q, error %v, calls %v; want none", name, again, err, f.calls)
		}
	}
}

func TestFailuresAreRetriedUntilTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeIoT{errs: []error{&types.InvalidRequestException{}, &types.ThrottlingException{}}}
		if _, _, err := handle(f, event(cfn.RequestCreate, pump)); err != nil || len(f.have) != 1 {
			t.Errorf("after two failures: error %v, %d suppressions; want one", err, len(f.have))
		}
		f = &fakeIoT{errs: make([]error, 1000)}
		for i := range f.errs {
			f.errs[i] = errors.New("out of order")
		}
		if _, _, err := handle(f, event(cfn.RequestDelete, pump)); err == nil {
			t.Error("a deletion that failed is reported as done")
		}
	})
}

// In any order of requests, this stack changes no suppression that somebody else made.
func TestSuppressionsOfOthersAreNeverChanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := &fakeIoT{have: map[string]iot.DescribeAuditSuppressionOutput{}}
		theirs := map[string]string{}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			client := fmt.Sprint("pump-", rapid.IntRange(0, 2).Draw(t, "client"))
			resource := types.ResourceIdentifier{ClientId: &client}
			id := key(aws.String("CONFLICTING_CLIENT_IDS_CHECK"), &resource)
			switch rapid.IntRange(0, 3).Draw(t, "who") {
			case 0:
				theirs[id] = "by hand"
				f.have[id] = iot.DescribeAuditSuppressionOutput{Description: aws.String("by hand")}
			default:
				kind := rapid.SampledFrom([]cfn.RequestType{cfn.RequestCreate, cfn.RequestUpdate, cfn.RequestDelete}).Draw(t, "request")
				_, _, err := handle(f, event(kind, map[string]any{"clientId": client}))
				if conflict := theirs[id] != "" && kind != cfn.RequestDelete; (err != nil) != conflict {
					t.Fatalf("%s of %s: error %v, conflict %v", kind, client, err, conflict)
				}
			}
			for id := range theirs {
				if found, ok := f.have[id]; !ok || *found.Description != "by hand" {
					t.Fatalf("%s was changed", id)
				}
			}
		}
	})
}
