package localaws_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/test/localaws"
)

// gone requires that a stopped cloud left neither files nor a listener.
func gone(t *testing.T, cloud *localaws.Cloud) {
	t.Helper()
	if _, err := os.Stat(cloud.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s still exists: %v", cloud.Dir(), err)
	}
	if conn, err := net.Dial("tcp", strings.TrimPrefix(cloud.Endpoint, "http://")); err == nil {
		conn.Close()
		t.Errorf("%s still answers", cloud.Endpoint)
	}
}

func TestCloudsAreSeparate(t *testing.T) {
	for _, v := range []string{"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_SQS", "CDK_DEFAULT_ACCOUNT", "NODE_OPTIONS"} {
		t.Setenv(v, "real")
	}
	var clouds [2]*localaws.Cloud
	for i := range clouds {
		var err error
		if clouds[i], err = localaws.Start(t.Context(), localaws.Options{Progress: t.Output()}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(clouds[i].Stop)
	}
	if _, err := sqs.NewFromConfig(clouds[0].Config()).CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("only-here")}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1, 0} {
		list, err := sqs.NewFromConfig(clouds[i].Config()).ListQueues(t.Context(), &sqs.ListQueuesInput{})
		if err != nil || len(list.QueueUrls) != want {
			t.Errorf("cloud %d has queues %v, error %v; want %d", i, list.QueueUrls, err, want)
		}
	}
	leadsToNoRealAccount(t, clouds[0])
	clouds[0].Stop()
	gone(t, clouds[0])
	if _, err := sqs.NewFromConfig(clouds[1].Config()).ListQueues(t.Context(), &sqs.ListQueuesInput{}); err != nil {
		t.Errorf("stopping one cloud ended the other: %v", err)
	}
}

// leadsToNoRealAccount requires that a cloud's environment for clients inherits nothing that leads
// them to a real account.
func leadsToNoRealAccount(t *testing.T, cloud *localaws.Cloud) {
	t.Helper()
	env := map[string]string{}
	for _, v := range cloud.Env() {
		key, value, _ := strings.Cut(v, "=")
		env[key] = value
		if value == "real" {
			t.Errorf("%s is inherited", key)
		}
	}
	if env["AWS_ENDPOINT_URL"] != cloud.Endpoint || env["AWS_ACCESS_KEY_ID"] != "local" || env["CDK_DISABLE_CLI_TELEMETRY"] != "true" {
		t.Errorf("environment %v, want the cloud's endpoint and credentials, and no telemetry", env)
	}
}

func TestCanceledContextStopsTheCloud(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cloud, err := localaws.Start(ctx, localaws.Options{Progress: t.Output()})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	cancel()
	cloud.Stop() // waits for the stop that the context began
	gone(t, cloud)

	if _, err := localaws.Start(ctx, localaws.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a start with a canceled context: %v, want context.Canceled", err)
	}
}

func TestStartOutsideACheckoutSaysWhatToSet(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := localaws.Start(t.Context(), localaws.Options{}); err == nil || !strings.Contains(err.Error(), "Options.Repository") {
		t.Errorf("got %v, want an error that names Options.Repository", err)
	}
}
