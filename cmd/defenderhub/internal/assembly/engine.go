package assembly

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// Stacks is the call that reads the template of a deployed stack.
type Stacks interface {
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

// EngineTables returns the logical IDs of the state tables of self-managed engines. The environment of
// their functions identifies them: other tables of a stack may have similar names, and the
// correlator's has the same keys.
func (t Template) EngineTables() []string {
	var all []string
	for _, r := range t.Resources {
		if r.Type != "AWS::Lambda::Function" {
			continue
		}
		environment, _ := r.Properties["Environment"].(map[string]any)
		variables, _ := environment["Variables"].(map[string]any)
		_, queue := variables[contract.EnvTelemetryQueueURL]
		_, stream := variables[contract.EnvTelemetryStream]
		table, _ := variables[contract.EnvStateTable].(map[string]any)
		if id, ok := table["Ref"].(string); ok && (queue || stream) && !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	return all
}
