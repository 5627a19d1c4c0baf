package main

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
)

func TestTemplateIsAsReviewed(t *testing.T) {
	stack := awscdk.NewStack(awscdk.NewApp(nil), jsii.String("Fleet"), nil)
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), nil)
	got, err := json.MarshalIndent(assertions.Template_FromStack(stack, nil).ToJSON(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("UPDATE") != "" {
		os.WriteFile("fleet.json", got, 0o644)
	}
	if want, err := os.ReadFile("fleet.json"); err != nil || !bytes.Equal(got, want) {
		t.Error("the template is not that of fleet.json: write it with UPDATE=1 go test, and read git diff fleet.json")
	}
}
