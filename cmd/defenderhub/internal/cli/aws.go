package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
)

// Config returns the AWS configuration of the flags and the environment, as the AWS CLI reads
// them.
func (s *Session) Config(ctx context.Context) (aws.Config, error) {
	c, err := s.load(ctx)
	if err == nil && c.Region == "" {
		err = errors.New("no AWS Region: use --region, AWS_REGION or the profile's region")
	}
	return c, err
}

// load is Config, but the Region may be "".
func (s *Session) load(ctx context.Context) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		config.WithAppID("defenderhub"),
		config.WithAPIOptions([]func(*middleware.Stack) error{func(stack *middleware.Stack) error {
			return stack.Finalize.Insert(&findingsPace{}, "Retry", middleware.After)
		}}),
	}
	if s.region != "" {
		options = append(options, config.WithRegion(s.region))
	}
	if s.profile != "" {
		options = append(options, config.WithSharedConfigProfile(s.profile))
	}
	if s.endpoint != "" {
		options = append(options, config.WithBaseEndpoint(s.endpoint))
	}
	return config.LoadDefaultConfig(ctx, options...)
}

// findingsInterval is the minimum time between two calls of GetFindings, whose quota is three calls
// per second.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_GetFindings.html
const findingsInterval = 350 * time.Millisecond

var pace struct {
	sync.Mutex
	next time.Time
}

type findingsPace struct{}

func (*findingsPace) ID() string { return "FindingsPace" }

func (*findingsPace) HandleFinalize(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
	if awsmiddleware.GetOperationName(ctx) == "GetFindings" {
		pace.Lock()
		now := time.Now()
		wait := max(0, pace.next.Sub(now))
		pace.next = now.Add(wait + findingsInterval)
		pace.Unlock()
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return middleware.FinalizeOutput{}, middleware.Metadata{}, ctx.Err()
		}
	}
	return next.HandleFinalize(ctx, in)
}

// Denial is the error of a call that AWS denied.
type Denial struct {
	Action   string // such as iot:DescribeThing
	Resource string // an ARN, or * if AWS names no resource
	Because  string // the policy that decided, in AWS's words
	// Other is AWS's text if it is not that of a missing permission.
	Other string
}

func (d *Denial) Error() string {
	return fmt.Sprintf("denied: %s on %s, %s", d.Action, d.Resource, d.Because)
}

var (
	denialCodes = regexp.MustCompile(`^(AccessDenied|AccessDeniedException|UnauthorizedOperation|UnauthorizedException|NotAuthorized|AuthorizationError|AuthorizationErrorException|ForbiddenException|KMSAccessDeniedException)$`)
	denialWords = regexp.MustCompile(`not authorized to perform:? ([a-z0-9-]+:[A-Za-z0-9*]+)(?: on resource:? (\S+))?(.*)$`)
)

// actionPrefixes maps the names of services in the SDK to their prefixes in IAM, if they differ.
var actionPrefixes = map[string]string{"iot data plane": "iot", "api gateway": "apigateway", "cloudwatch logs": "logs"}

// DenialOf returns the denial in err, nil if AWS did not deny a call.
func DenialOf(err error) *Denial {
	var api smithy.APIError
	if !errors.As(err, &api) || !denialCodes.MatchString(api.ErrorCode()) {
		return nil
	}
	d := &Denial{Resource: "*", Because: "AWS names no policy"}
	var operation *smithy.OperationError
	if errors.As(err, &operation) {
		service := strings.ToLower(operation.Service())
		if prefix, ok := actionPrefixes[service]; ok {
			service = prefix
		}
		d.Action = strings.ReplaceAll(service, " ", "") + ":" + operation.Operation()
	}
	words := denialWords.FindStringSubmatch(strings.ReplaceAll(api.ErrorMessage(), "\n", " "))
	if words == nil {
		if text := api.ErrorMessage(); text != "" && text != "UnknownError" { // which the SDK writes for none
			d.Because, d.Other = text, text
		}
		return d
	}
	d.Action = words[1]
	if words[2] != "" {
		d.Resource = words[2]
	}
	if because := strings.TrimSpace(words[3]); because != "" {
		d.Because = because
	}
	return d
}

// Explain describes an error in one or two lines: what failed, and the fix if it is known.
func Explain(err error) string {
	if left := (*notRemovedError)(nil); errors.As(err, &left) {
		return left.Error()
	}
	if d := DenialOf(err); d != nil {
		return d.Error()
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		text := api.ErrorCode()
		if message := api.ErrorMessage(); message != "" {
			text += ": " + message
		}
		var operation *smithy.OperationError
		if errors.As(err, &operation) {
			text = operation.Service() + " " + operation.Operation() + ": " + text
		}
		return text
	}
	text := err.Error()
	if strings.Contains(text, "no EC2 IMDS role found") || strings.Contains(text, "failed to refresh cached credentials") {
		return "no AWS credentials: run aws configure or aws sso login, or set AWS_PROFILE (" + text + ")"
	}
	return text
}
