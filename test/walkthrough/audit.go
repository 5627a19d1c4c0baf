package walkthrough

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/defender"
)

const (
	openPolicy   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	narrowPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}"}]}`
	policyName   = "too-open"
)

// auditing is the first experiment of AWS's documentation.
func (s *story) auditing() []step {
	return []step{
		{"the audit that the deployment started finds that logging is off", func(ctx context.Context) error {
			return s.expect(ctx, types.SeverityLabelLow, types.RecordStateActive, defender.LoggingDisabled.String(), "LOGGING_DISABLED")
		}, hintIssue},
		{"create an IoT policy that allows everything, and audit on demand", func(ctx context.Context) error {
			if _, err := s.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String(policyName), PolicyDocument: aws.String(openPolicy)}); err != nil {
				return err
			}
			if err := s.audit(ctx); err != nil {
				return err
			}
			return s.expect(ctx, types.SeverityLabelCritical, types.RecordStateActive, "IOT_POLICY_OVERLY_PERMISSIVE_CHECK", "ALLOWS_BROAD_ACCESS")
		}, hintIssue},
		{"narrow the policy, and audit again", func(ctx context.Context) error {
			if _, err := s.iot.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: aws.String(policyName), PolicyDocument: aws.String(narrowPolicy), SetAsDefault: true}); err != nil {
				return err
			}
			if err := s.audit(ctx); err != nil {
				return err
			}
			return s.expect(ctx, types.SeverityLabelCritical, types.RecordStateArchived, "IOT_POLICY_OVERLY_PERMISSIVE_CHECK", "ALLOWS_BROAD_ACCESS")
		}, hintIssue},
	}
}

// audit runs an on-demand audit of the policies and waits for its end.
func (s *story) audit(ctx context.Context) error {
	started, err := s.iot.StartOnDemandAuditTask(ctx, &iot.StartOnDemandAuditTaskInput{TargetCheckNames: []string{defender.IoTPolicyOverlyPermissive.String()}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		task, err := s.iot.DescribeAuditTask(ctx, &iot.DescribeAuditTaskInput{TaskId: started.TaskId})
		if err != nil {
			return err
		}
		switch task.TaskStatus {
		case iottypes.AuditTaskStatusCompleted:
			return nil
		case iottypes.AuditTaskStatusFailed, iottypes.AuditTaskStatusCanceled:
			return fmt.Errorf("the audit ended %s", task.TaskStatus)
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("the audit is still %s after %s", task.TaskStatus, patience)
		}
	}
}
