package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/test/bench/awsstub"
)

const (
	auditFindings  = 10_000
	memoryFindings = 25_000
)

// subject is an executable to measure.
type subject struct {
	name string
	path string
	// python reports whether it is the sample's audit function, which lacks a queue and a ledger.
	python bool
}

// figures are what one subject does. An index of 0 is an audit of new findings, 1 is the same audit
// the day after.
type figures struct {
	cpu     [2]time.Duration
	ledger  [2]float64 // calls per finding
	imports float64
	units   [2]awsstub.Units
	bytes   int // of an item
	memory  int64
	alerts  [alertKinds]alerts
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
			all[i][pair].memory = all[i][0].memory // is measured once
		}
		if err := b.alerts(subjects, all); err != nil {
			return err
		}
	}
	return b.show(subjects, all)
}

// measure measures audits of one subject, memory only if wanted.
func (b *bench) measure(s subject, memory bool) (f figures, err error) {
	small, err := b.audits(s, auditFindings)
	if err != nil {
		return f, err
	}
	one, err := b.audits(s, 1)
	if err != nil {
		return f, err
	}
	f = figures{imports: small.imports / auditFindings, units: small.units, bytes: small.size}
	for day := range 2 {
		f.cpu[day], f.ledger[day] = small.cpu[day]-one.cpu[day], small.ledger[day]/auditFindings
	}
	if s.python {
		return f, nil
	}
	if memory {
		huge, err := b.audits(s, memoryFindings)
		if err != nil {
			return f, err
		}
		f.memory = huge.memory
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

func (b *bench) audits(s subject, n int) (audited, error) {
	var a audited
	server := awsstub.New()
	defer server.Close()
	server.Findings = n
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
		a.ledger[day] = float64(ledgerCalls(calls))
		after := server.Table.Units()
		a.units[day] = after.Since(before, n)
	}
	stored, size := server.Table.Size("audit#")
	if stored != n && !s.python {
		return a, fmt.Errorf("the ledger has %d findings, want %d", stored, n)
	}
	a.size = size
	return a, nil
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
	message := auditMessage(task, "COMPLETED", started, checkRun{awsstub.Check, "COMPLETED_NON_COMPLIANT", n})
	if python {
		return text(map[string]any{"Records": []any{map[string]any{"Sns": map[string]any{"Message": message}}}})
	}
	return queueEvent("AuditQueue", topicMessage("Audit", message), started.Add(4*time.Minute))
}

// checkRun is what an audit says about a check.
type checkRun struct {
	check, status string
	nonCompliant  int
}

// auditMessage is what Device Defender sends at the end of an audit.
func auditMessage(task, status string, started time.Time, runs ...checkRun) string {
	var details []any
	nonCompliant := 0
	for _, r := range runs {
		if r.nonCompliant > 0 {
			nonCompliant++
		}
		details = append(details, map[string]any{
			"checkName": r.check, "checkRunStatus": r.status, "nonCompliantResourcesCount": r.nonCompliant, "totalResourcesCount": r.nonCompliant, "message": nil, "errorCode": nil,
		})
	}
	return text(map[string]any{
		"accountId": "123456789012", "taskId": task, "taskStatus": status, "taskType": "SCHEDULED_AUDIT_TASK", "scheduledAuditName": "Daily",
		"failedChecksCount": 0, "canceledChecksCount": 0, "nonCompliantChecksCount": nonCompliant, "compliantChecksCount": 0, "totalChecksCount": len(runs),
		"taskStartTime": started.UnixMilli(), "taskEndTime": started.Add(3 * time.Minute).UnixMilli(),
		"auditDetails": details,
	})
}

// topicMessage is the body of a queue's message that is from a topic.
func topicMessage(topic, message string) string {
	return text(map[string]any{
		"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:us-east-1:123456789012:" + topic, "Message": message, "Timestamp": "2025-11-24T16:05:00.000Z",
	})
}

func queueEvent(queue, body string, sent time.Time) string {
	return text(map[string]any{"Records": []any{record(queue, "m-1", body, sent, 1)}})
}

func record(queue, id, body string, sent time.Time, receives int) any {
	return map[string]any{
		"messageId": id, "receiptHandle": "r", "body": body,
		"attributes":        map[string]any{"ApproximateReceiveCount": strconv.Itoa(receives), "SentTimestamp": strconv.FormatInt(sent.UnixMilli(), 10)},
		"messageAttributes": map[string]any{}, "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:" + queue, "awsRegion": "us-east-1",
	}
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
