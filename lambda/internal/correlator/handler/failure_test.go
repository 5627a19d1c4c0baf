package handler_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	hubtypes "github.com/aws/aws-sdk-go-v2/service/securityhub/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/defender/correlation"
)

// stolen returns the events of a stolen identity.
func stolen() []string {
	return []string{duplicate("pump-7").at(start, "o").event(), behavior("pump-7", "aws:source-ip-address").at(start.Add(time.Second), "o").event()}
}

// Each dependency fails in turn. The events are retried, no message is sent meanwhile, and in the
// end the composite finding is as without the failure.
func TestEachDependencyFailsInTurn(t *testing.T) {
	for name, breakdown := range map[string]func(r *rig) (repair func()){
		"DynamoDB": func(r *rig) func() {
			r.table.step = func(string, string, bool) error { return errBroken }
			return func() { r.table.step = nil }
		},
		"DynamoDB refuses writes": func(r *rig) func() {
			r.table.step = func(operation, _ string, _ bool) error {
				if operation == "PutItem" {
					return errBroken
				}
				return nil
			}
			return func() { r.table.step = nil }
		},
		"Amazon SQS": func(r *rig) func() { r.queue.broken = true; return func() { r.queue.broken = false } },
		"AWS IoT":    func(r *rig) func() { r.iot.fails = errBroken; return func() { r.iot.fails = nil } },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, correlation.StolenIdentity())
			repair := breakdown(r)
			again := r.handle(stolen()...)
			if len(again) == 0 || r.queue.count() != 0 || r.counted("Failed") == 0 {
				t.Fatalf("events %v are retried, %d messages, %d failures counted; want a retry, no message and a failure", again, r.queue.count(), r.counted("Failed"))
			}
			repair()
			for _, i := range again {
				r.must(stolen()[i])
			}
			r.settle()
			r.want("stolen-identity/pump-7 CRITICAL 2")
		})
	}
}

// If the queue fails, the schedule sends the outbox, even if the event is never delivered again.
func TestOutboxIsSentByTheSchedule(t *testing.T) {
	for name, rule := range map[string]correlation.Rule{"device": correlation.StolenIdentity(), "campaign": correlation.Campaign(correlation.Spread{Devices: 2})} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rule)
			r.queue.broken = true
			r.handle(append(stolen(), behavior("meter-2", "aws:source-ip-address").at(start, "o").event())...)
			r.queue.broken = false
			r.want("")
			r.settle()
			if len(r.composites()) != 1 {
				t.Errorf("composite findings %v, want one", r.composites())
			}
			n := r.queue.count()
			r.now = r.now.Add(5 * time.Minute)
			if err := r.due(); err != nil || r.queue.count() != n {
				t.Errorf("5 minutes later: %d more messages, error %v; want none", r.queue.count()-n, err)
			}
		})
	}
}

// A crash at any call of the table or the queue loses nothing.
func TestCrashBetweenAnyTwoSteps(t *testing.T) {
	rules := []correlation.Rule{correlation.StolenIdentity(), correlation.BlastRadius(), correlation.Campaign(correlation.Spread{Devices: 2})}
	events := append(stolen(), broadPolicy("broad").at(start, "o").event(), behavior("meter-2", "aws:source-ip-address").at(start, "o").event())
	deliver := func(r *rig, event string) {
		for len(r.handle(event)) > 0 {
		}
	}
	healthy := newRig(t, rules...)
	var counted atomic.Int64
	healthy.table.step = func(string, string, bool) error { counted.Add(1); return nil }
	for _, e := range events {
		deliver(healthy, e)
	}
	healthy.settle()
	want := healthy.active()
	for crash := range int(counted.Load()) {
		r := newRig(t, rules...)
		n := 0
		var mu sync.Mutex
		r.table.step = func(operation, _ string, _ bool) error {
			mu.Lock()
			defer mu.Unlock()
			if n++; n == crash+1 {
				return fmt.Errorf("%s: %w", operation, errBroken)
			}
			return nil
		}
		for _, e := range events {
			deliver(r, e)
		}
		for range 8 {
			r.now = r.now.Add(3 * time.Minute)
			_ = r.due() // may be the one that crashes
		}
		if got := r.active(); got != want {
			t.Fatalf("crash at step %d: got %s, want %s", crash, got, want)
		}
	}
}

// Without permission for the lookups, a composite finding lists no aliases of its device.
func TestDeniedLookupsLeaveOutAliases(t *testing.T) {
	r := newRig(t, correlation.StolenIdentity())
	alarm := behavior("pump-7", "aws:source-ip-address")
	other := duplicate("pump-7")
	other.fields["ThingName"] = "pump-7" // no lookup of the device itself
	r.iot.fails = denied{errors.New("not authorized")}
	r.must(alarm.at(start, "o").event(), other.at(start, "o").event())
	c := r.composites()["stolen-identity/pump-7"]
	if c.Parts != 2 || len(c.Resources) == 0 || c.Resources[0].ID != "pump-7" {
		t.Errorf("composite finding %+v, want two parts and the resource pump-7", c)
	}
}

// denied is an error of AWS IoT that a retry does not end.
type denied struct{ error }

func (denied) ErrorCode() string             { return "AccessDeniedException" }
func (denied) ErrorMessage() string          { return "not authorized" }
func (denied) ErrorFault() smithy.ErrorFault { return smithy.FaultClient }
func (denied) HTTPStatusCode() int           { return 403 }

// Two events with the same times show different states: Security Hub is asked for the current one.
func TestTiesAreReadFromSecurityHub(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer []hubtypes.AwsSecurityFinding
		want   string
	}{
		{"open", []hubtypes.AwsSecurityFinding{present(duplicate("pump-7"), "ACTIVE", "NEW", start)}, "stolen-identity/pump-7 CRITICAL 2"},
		{"suppressed", []hubtypes.AwsSecurityFinding{present(duplicate("pump-7"), "ACTIVE", "SUPPRESSED", start)}, ""},
		{"newer", []hubtypes.AwsSecurityFinding{present(duplicate("pump-7"), "ARCHIVED", "NEW", start.Add(time.Minute))}, ""},
		{"deleted", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, order := range [][]string{{"o", "s"}, {"s", "o"}} {
				r := newRig(t, correlation.StolenIdentity())
				r.hub.findings = c.answer
				r.now = start.Add(time.Hour)
				r.must(duplicate("pump-7").at(start, order[0]).event())
				r.must(duplicate("pump-7").at(start, order[1]).event())
				r.must(behavior("pump-7", "aws:source-ip-address").at(start.Add(2*time.Minute), "o").event())
				r.want(c.want)
				if len(r.hub.asked) != 1 || r.counted("Tied") != 1 {
					t.Errorf("Security Hub was asked %v, and %d ties were counted; want one", r.hub.asked, r.counted("Tied"))
				}
			}
		})
	}
}

// A later ProcessedAt or, if that is the same, a later event wins without asking Security Hub.
func TestLaterProcessedOrEventWins(t *testing.T) {
	for _, later := range []func(*finding){
		func(f *finding) { f.processed = f.processed.Add(time.Millisecond) },
		func(f *finding) { f.sentAt = f.sentAt.Add(time.Second) },
	} {
		r := newRig(t, correlation.StolenIdentity())
		suppressed := duplicate("pump-7").at(start, "s")
		later(&suppressed)
		r.now = start.Add(time.Hour)
		r.must(suppressed.event(), duplicate("pump-7").at(start, "o").event(), behavior("pump-7", "aws:source-ip-address").at(start.Add(time.Minute), "o").event())
		r.want("")
		if len(r.hub.asked) > 0 { // no tie
			t.Errorf("Security Hub was asked %v", r.hub.asked)
		}
	}
}

// All processes together ask Security Hub once per second, for at most 20 findings.
func TestSecurityHubIsAskedOncePerSecond(t *testing.T) {
	r := newRig(t, correlation.StolenIdentity())
	ties := func(device string) []string {
		f := duplicate(device)
		delete(f.fields, "Principal") // each is its own device
		r.hub.findings = append(r.hub.findings, present(f, "ACTIVE", "NEW", start))
		return []string{f.at(start, "o").event(), f.at(start, "s").event()}
	}
	r.must(ties("pump-7")...)
	waiting := ties("meter-2")
	if again := r.handle(waiting...); len(again) != 2 {
		t.Errorf("events %v are retried, want both", again)
	}
	r.now = r.now.Add(time.Second)
	r.must(waiting...)
	var many []string
	for i := range 30 {
		many = append(many, ties(fmt.Sprintf("sensor-%d", i))...)
	}
	r.now = r.now.Add(time.Second)
	again := r.handle(many...)
	if len(again) != 20 || len(r.hub.asked) != 3 || len(r.hub.asked[2]) != 20 {
		t.Errorf("events %v are retried, want 20; Security Hub was asked %d times, want 3", again, len(r.hub.asked))
	}
	r.hub.broken = true
	r.now = r.now.Add(time.Second)
	if again := r.handle(many[len(many)-2:]...); len(again) != 2 {
		t.Errorf("Security Hub fails: events %v are retried, want both", again)
	}
}

// GetFindings returns its findings in pages.
func TestTiesOnAllPagesAreRead(t *testing.T) {
	r := newRig(t, correlation.StolenIdentity())
	r.now = start.Add(time.Hour)
	var events []string
	for i := range 20 {
		f := duplicate(fmt.Sprintf("sensor-%02d", i))
		delete(f.fields, "Principal") // each is its own device
		r.hub.findings = append(r.hub.findings, present(f, "ACTIVE", "NEW", start))
		events = append(events, f.at(start, "o").event(), f.at(start, "s").event(),
			behavior(fmt.Sprintf("sensor-%02d", i), "aws:source-ip-address").at(start.Add(2*time.Minute), "o").event())
	}
	r.must(events...)
	if n := strings.Count(r.active(), "stolen-identity/"); n != 20 {
		t.Errorf("%d incidents, want 20: %s", n, r.active())
	}
}

// present returns a finding as GetFindings does.
func present(f finding, record, workflow string, updated time.Time) hubtypes.AwsSecurityFinding {
	at := aws.String(updated.Format(time.RFC3339Nano))
	return hubtypes.AwsSecurityFinding{
		Id: &f.id, ProductArn: &f.product, GeneratorId: &f.generator, AwsAccountId: aws.String(account), Region: aws.String(region), CreatedAt: at, UpdatedAt: at,
		RecordState: hubtypes.RecordState(record), Workflow: &hubtypes.Workflow{Status: hubtypes.WorkflowStatus(workflow)},
		Severity: &hubtypes.Severity{Label: hubtypes.SeverityLabelHigh}, ProductFields: f.fields,
		Resources: []hubtypes.Resource{{Type: aws.String("Other"), Id: aws.String("pump-7")}},
	}
}
