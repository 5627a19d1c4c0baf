package iotcore_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

func TestCertificatesAreRealAndSignedByTheCA(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	out := w.newCertificate(t)
	pair, err := tls.X509KeyPair([]byte(*out.CertificatePem), []byte(*out.KeyPair.PrivateKey))
	if err != nil {
		t.Fatalf("the private key is not that of the certificate: %v", err)
	}
	if got := iotcore.CertificateID(pair.Leaf); got != *out.CertificateId || *out.CertificateArn != arn+"cert/"+got {
		t.Errorf("id %s, ARN %s, want %s", *out.CertificateId, *out.CertificateArn, got)
	}
	block, _ := pem.Decode([]byte(*out.KeyPair.PublicKey))
	if public, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil || public == nil {
		t.Errorf("public key: %v", err)
	}
	if !w.service.CA().Issued(pair.Leaf, start) {
		t.Error("the CA says that it did not issue its own certificate")
	}
	other := newWorld(t, iotcore.Config{})
	if other.service.CA().Issued(pair.Leaf, start) {
		t.Error("another CA says that it issued the certificate")
	}
	d := must[*iot.DescribeCertificateOutput](t)(w.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: out.CertificateId})).CertificateDescription
	if d.Status != types.CertificateStatusActive || !d.CreationDate.Equal(start) || !d.Validity.NotAfter.Equal(pair.Leaf.NotAfter) {
		t.Errorf("described as %+v", d)
	}
}

func TestCertificateLifeCycle(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	var notified []string
	w.service.OnCertificateStatus(func(id string, status types.CertificateStatus) { notified = append(notified, string(status)) })
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
		t.Errorf("a new certificate is %s, want INACTIVE", c.Status)
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
	if got := strings.Join(notified, " "); got != "ACTIVE INACTIVE ACTIVE REVOKED " {
		t.Errorf("notified of %q, want each change, and the deletion as an empty status", got)
	}
	if _, err := w.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: aws.String("p")}); err != nil {
		t.Errorf("the policy is still attached: %v", err)
	}
}

func TestForeignCertificatesAreRefused(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	foreign := newWorld(t, iotcore.Config{}).newCertificate(t)
	_, err := w.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: foreign.CertificatePem})
	wantCode(t, err, "NotImplementedException", "RegisterCertificateWithoutCA")
	_, err = w.RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: foreign.CertificatePem})
	wantCode(t, err, "NotImplementedException", "RegisterCertificate")
	_, err = w.CreateCertificateFromCsr(ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: aws.String("x")})
	wantCode(t, err, "NotImplementedException", "CreateCertificateFromCsr")
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
		t.Errorf("the default version is %s with document %s, want 3 with %s", *current.DefaultVersionId, *current.PolicyDocument, denyAll)
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

func TestEffectivePoliciesOfTheCertificateAndTheGroups(t *testing.T) {
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
	_, err = w.ListAttachedPolicies(ctx, &iot.ListAttachedPoliciesInput{Target: aws.String(arn + "thinggroup/north")})
	wantCode(t, err, "NotImplementedException", "ListAttachedPolicies")
	_, err = w.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: aws.String("a")})
	wantCode(t, err, "DeleteConflictException", "attached to one or more principals (name=a)")
	must[*iot.DetachPolicyOutput](t)(w.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: aws.String("a"), Target: certificate.CertificateArn}))
	must[*iot.DeletePolicyOutput](t)(w.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: aws.String("a")}))
}
