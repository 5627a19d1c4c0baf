package command_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/test/localaws"
)

const stackName = "DefenderHub"

// synthesis lets one test at a time use the CDK, whose Node.js process serves one call at a time.
var synthesis sync.Mutex

// assembly returns a directory with the files that cdk synth writes for a stack with these props.
// The functions are prebuilt: no test here runs them.
func assembly(t *testing.T, env *awscdk.Environment, props func(awscdk.Stack, *defenderhub.DefenderHubProps)) string {
	t.Helper()
	synthesis.Lock()
	defer synthesis.Unlock()
	dir := t.TempDir()
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: &dir})
	name := stackName
	stack := awscdk.NewStack(app, &name, &awscdk.StackProps{Env: env})
	const prebuilt = "../templates/testdata/prebuilt/bootstrap"
	p := &defenderhub.DefenderHubProps{Forwarder: &defenderhub.ForwarderProps{Prebuilt: prebuilt}}
	if props != nil {
		props(stack, p)
	}
	if p.Detect != nil && p.Detect.SelfManaged != nil {
		p.Detect.SelfManaged.Prebuilt = prebuilt
	}
	id := "Hub"
	defenderhub.NewDefenderHub(stack, &id, p)
	app.Synth(nil)
	return dir
}

// edit changes the template of an assembly.
func edit(t *testing.T, dir string, change func(resources map[string]map[string]any)) string {
	t.Helper()
	path := filepath.Join(dir, stackName+".template.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var template map[string]any
	if err := json.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	resources := map[string]map[string]any{}
	for id, r := range template["Resources"].(map[string]any) {
		resources[id] = r.(map[string]any)
	}
	change(resources)
	template["Resources"] = resources
	// Only the CDK CLI can resolve these, and deploy does not use it.
	delete(template, "Rules")
	delete(template, "Parameters")
	if text, err = json.Marshal(template); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func properties(r map[string]any) map[string]any {
	p, _ := r["Properties"].(map[string]any)
	return p
}

// deploy creates or updates the stack from an assembly, without the CDK CLI, and returns the
// reasons for which resources failed.
func deploy(t *testing.T, cloud *localaws.Cloud, dir string) (reasons []string) {
	t.Helper()
	dir = edit(t, dir, func(resources map[string]map[string]any) {
		for _, r := range resources {
			if r["Type"] == "AWS::Lambda::Function" {
				properties(r)["Code"] = map[string]any{"S3Bucket": "code", "S3Key": "function.zip"}
			}
		}
	})
	text, err := os.ReadFile(filepath.Join(dir, stackName+".template.json"))
	if err != nil {
		t.Fatal(err)
	}
	stacks, ctx, name, body := cloudformation.NewFromConfig(cloud.Config()), t.Context(), stackName, string(text)
	capabilities := []types.Capability{types.CapabilityCapabilityNamedIam}
	if _, err := stacks.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &name}); err == nil {
		_, err = stacks.UpdateStack(ctx, &cloudformation.UpdateStackInput{StackName: &name, TemplateBody: &body, Capabilities: capabilities})
		if err != nil {
			return []string{err.Error()}
		}
	} else if _, err := stacks.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: &name, TemplateBody: &body, Capabilities: capabilities}); err != nil {
		return []string{err.Error()}
	}
	described, err := stacks.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &name})
	if err != nil {
		t.Fatal(err)
	}
	state := described.Stacks[0].StackStatus
	if state == types.StackStatusCreateComplete || state == types.StackStatusUpdateComplete {
		return nil
	}
	reasons = []string{string(state)}
	events, err := stacks.DescribeStackEvents(ctx, &cloudformation.DescribeStackEventsInput{StackName: &name})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events.StackEvents {
		if e.ResourceStatusReason != nil {
			reasons = append(reasons, *e.ResourceStatusReason)
		}
	}
	return reasons
}

// remove deletes the stack, without the resources that it retains.
func remove(t *testing.T, cloud *localaws.Cloud) {
	t.Helper()
	name := stackName
	if _, err := cloudformation.NewFromConfig(cloud.Config()).DeleteStack(t.Context(), &cloudformation.DeleteStackInput{StackName: &name}); err != nil {
		t.Fatal(err)
	}
}
