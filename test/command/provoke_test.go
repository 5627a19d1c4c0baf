package command_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// leftovers creates the resources that a killed run leaves: a thing with a certificate and an
// attached policy, and a policy with two versions. It first removes those of other runs.
func (w world) leftovers() {
	w.Helper()
	if r := run(w.T, w.cloud, nil, "provoke", "--cleanup", "--yes"); r.status != 0 {
		w.Fatal(r.stderr)
	}
	ctx := w.Context()
	thing, two := aws.String("defenderhub-provoke-11111111"), aws.String("defenderhub-provoke-22222222")
	w.must(w.iot.CreateThing(ctx, &iot.CreateThingInput{ThingName: thing}))
	document := aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`)
	keys, err := w.iot.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	w.must(nil, err)
	for _, name := range []*string{thing, two} {
		w.must(w.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: name, PolicyDocument: document, Tags: []iottypes.Tag{{Key: aws.String("defenderhub:command"), Value: aws.String("provoke")}}}))
	}
	w.must(w.iot.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: two, PolicyDocument: document, SetAsDefault: true}))
	w.must(w.iot.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: thing, Principal: keys.CertificateArn}))
	w.must(w.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: thing, Target: keys.CertificateArn}))
}

// mqtt returns the flags for the MQTT server of the cloud.
func (w world) mqtt() []string {
	w.Helper()
	_, port, err := net.SplitHostPort(w.cloud.Broker.TLSAddress())
	w.must(nil, err)
	ca := filepath.Join(w.TempDir(), "ca.pem")
	w.must(nil, os.WriteFile(ca, []byte(w.cloud.IoT.CA().PEM()), 0o600))
	return []string{"--ca-file", ca, "--port", port}
}

// names returns the names of all things and policies of AWS IoT.
func (w world) names() string {
	w.Helper()
	things, err := w.iot.ListThings(w.Context(), &iot.ListThingsInput{})
	w.must(nil, err)
	policies, err := w.iot.ListPolicies(w.Context(), &iot.ListPoliciesInput{})
	w.must(nil, err)
	var all []string
	for _, t := range things.Things {
		all = append(all, *t.ThingName)
	}
	for _, p := range policies.Policies {
		all = append(all, *p.PolicyName)
	}
	return strings.Join(all, " ")
}

// TestProvoke runs the experiments with real MQTT over TLS. Nothing is left afterwards.
func TestProvoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(cloudformation.NewFromConfig(w.cloud.Config()).CreateStack(t.Context(), &cloudformation.CreateStackInput{StackName: aws.String(stackName), TemplateBody: aws.String(
		`{"Resources":{"Topic":{"Type":"AWS::SNS::Topic"}}}`)}))
	// No forwarder is deployed here, so no finding arrives and each experiment ends with a hint.
	for name, hint := range map[string]string{"disconnect": "security-disconnect", "message-size": "profile demo", "telnet": "profile starter"} {
		r := run(t, w.cloud, nil, append([]string{"provoke", name, "--yes", "--wait", "1s", "--interval", "1s"}, w.mqtt()...)...)
		if r.status != 1 || !strings.Contains(r.stderr, hint) || !strings.Contains(r.stderr, "removed the certificate") {
			t.Errorf("%s: status %d, %s%s", name, r.status, r.stdout, r.stderr)
		}
	}
	if left := w.names(); left != "" {
		t.Errorf("the experiments left %s", left)
	}
	w.leftovers()
	r := run(t, w.cloud, nil, "provoke", "--cleanup", "--yes")
	if left := w.names(); r.status != 0 || left != "" {
		t.Errorf("cleanup: status %d, left %s: %s", r.status, left, r.stderr)
	}
}
