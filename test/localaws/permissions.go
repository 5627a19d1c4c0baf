package localaws

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/functions"
	"github.com/defenderhub/defenderhub/test/localaws/iam"
	"github.com/defenderhub/defenderhub/test/localaws/providers"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// serveRoles enforces the policies of roles on functions and services. Users may do everything.
func (c *Cloud) serveRoles() {
	c.Permissions.Roles = &iam.Roles{API: c.emulatorAPI(), Managed: func(role string) []string {
		d, _ := c.Resources.Find("AWS::IAM::Role", role)
		listed, _ := d.Properties["ManagedPolicyArns"].([]any)
		var arns []string
		for _, l := range listed {
			if arn, ok := schema.String(l); ok {
				arns = append(arns, arn)
			}
		}
		return arns
	}}
	c.Permissions.Resources = &iam.Resources{API: c.emulatorAPI()}
	c.Resources.OnChange(c.Permissions.Roles.Changed)
	c.Resources.OnChange(c.Permissions.Resources.Changed)
	c.Edge.Wrap("iam", func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r)
			c.Permissions.Roles.Changed()
		})
	})
	for _, service := range []string{"sqs", "sns", "kms", "lambda"} {
		c.Edge.Wrap(service, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(w, r)
				if !moving.MatchString(r.Header.Get("X-Amz-Target")) {
					c.Permissions.Resources.Changed()
				}
			})
		})
	}
}

// moving matches frequent operations of queues, which change no policy.
var moving = regexp.MustCompile(`^AmazonSQS\.(SendMessage|ReceiveMessage|DeleteMessage|ChangeMessageVisibility|Get|List)`)

// mayDeliver returns status 403 to the emulator unless a topic may send to a queue.
func (c *Cloud) mayDeliver(w http.ResponseWriter, r *http.Request) {
	if err := c.Permissions.Deliver(c.ctx, "sns.amazonaws.com", r.FormValue("topic"), r.FormValue("queue"), "sqs:SendMessage"); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
	}
}

// executionRole returns credentials of a function in its role.
func (c *Cloud) executionRole(ctx context.Context, f functions.Function) (aws.Credentials, error) {
	session, err := c.Permissions.Assume(ctx, "lambda.amazonaws.com", "", f.Role, f.Name)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("The role defined for the function cannot be assumed by Lambda: %w", err) //nolint:staticcheck // AWS's words
	}
	return c.Permissions.Issue(session), nil
}

// mayBeFed returns an error unless the function's role lets Lambda read a queue or a stream for it.
func (c *Cloud) mayBeFed(ctx context.Context, function, sourceARN string) error {
	return c.functionMay(ctx, function, sourceARN, iam.Polling(sourceARN)...)
}

// mayFeed is mayBeFed for a poller, without a record of denials: while a stack is updated, a mapping
// may outlive its permission.
func (c *Cloud) mayFeed(ctx context.Context, function, sourceARN string) error {
	session, err := c.session(function)
	if err != nil {
		return err
	}
	return c.Permissions.Check(ctx, session, sourceARN, iam.Polling(sourceARN)...)
}

// functionMay returns an error unless the function's role allows the actions.
func (c *Cloud) functionMay(ctx context.Context, function, resource string, actions ...string) error {
	session, err := c.session(function)
	if err != nil {
		return err
	}
	return c.Permissions.Allow(ctx, session, resource, actions...)
}

func (c *Cloud) session(function string) (iam.Session, error) {
	f, err := providers.Function(c.Resources, functions.Name(function))
	return iam.Session{Role: f.Role, Name: f.Name}, err
}

// serviceMay returns an error unless a service can assume a role for its resource sourceARN, and the
// role allows the actions. name is the name of the session.
func (c *Cloud) serviceMay(ctx context.Context, service, sourceARN, name, roleARN, resource string, actions ...string) error {
	session, err := c.Permissions.Assume(ctx, service+".amazonaws.com", sourceARN, roleARN, name)
	if err != nil {
		return err
	}
	return c.Permissions.Allow(ctx, session, resource, actions...)
}

// ruleMay returns an error unless the role of a rule's action allows the action.
func (c *Cloud) ruleMay(ctx context.Context, rule, roleARN, resource, action string) error {
	return c.serviceMay(ctx, "iot", c.IoT.ARN("rule/"+rule), rule, roleARN, resource, action)
}

// sending are the IAM actions for sending to a resource, by its service.
var sending = map[string]string{"sqs": "sqs:SendMessage", "sns": "sns:Publish", "lambda": "lambda:InvokeFunction"}

// scheduleMay returns an error unless the role of a schedule allows it to send. The source ARN of
// EventBridge Scheduler is that of the schedule's group. A schedule's ARN ends in
// schedule/GROUP/NAME.
// https://docs.aws.amazon.com/scheduler/latest/UserGuide/cross-service-confused-deputy-prevention.html
func (c *Cloud) scheduleMay(ctx context.Context, scheduleARN, roleARN, resource string) error {
	parts := strings.Split(scheduleARN, "/")
	if len(parts) != 3 {
		return fmt.Errorf("%s is not a schedule", scheduleARN)
	}
	return c.serviceMay(ctx, "scheduler", c.arn("scheduler", "schedule-group/"+parts[1]), parts[2], roleARN, resource, sending[strings.Split(resource, ":")[2]])
}

func (c *Cloud) arn(service, resource string) string {
	return cloudformation.Request{AccountID: c.Account, Region: c.Region}.ARN(service, resource)
}

// Denied returns an error if a role was denied something, or does not let Lambda read for a function
// now. A caller would otherwise wait in vain.
func (c *Cloud) Denied() error {
	denials := c.Permissions.Denials()
	for _, m := range c.sources.Mappings() {
		if err := c.mayFeed(c.ctx, m.Function, m.SourceARN); err != nil && c.ctx.Err() == nil {
			denials = append(denials, err.Error())
		}
	}
	if len(denials) > 0 {
		return fmt.Errorf("permissions are missing:\n%s", strings.Join(slices.Sorted(slices.Values(denials)), "\n"))
	}
	return nil
}
