package iotcore_test

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

func TestTagsOfPolicies(t *testing.T) {
	w, ctx := newWorld(t, iotcore.Config{}), context.Background()
	made := must[*iot.CreatePolicyOutput](t)(w.CreatePolicy(ctx, &iot.CreatePolicyInput{
		PolicyName: aws.String("tagged"), PolicyDocument: aws.String(allowAll), Tags: []types.Tag{{Key: aws.String("owner"), Value: aws.String("plant")}},
	}))
	tags := must[*iot.ListTagsForResourceOutput](t)(w.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: made.PolicyArn}))
	if len(tags.Tags) != 1 || *tags.Tags[0].Key != "owner" || *tags.Tags[0].Value != "plant" {
		t.Errorf("tags %+v, want owner=plant", tags.Tags)
	}
	_, err := w.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: aws.String(arn + "policy/none")})
	wantCode(t, err, "ResourceNotFoundException", "none")
	_, err = w.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: aws.String(arn + "thing/pump-7")})
	wantCode(t, err, "NotImplementedException", "thing/pump-7")
}
