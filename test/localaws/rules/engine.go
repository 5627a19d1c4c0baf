// Package rules is the rules engine of the local AWS IoT: every topic rule that a
// stack deploys runs on every message that the broker, the data plane or AWS IoT
// itself publishes. SQL is evaluated by package iotsql; actions go to the services
// through a [Deliverer].
//
// A rule that the engine cannot run is refused when it is deployed. At run time it
// does what AWS IoT does: SQL that fails runs no action and no error action; a
// failing action runs the error action once for rule and message, with the original
// payload and not with the output of SELECT.
package rules

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/defenderhub/defenderhub/test/localaws/iotsql"
)

// Delivery is what one action sends: the kind of the action, its fields with the
// templates filled in, and the body.
type Delivery struct {
	Rule string
	// Kind is sqs, sns, lambda, republish or kinesis.
	Kind   string
	Fields map[string]string
	Body   []byte
}

// Target is what the delivery is for, as a failure report names it.
func (d Delivery) Target() string {
	for _, field := range []string{"queueUrl", "targetArn", "functionArn", "topic", "streamName"} {
		if v := d.Fields[field]; v != "" {
			return v
		}
	}
	return ""
}

// Deliverer hands a delivery to the service that it is for.
type Deliverer interface {
	Deliver(ctx context.Context, d Delivery) error
}

// DelivererFunc is a function as Deliverer.
type DelivererFunc func(ctx context.Context, d Delivery) error

// Deliver calls f.
func (f DelivererFunc) Deliver(ctx context.Context, d Delivery) error { return f(ctx, d) }

// Counters are what AWS IoT would bill and count for one rule.
type Counters struct {
	// Triggered counts messages on the rule's topics, also those whose WHERE is not true.
	Triggered int
	// Matched counts messages whose WHERE is true.
	Matched int
	// Delivered and Failed count actions, error actions included.
	Delivered, Failed int
	// SQLFailed counts messages for which the SQL itself failed.
	SQLFailed int
}

// Engine runs rules. Its methods may be called at once.
type Engine struct {
	deliverer Deliverer
	log       *slog.Logger

	mu       sync.Mutex
	rules    map[string]*rule
	counters map[string]Counters
	inbox    []iotsql.Message
	busy     bool
	idle     *sync.Cond
}

// New returns an engine without rules. Messages are worked off one after the other,
// in the order in which they came.
func New(deliverer Deliverer, log *slog.Logger) *Engine {
	e := &Engine{deliverer: deliverer, log: log, rules: map[string]*rule{}, counters: map[string]Counters{}}
	e.idle = sync.NewCond(&e.mu)
	return e
}

// Check reports why AWS IoT, or the local AWS, would refuse the rule.
func Check(name string, p Payload) error {
	_, err := compile(name, p)
	return err
}

// Put deploys a rule, in place of one with the same name.
func (e *Engine) Put(name string, p Payload) error {
	r, err := compile(name, p)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rules[name] = r
	return nil
}

// Delete removes a rule; false if there is no such rule.
func (e *Engine) Delete(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.rules[name]
	delete(e.rules, name)
	return ok
}

// Counters returns what the rule name did so far.
func (e *Engine) Counters(name string) Counters {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counters[name]
}

// Publish hands a message to the rules and returns at once; Settle waits for the
// actions.
func (e *Engine) Publish(ctx context.Context, m iotsql.Message) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inbox = append(e.inbox, m)
	if !e.busy {
		e.busy = true
		go e.work(context.WithoutCancel(ctx))
	}
}

// Settle waits until every message so far, and what republish actions made of it,
// has been worked off.
func (e *Engine) Settle() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.busy {
		e.idle.Wait()
	}
}

func (e *Engine) work(ctx context.Context) {
	for {
		e.mu.Lock()
		if len(e.inbox) == 0 {
			e.busy = false
			e.idle.Broadcast()
			e.mu.Unlock()
			return
		}
		m := e.inbox[0]
		e.inbox = e.inbox[1:]
		var due []*rule
		for _, name := range slices.Sorted(maps.Keys(e.rules)) {
			if r := e.rules[name]; !r.disabled && r.statement.Matches(name, m.Topic) {
				due = append(due, r)
			}
		}
		if rule, _, ok := iotsql.BasicIngest(m.Topic); ok && e.rules[rule] == nil {
			e.log.Warn("basic ingest names a rule that is not deployed (RuleNotFound)", "rule", rule, "topic", m.Topic)
		}
		e.mu.Unlock()
		for _, r := range due {
			e.run(ctx, r, m)
		}
	}
}

func (e *Engine) run(ctx context.Context, r *rule, m iotsql.Message) {
	count := Counters{Triggered: 1}
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		c := e.counters[r.name]
		c.Triggered += count.Triggered
		c.Matched += count.Matched
		c.Delivered += count.Delivered
		c.Failed += count.Failed
		c.SQLFailed += count.SQLFailed
		e.counters[r.name] = c
	}()
	evaluation := r.statement.Begin(m)
	output, matched, err := evaluation.Select()
	if err != nil {
		count.SQLFailed++
		e.log.Warn("rule's SQL failed", "rule", r.name, "topic", m.Topic, "error", err)
		return
	}
	if !matched {
		return
	}
	count.Matched++
	var failures []failure
	for _, a := range r.actions {
		d := fill(r.name, a, evaluation, output)
		if err := e.deliverer.Deliver(ctx, d); err != nil {
			count.Failed++
			failures = append(failures, failure{deliveryNames[a.kind], d.Target(), err.Error()})
			e.log.Warn("rule's action failed", "rule", r.name, "action", a.kind, "error", err)
			continue
		}
		count.Delivered++
	}
	if len(failures) == 0 || r.errorAction == nil {
		return
	}
	if err := e.deliverer.Deliver(ctx, fill(r.name, *r.errorAction, evaluation, errorBody(r.name, m, failures))); err != nil {
		count.Failed++
		e.log.Warn("rule's error action failed: the message is lost", "rule", r.name, "action", r.errorAction.kind, "error", err)
		return
	}
	count.Delivered++
}

func fill(rule string, a action, evaluation *iotsql.Evaluation, body []byte) Delivery {
	d := Delivery{Rule: rule, Kind: a.kind, Fields: map[string]string{}, Body: body}
	for field, template := range a.fields {
		d.Fields[field] = evaluation.Expand(template)
	}
	if a.flags["useBase64"] {
		d.Body = []byte(base64.StdEncoding.EncodeToString(body))
	}
	return d
}

type failure struct {
	FailedAction   string `json:"failedAction"`
	FailedResource string `json:"failedResource"`
	ErrorMessage   string `json:"errorMessage"`
}

func errorBody(rule string, m iotsql.Message, failures []failure) []byte {
	clientID := m.ClientID
	if clientID == "" {
		clientID = "n/a"
	}
	body, err := json.Marshal(struct {
		RuleName string    `json:"ruleName"`
		Topic    string    `json:"topic"`
		TraceID  string    `json:"cloudwatchTraceId"`
		ClientID string    `json:"clientId"`
		Payload  []byte    `json:"base64OriginalPayload"`
		Failures []failure `json:"failures"`
	}{rule, m.Topic, m.TraceID, clientID, m.Payload, failures})
	if err != nil {
		panic(err) // strings and bytes always encode
	}
	return body
}
