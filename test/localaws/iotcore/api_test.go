package iotcore_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

const (
	allowAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	denyAll  = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`
	arn      = "arn:aws:iot:us-east-1:123456789012:"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// world is a service with real clients, on a clock that tests step.
type world struct {
	*iot.Client
	data     *iotdataplane.Client
	service  *iotcore.Service
	handler  *iotcore.Handler
	endpoint string
	now      time.Time
	sent     recorder
}

// recorder is a data plane that records the published messages.
type recorder struct {
	published []iotcore.PublishedMessage
}

func (r *recorder) Publish(m iotcore.PublishedMessage) error {
	r.published = append(r.published, m)
	return nil
}

func (r *recorder) GetConnection(clientID string) (*iotdataplane.GetConnectionOutput, error) {
	if clientID == "nobody" {
		return nil, iotcore.NotConnected(clientID)
	}
	return &iotdataplane.GetConnectionOutput{ClientId: &clientID, Connected: true, ConnectedSince: 7, ThingName: aws.String("a")}, nil
}

func newWorld(t *testing.T, config iotcore.Config) *world {
	t.Helper()
	w := &world{now: start}
	config.Now = func() time.Time { return w.now }
	var err error
	if w.service, err = iotcore.New(config); err != nil {
		t.Fatal(err)
	}
	w.handler = iotcore.NewHandler(w.service, &w.sent)
	server := httptest.NewServer(w.handler)
	t.Cleanup(server.Close)
	w.endpoint = server.URL
	w.Client = iot.New(iot.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""), HTTPClient: awsapi.HTTPClient,
	})
	w.data = iotdataplane.New(iotdataplane.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""), HTTPClient: awsapi.HTTPClient,
	})
	return w
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wantCode requires the error's code as the SDK parsed it, and a part of the message.
func wantCode(t *testing.T, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), message) {
		t.Errorf("error %v, want %s with %q", err, code, message)
	}
}

func (w *world) newThing(t *testing.T, name string) {
	t.Helper()
	must[*iot.CreateThingOutput](t)(w.CreateThing(context.Background(), &iot.CreateThingInput{ThingName: &name}))
}

func (w *world) newGroup(t *testing.T, name, parent string) {
	t.Helper()
	in := &iot.CreateThingGroupInput{ThingGroupName: &name}
	if parent != "" {
		in.ParentGroupName = &parent
	}
	must[*iot.CreateThingGroupOutput](t)(w.CreateThingGroup(context.Background(), in))
}

func (w *world) newCertificate(t *testing.T) *iot.CreateKeysAndCertificateOutput {
	t.Helper()
	return must[*iot.CreateKeysAndCertificateOutput](t)(w.CreateKeysAndCertificate(context.Background(), &iot.CreateKeysAndCertificateInput{SetAsActive: true}))
}

func (w *world) newPolicy(t *testing.T, name, document string) {
	t.Helper()
	must[*iot.CreatePolicyOutput](t)(w.CreatePolicy(context.Background(), &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: &document}))
}

func TestUnsupportedOperationsAreRefused(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	p, arn := aws.String("p"), aws.String("arn")
	for name, call := range map[string]func() error{
		"UpdateThing": func() error {
			_, err := w.UpdateThing(ctx, &iot.UpdateThingInput{ThingName: p})
			return err
		},
		"ListThingGroups": func() error { _, err := w.ListThingGroups(ctx, &iot.ListThingGroupsInput{}); return err },
		"ListPolicyVersions": func() error {
			_, err := w.ListPolicyVersions(ctx, &iot.ListPolicyVersionsInput{PolicyName: p})
			return err
		},
		"EnableTopicRule":     func() error { _, err := w.EnableTopicRule(ctx, &iot.EnableTopicRuleInput{RuleName: p}); return err },
		"DisableTopicRule":    func() error { _, err := w.DisableTopicRule(ctx, &iot.DisableTopicRuleInput{RuleName: p}); return err },
		"GetV2LoggingOptions": func() error { _, err := w.GetV2LoggingOptions(ctx, &iot.GetV2LoggingOptionsInput{}); return err },
		"UpdateThingGroup": func() error {
			_, err := w.UpdateThingGroup(ctx, &iot.UpdateThingGroupInput{ThingGroupName: p, ThingGroupProperties: &types.ThingGroupProperties{}})
			return err
		},
		"ListThingPrincipalsV2": func() error {
			_, err := w.ListThingPrincipalsV2(ctx, &iot.ListThingPrincipalsV2Input{ThingName: p})
			return err
		},
		"ListPrincipalThingsV2": func() error {
			_, err := w.ListPrincipalThingsV2(ctx, &iot.ListPrincipalThingsV2Input{Principal: arn})
			return err
		},
		"SetDefaultPolicyVersion": func() error {
			_, err := w.SetDefaultPolicyVersion(ctx, &iot.SetDefaultPolicyVersionInput{PolicyName: p, PolicyVersionId: p})
			return err
		},
		"ListTargetsForPolicy": func() error {
			_, err := w.ListTargetsForPolicy(ctx, &iot.ListTargetsForPolicyInput{PolicyName: p})
			return err
		},
		"DescribeRoleAlias": func() error {
			_, err := w.DescribeRoleAlias(ctx, &iot.DescribeRoleAliasInput{RoleAlias: p})
			return err
		},
		"TagResource": func() error {
			_, err := w.TagResource(ctx, &iot.TagResourceInput{ResourceArn: arn, Tags: []types.Tag{{Key: p}}})
			return err
		},
		"UntagResource": func() error {
			_, err := w.UntagResource(ctx, &iot.UntagResourceInput{ResourceArn: arn, TagKeys: []string{"p"}})
			return err
		},
	} {
		wantCode(t, call(), "NotImplementedException", name)
	}
}
