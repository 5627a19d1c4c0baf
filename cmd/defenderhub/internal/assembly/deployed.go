package assembly

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// Stacks are the calls that read a deployed stack.
type Stacks interface {
	cloudformation.ListStackResourcesAPIClient
	GetTemplate(context.Context, *cloudformation.GetTemplateInput, ...func(*cloudformation.Options)) (*cloudformation.GetTemplateOutput, error)
}

// Deployed reads the template of a deployed stack.
func Deployed(ctx context.Context, api Stacks, stack string) (Template, error) {
	out, err := api.GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: &stack})
	if err != nil {
		return Template{}, err
	}
	t, err := Parse([]byte(aws.ToString(out.TemplateBody)), stack)
	if err != nil {
		return Template{}, fmt.Errorf("the template of the stack %s: %w", stack, err)
	}
	return t, nil
}

// WithIDs reads the template of a deployed stack, and the physical IDs of its resources by logical ID.
// A resource that is not created yet has none.
func WithIDs(ctx context.Context, api Stacks, stack string) (Template, map[string]string, error) {
	t, err := Deployed(ctx, api, stack)
	if err != nil {
		return t, nil, err
	}
	ids := map[string]string{}
	pages := cloudformation.NewListStackResourcesPaginator(api, &cloudformation.ListStackResourcesInput{StackName: &stack})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return t, nil, err
		}
		for _, r := range page.StackResourceSummaries {
			ids[aws.ToString(r.LogicalResourceId)] = aws.ToString(r.PhysicalResourceId)
		}
	}
	return t, ids, nil
}

// variables returns the environment of a function, nil for another resource.
func (r Resource) variables() map[string]any {
	if r.Type != "AWS::Lambda::Function" {
		return nil
	}
	environment, _ := r.Properties["Environment"].(map[string]any)
	variables, _ := environment["Variables"].(map[string]any)
	return variables
}

// EngineTables returns the logical IDs of the state tables of self-managed engines. The environment of
// their functions identifies them: other tables of a stack may have similar names, and the
// correlator's has the same keys.
func (t Template) EngineTables() []string {
	var all []string
	for _, r := range t.Resources {
		variables := r.variables()
		_, queue := variables[contract.EnvTelemetryQueueURL]
		_, stream := variables[contract.EnvTelemetryStream]
		table, _ := variables[contract.EnvStateTable].(map[string]any)
		if id, ok := table["Ref"].(string); ok && (queue || stream) && !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	return all
}

// Queues returns the logical IDs of the queues that our functions use, or that the resources that
// invoke them use, with the dead-letter queues of all these. A stack may have queues of others with
// similar names.
func (t Template) Queues() map[string]bool {
	kinds, functions := map[string]string{}, map[string]bool{}
	for _, r := range t.Resources {
		kinds[r.LogicalID] = r.Type
		for name := range r.variables() {
			if strings.HasPrefix(name, contract.EnvPrefix) {
				functions[r.LogicalID] = true
			}
		}
	}
	ours := map[string]bool{}
	add := func(value any) {
		Walk(value, func(text string) {
			if kinds[text] == "AWS::SQS::Queue" {
				ours[text] = true
			}
		})
	}
	for _, r := range t.Resources {
		invokes := false
		if r.Type == "AWS::Lambda::EventSourceMapping" || r.Type == "AWS::Scheduler::Schedule" {
			Walk(r.Properties, func(text string) { invokes = invokes || functions[text] })
		}
		if invokes || functions[r.LogicalID] {
			add(r.Properties)
		}
	}
	for _, r := range t.Resources {
		if ours[r.LogicalID] {
			add(r.Properties["RedrivePolicy"])
		}
	}
	return ours
}
