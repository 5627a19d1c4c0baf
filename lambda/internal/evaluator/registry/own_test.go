package registry_test

import (
	"context"
	"testing"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
	"github.com/defenderhub/defenderhub/lambda/internal/inprocess"
)

// The account and Region of certificates are those of the function's ARN.
func TestRegistryIsThatOfTheFunctionsAccount(t *testing.T) {
	aws := newAWSIoT()
	clients, err := contract.ParseClientPattern("")
	if err != nil {
		t.Fatal(err)
	}
	r := registry.NewOwn(iot.NewFromConfig(inprocess.Config(aws, account, region)), registry.Config{MaxAge: minute, Size: 10, Clients: clients})
	ctx := context.Background()
	if _, err := r.Resolve(ctx, "c", id("1"), noon); err == nil {
		t.Error("an invocation of no function is no error")
	}
	if _, err := r.Join(ctx, "pump-1#2", id("1"), noon); err == nil {
		t.Error("an invocation of no function is no error where a client may join a thing")
	}
	if thing, err := r.Join(ctx, "pump-1", id("1"), noon); thing != "" || err != nil {
		t.Errorf("the thing itself joins %q (%v)", thing, err)
	}
	ctx = lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{InvokedFunctionArn: "arn:aws:lambda:" + region + ":" + account + ":function:evaluator"})
	if thing, err := r.Resolve(ctx, "c", id("1"), noon); err != nil || thing.Name != "pump-1" {
		t.Errorf("%+v (%v)", thing, err)
	}
	if thing, err := r.Join(ctx, "pump-1#2", id("1"), noon); err != nil || thing != "pump-1" {
		t.Errorf("joins %q (%v)", thing, err)
	}
}
