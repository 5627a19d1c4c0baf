package defenderhub_test

import (
	"testing"

	"github.com/aws/jsii-runtime-go"

	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/defenderhub/defenderhub/constructs/defenderhub"
)

func prebuilt() awslambda.Code {
	return awslambda.Code_FromAsset(jsii.String("testdata/prebuilt"), nil)
}

func TestDefaults(t *testing.T) {
	s := stack()
	defenderhub.NewDefenderHub(s, jsii.String("Hub"), &defenderhub.DefenderHubProps{
		Forwarder: &defenderhub.ForwarderProps{Code: prebuilt()},
	})
	synth(t, s)
}
