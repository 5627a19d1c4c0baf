package devicedefender

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/defenderhub/defenderhub/defender"
)

// maxOnDemand is how many on-demand audits can be in progress (AWS General Reference,
// AWS IoT Device Defender quotas).
const maxOnDemand = 10

// The statuses of tasks and of their checks.
const (
	inProgress            = "IN_PROGRESS"
	waiting               = "WAITING_FOR_DATA_COLLECTION"
	completed             = "COMPLETED"
	completedCompliant    = "COMPLETED_COMPLIANT"
	completedNonCompliant = "COMPLETED_NON_COMPLIANT"
	failed                = "FAILED"
	canceled              = "CANCELED"
)

// The types of tasks.
const (
	onDemand  = "ON_DEMAND_AUDIT_TASK"
	scheduled = "SCHEDULED_AUDIT_TASK"
)

// The two error codes that AWS documents for a check.
const (
	checkDisabled = "AUDIT_CHECK_DISABLED"
	notPermitted  = "INSUFFICIENT_PERMISSIONS"
)

// task is an audit that runs or has run. A task never ends FAILED as a whole here:
// each of its checks fails for itself.
type task struct {
	id, kind, status string
	schedule         string // its name, "" on demand
	started, ended   time.Time
	// since is the start of the time that a scheduled audit looks at, zero when it is
	// 31 days.
	since  time.Time
	checks []*checkDetails // in the order of the request
	run    sync.Mutex      // held while checks run
}

// checkDetails is the state of one check of a task.
type checkDetails struct {
	check                           defender.Check
	status                          string
	total, nonCompliant, suppressed int
	errorCode, message              string
	findings                        []*finding
}

func (t *task) over() bool { return t.status != inProgress }

// newTask needs the lock. It adds a task and forgets those that are too old.
func (s *Service) newTask(kind, schedule string, at, since time.Time, checks []defender.Check) *task {
	t := &task{id: newID(), kind: kind, status: inProgress, schedule: schedule, started: at, since: since}
	for _, c := range checks {
		t.checks = append(t.checks, &checkDetails{check: c, status: inProgress})
	}
	old := func(at time.Time) bool { return t.started.Sub(at) > retention }
	s.tasks = slices.DeleteFunc(s.tasks, func(t *task) bool { return old(t.started) })
	s.findings = slices.DeleteFunc(s.findings, func(f *finding) bool { return old(f.time) })
	s.tasks = append(s.tasks, t)
	return t
}

// StartOnDemandAuditTaskInput is the operation's input.
type StartOnDemandAuditTaskInput struct {
	TargetCheckNames []string `json:"targetCheckNames"`
}

// StartOnDemandAuditTaskOutput is the operation's output.
type StartOnDemandAuditTaskOutput struct {
	TaskID string `json:"taskId"`
}

// StartOnDemandAuditTask starts an audit of checks that are enabled.
func (s *Service) StartOnDemandAuditTask(in *StartOnDemandAuditTaskInput) (*StartOnDemandAuditTaskOutput, error) {
	t, err := s.startOnDemand(in)
	if err != nil {
		return nil, err
	}
	s.audits.Add(1)
	s.config.Go(func() {
		defer s.audits.Done()
		s.perform(t, s.config.Now())
	})
	return &StartOnDemandAuditTaskOutput{TaskID: t.id}, nil
}

func (s *Service) startOnDemand(in *StartOnDemandAuditTaskInput) (*task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	checks, err := s.configuration.usable(in.TargetCheckNames)
	if err != nil {
		return nil, err
	}
	running := 0
	for _, t := range s.tasks {
		if t.kind == onDemand && !t.over() {
			running++
		}
	}
	if running >= maxOnDemand {
		return nil, limitExceeded("%d on-demand audits are in progress, which is the limit", maxOnDemand)
	}
	return s.newTask(onDemand, "", s.config.Now(), time.Time{}, checks), nil
}

// RunDue runs what is due by the clock: scheduled audits, and checks that have waited
// for their data. It is to be called after each step of the clock and, while the clock
// runs by itself, now and then. It returns when all that has run.
func (s *Service) RunDue() {
	s.due.Lock()
	defer s.due.Unlock()
	now := s.config.Now()
	for _, t := range s.waitingTasks() {
		s.perform(t, now)
	}
	for {
		t := s.nextScheduled(now)
		if t == nil {
			return
		}
		s.perform(t, t.started)
	}
}

func (s *Service) waitingTasks() []*task {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.tasks), func(t *task) bool {
		return t.over() || !slices.ContainsFunc(t.checks, func(d *checkDetails) bool { return d.status == waiting })
	})
}

// nextScheduled makes the task of the earliest run that is due, nil for none.
func (s *Service) nextScheduled(now time.Time) *task {
	s.mu.Lock()
	defer s.mu.Unlock()
	var next *scheduledAudit
	var at time.Time
	for _, a := range s.schedules {
		due := a.runs(a.done, now)
		if len(due) > 0 && (next == nil || due[0].Before(at) || due[0].Equal(at) && a.name < next.name) {
			next, at = a, due[0]
		}
	}
	if next == nil {
		return nil
	}
	since := next.last
	next.done, next.last = at, at
	return s.newTask(scheduled, next.name, at, since, next.checks)
}

// perform runs the checks of a task that have not run yet, as of a time, and ends the
// task unless some of them still wait for their data.
func (s *Service) perform(t *task, at time.Time) {
	t.run.Lock()
	defer t.run.Unlock()
	for _, d := range t.checks {
		run, ok := s.begin(t, d, at)
		if !ok {
			continue
		}
		total, issues, err := s.evaluate(d.check, run)
		s.conclude(t, d, at, total, issues, err)
	}
	if s.end(t, at) {
		s.announce(t)
	}
}

// begin returns what a check looks at, false when it cannot run now.
func (s *Service) begin(t *task, d *checkDetails, at time.Time) (checkRun, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.over() || d.status != inProgress && d.status != waiting {
		return checkRun{}, false
	}
	c := s.configuration.checks[d.check]
	if !c.enabled {
		d.status, d.errorCode, d.message = failed, checkDisabled, "The check was disabled after the audit had started."
		return checkRun{}, false
	}
	if at.Before(c.since.Add(s.config.DataCollection)) {
		d.status = waiting
		return checkRun{}, false
	}
	d.status = inProgress
	run := checkRun{at: at, since: t.started.Add(-lookBack), until: t.started, role: s.configuration.roleARN}
	if !t.since.IsZero() {
		run.since = t.since
	}
	if d.check == defender.DeviceCertificateShared {
		run.since, run.until = run.since.Add(-sharedDelay), run.until.Add(-sharedDelay)
	}
	if c.since.After(run.since) {
		run.since = c.since
	}
	if threshold := d.check.Info().Threshold; threshold != nil {
		run.days = threshold.Default
		if c.days != 0 {
			run.days = c.days
		}
	}
	return run, true
}

// conclude notes the result of a check, unless the task was canceled meanwhile.
func (s *Service) conclude(t *task, d *checkDetails, at time.Time, total int, issues []issue, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.status != inProgress {
		return
	}
	if err != nil {
		d.status, d.message = failed, message(err)
		if errors.As(err, new(insufficientPermissions)) {
			d.errorCode = notPermitted
		}
		return
	}
	d.total = total
	bad, quiet := map[string]bool{}, map[string]bool{}
	for _, i := range issues {
		f := s.newFinding(t, d.check, i, at)
		d.findings = append(d.findings, f)
		if f.suppressed {
			quiet[i.resource.ResourceIdentifier.key()] = true
		} else {
			bad[i.resource.ResourceIdentifier.key()] = true
		}
	}
	d.nonCompliant, d.suppressed = len(bad), len(quiet)
	d.status = completedCompliant
	if len(bad) > 0 {
		d.status = completedNonCompliant
	}
}

// message fits the API's limit of 2048 characters.
func message(err error) string {
	runes := []rune(err.Error())
	return string(runes[:min(len(runes), 2048)])
}

// end ends a task of which no check is left, and reports whether it did.
func (s *Service) end(t *task, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.over() || slices.ContainsFunc(t.checks, func(d *checkDetails) bool { return d.status == waiting }) {
		return false
	}
	t.status, t.ended = completed, at
	return true
}

// announce tells the world that a task has ended.
func (s *Service) announce(t *task) {
	s.notify(t)
	if err := s.native.send(t); err != nil {
		s.config.Logger.Warn("findings of the native integration not imported", "taskId", t.id, "error", err)
	}
}
