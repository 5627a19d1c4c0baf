package providers_test

import (
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/providers"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// unsupported are properties that the local AWS refuses.
var unsupported = []string{"AmazonManagedKafkaEventSourceConfig", "ObjectLockEnabled", "SelfManagedKafkaEventSourceConfig"}

// TestReplacingAgreesWithTheCLI compares with the CloudFormation reference in the pinned CDK CLI.
func TestReplacingAgreesWithTheCLI(t *testing.T) {
	f, err := os.Open(filepath.Join("..", "..", "..", "node_modules", "aws-cdk", "db.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var reference struct {
		Schema struct {
			Resource struct {
				Entities []struct {
					CloudFormationType string
					Properties         map[string]struct{ CausesReplacement string }
				}
			}
		}
	}
	if err := json.NewDecoder(unzipped).Decode(&reference); err != nil {
		t.Fatal(err)
	}
	registered := &cloudformation.Registry{}
	providers.Register(providers.Account{Registry: registered})
	types := append(schema.Native(), registered.Types()...)
	compared := 0
	for _, e := range reference.Schema.Resource.Entities {
		if !slices.Contains(types, e.CloudFormationType) {
			continue
		}
		compared++
		var want []string
		for name, p := range e.Properties {
			if p.CausesReplacement == "yes" && !slices.Contains(unsupported, name) {
				want = append(want, name)
			}
		}
		slices.Sort(want)
		if got := schema.Replacing()[e.CloudFormationType]; !slices.Equal(got, want) {
			t.Errorf("%s: replaced by changes of %v, want %v", e.CloudFormationType, got, want)
		}
	}
	if compared < 30 {
		t.Errorf("compared %d types, want at least 30", compared)
	}
}

func TestNativeUpdatesThatWouldBeLostAreRefused(t *testing.T) {
	registered := &cloudformation.Registry{}
	providers.Register(providers.Account{Registry: registered})
	topic := func(kind cloudformation.RequestType, endpoint string) error {
		subscribed := func(to string) map[string]any {
			return map[string]any{"DisplayName": to, "Subscription": []any{map[string]any{"Protocol": "sqs", "Endpoint": to}}}
		}
		return registered.Check(cloudformation.Request{
			RequestType: kind, ResourceType: "AWS::SNS::Topic", ResourceProperties: subscribed(endpoint), OldResourceProperties: subscribed("one"),
		})
	}
	if err := topic(cloudformation.Update, "two"); err == nil || !strings.Contains(err.Error(), "does not update Subscription of AWS::SNS::Topic") {
		t.Errorf("an update of the endpoint: %v, want a refusal", err)
	}
	if err := topic(cloudformation.Update, "one"); err != nil {
		t.Errorf("an update of another property: %v", err)
	}
	if err := topic(cloudformation.Create, "two"); err != nil {
		t.Errorf("a new topic: %v", err)
	}
}
