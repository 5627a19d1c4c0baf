// Package rules is the rules engine of the local AWS IoT. Every topic rule runs on every message
// that the broker, the data plane or AWS IoT itself publishes. Package iotsql evaluates the SQL.
//
// A rule that the engine cannot run is refused when it is created. At run time the engine does
// what AWS IoT does: if the SQL fails, no action runs, and no error action. If actions fail, the
// error action runs once per rule and message, with the original payload and not the output of
// SELECT.
package rules

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/test/localaws/iotsql"
	"github.com/defenderhub/defenderhub/test/localaws/lanes"
)

// Delivery is what an action sends: its fields, in which the templates are replaced, and the
// body.
type Delivery struct {
	Rule string
	// Kind is sqs, sns, lambda, republish or kinesis.
	Kind   string
	Fields map[string]string
	Body   []byte
}

// Target returns the queue, topic, function or stream as a failure report names it.
func (d Delivery) Target() string {
	for _, field := range []string{"queueUrl", "targetArn", "functionArn", "topic", "streamName"} {
		if v := d.Fields[field]; v != "" {
			return v
		}
	}
	return ""
}

// Counters are what AWS IoT bills and counts for one rule.
type Counters struct {
	// Triggered counts messages on the rule's topics, whether or not WHERE is true.
	Triggered int
	// Matched counts messages whose WHERE is true.
	Matched int
	// Delivered and Failed count actions, error actions included.
	Delivered, Failed int
	// SQLFailed counts messages for which the SQL itself failed.
	SQLFailed int
}

// Engine runs rules. It is safe for concurrent use.
type Engine struct {
	deliver func(context.Context, Delivery) error
	log     *slog.Logger
	queue   lanes.Lanes

	mu       sync.Mutex
	rules    map[string]*rule
	counters map[string]Counters
}

// New returns an engine without rules, whose actions send with deliver. It processes messages one
// at a time, in the order of their arrival.
func New(deliver func(context.Context, Delivery) error, log *slog.Logger) *Engine {
	return &Engine{deliver: deliver, log: log, rules: map[string]*rule{}, counters: map[string]Counters{}}
}

// Check returns an error if the engine cannot run the rule.
func Check(name string, p types.TopicRulePayload) error {
	_, err := compile(name, p)
	return err
}

// Put adds a rule, or replaces the one with this name.
func (e *Engine) Put(name string, p types.TopicRulePayload) error {
	r, err := compile(name, p)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rules[name] = r
	return nil
}

// Delete removes a rule.
func (e *Engine) Delete(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.rules, name)
}

// Counters returns the counters of a rule.
func (e *Engine) Counters(name string) Counters {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counters[name]
}

// Publish starts the rules of a message, and returns at once. Settle waits for their actions.
func (e *Engine) Publish(ctx context.Context, m iotsql.Message) {
	ctx = context.WithoutCancel(ctx)
	e.queue.Go("messages", func() {
		for _, r := range e.triggered(m.Topic) {
			e.run(ctx, r, m)
		}
	})
}

// Settle waits until the rules of every published message have run, also of those that republish
// actions published.
func (e *Engine) Settle() { e.queue.Settle(context.Background()) }

// triggered returns the enabled rules for a topic, sorted by name.
func (e *Engine) triggered(topic string) []*rule {
	e.mu.Lock()
	defer e.mu.Unlock()
	var due []*rule
	for _, name := range slices.Sorted(maps.Keys(e.rules)) {
		if r := e.rules[name]; !r.disabled && r.statement.Matches(name, topic) {
			due = append(due, r)
		}
	}
	if rule, _, ok := iotsql.BasicIngest(topic); ok && e.rules[rule] == nil {
		e.log.Warn("basic ingest names a rule that is not deployed (RuleNotFound)", "rule", rule, "topic", topic)
	}
	return due
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
		if err := e.deliver(ctx, d); err != nil {
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
	if err := e.deliver(ctx, fill(r.name, *r.errorAction, evaluation, errorBody(r.name, m, failures))); err != nil {
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
	if a.base64 {
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
