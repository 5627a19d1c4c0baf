package simulation

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	hubtypes "github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
	"github.com/defenderhub/defenderhub/lambda/internal/verification"
)

// detect is Device Defender Detect: its violations with their verification states, and what analysts
// decide about the findings. In every fourth run it has alarms, and the function that copies the
// states is deployed. Both draw from their own source, so that the other runs stay as they were.
type detect struct {
	rng         *rand.Rand
	queue       *queue
	deadLetters *queue
	// states are the verification states that Detect has, by violation.
	states map[string]string
	// shown are those that a finding had while it was about a violation, by violation.
	shown map[string][]string
	// newest are the states that an analyst has set last, by finding ID.
	newest map[string]string
	// violations counts them.
	violations int
}

const (
	detectProfile  = "native"
	detectBehavior = "disconnects"
)

func (w *world) deployVerification() {
	rng := rand.New(rand.NewPCG(w.seed, 0xde7ec7))
	if rng.IntN(4) > 0 {
		return
	}
	d := &detect{rng: rng, states: map[string]string{}, shown: map[string][]string{}, newest: map[string]string{}}
	d.deadLetters = w.queue("verification-dead-letters", 30*time.Second, nil, 0)
	d.queue = w.queue("verification", 6*time.Minute+2*time.Second, d.deadLetters, 5)
	fn := w.function("verification", time.Minute, buildVerification, []string{"AWS_REGION=" + region, "AWS_LAMBDA_FUNCTION_NAME=verification"})
	d.queue.feeds(fn, 10, 2*time.Second, 2)
	w.detect = d
}

func buildVerification(e *environment, on host.Host) (handler, error) {
	h, err := verification.New(verification.Clients{IoT: things{e}, SecurityHub: importer{e}}, on)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, event json.RawMessage) (any, error) {
		var batch events.SQSEvent
		if err := json.Unmarshal(event, &batch); err != nil {
			return nil, err
		}
		return h.Handle(ctx, batch)
	}, nil
}

// between is [scheduler.between] of Detect's own source.
func (d *detect) between(low, high time.Duration) time.Duration {
	return low + time.Duration(d.rng.Int64N(int64(high-low)+1))
}

// planDetect schedules alarms, and analysts who verify them. An analyst may change a state within
// seconds.
func (w *world) planDetect(active time.Duration) {
	d := w.detect
	if d == nil {
		return
	}
	for i := range 1 + d.rng.IntN(3) {
		w.after(d.between(0, active/4), func() { w.violates(fmt.Sprintf("native-%d", i), active) })
	}
	for range 5 + d.rng.IntN(20) {
		at, times := d.between(active/8, active), 1+d.rng.IntN(3)
		for range times {
			w.after(at, w.verify)
			at += d.between(0, 5*time.Second)
		}
	}
}

// violates raises an alarm of a thing, clears it later, and so on.
func (w *world) violates(thing string, active time.Duration) {
	if w.over(active) {
		return
	}
	w.detect.violations++
	id, start := fmt.Sprintf("violation-%d", w.detect.violations), time.Now()
	w.alert(thing, id, start, raised)
	w.after(w.detect.between(time.Minute, time.Hour), func() {
		w.alert(thing, id, start, cleared)
		w.after(w.detect.between(time.Minute, 20*time.Minute), func() { w.violates(thing, active) })
	})
}

// alert is a notification of Detect, which Amazon SNS delivers once or twice.
func (w *world) alert(thing, violation string, start time.Time, kind string) {
	w.model.signals++
	at := time.Now().UnixMilli()
	body, err := json.Marshal(map[string]any{
		"violationEventTime": at, "violationStartTime": start.UnixMilli(), "thingName": thing, "securityProfileName": detectProfile,
		"violationId": violation, "violationEventType": kind, "metricValue": map[string]any{"count": 9},
		"behavior": map[string]any{
			"name": detectBehavior, "metric": "aws:num-disconnects",
			"criteria": map[string]any{"comparisonOperator": "less-than", "value": map[string]any{"count": 3}, "durationSeconds": 300, "consecutiveDatapointsToAlarm": 1, "consecutiveDatapointsToClear": 1},
		},
	})
	if err != nil {
		panic(err) // texts and numbers always marshal
	}
	w.model.add(defender.DetectNotifications, statement{time: at, active: kind == raised}, detectProfile, detectBehavior, thing)
	w.ingest.send(string(body), nil)
	if w.faults.strikes(ruleDuplicate, w.forwarder) {
		w.after(w.between(0, time.Minute), func() { w.ingest.send(string(body), nil) })
	}
}

// verify lets an analyst set the verification state of one of Detect's findings.
func (w *world) verify() {
	var all []securityhubtest.Finding
	for _, f := range w.hub.Findings() {
		if violationOf(f) != "" {
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		return
	}
	states := []hubtypes.VerificationState{
		hubtypes.VerificationStateTruePositive, hubtypes.VerificationStateFalsePositive, hubtypes.VerificationStateBenignPositive,
		hubtypes.VerificationStateFalsePositive, hubtypes.VerificationStateTruePositive, hubtypes.VerificationStateUnknown,
	}
	f, state := all[w.detect.rng.IntN(len(all))], states[w.detect.rng.IntN(len(states))]
	out, err := w.hub.client.BatchUpdateFindings(context.Background(), &securityhub.BatchUpdateFindingsInput{
		FindingIdentifiers: []hubtypes.AwsSecurityFindingIdentifier{{Id: &f.ID, ProductArn: &f.ProductARN}}, VerificationState: state,
	})
	if err == nil && len(out.UnprocessedFindings) == 0 {
		w.detect.decide(f.ID, string(state))
		w.counts["verification states of analysts"]++
	}
}

// decide notes what an analyst has decided.
func (d *detect) decide(finding, state string) {
	if d != nil {
		d.newest[finding] = state
	}
}

// violationOf returns the violation that a finding is about, "" if it is not of Detect.
func violationOf(f securityhubtest.Finding) string {
	if f.ProductFields["SecurityProfileName"] != detectProfile {
		return ""
	}
	return f.ProductFields["ViolationId"]
}

// wants reports whether the event pattern of the function's rule lets a finding through, and notes
// its state.
func (d *detect) wants(f securityhubtest.Finding) bool {
	if d == nil || violationOf(f) == "" || f.VerificationState == "" || f.VerificationState == string(hubtypes.VerificationStateUnknown) {
		return false
	}
	d.shown[violationOf(f)] = append(d.shown[violationOf(f)], f.VerificationState)
	return true
}

func (t things) PutVerificationStateOnViolation(ctx context.Context, in *iot.PutVerificationStateOnViolationInput, _ ...func(*iot.Options)) (*iot.PutVerificationStateOnViolationOutput, error) {
	return ask(ctx, t.environment, "IoT", "PutVerificationStateOnViolation", aws.ToString(in.ViolationId)+" "+string(in.VerificationState), func() (*iot.PutVerificationStateOnViolationOutput, error) {
		d := t.world.detect
		if d.shown[aws.ToString(in.ViolationId)] == nil {
			return nil, &types.InvalidRequestException{Message: aws.String("no violation")}
		}
		d.states[aws.ToString(in.ViolationId)] = string(in.VerificationState)
		t.world.counts["verification states copied"]++
		return &iot.PutVerificationStateOnViolationOutput{}, nil
	})
}

// redrive moves dead letters back to the queue, as docs/operations.md advises.
func (d *detect) redrive(w *world) {
	if d == nil {
		return
	}
	w.after(time.Hour, func() {
		for _, m := range ordered(d.deadLetters.messages) {
			w.counts["verification dead letters moved back"]++
			d.queue.send(m.body, nil)
		}
		d.deadLetters.messages = map[string]*message{}
	})
}

// ordered returns messages in the order of their sending.
func ordered(all map[string]*message) []*message {
	var list []*message
	for _, m := range all {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b *message) int { return cmp.Or(a.sent.Compare(b.sent), strings.Compare(a.id, b.id)) })
	return list
}

const verificationInvariant = "Detect has the verification state that an analyst has set last"

// checkVerification compares Detect with Security Hub. UNKNOWN is not copied: then Detect may have
// any state that the finding had before. So it is with a violation that its finding has left.
func (w *world) checkVerification() {
	d := w.detect
	if d == nil {
		return
	}
	if n := len(d.deadLetters.messages); n > 0 {
		w.violations.add("events become no dead letters", "%d of the verification", n)
	}
	for violation, state := range d.states {
		if !slices.Contains(d.shown[violation], state) {
			w.violations.add(verificationInvariant, "%s has %s, and its finding had %v", violation, state, d.shown[violation])
		}
	}
	for _, f := range w.hub.Findings() {
		newest, decided := d.newest[f.ID]
		violation := violationOf(f)
		if !decided || violation == "" {
			continue
		}
		if f.VerificationState != newest {
			w.violations.add("what an analyst set survives", "%s is %s, want %s", f.ID, f.VerificationState, newest)
		}
		if newest == string(hubtypes.VerificationStateUnknown) {
			continue
		}
		w.counts["verification states compared"]++
		if d.states[violation] != newest {
			w.violations.add(verificationInvariant, "%s of %s has %q, want %s", violation, f.ID, d.states[violation], newest)
		}
	}
}
