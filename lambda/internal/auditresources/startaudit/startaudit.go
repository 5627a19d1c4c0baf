// Package startaudit starts an on-demand audit when a stack is deployed.
package startaudit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
	"github.com/defenderhub/defenderhub/lambda/internal/retry"
)

// API is the part of the AWS IoT client that is called. The client must not retry by itself.
type API interface {
	StartOnDemandAuditTask(context.Context, *iot.StartOnDemandAuditTaskInput, ...func(*iot.Options)) (*iot.StartOnDemandAuditTaskOutput, error)
}

// Starter handles the events of the custom resource.
type Starter struct {
	IoT    API
	Log    *slog.Logger
	Random func(n int64) int64
}

// New returns the function's handler.
func New(api API, on host.Host) *Starter {
	return &Starter{IoT: api, Log: on.Logger(slog.LevelInfo), Random: on.Random}
}

// Handle starts an audit on Create and Update, and does nothing on Delete. The attribute TaskId
// is the audit's ID.
//
// TaskId is "" if no audit was started because ten others are running. That must not roll back a
// deployment, and the schedule audits anyway.
func (s *Starter) Handle(ctx context.Context, event cfn.Event) (physicalID string, data map[string]any, err error) {
	id := event.PhysicalResourceID
	if id == "" {
		id = "start-audit-" + event.LogicalResourceID
	}
	if event.RequestType == cfn.RequestDelete {
		return id, nil, nil
	}
	checks, err := checksOf(event.ResourceProperties)
	if err != nil {
		return id, nil, err
	}
	task, err := s.start(ctx, checks)
	if err != nil {
		return id, nil, err
	}
	return id, map[string]any{"TaskId": task}, nil
}

// start starts an audit and returns its ID, "" if too many on-demand audits are running. It retries,
// because one of them may end, and because AWS may not know yet that a check is enabled right after
// the account's configuration is written.
func (s *Starter) start(ctx context.Context, checks []string) (task string, err error) {
	backoff := retry.Backoff{First: 2 * time.Second, Longest: 15 * time.Second, Random: s.Random}
	for failures := 1; ; failures++ {
		out, err := s.IoT.StartOnDemandAuditTask(ctx, &iot.StartOnDemandAuditTaskInput{TargetCheckNames: checks})
		if err == nil {
			s.Log.Info("on-demand audit started", "taskId", aws.ToString(out.TaskId))
			return aws.ToString(out.TaskId), nil
		}
		if backoff.Wait(ctx, failures) {
			continue
		}
		var limit *types.LimitExceededException
		if errors.As(err, &limit) {
			s.Log.Warn("on-demand audit was not started: the account already runs as many on-demand audits as AWS allows", "reason", err.Error())
			return "", nil
		}
		return "", fmt.Errorf("start an on-demand audit of %s (each check must be enabled in the account's audit configuration): %w", strings.Join(checks, ", "), err)
	}
}

// checksOf returns the property [contract.StartAuditChecks].
func checksOf(properties map[string]any) ([]string, error) {
	list, ok := properties[contract.StartAuditChecks].([]any)
	if !ok || len(list) == 0 {
		return nil, fmt.Errorf("property %s is missing, want a list of audit checks", contract.StartAuditChecks)
	}
	var checks []string
	for _, item := range list {
		name, _ := item.(string)
		check, err := defender.ParseCheck(name)
		if err != nil {
			return nil, fmt.Errorf("property %s: %w", contract.StartAuditChecks, err)
		}
		checks = append(checks, check.String())
	}
	return checks, nil
}
