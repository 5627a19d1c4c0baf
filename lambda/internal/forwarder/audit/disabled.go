package audit

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
)

// disabledNote explains in a description why a finding ended although no audit found it fixed.
const disabledNote = " The check is disabled, so it is not known whether this still holds."

// archiveDisabled archives the findings of checks that are disabled in the account: no audit will
// report them again, or that they are fixed. It ignores checks that this task ran, whatever the
// result, and findings of later tasks.
func (w *work) archiveDisabled(ctx context.Context) error {
	disabled, err := w.disabled(ctx)
	if err != nil {
		return err
	}
	over := w.task
	over.Checks = nil
	for _, name := range disabled {
		over.Checks = append(over.Checks, mapping.AuditCheck{Name: name, Status: mapping.CheckDisabled})
		// A late, earlier task must not restore its findings.
		if _, err := w.raise(ctx, name, w.task.Started); err != nil {
			return err
		}
		if err := w.archive(ctx, name, w.task.Started, disabledNote); err != nil {
			return err
		}
	}
	return w.deliver(ctx, w.mapper.CheckSummaries(over))
}

// disabled returns the checks that are disabled in the account's audit configuration and not part
// of the task. It returns none if the configuration cannot be read.
func (w *work) disabled(ctx context.Context) ([]string, error) {
	var out *iot.DescribeAccountAuditConfigurationOutput
	err := w.call(ctx, func() (err error) {
		out, err = w.IoT.DescribeAccountAuditConfiguration(ctx, &iot.DescribeAccountAuditConfigurationInput{})
		return err
	})
	if errors.Is(err, errNoTime) {
		return nil, err
	}
	if err != nil {
		w.Log.Warn("the account's audit configuration could not be read: findings of disabled checks stay", "taskId", w.task.ID, "reason", err.Error())
		return nil, nil
	}
	var all []string
	for _, key := range slices.Sorted(maps.Keys(out.AuditCheckConfigurations)) {
		name := mapping.CheckName(key)
		ran := slices.ContainsFunc(w.task.Checks, func(c mapping.AuditCheck) bool { return c.Name == name })
		if !out.AuditCheckConfigurations[key].Enabled && !ran {
			all = append(all, name)
		}
	}
	return all, nil
}
