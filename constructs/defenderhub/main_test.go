package defenderhub_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"
)

func TestMain(m *testing.M) {
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}

// stack is a new environment-agnostic stack.
func stack() awscdk.Stack {
	return awscdk.NewStack(awscdk.NewApp(nil), jsii.String("Fleet"), nil)
}

// template is what a stack comes to.
type template struct {
	Resources map[string]resource
}

type resource struct {
	Type                string
	Properties          map[string]any
	DependsOn           []string
	DeletionPolicy      string
	UpdateReplacePolicy string
	Metadata            map[string]any
}

func synth(t *testing.T, s awscdk.Stack) template {
	t.Helper()
	text, err := json.Marshal(assertions.Template_FromStack(s, nil).ToJSON())
	if err != nil {
		t.Fatal(err)
	}
	if path := os.Getenv("DUMP"); path != "" {
		os.WriteFile(path, text, 0o644)
	}
	var out template
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
