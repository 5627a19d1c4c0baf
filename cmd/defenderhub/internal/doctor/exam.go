package doctor

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/assembly"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
)

// exam is one run of the checks.
type exam struct {
	*cli.Session
	options
	region string
	stacks []assembly.Template // of --template

	sts            *sts.Client
	cloudformation *cloudformation.Client
	iot            *iot.Client
	hub            *securityhub.Client
	lambda         *lambda.Client
	sns            *sns.Client
	sqs            *sqs.Client
	kms            *kms.Client
	cloudwatch     *cloudwatch.Client
	dynamodb       *dynamodb.Client

	// identity is the caller, set by the check account.
	identity arn.ARN
	deployed map[string]deployment // by stack
	// templates are those of the deployed stacks.
	templates map[string]assembly.Template
	// keyUsers are the services that use an imported key.
	keyUsers map[string][]string
}

// deployment has the resources of a stack by logical ID. It is nil if the stack does not exist.
type deployment map[string]physical

type physical struct{ kind, id string }

func newExam(ctx context.Context, s *cli.Session, o options) (*exam, error) {
	stacks, err := assembly.Read(o.template, o.stack)
	if err != nil {
		return nil, err
	}
	c, err := s.Config(ctx)
	if err != nil {
		return nil, err
	}
	return &exam{
		Session: s, options: o, region: c.Region, stacks: stacks, deployed: map[string]deployment{}, templates: map[string]assembly.Template{},
		sts: sts.NewFromConfig(c), cloudformation: cloudformation.NewFromConfig(c), iot: iot.NewFromConfig(c), hub: securityhub.NewFromConfig(c),
		lambda: lambda.NewFromConfig(c), sns: sns.NewFromConfig(c), sqs: sqs.NewFromConfig(c), kms: kms.NewFromConfig(c),
		cloudwatch: cloudwatch.NewFromConfig(c), dynamodb: dynamodb.NewFromConfig(c),
	}, nil
}

// defaultStack is the app's default.
const defaultStack = "DefenderHub"

// stackNames returns the stack of --stack, else the stacks of the template, else the default.
func (e *exam) stackNames() []string {
	if e.stack != "" {
		return []string{e.stack}
	}
	var all []string
	for _, t := range e.stacks {
		all = append(all, t.Stack)
	}
	if all == nil {
		all = []string{defaultStack}
	}
	return all
}

// resources returns the resources of a type in all templates.
func (e *exam) resources(kind string) []assembly.Resource {
	var all []assembly.Resource
	for _, t := range e.stacks {
		for _, r := range t.Resources {
			if r.Type == kind {
				all = append(all, r)
			}
		}
	}
	return all
}

// deployment reads a stack once. An unreadable stack counts as not deployed; the check stack
// reports the error.
func (e *exam) deployment(ctx context.Context, stack string) (deployment, error) {
	if d, known := e.deployed[stack]; known {
		return d, nil
	}
	var d deployment
	pages := cloudformation.NewListStackResourcesPaginator(e.cloudformation, &cloudformation.ListStackResourcesInput{StackName: &stack})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if noStack(err) {
			break
		}
		if err != nil {
			return nil, err
		}
		if d == nil {
			d = deployment{}
		}
		for _, r := range page.StackResourceSummaries {
			if r.PhysicalResourceId != nil && !strings.HasPrefix(string(r.ResourceStatus), "DELETE_COMPLETE") {
				d[aws.ToString(r.LogicalResourceId)] = physical{aws.ToString(r.ResourceType), *r.PhysicalResourceId}
			}
		}
	}
	e.deployed[stack] = d
	return d, nil
}

func noStack(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == "ValidationError" && strings.Contains(api.ErrorMessage(), "does not exist")
}

// owns reports whether a resource of the template is already deployed, so that a deployment would
// update it. It returns false if that is unknown.
func (e *exam) owns(ctx context.Context, r assembly.Resource) bool {
	d, err := e.deployment(ctx, r.Stack)
	return err == nil && d[r.LogicalID].kind == r.Type
}

// notFound reports whether err is a service's error for a resource that does not exist, or for a
// service that is not enabled.
func notFound(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode() {
	case "ResourceNotFoundException", "InvalidAccessException", "NotFoundException", "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist":
		return true
	}
	return false
}
