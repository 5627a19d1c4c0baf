package iotcore_test

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

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

func TestThings(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	attributes := &types.AttributePayload{Attributes: map[string]string{"site": "north"}}
	created := must[*iot.CreateThingOutput](t)(w.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("a:1"), AttributePayload: attributes}))
	if *created.ThingArn != arn+"thing/a:1" {
		t.Errorf("ARN %s, want %sthing/a:1", *created.ThingArn, arn)
	}
	again := must[*iot.CreateThingOutput](t)(w.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("a:1"), AttributePayload: attributes}))
	if *again.ThingId != *created.ThingId {
		t.Error("the second CreateThing of the same thing created another one")
	}
	_, err := w.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("a:1")})
	wantCode(t, err, "ResourceAlreadyExistsException", "a:1")
	_, err = w.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("b"), ThingTypeName: aws.String("pump")})
	wantCode(t, err, "NotImplementedException", "thingTypeName")

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

func TestPagesHaveEachItemOnce(t *testing.T) {
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
	_, err = w.ListThingsInThingGroup(ctx, &iot.ListThingsInThingGroupInput{ThingGroupName: aws.String("fleet")})
	wantCode(t, err, "NotImplementedException", "ListThingsInThingGroup")
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

func TestExclusiveThingDoesNotShareItsCertificate(t *testing.T) {
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
		t.Errorf("client one is thing %q, exclusive %v, want thing one, not exclusive", name, exclusive)
	}
	if name, _ := w.service.ConnectionThing(*certificate.CertificateId, "other"); name != "" {
		t.Errorf("client other is thing %q, want none", name)
	}
	wantCode(t, attach("two", types.ThingPrincipalTypeExclusiveThing), "InvalidRequestException", "one")
	if err := attach("one", types.ThingPrincipalTypeExclusiveThing); err != nil {
		t.Fatal(err)
	}
	wantCode(t, attach("two", ""), "InvalidRequestException", "exclusive")
	if name, exclusive := w.service.ConnectionThing(*certificate.CertificateId, "any id"); name != "one" || !exclusive {
		t.Errorf("with an exclusive thing the client is thing %q, exclusive %v, want thing one, exclusive", name, exclusive)
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
