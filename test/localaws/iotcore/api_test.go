package iotcore_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
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

// world is a service with real clients before it, on a clock that tests step.
type world struct {
	*iot.Client
	data     *iotdataplane.Client
	service  *iotcore.Service
	handler  *iotcore.Handler
	endpoint string
	now      time.Time
	sent     recorder
}

// recorder is a data plane that keeps what it is asked to do.
type recorder struct {
	published []iotcore.PublishedMessage
	deleted   []string
}

func (r *recorder) Publish(m iotcore.PublishedMessage) error {
	r.published = append(r.published, m)
	return nil
}

func (r *recorder) DeleteConnection(clientID string, cleanSession, preventWill bool) error {
	if clientID == "nobody" {
		return iotcore.NotConnected(clientID)
	}
	r.deleted = append(r.deleted, fmt.Sprint(clientID, " ", cleanSession, " ", preventWill))
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

// wantCode checks the error's code as the SDK understood it, and that the
// message names something.
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

func TestThings(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	attributes := &types.AttributePayload{Attributes: map[string]string{"site": "north"}}
	created := must[*iot.CreateThingOutput](t)(w.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("a:1"), AttributePayload: attributes}))
	if *created.ThingArn != arn+"thing/a:1" {
		t.Errorf("ARN %s", *created.ThingArn)
	}
	again := must[*iot.CreateThingOutput](t)(w.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("a:1"), AttributePayload: attributes}))
	if *again.ThingId != *created.ThingId {
		t.Error("creating the same thing again made another one")
	}
	_, err := w.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("a:1")})
	wantCode(t, err, "ResourceAlreadyExistsException", "a:1")
	_, err = w.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("b"), ThingTypeName: aws.String("pump")})
	wantCode(t, err, "NotImplementedException", "pump")

	described := must[*iot.DescribeThingOutput](t)(w.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: aws.String("a:1")}))
	if described.Version != 1 || described.Attributes["site"] != "north" {
		t.Errorf("read back: %+v", described)
	}
	_, err = w.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: aws.String("nobody")})
	wantCode(t, err, "ResourceNotFoundException", "nobody")

	w.newThing(t, "b")
	found := must[*iot.ListThingsOutput](t)(w.ListThings(ctx, &iot.ListThingsInput{AttributeName: aws.String("site"), AttributeValue: aws.String("north")}))
	if len(found.Things) != 1 || *found.Things[0].ThingName != "a:1" {
		t.Errorf("things of the north: %+v", found.Things)
	}
	must[*iot.DeleteThingOutput](t)(w.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: aws.String("b")}))
	must[*iot.DeleteThingOutput](t)(w.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: aws.String("b")}))
}

func TestPagesMeetWithoutOverlap(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	for i := range 7 {
		w.newThing(t, fmt.Sprintf("thing-%d", i))
		w.newPolicy(t, fmt.Sprintf("policy-%d", i), allowAll)
		w.now = w.now.Add(time.Second)
	}
	var names []string
	things := iot.NewListThingsPaginator(w.Client, &iot.ListThingsInput{MaxResults: aws.Int32(3)})
	for things.HasMorePages() {
		for _, thing := range must[*iot.ListThingsOutput](t)(things.NextPage(ctx)).Things {
			names = append(names, *thing.ThingName)
		}
	}
	policies := iot.NewListPoliciesPaginator(w.Client, &iot.ListPoliciesInput{PageSize: aws.Int32(2)})
	for policies.HasMorePages() {
		for _, p := range must[*iot.ListPoliciesOutput](t)(policies.NextPage(ctx)).Policies {
			names = append(names, *p.PolicyName)
		}
	}
	want := "thing-0 thing-1 thing-2 thing-3 thing-4 thing-5 thing-6 policy-6 policy-5 policy-4 policy-3 policy-2 policy-1 policy-0"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("listed %s\nwant   %s", got, want)
	}
	_, err := w.ListThings(ctx, &iot.ListThingsInput{MaxResults: aws.Int32(251)})
	wantCode(t, err, "InvalidRequestException", "251")
}

func TestThingGroups(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	w.newGroup(t, "fleet", "")
	w.newGroup(t, "north", "fleet")
	w.newGroup(t, "mine", "north")
	w.newGroup(t, "quarantine", "")
	_, err := w.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: aws.String("x"), ParentGroupName: aws.String("nowhere")})
	wantCode(t, err, "InvalidRequestException", "nowhere")

	described := must[*iot.DescribeThingGroupOutput](t)(w.DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: aws.String("mine")}))
	var path []string
	for _, g := range described.ThingGroupMetadata.RootToParentThingGroups {
		path = append(path, *g.GroupName)
	}
	if strings.Join(path, "/") != "fleet/north" || !described.ThingGroupMetadata.CreationDate.Equal(start) {
		t.Errorf("mine is under %v, created %v", path, described.ThingGroupMetadata.CreationDate)
	}

	w.newThing(t, "sensor")
	add := func(group string) error {
		_, err := w.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingGroupName: &group, ThingName: aws.String("sensor")})
		return err
	}
	if err := errors.Join(add("mine"), add("quarantine")); err != nil {
		t.Fatal(err)
	}
	wantCode(t, add("fleet"), "InvalidRequestException", "same hierarchy")
	wantCode(t, add("nowhere"), "ResourceNotFoundException", "nowhere")

	groups := must[*iot.ListThingGroupsForThingOutput](t)(w.ListThingGroupsForThing(ctx, &iot.ListThingGroupsForThingInput{ThingName: aws.String("sensor")}))
	if len(groups.ThingGroups) != 2 || *groups.ThingGroups[0].GroupName != "mine" || *groups.ThingGroups[1].GroupName != "quarantine" {
		t.Errorf("groups of the sensor: %+v", groups.ThingGroups)
	}
	for _, recursive := range []bool{false, true} {
		in := must[*iot.ListThingsInThingGroupOutput](t)(w.ListThingsInThingGroup(ctx, &iot.ListThingsInThingGroupInput{ThingGroupName: aws.String("fleet"), Recursive: recursive}))
		if (len(in.Things) == 1) != recursive {
			t.Errorf("things in fleet, recursive %v: %v", recursive, in.Things)
		}
	}
	_, err = w.DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: aws.String("north")})
	wantCode(t, err, "InvalidRequestException", "child groups")
	must[*iot.RemoveThingFromThingGroupOutput](t)(w.RemoveThingFromThingGroup(ctx, &iot.RemoveThingFromThingGroupInput{ThingGroupName: aws.String("mine"), ThingName: aws.String("sensor")}))
	if err := add("fleet"); err != nil {
		t.Errorf("after leaving the hierarchy: %v", err)
	}
}

func TestAThingIsInAtMostTenGroups(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	w.newThing(t, "sensor")
	for i := range 11 {
		name := fmt.Sprintf("group-%d", i)
		w.newGroup(t, name, "")
		_, err := w.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingGroupName: &name, ThingName: aws.String("sensor")})
		if i < 10 && err != nil {
			t.Fatal(err)
		}
		if i == 10 {
			wantCode(t, err, "InvalidRequestException", "limit")
		}
	}
}

func TestCertificatesAreRealAndSignedByTheCA(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	out := w.newCertificate(t)
	pair, err := tls.X509KeyPair([]byte(*out.CertificatePem), []byte(*out.KeyPair.PrivateKey))
	if err != nil {
		t.Fatalf("certificate and private key do not belong together: %v", err)
	}
	if got := iotcore.CertificateID(pair.Leaf); got != *out.CertificateId || *out.CertificateArn != arn+"cert/"+got {
		t.Errorf("id %s, ARN %s, want %s", *out.CertificateId, *out.CertificateArn, got)
	}
	block, _ := pem.Decode([]byte(*out.KeyPair.PublicKey))
	if public, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil || public == nil {
		t.Errorf("public key: %v", err)
	}
	if !w.service.CA().Issued(pair.Leaf, start) {
		t.Error("the CA does not know its own certificate")
	}
	other := newWorld(t, iotcore.Config{})
	if other.service.CA().Issued(pair.Leaf, start) {
		t.Error("another CA takes it for its own")
	}
	d := must[*iot.DescribeCertificateOutput](t)(w.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: out.CertificateId})).CertificateDescription
	if d.Status != types.CertificateStatusActive || !d.CreationDate.Equal(start) || !d.Validity.NotAfter.Equal(pair.Leaf.NotAfter) {
		t.Errorf("described as %+v", d)
	}
}

func TestCertificateLifeCycle(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	var told []string
	w.service.OnCertificateStatus(func(id string, status types.CertificateStatus) { told = append(told, string(status)) })
	out := must[*iot.CreateKeysAndCertificateOutput](t)(w.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{}))
	set := func(status types.CertificateStatus) error {
		_, err := w.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: out.CertificateId, NewStatus: status})
		return err
	}
	remove := func(force bool) error {
		_, err := w.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: out.CertificateId, ForceDelete: force})
		return err
	}
	if c, _ := w.service.Certificate(*out.CertificateId); c.Status != iotcore.Inactive {
		t.Errorf("a new certificate is %s", c.Status)
	}
	wantCode(t, set(types.CertificateStatusPendingTransfer), "InvalidRequestException", "PENDING_TRANSFER")
	if err := errors.Join(set("ACTIVE"), set("INACTIVE"), set("ACTIVE"), set("ACTIVE")); err != nil {
		t.Fatal(err)
	}
	wantCode(t, remove(true), "CertificateStateException", "deactivated")

	w.newThing(t, "sensor")
	w.newPolicy(t, "p", allowAll)
	must[*iot.AttachThingPrincipalOutput](t)(w.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: aws.String("sensor"), Principal: out.CertificateArn}))
	must[*iot.AttachPolicyOutput](t)(w.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: aws.String("p"), Target: out.CertificateArn}))
	if err := set("REVOKED"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, set("ACTIVE"), "CertificateStateException", "revoked")
	wantCode(t, remove(true), "DeleteConflictException", "Things")
	_, err := w.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: aws.String("sensor")})
	wantCode(t, err, "InvalidRequestException", "attached")
	must[*iot.DetachThingPrincipalOutput](t)(w.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: aws.String("sensor"), Principal: out.CertificateArn}))
	wantCode(t, remove(false), "DeleteConflictException", "policies")
	if err := remove(true); err != nil {
		t.Fatal(err)
	}
	wantCode(t, remove(true), "ResourceNotFoundException", *out.CertificateId)
	if got := strings.Join(told, " "); got != "ACTIVE INACTIVE ACTIVE REVOKED " {
		t.Errorf("notified of %q", got)
	}
	if _, err := w.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: aws.String("p")}); err != nil {
		t.Errorf("the policy is still attached: %v", err)
	}
}

func TestForeignCertificatesAreRefusedByName(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	foreign := newWorld(t, iotcore.Config{}).newCertificate(t)
	_, err := w.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: foreign.CertificatePem})
	wantCode(t, err, "NotImplementedException", "RegisterCertificateWithoutCA")
	_, err = w.RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: foreign.CertificatePem})
	wantCode(t, err, "NotImplementedException", "RegisterCertificate")
	_, err = w.CreateCertificateFromCsr(ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: aws.String("x")})
	wantCode(t, err, "NotImplementedException", "CreateCertificateFromCsr")
}

func TestOperationsThatNobodyAsksForAreRefusedByName(t *testing.T) {
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

func TestCertificatesAreListed(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	first := w.newCertificate(t)
	w.now = w.now.Add(time.Second)
	w.newCertificate(t)
	for ascending, want := range map[bool]int{true: 0, false: 1} {
		list := must[*iot.ListCertificatesOutput](t)(w.ListCertificates(ctx, &iot.ListCertificatesInput{AscendingOrder: ascending}))
		if len(list.Certificates) != 2 || *list.Certificates[want].CertificateId != *first.CertificateId || list.Certificates[want].Status != types.CertificateStatusActive {
			t.Errorf("ascending %v: listed %+v", ascending, list.Certificates)
		}
	}
}

func TestAnExclusiveThingSharesItsCertificateWithNobody(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	certificate := w.newCertificate(t)
	w.newThing(t, "one")
	w.newThing(t, "two")
	attach := func(thing string, kind types.ThingPrincipalType) error {
		_, err := w.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: &thing, Principal: certificate.CertificateArn, ThingPrincipalType: kind})
		return err
	}
	if err := attach("one", ""); err != nil {
		t.Fatal(err)
	}
	if name, exclusive := w.service.ConnectionThing(*certificate.CertificateId, "one"); name != "one" || exclusive {
		t.Errorf("client one is thing %q, exclusive %v", name, exclusive)
	}
	if name, _ := w.service.ConnectionThing(*certificate.CertificateId, "other"); name != "" {
		t.Errorf("client other is thing %q", name)
	}
	wantCode(t, attach("two", types.ThingPrincipalTypeExclusiveThing), "InvalidRequestException", "one")
	if err := attach("one", types.ThingPrincipalTypeExclusiveThing); err != nil {
		t.Fatal(err)
	}
	wantCode(t, attach("two", ""), "InvalidRequestException", "exclusive")
	if name, exclusive := w.service.ConnectionThing(*certificate.CertificateId, "any id"); name != "one" || !exclusive {
		t.Errorf("with an exclusive thing the client is thing %q, exclusive %v", name, exclusive)
	}
	of := must[*iot.ListThingPrincipalsOutput](t)(w.ListThingPrincipals(ctx, &iot.ListThingPrincipalsInput{ThingName: aws.String("one")}))
	if !slices.Equal(of.Principals, []string{*certificate.CertificateArn}) {
		t.Errorf("principals of one: %v", of.Principals)
	}
	things := must[*iot.ListPrincipalThingsOutput](t)(w.ListPrincipalThings(ctx, &iot.ListPrincipalThingsInput{Principal: certificate.CertificateArn}))
	if !slices.Equal(things.Things, []string{"one"}) {
		t.Errorf("things of the certificate: %v", things.Things)
	}
}

func TestPolicyVersions(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	name := aws.String("device")
	w.newPolicy(t, *name, allowAll)
	_, err := w.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: name, PolicyDocument: aws.String(allowAll)})
	wantCode(t, err, "ResourceAlreadyExistsException", "device")
	_, err = w.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("bad"), PolicyDocument: aws.String(`{"Version":"2012-10-17"}`)})
	wantCode(t, err, "MalformedPolicyException", "Statement")
	unknown := strings.Replace(allowAll, `"Resource":"*"`, `"Resource":"*","Condition":{"DateLessThan":{"aws:CurrentTime":"2030-01-01"}}`, 1)
	_, err = w.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("dated"), PolicyDocument: &unknown})
	wantCode(t, err, "NotImplementedException", "aws:CurrentTime")

	for i := 2; i <= 5; i++ {
		v := must[*iot.CreatePolicyVersionOutput](t)(w.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: name, PolicyDocument: aws.String(denyAll), SetAsDefault: i == 3}))
		if *v.PolicyVersionId != fmt.Sprint(i) || v.IsDefaultVersion != (i == 3) {
			t.Errorf("version %s, default %v", *v.PolicyVersionId, v.IsDefaultVersion)
		}
	}
	_, err = w.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: name, PolicyDocument: aws.String(denyAll)})
	wantCode(t, err, "VersionsLimitExceededException", "5")
	current := must[*iot.GetPolicyOutput](t)(w.GetPolicy(ctx, &iot.GetPolicyInput{PolicyName: name}))
	if *current.DefaultVersionId != "3" || *current.PolicyDocument != denyAll {
		t.Errorf("default is %s", *current.DefaultVersionId)
	}
	_, err = w.DeletePolicyVersion(ctx, &iot.DeletePolicyVersionInput{PolicyName: name, PolicyVersionId: aws.String("3")})
	wantCode(t, err, "DeleteConflictException", "default")
	_, err = w.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: name})
	wantCode(t, err, "DeleteConflictException", "versions")
	for _, v := range []string{"1", "2", "4", "5"} {
		must[*iot.DeletePolicyVersionOutput](t)(w.DeletePolicyVersion(ctx, &iot.DeletePolicyVersionInput{PolicyName: name, PolicyVersionId: &v}))
	}
	must[*iot.DeletePolicyOutput](t)(w.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: name}))
	_, err = w.GetPolicy(ctx, &iot.GetPolicyInput{PolicyName: name})
	wantCode(t, err, "ResourceNotFoundException", "device")
}

func TestEffectivePoliciesComeFromCertificateAndGroupsAbove(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	certificate := w.newCertificate(t)
	w.newThing(t, "sensor")
	w.newGroup(t, "fleet", "")
	w.newGroup(t, "north", "fleet")
	must[*iot.AddThingToThingGroupOutput](t)(w.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingGroupName: aws.String("north"), ThingName: aws.String("sensor")}))
	attach := func(policy, target string) error {
		_, err := w.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: &policy, Target: &target})
		return err
	}
	for _, p := range []string{"a", "b", "c", "unused"} {
		w.newPolicy(t, p, allowAll)
	}
	if err := errors.Join(attach("a", *certificate.CertificateArn), attach("b", arn+"thinggroup/fleet"), attach("c", arn+"thinggroup/north")); err != nil {
		t.Fatal(err)
	}
	wantCode(t, attach("a", arn+"thing/sensor"), "InvalidRequestException", "neither")
	wantCode(t, attach("a", "us-east-1:6f2c0a2e-0000-4000-8000-000000000000"), "NotImplementedException", "Cognito")
	_, err := w.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: aws.String("sensor"), Principal: aws.String(arn + "thinggroup/fleet")})
	wantCode(t, err, "InvalidRequestException", "The given ARN does not represent a cert")
	//lint:ignore SA1019 the refusal of a deprecated call
	_, err = w.AttachPrincipalPolicy(ctx, &iot.AttachPrincipalPolicyInput{PolicyName: aws.String("a"), Principal: certificate.CertificateArn})
	wantCode(t, err, "NotImplementedException", "AttachPrincipalPolicy")

	if got := len(w.service.EffectivePolicies(*certificate.CertificateId, "")); got != 1 {
		t.Errorf("%d documents without a thing, want 1", got)
	}
	if got := len(w.service.EffectivePolicies(*certificate.CertificateId, "sensor")); got != 3 {
		t.Errorf("%d documents, want 3", got)
	}
	effective := must[*iot.GetEffectivePoliciesOutput](t)(w.GetEffectivePolicies(ctx, &iot.GetEffectivePoliciesInput{Principal: certificate.CertificateArn, ThingName: aws.String("sensor")}))
	if all := effective.EffectivePolicies; len(all) != 3 || *all[0].PolicyName != "a" || *all[0].PolicyArn != arn+"policy/a" || *all[0].PolicyDocument != allowAll {
		t.Errorf("effective policies %v", all)
	}
	_, err = w.GetEffectivePolicies(ctx, &iot.GetEffectivePoliciesInput{CognitoIdentityPoolId: aws.String("pool")})
	wantCode(t, err, "NotImplementedException", "ognitoIdentityPoolId")
	for recursive, want := range map[bool]int{false: 1, true: 2} {
		list := must[*iot.ListAttachedPoliciesOutput](t)(w.ListAttachedPolicies(ctx, &iot.ListAttachedPoliciesInput{Target: aws.String(arn + "thinggroup/north"), Recursive: recursive}))
		if len(list.Policies) != want {
			t.Errorf("attached to north, recursive %v: %d, want %d", recursive, len(list.Policies), want)
		}
	}
	_, err = w.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: aws.String("a")})
	wantCode(t, err, "DeleteConflictException", "attached to one or more principals (name=a)")
	must[*iot.DetachPolicyOutput](t)(w.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: aws.String("a"), Target: certificate.CertificateArn}))
	must[*iot.DeletePolicyOutput](t)(w.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: aws.String("a")}))
}
