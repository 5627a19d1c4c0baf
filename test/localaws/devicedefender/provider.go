package devicedefender

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// RegisterProviders makes the service the provider of AWS::IoT::AccountAuditConfiguration
// and AWS::IoT::ScheduledAudit, with the semantics of AWS's own resource handlers
// (aws-cloudformation-resource-providers-iot).
func RegisterProviders(registry *cloudformation.Registry, s *Service) {
	type handler = func(cloudformation.Request) (cloudformation.Resource, error)
	locked := func(do handler) func(context.Context, cloudformation.Request) (cloudformation.Resource, error) {
		return func(_ context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			made, err := do(r)
			return made, serviceError(err)
		}
	}
	register := func(resourceType string, create, update handler, remove func(cloudformation.Request) error) {
		registry.Register(resourceType, cloudformation.Declared{
			Make: locked(create), Change: locked(update),
			Remove: func(_ context.Context, r cloudformation.Request) error {
				s.mu.Lock()
				defer s.mu.Unlock()
				return serviceError(remove(r))
			},
		})
	}
	register("AWS::IoT::AccountAuditConfiguration", s.setUp, s.changeSetUp, s.takeDown)
	register("AWS::IoT::ScheduledAudit", s.deployAudit, s.redeployAudit, func(r cloudformation.Request) error {
		return s.deleteScheduledAudit(&iot.DeleteScheduledAuditInput{ScheduledAuditName: &r.PhysicalResourceID})
	})
}

// handlerError is how CloudFormation reports an error of a resource handler.
func handlerError(code, format string, args ...any) error {
	return fmt.Errorf("%s (HandlerErrorCode: %s)", fmt.Sprintf(format, args...), code)
}

// serviceError is how CloudFormation reports an error of the service.
func serviceError(err error) error {
	var e *iotcore.Error
	if !errors.As(err, &e) {
		return err
	}
	code := map[string]string{
		"ResourceAlreadyExistsException": "AlreadyExists", "ResourceNotFoundException": "NotFound", "LimitExceededException": "ServiceLimitExceeded",
	}[e.Code]
	if code == "" {
		code = "InvalidRequest"
	}
	return handlerError(code, "%s (Service: Iot, Status Code: %d)", e.Message, e.Status)
}

// notSetUp has the words of AWS's handlers.
func notSetUp() error {
	return handlerError("NotFound", "The configuration for your account has not been set up or was deleted.")
}

func (s *Service) setUp(r cloudformation.Request) (cloudformation.Resource, error) {
	account, _ := schema.String(r.ResourceProperties["AccountId"])
	if account != r.AccountID {
		return cloudformation.Resource{}, handlerError("InvalidRequest", "AccountId in the template (%s) doesn't match actual: %s.", account, r.AccountID)
	}
	if s.configuration.roleARN != "" {
		return cloudformation.Resource{}, handlerError("AlreadyExists", "The AccountAuditConfiguration already exists.")
	}
	in, err := configurationInput(r.ResourceProperties)
	if err == nil {
		err = s.updateConfiguration(in)
	}
	return cloudformation.Resource{PhysicalID: account}, err
}

// changeSetUp disables the checks and the notification target that the template does not have.
func (s *Service) changeSetUp(r cloudformation.Request) (cloudformation.Resource, error) {
	if s.configuration.roleARN == "" {
		return cloudformation.Resource{}, notSetUp()
	}
	in, err := configurationInput(r.ResourceProperties)
	if err != nil {
		return cloudformation.Resource{}, err
	}
	all := map[string]types.AuditCheckConfiguration{}
	for _, c := range defender.Checks() {
		all[c.String()] = types.AuditCheckConfiguration{}
	}
	maps.Copy(all, in.AuditCheckConfigurations)
	in.AuditCheckConfigurations = all
	if in.AuditNotificationTargetConfigurations == nil {
		in.AuditNotificationTargetConfigurations = map[string]types.AuditNotificationTarget{snsTarget: {}}
	}
	return cloudformation.Resource{PhysicalID: r.PhysicalResourceID}, s.updateConfiguration(in)
}

// takeDown deletes the configuration, but no scheduled audits.
func (s *Service) takeDown(cloudformation.Request) error {
	if s.configuration.roleARN == "" {
		return notSetUp()
	}
	return s.deleteConfiguration(&iot.DeleteAccountAuditConfigurationInput{})
}

// configurationInput converts properties, which the schema has validated.
func configurationInput(properties map[string]any) (*iot.UpdateAccountAuditConfigurationInput, error) {
	var p struct {
		RoleArn                  *string
		AuditCheckConfigurations map[string]struct {
			Enabled       bool
			Configuration map[string]any
		}
		AuditNotificationTargetConfigurations map[string]types.AuditNotificationTarget
	}
	if err := schema.Decode(properties, &p); err != nil {
		return nil, err
	}
	in := &iot.UpdateAccountAuditConfigurationInput{RoleArn: p.RoleArn, AuditCheckConfigurations: map[string]types.AuditCheckConfiguration{}}
	for _, c := range defender.Checks() {
		given, ok := p.AuditCheckConfigurations[c.Info().Property]
		if !ok {
			continue
		}
		wanted := types.AuditCheckConfiguration{Enabled: given.Enabled}
		for _, days := range given.Configuration { // the schema allows only the check's threshold
			text, _ := days.(string) // the handler refuses a number
			wanted.Configuration = map[string]string{c.Info().Threshold.APIKey: text}
		}
		in.AuditCheckConfigurations[c.String()] = wanted
	}
	if target, ok := p.AuditNotificationTargetConfigurations["Sns"]; ok {
		in.AuditNotificationTargetConfigurations = map[string]types.AuditNotificationTarget{snsTarget: target}
	}
	return in, nil
}

// generatedName is the maximum length of a name that the handler generates.
const generatedName = 40

func (s *Service) deployAudit(r cloudformation.Request) (cloudformation.Resource, error) {
	in, err := scheduledAuditInput(r)
	if err != nil {
		return cloudformation.Resource{}, err
	}
	if in.ScheduledAuditName == nil {
		// The end of the ID makes the name unique.
		in.ScheduledAuditName = aws.String(r.PhysicalResourceID[max(0, len(r.PhysicalResourceID)-generatedName):])
	}
	out, err := s.createScheduledAudit(in)
	if err != nil {
		return cloudformation.Resource{}, err
	}
	return scheduledAuditResource(*in.ScheduledAuditName, out.ScheduledAuditArn), nil
}

func (s *Service) redeployAudit(r cloudformation.Request) (cloudformation.Resource, error) {
	in, err := scheduledAuditInput(r)
	if err != nil {
		return cloudformation.Resource{}, err
	}
	out, err := s.updateScheduledAudit(&iot.UpdateScheduledAuditInput{
		ScheduledAuditName: &r.PhysicalResourceID, Frequency: in.Frequency, DayOfMonth: in.DayOfMonth, DayOfWeek: in.DayOfWeek, TargetCheckNames: in.TargetCheckNames,
	})
	if err != nil {
		return cloudformation.Resource{}, err
	}
	return scheduledAuditResource(r.PhysicalResourceID, out.ScheduledAuditArn), nil
}

func scheduledAuditResource(name string, arn *string) cloudformation.Resource {
	return cloudformation.Resource{PhysicalID: name, Attributes: map[string]any{"ScheduledAuditArn": *arn}}
}

// scheduledAuditInput converts properties, which the schema has validated. They have the API's names.
func scheduledAuditInput(r cloudformation.Request) (*iot.CreateScheduledAuditInput, error) {
	in := &iot.CreateScheduledAuditInput{}
	return in, schema.Decode(r.ResourceProperties, in)
}
