package localaws_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/test/localaws"
	registry "github.com/defenderhub/defenderhub/test/localaws/cloudformation"
)

// startWithoutBootstrap starts a cloud without the CLI's bootstrap stack, for clients of the API.
func startWithoutBootstrap(t *testing.T) (*localaws.Cloud, *cloudformation.Client) {
	t.Helper()
	cloud, err := localaws.Start(t.Context(), localaws.Options{Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Stop)
	return cloud, cloudformation.NewFromConfig(cloud.Config())
}

// refused requires an error of the API with a code and a part of its message.
func refused(t *testing.T, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), message) {
		t.Errorf("got %v, want %s with %q", err, code, message)
	}
}

func TestChangeSets(t *testing.T) {
	t.Parallel()
	cloud, stacks := startWithoutBootstrap(t)
	ctx := t.Context()
	template := string(fleet{maxReceiveCount: 5, visibility: 60, sql: "SELECT * FROM 'one'"}.template())
	create := func(name string, kind types.ChangeSetType, template string, parameters ...types.Parameter) (*types.ChangeSetSummary, error) {
		_, err := stacks.CreateChangeSet(ctx, &cloudformation.CreateChangeSetInput{
			StackName: aws.String("Fleet"), ChangeSetName: &name, ChangeSetType: kind, TemplateBody: &template, Parameters: parameters,
		})
		if err != nil {
			return nil, err
		}
		listed, err := stacks.ListChangeSets(ctx, &cloudformation.ListChangeSetsInput{StackName: aws.String("Fleet")})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range listed.Summaries {
			if *s.ChangeSetName == name {
				return &s, nil
			}
		}
		t.Fatalf("%s is not among %+v", name, listed.Summaries)
		return nil, nil
	}
	describe := func(name string) (*cloudformation.DescribeChangeSetOutput, error) {
		return stacks.DescribeChangeSet(ctx, &cloudformation.DescribeChangeSetInput{
			StackName: aws.String("Fleet"), ChangeSetName: &name, IncludePropertyValues: aws.Bool(true),
		})
	}
	execute := func(name string) error {
		_, err := stacks.ExecuteChangeSet(ctx, &cloudformation.ExecuteChangeSetInput{StackName: aws.String("Fleet"), ChangeSetName: &name})
		return err
	}
	previous := func(key string) types.Parameter {
		return types.Parameter{ParameterKey: &key, UsePreviousValue: aws.Bool(true)}
	}

	_, err := create("update", types.ChangeSetTypeUpdate, template)
	refused(t, err, "ValidationError", "Stack [Fleet] does not exist")
	_, err = create("create", types.ChangeSetTypeCreate, template, types.Parameter{ParameterKey: aws.String("Town"), ParameterValue: aws.String("x")})
	refused(t, err, "ValidationError", "Parameters: [Town] do not exist in the template")
	_, err = create("create", types.ChangeSetTypeImport, template)
	refused(t, err, "ValidationError", "IMPORT")
	_, err = create("create", types.ChangeSetTypeCreate, strings.Replace(template, `"Ref": "Role"`, `"Ref": "Rolle"`, 1))
	refused(t, err, "ValidationError", "Unresolved resource dependencies [Rolle]")
	if all, err := stacks.ListStacks(ctx, &cloudformation.ListStacksInput{}); err != nil || len(all.StackSummaries) != 0 {
		t.Errorf("refused change sets left the stacks %+v, error %v", all, err)
	}

	made, err := create("create", types.ChangeSetTypeCreate, template, types.Parameter{ParameterKey: aws.String("Site"), ParameterValue: aws.String("south")})
	if err != nil || made.Status != types.ChangeSetStatusCreateComplete || made.ExecutionStatus != types.ExecutionStatusAvailable {
		t.Fatalf("made %+v, error %v", made, err)
	}
	if status := stackStatus(t, cloud, "Fleet"); status != types.StackStatusReviewInProgress {
		t.Errorf("the stack is in %s, want REVIEW_IN_PROGRESS", status)
	}
	if names := queues(t, cloud); len(names) != 0 {
		t.Errorf("a change set that was not executed created the queues %v", names)
	}
	described, err := describe("create")
	if err != nil || len(described.Changes) != 5 || described.Changes[0].ResourceChange.Action != types.ChangeActionAdd {
		t.Errorf("described %+v, error %v, want five resources to add", described, err)
	}
	_, err = create("create", types.ChangeSetTypeCreate, template)
	refused(t, err, "AlreadyExistsException", "create")
	if err := execute("create"); err != nil {
		t.Fatal(err)
	}
	refused(t, execute("create"), "InvalidChangeSetStatus", "EXECUTE_COMPLETE")
	stack := describeStack(t, cloud, "Fleet")
	if stack.StackStatus != types.StackStatusCreateComplete || *stack.StackId != *made.StackId {
		t.Errorf("stack %+v, want CREATE_COMPLETE and the stack ID of its change set", stack)
	}
	for _, p := range stack.Parameters {
		if want := map[string]string{"Site": "south", "Secret": "****"}[*p.ParameterKey]; *p.ParameterValue != want {
			t.Errorf("parameter %s is %s, want %s", *p.ParameterKey, *p.ParameterValue, want)
		}
	}

	same, err := create("same", types.ChangeSetTypeUpdate, template, previous("Site"), previous("Secret"))
	const noChanges = "The submitted information didn't contain changes. Submit different information to create a change set."
	if err != nil || same.Status != types.ChangeSetStatusFailed || aws.ToString(same.StatusReason) != noChanges {
		t.Errorf("without changes: %+v, error %v, want FAILED with %q", same, err, noChanges)
	}
	refused(t, execute("same"), "InvalidChangeSetStatus", "FAILED")

	// Site changes back to its default, and with it an output.
	reset, err := create("reset", types.ChangeSetTypeUpdate, template)
	if err != nil || reset.Status != types.ChangeSetStatusCreateComplete {
		t.Errorf("with another value of a parameter: %+v, error %v", reset, err)
	}

	renamed := fleet{maxReceiveCount: 5, visibility: 60, sql: "SELECT * FROM 'one'", queueName: "renamed"}
	if _, err = create("rename", types.ChangeSetTypeUpdate, string(renamed.template()), previous("Site")); err != nil {
		t.Fatal(err)
	}
	if described, err = describe("rename"); err != nil {
		t.Fatal(err)
	}
	changes := map[string]types.Replacement{}
	for _, c := range described.Changes {
		changes[*c.ResourceChange.LogicalResourceId] = c.ResourceChange.Replacement
		for _, d := range c.ResourceChange.Details {
			if *c.ResourceChange.LogicalResourceId == "Queue" && (*d.Target.Name != "QueueName" || *d.Target.AfterValue != "renamed") {
				t.Errorf("detail %+v of the queue", d.Target)
			}
		}
	}
	// The policy and the rule refer to the queue.
	if len(changes) != 3 || changes["Queue"] != types.ReplacementTrue || changes["Send"] != types.ReplacementFalse || changes["Rule"] != types.ReplacementFalse {
		t.Errorf("changes %v, want Queue replaced, Send and Rule updated in place", changes)
	}
	if err := execute("rename"); err != nil {
		t.Fatal(err)
	}
	renamed.wantDeployed(t, cloud)
	_, err = describe("reset")
	refused(t, err, "ChangeSetNotFound", "reset")
	if got, err := stacks.GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: aws.String("Fleet")}); err != nil || *got.TemplateBody != string(renamed.template()) {
		t.Errorf("the template is not the one that was sent: %+v, error %v", got, err)
	}

	_, err = stacks.UpdateStack(ctx, &cloudformation.UpdateStackInput{StackName: aws.String("Fleet"), UsePreviousTemplate: aws.Bool(true), Parameters: []types.Parameter{previous("Site")}})
	refused(t, err, "ValidationError", "No updates are to be performed.")
	_, err = stacks.UpdateStack(ctx, &cloudformation.UpdateStackInput{StackName: aws.String("Fleet"), TemplateBody: &template, DisableRollback: aws.Bool(true)})
	refused(t, err, "ValidationError", "DisableRollback")
}

// stubborn is a resource type whose updates fail, so that a rollback fails too.
type stubborn struct{}

func (stubborn) Create(_ context.Context, r registry.Request) (registry.Resource, error) {
	return registry.Resource{PhysicalID: r.PhysicalResourceID}, nil
}

func (stubborn) Update(context.Context, registry.Request) (registry.Resource, error) {
	return registry.Resource{}, errors.New("it broke")
}

func (stubborn) Delete(context.Context, registry.Request) error { return nil }

func TestRollbackFails(t *testing.T) {
	t.Parallel()
	cloud, stacks := startWithoutBootstrap(t)
	cloud.Resources.Register("Custom::Stubborn", stubborn{})
	template := func(size string) *string {
		return aws.String(`{"Resources":{"Gate":{"Type":"Custom::Stubborn","Properties":{"Size":"` + size + `"}}}}`)
	}
	if _, err := stacks.CreateStack(t.Context(), &cloudformation.CreateStackInput{StackName: aws.String("Gates"), TemplateBody: template("1")}); err != nil {
		t.Fatal(err)
	}
	if _, err := stacks.UpdateStack(t.Context(), &cloudformation.UpdateStackInput{StackName: aws.String("Gates"), TemplateBody: template("2")}); err != nil {
		t.Fatal(err)
	}
	stack := describeStack(t, cloud, "Gates")
	if stack.StackStatus != types.StackStatusUpdateRollbackFailed || !strings.Contains(aws.ToString(stack.StackStatusReason), "failed to update: [Gate]") {
		t.Errorf("the stack is in %s, want UPDATE_ROLLBACK_FAILED; reason %s", stack.StackStatus, aws.ToString(stack.StackStatusReason))
	}
	_, err := stacks.UpdateStack(t.Context(), &cloudformation.UpdateStackInput{StackName: aws.String("Gates"), TemplateBody: template("3")})
	refused(t, err, "ValidationError", "is in UPDATE_ROLLBACK_FAILED state and can not be updated.")

	resume := func(skipped ...string) types.StackStatus {
		t.Helper()
		if _, err := stacks.ContinueUpdateRollback(t.Context(), &cloudformation.ContinueUpdateRollbackInput{StackName: aws.String("Gates"), ResourcesToSkip: skipped}); err != nil {
			t.Fatal(err)
		}
		return stackStatus(t, cloud, "Gates")
	}
	if status := resume(); status != types.StackStatusUpdateRollbackFailed {
		t.Errorf("after a second failed rollback the stack is in %s, want UPDATE_ROLLBACK_FAILED", status)
	}
	if status := resume("Gate"); status != types.StackStatusUpdateRollbackComplete {
		t.Errorf("after a rollback that skips Gate the stack is in %s, want UPDATE_ROLLBACK_COMPLETE", status)
	}

	protect := func(on bool) {
		t.Helper()
		if _, err := stacks.UpdateTerminationProtection(t.Context(), &cloudformation.UpdateTerminationProtectionInput{StackName: aws.String("Gates"), EnableTerminationProtection: &on}); err != nil {
			t.Fatal(err)
		}
	}
	protect(true)
	_, err = stacks.DeleteStack(t.Context(), &cloudformation.DeleteStackInput{StackName: aws.String("Gates")})
	refused(t, err, "ValidationError", "TerminationProtection is enabled")
	protect(false)
	if _, err := stacks.DeleteStack(t.Context(), &cloudformation.DeleteStackInput{StackName: aws.String("Gates")}); err != nil {
		t.Fatal(err)
	}
	if left := cloud.Resources.Deployed(""); len(left) != 0 {
		t.Errorf("the deleted stack left %+v", left)
	}
}
