package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/test/bench/awsstub"
)

const (
	auditFindings  = 10_000
	largeFindings  = 1_000
	memoryFindings = 25_000
	singleEvents   = 300
)

// subject is an executable to measure.
type subject struct {
	name string
	path string
	// python reports whether it is the sample's audit function, which lacks a queue and a ledger.
	python bool
}

// figures are what one subject does.
type figures struct {
	cpu, again                 time.Duration
	calls, ledger, ledgerAgain float64
	units, unitsAgain          awsstub.Units
	large, largeAgain          awsstub.Units
	small, big                 int
	memory                     int64
	event                      awsstub.Units
	eventLedger                float64
	p50, p99                   time.Duration
}

// forwarder measures the forwarder's deployed executable on one core, against a stub of the
// Lambda runtime and of AWS that checks the conditions of the ledger. Each process is compared
// with that of another commit, and of AWS's Python sample, in turn.
func (b *bench) forwarder() error {
	now, err := b.buildForwarder(b.repository, "forwarder")
	if err != nil {
		return err
	}
	subjects := []subject{{name: "NOW", path: now}}
	if b.base != "" {
		switch path, err := b.buildCommit(b.base); {
		case err != nil:
			fmt.Printf("  commit %s was not built: %v\n", b.base, err)
		default:
			subjects = append(subjects, subject{name: b.base, path: path})
		}
	}
	if b.peer != "" {
		script, err := b.peerScript()
		if err != nil {
			return err
		}
		subjects = append(subjects, subject{name: "PYTHON SAMPLE", path: script, python: true})
	}
	all := make([][]figures, len(subjects))
	for pair := range b.pairs {
		for i, s := range subjects {
			f, err := b.measure(s, pair == 0)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			all[i] = append(all[i], f)
		}
	}
	b.show(subjects, all)
	return nil
}

// show prints one row per figure and one column per subject.
func (b *bench) show(subjects []subject, all [][]figures) {
	head := []string{"", "GOAL"}
	for _, s := range subjects {
		head = append(head, s.name)
	}
	b.row(head...)
	row := func(title, goal string, own bool, value func(figures) float64, text func(float64) string) {
		cells := []string{title, goal}
		for i, s := range subjects {
			if own && s.python {
				cells = append(cells, "")
				continue
			}
			var values []float64
			for _, f := range all[i] {
				values = append(values, value(f))
			}
			cells = append(cells, text(median(values)))
		}
		b.row(cells...)
	}
	// ratio compares the first subject with another, pair by pair.
	ratio := func(goal string, of int, value func(figures) float64) {
		var ratios []float64
		for i := range all[0] {
			ratios = append(ratios, value(all[0][i])/value(all[of][i]))
		}
		b.row("  NOW / "+subjects[of].name, goal, number(median(ratios)))
	}
	new, again := func(f figures) float64 { return f.cpu.Seconds() }, func(f figures) float64 { return f.again.Seconds() }
	per := func(n float64) string { return fmt.Sprintf("%.4f", n) }
	row("CPU of an audit of 10,000 new findings", "", false, new, seconds)
	for of := 1; of < len(subjects); of++ {
		goal := "at most 0.26"
		if subjects[of].python {
			goal = "at most 0.8"
		}
		ratio(goal, of, new)
	}
	row("CPU of the same audit the day after", "", true, again, seconds)
	if len(subjects) > 1 && !subjects[1].python {
		ratio("at most 0.5", 1, again)
	}
	row("import calls per finding", "at most 0.0102", false, func(f figures) float64 { return f.calls }, per)
	row("ledger calls per finding, new", "at most 0.10", true, func(f figures) float64 { return f.ledger }, per)
	row("ledger calls per finding, unchanged", "at most 0.05", true, func(f figures) float64 { return f.ledgerAgain }, per)
	row("ledger calls per single event", "no more", true, func(f figures) float64 { return f.eventLedger }, number)
	row("queue to import, p50", "no more", true, func(f figures) float64 { return f.p50.Seconds() }, seconds)
	row("queue to import, p99", "no more", true, func(f figures) float64 { return f.p99.Seconds() }, seconds)
	memory := []string{"memory at 25,000 findings", "at most 65 MiB"}
	for i, s := range subjects {
		if s.python {
			memory = append(memory, "")
			continue
		}
		memory = append(memory, fmt.Sprintf("%d MiB", all[i][0].memory>>10))
	}
	b.row(memory...)
	for _, u := range []struct {
		title string
		of    func(figures) awsstub.Units
		size  func(figures) int
	}{
		{"new", func(f figures) awsstub.Units { return f.units }, func(f figures) int { return f.small }},
		{"unchanged", func(f figures) awsstub.Units { return f.unitsAgain }, func(f figures) int { return f.small }},
		{"new", func(f figures) awsstub.Units { return f.large }, func(f figures) int { return f.big }},
		{"unchanged", func(f figures) awsstub.Units { return f.largeAgain }, func(f figures) int { return f.big }},
		{"event", func(f figures) awsstub.Units { return f.event }, nil},
	} {
		title := u.title
		if u.size != nil {
			title += fmt.Sprintf(", items of %d B", u.size(all[0][0]))
		}
		row("read units per finding, "+title, "no more", true, func(f figures) float64 { return u.of(f).Read }, number)
		row("write units per finding, "+title, "no more", true, func(f figures) float64 { return u.of(f).Write }, number)
		row("  of the index", "no more", true, func(f figures) float64 { return u.of(f).Index }, number)
	}
}

// measure measures all figures of one subject, memory only if wanted.
func (b *bench) measure(s subject, memory bool) (figures, error) {
	var f figures
	large, err := b.audits(s, largeFindings, 2600)
	if err != nil {
		return f, err
	}
	small, err := b.audits(s, auditFindings, 0)
	if err != nil {
		return f, err
	}
	one, err := b.audits(s, 1, 0)
	if err != nil {
		return f, err
	}
	huge := audited{}
	if memory {
		if huge, err = b.audits(s, memoryFindings, 0); err != nil {
			return f, err
		}
	}
	f = figures{
		cpu: small.cpu[0] - one.cpu[0], again: small.cpu[1] - one.cpu[1], calls: small.imports / auditFindings,
		ledger: small.ledger[0] / auditFindings, ledgerAgain: small.ledger[1] / auditFindings,
		units: small.units[0], unitsAgain: small.units[1], large: large.units[0], largeAgain: large.units[1],
		small: small.size, big: large.size, memory: huge.memory,
	}
	if !s.python {
		if err := b.events(s, &f); err != nil {
			return f, err
		}
	}
	return f, nil
}

// audited is what a process did for an audit, and another for the same audit the day after.
type audited struct {
	cpu     [2]time.Duration
	ledger  [2]float64
	units   [2]awsstub.Units // per finding
	imports float64
	size    int
	memory  int64
}

func (b *bench) audits(s subject, n, info int) (audited, error) {
	var a audited
	server := awsstub.New()
	defer server.Close()
	server.Findings, server.InfoBytes = n, info
	for day := range 2 {
		if s.python && day > 0 {
			break
		}
		started := time.Now().Add(time.Duration(day-1) * 24 * time.Hour)
		before := server.Table.Units()
		p, err := b.process(s, server, notification(n, day, started, s.python))
		if err != nil {
			return a, err
		}
		var answer string
		if !s.python {
			answer, err = server.Invoke(p.event, p.ended)
		}
		a.memory = max(a.memory, p.peak())
		a.cpu[day] = p.stop(s.python)
		if err != nil || strings.Contains(answer, "itemIdentifier") || strings.Contains(answer, "errorMessage") || !p.well {
			return a, fmt.Errorf("an audit of %d findings failed: %v %s %s", n, err, answer, &p.output)
		}
		calls, imported, _ := server.Reset()
		if day == 0 && imported < n || day == 1 && imported > 1 {
			return a, fmt.Errorf("day %d of an audit of %d findings imported %d: %v", day, n, imported, calls)
		}
		if day == 0 {
			a.imports = float64(calls["POST /findings/import"])
		}
		for name, times := range calls {
			if strings.HasPrefix(name, "DynamoDB_") {
				a.ledger[day] += float64(times)
			}
		}
		after := server.Table.Units()
		a.units[day] = awsstub.Units{
			Read: (after.Read - before.Read) / float64(n), Write: (after.Write - before.Write) / float64(n), Index: (after.Index - before.Index) / float64(n),
		}
	}
	stored, size := server.Table.Findings()
	if stored != n && !s.python {
		return a, fmt.Errorf("the ledger has %d findings, want %d", stored, n)
	}
	a.size = size
	return a, nil
}

// events measures single alarms of Detect, each in an invocation of its own.
func (b *bench) events(s subject, f *figures) error {
	server := awsstub.New()
	defer server.Close()
	p, err := b.process(s, server, "")
	if err != nil {
		return err
	}
	defer p.stop(false)
	var waits []time.Duration
	var before awsstub.Units
	ledger := 0
	for i := range singleEvents + 20 {
		if i == 20 { // the first are slower: connections, and documents that are read once
			before, ledger, waits = server.Table.Units(), 0, nil
		}
		answer, err := server.Invoke(alarm(i), p.ended)
		if err != nil || !strings.Contains(answer, `"batchItemFailures":[]`) {
			return fmt.Errorf("an alarm failed: %v %s %s", err, answer, &p.output)
		}
		calls, imported, took := server.Reset()
		if imported != 1 {
			return fmt.Errorf("an alarm imported %d findings", imported)
		}
		waits = append(waits, took...)
		for name, times := range calls {
			if strings.HasPrefix(name, "DynamoDB_") {
				ledger += times
			}
		}
	}
	after := server.Table.Units()
	f.event = awsstub.Units{Read: (after.Read - before.Read) / singleEvents, Write: (after.Write - before.Write) / singleEvents, Index: (after.Index - before.Index) / singleEvents}
	f.eventLedger = float64(ledger) / singleEvents
	slices.Sort(waits)
	f.p50, f.p99 = waits[len(waits)/2], waits[len(waits)*99/100]
	return nil
}

// process is a running function.
type process struct {
	command *exec.Cmd
	output  bytes.Buffer
	event   string
	ended   chan struct{}
	well    bool
}

func (b *bench) process(s subject, server *awsstub.Server, event string) (*process, error) {
	p := &process{event: event, ended: make(chan struct{}), well: true}
	p.command = exec.CommandContext(b.ctx, s.path)
	if s.python {
		name := filepath.Join(b.dir, "event.json")
		if err := os.WriteFile(name, []byte(event), 0o644); err != nil {
			return nil, err
		}
		p.command = exec.CommandContext(b.ctx, "python3", s.path)
	}
	p.command.Stdout, p.command.Stderr = &p.output, &p.output
	p.command.Env = append(os.Environ(), "GOMAXPROCS=1", "AWS_ENDPOINT_URL="+server.URL, "AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(server.URL, "http://"),
		"AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_ACCESS_KEY_ID=bench", "AWS_SECRET_ACCESS_KEY=bench", "AWS_LAMBDA_FUNCTION_NAME=bench",
		contract.EnvLedgerTable+"=bench", contract.EnvDeadLetterQueueURL+"="+server.URL+"/q")
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		err := p.command.Wait()
		p.well = err == nil || !s.python
		close(p.ended)
	}()
	if s.python {
		<-p.ended
	}
	return p, nil
}

// peak returns the peak of resident memory in KiB. That of the exit status would include this
// process, from which the function was forked.
func (p *process) peak() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n
		}
	}
	return 0
}

// stop ends the process and returns its CPU time.
func (p *process) stop(ended bool) time.Duration {
	if !ended {
		_ = p.command.Process.Signal(syscall.SIGTERM) // it may have ended
		<-p.ended
	}
	return p.command.ProcessState.UserTime() + p.command.ProcessState.SystemTime()
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// notification is the event of an audit that found n findings.
func notification(n, day int, started time.Time, python bool) string {
	task := fmt.Sprintf("4e2bcd1ccbc2a5dd15292a82ab80c38%d", day)
	message := text(map[string]any{
		"accountId": "123456789012", "taskId": task, "taskStatus": "COMPLETED", "taskType": "SCHEDULED_AUDIT_TASK", "scheduledAuditName": "Daily",
		"failedChecksCount": 0, "canceledChecksCount": 0, "nonCompliantChecksCount": 1, "compliantChecksCount": 0, "totalChecksCount": 1,
		"taskStartTime": started.UnixMilli(), "taskEndTime": started.Add(3 * time.Minute).UnixMilli(),
		"auditDetails": []any{map[string]any{
			"checkName": awsstub.Check, "checkRunStatus": "COMPLETED_NON_COMPLIANT", "nonCompliantResourcesCount": n, "totalResourcesCount": n, "message": nil, "errorCode": nil,
		}},
	})
	if python {
		return text(map[string]any{"Records": []any{map[string]any{"Sns": map[string]any{"Message": message}}}})
	}
	return queueEvent("AuditQueue", text(map[string]any{
		"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:us-east-1:123456789012:Audit", "Message": message, "Timestamp": "2025-11-24T16:05:00.000Z",
	}), started.Add(4*time.Minute))
}

func queueEvent(queue, body string, sent time.Time) string {
	return text(map[string]any{"Records": []any{map[string]any{
		"messageId": "m-1", "receiptHandle": "r", "body": body,
		"attributes":        map[string]any{"ApproximateReceiveCount": "1", "SentTimestamp": strconv.FormatInt(sent.UnixMilli(), 10)},
		"messageAttributes": map[string]any{}, "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:" + queue, "awsRegion": "us-east-1",
	}}})
}

// alarm is the event of an alarm of Detect for a new thing.
func alarm(i int) string {
	now := time.Now()
	return queueEvent("Queue", text(map[string]any{
		"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:us-east-1:123456789012:Detect", "Timestamp": "2025-11-24T16:05:00.000Z",
		"Message": text(map[string]any{
			"violationEventTime": now.UnixMilli(), "violationStartTime": now.UnixMilli(), "thingName": fmt.Sprintf("pump-%d", i), "securityProfileName": "Fleet",
			"violationId": fmt.Sprintf("v-%d", i), "violationEventType": "in-alarm",
			"behavior": map[string]any{
				"name": "small-messages", "metric": "aws:message-byte-size", "suppressAlerts": false,
				"criteria": map[string]any{"comparisonOperator": "less-than", "value": map[string]any{"count": 8}, "consecutiveDatapointsToAlarm": 1, "consecutiveDatapointsToClear": 1},
			},
			"metricValue": map[string]any{"count": 9},
		}),
	}), now)
}

func (b *bench) buildForwarder(module, name string) (string, error) {
	path := filepath.Join(b.dir, name)
	_, err := b.command(module, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", path, "./lambda/forwarder")
	return path, err
}

// buildCommit builds the forwarder of another commit of this repository.
func (b *bench) buildCommit(commit string) (string, error) {
	dir := filepath.Join(b.dir, "commit")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	archive := filepath.Join(b.dir, "commit.tar")
	if _, err := b.command(b.repository, nil, "git", "archive", "--output", archive, commit); err != nil {
		return "", err
	}
	if _, err := b.command(dir, nil, "tar", "xf", archive); err != nil {
		return "", err
	}
	return b.buildForwarder(dir, "forwarder-"+commit)
}

// peerScript writes a program that runs the sample's function on an event in a file.
func (b *bench) peerScript() (string, error) {
	dir, err := filepath.Abs(b.peer)
	if err != nil {
		return "", err
	}
	path := filepath.Join(b.dir, "peer.py")
	return path, os.WriteFile(path, fmt.Appendf(nil, "import json, sys\nsys.path.insert(0, %q)\nimport import_security_hub_audit as sample\nsample.lambda_handler(json.load(open(%q)), None)\n", dir, filepath.Join(b.dir, "event.json")), 0o644)
}
