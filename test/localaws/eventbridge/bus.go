// Package eventbridge delivers events to the targets of rules, as Amazon EventBridge does. It has
// event patterns, schedules, and dead-letter queues.
package eventbridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/internal/eventpatterntest"
	"github.com/defenderhub/defenderhub/test/localaws/clock"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// Rule is a rule of the default event bus with its targets, or a schedule.
type Rule struct {
	Name, ARN string
	Disabled  bool
	Targets   []Target
	// Role is the role in which a schedule sends. A rule needs the policies of its targets instead.
	Role string

	pattern   *eventpatterntest.Pattern
	schedule  *clock.Schedule
	created   time.Time // a rate counts from here
	scheduler bool      // it is a schedule of EventBridge Scheduler
	input     string    // of a schedule
}

// wrongNumber matches a rate whose unit does not agree with its value, unlike 1 minute and
// 2 minutes.
var wrongNumber = regexp.MustCompile(`^rate\((1 \w+s|(\d{2,}|[02-9]) \w*[a-rt-z])\)$`)

// ReadRule reads the properties of an AWS::Events::Rule, which the schema has validated. Its error
// names what the local event bus does not support.
func ReadRule(name, arn string, created time.Time, properties map[string]any) (Rule, error) {
	var p struct {
		EventBusName, State, ScheduleExpression string
		EventPattern                            any
		Targets                                 []Target
	}
	r := Rule{Name: name, ARN: arn, created: created}
	err := schema.Decode(properties, &p)
	switch {
	case err != nil:
		return r, err
	case p.EventPattern == nil && p.ScheduleExpression == "":
		return r, errors.New("Parameter(s) EventPattern or ScheduleExpression must be specified. (Service: EventBridge, Status Code: 400)") //nolint:staticcheck // AWS's words
	case p.EventBusName != "" && p.EventBusName != "default" && !strings.HasSuffix(p.EventBusName, ":event-bus/default"):
		return r, fmt.Errorf("event bus %s: the local AWS has the default event bus only", p.EventBusName)
	case wrongNumber.MatchString(p.ScheduleExpression):
		return r, errors.New("Parameter ScheduleExpression is not valid. (Service: EventBridge, Status Code: 400)") //nolint:staticcheck // AWS's words
	}
	r.Disabled, r.Targets = p.State == "DISABLED", p.Targets
	if p.EventPattern != nil {
		text, ok := p.EventPattern.(string)
		if !ok {
			encoded, _ := json.Marshal(p.EventPattern) // it came as JSON
			text = string(encoded)
		}
		if r.pattern, err = eventpatterntest.Parse([]byte(text)); err != nil {
			return r, err
		}
	}
	if p.ScheduleExpression != "" {
		s, err := clock.ParseSchedule(p.ScheduleExpression)
		if err != nil {
			return r, err
		}
		r.schedule = &s
	}
	for _, t := range r.Targets {
		if err := t.check(); err != nil {
			return r, fmt.Errorf("target %s: %w", t.ID, err)
		}
	}
	return r, nil
}

// Origin is the rule or schedule that sends.
type Origin struct {
	ARN  string
	Role string // of a schedule
}

// Bus is the default event bus of one account and Region.
type Bus struct {
	Rules func() []Rule
	// Send sends a body to the queue, topic or function with the ARN.
	Send func(ctx context.Context, from Origin, arn string, body []byte) error
	// Lost is called with the name of a rule for each event that reached neither a target nor its
	// dead-letter queue.
	Lost func(rule string)
	Log  *slog.Logger
}

// Put delivers an event to each target of each enabled rule that matches. The event is a JSON
// object with source, detail-type and detail. If a target fails, the event goes to its
// dead-letter queue. Without one the event is lost, as in EventBridge, and logged.
func (b *Bus) Put(ctx context.Context, event []byte) error {
	rules := b.Rules()
	slices.SortFunc(rules, func(x, y Rule) int { return strings.Compare(x.Name, y.Name) })
	for _, r := range rules {
		if r.Disabled || r.pattern == nil {
			continue
		}
		if matched, err := r.pattern.Match(event); err != nil {
			return err
		} else if matched {
			b.Start(ctx, r, event)
		}
	}
	return nil
}

// Start sends an event to the targets of a rule.
func (b *Bus) Start(ctx context.Context, r Rule, event []byte) {
	for _, t := range r.Targets {
		b.deliver(ctx, r, t, event)
	}
}

func (b *Bus) deliver(ctx context.Context, r Rule, t Target, event []byte) {
	body, err := t.Body(event)
	if err == nil {
		err = b.Send(ctx, Origin{r.ARN, r.Role}, t.ARN, body)
	}
	if err == nil {
		return
	}
	log := b.Log.With("rule", r.Name, "target", t.ARN, "error", err.Error())
	if t.DeadLetterConfig == nil {
		log.Warn("event lost: its target failed and has no dead-letter queue")
		return
	}
	if err := b.Send(ctx, Origin{r.ARN, r.Role}, t.DeadLetterConfig.ARN, event); err != nil {
		log.Warn("event lost: target and dead-letter queue failed", "deadLetterError", err.Error())
		b.Lost(r.Name)
	}
}

// SecurityHubEvent returns the event that Security Hub sends for an imported or updated finding.
func SecurityHubEvent(id, account, region string, at time.Time, finding json.RawMessage) ([]byte, error) {
	var f struct {
		ID         string `json:"Id"`
		ProductARN string `json:"ProductArn"`
	}
	if err := json.Unmarshal(finding, &f); err != nil {
		return nil, fmt.Errorf("finding: %w", err)
	}
	return json.Marshal(map[string]any{
		"version": "0", "id": id, "detail-type": "Security Hub Findings - Imported", "source": "aws.securityhub",
		"account": account, "time": at.UTC().Format(eventTime), "region": region, "resources": []string{f.ProductARN + "/" + f.ID},
		"detail": map[string]any{"findings": []json.RawMessage{finding}},
	})
}

// Target is where a rule sends events.
type Target struct {
	ID, ARN          string
	Input            string
	InputTransformer *struct {
		InputPathsMap map[string]string
		InputTemplate string
	}
	DeadLetterConfig *deadLetters
}

type deadLetters struct{ ARN string }

func (t Target) check() error {
	if err := deliverable(t.ARN, t.DeadLetterConfig); err != nil {
		return err
	}
	if t.Input != "" && t.InputTransformer != nil {
		return errors.New("Input and InputTransformer exclude each other")
	}
	if t.Input != "" && !json.Valid([]byte(t.Input)) {
		return errors.New("Input is not JSON") //nolint:staticcheck // a parameter's name
	}
	_, err := t.Body([]byte(`{}`))
	return err
}

// deliverable refuses a target that is not a queue, topic or function, or is FIFO.
func deliverable(arn string, dead *deadLetters) error {
	check := func(arn string, services ...string) error {
		parts := strings.Split(arn, ":")
		if len(parts) < 6 || !slices.Contains(services, parts[2]) || parts[4] == "" {
			return fmt.Errorf("the local AWS delivers to %s only, not to %s", strings.Join(services, ", "), arn)
		}
		if strings.HasSuffix(arn, ".fifo") {
			return fmt.Errorf("the local AWS delivers to standard queues and topics only, and %s is FIFO", arn)
		}
		return nil
	}
	if err := check(arn, "sqs", "sns", "lambda"); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	if dead != nil && dead.ARN != "" {
		if err := check(dead.ARN, "sqs"); err != nil {
			return fmt.Errorf("dead-letter queue: %w", err)
		}
	}
	return nil
}

// Body returns what the target receives for an event: its Input, the output of its input
// transformer, or the event itself.
func (t Target) Body(event []byte) ([]byte, error) {
	switch {
	case t.Input != "":
		return []byte(t.Input), nil
	case t.InputTransformer != nil:
		return t.transform(event)
	}
	return event, nil
}

// transform replaces the placeholders of the template by values of the event: as text between
// quotes, and as JSON elsewhere. A missing value is empty between quotes, and null elsewhere
// (unverified).
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
func (t Target) transform(event []byte) ([]byte, error) {
	var v any
	d := json.NewDecoder(bytes.NewReader(event))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	var out []byte
	quoted := false
	for rest, more := t.InputTransformer.InputTemplate, true; more; {
		var before, name string
		before, rest, more = strings.Cut(rest, "<")
		out = append(out, before...)
		quotes := strings.Count(before, `"`) - strings.Count(before, `\"`)
		quoted = quoted != (quotes%2 == 1)
		if !more {
			break
		}
		name, rest, _ = strings.Cut(rest, ">")
		path, known := t.InputTransformer.InputPathsMap[name]
		if !known {
			return nil, fmt.Errorf("input transformer: <%s> is not in the input paths, and the local AWS supports no reserved variables", name)
		}
		value, err := lookup(v, path)
		if err != nil {
			return nil, fmt.Errorf("input path %s: %w", name, err)
		}
		text, isText := value.(string)
		encoded, err := json.Marshal(value)
		switch {
		case err != nil:
			return nil, err
		case isText && string(encoded) != `"`+text+`"`:
			return nil, fmt.Errorf("input transformer: <%s>: the text %s has characters that EventBridge does not escape", name, encoded)
		case quoted && !isText && value != nil:
			return nil, fmt.Errorf("input transformer: <%s>: the local AWS puts only texts between quotes, not %s", name, encoded)
		case quoted:
			encoded = []byte(text)
		}
		out = append(out, encoded...)
	}
	return out, nil
}

var pathStep = regexp.MustCompile(`^(?:\.([A-Za-z0-9_-]+)|\[(\d+)\])`)

// lookup returns the value at a JSON path such as $.a.b[0], or nil if the event lacks it.
func lookup(v any, path string) (any, error) {
	rest, ok := strings.CutPrefix(path, "$")
	for ok && rest != "" {
		m := pathStep.FindStringSubmatch(rest)
		if ok = m != nil; !ok {
			break
		}
		rest = rest[len(m[0]):]
		list, _ := v.([]any)
		object, _ := v.(map[string]any)
		v = object[m[1]]
		if i, err := strconv.Atoi(m[2]); err == nil && i < len(list) {
			v = list[i]
		}
	}
	if !ok {
		return nil, fmt.Errorf("JSON path %q: want $ with steps like .name or [0]", path)
	}
	return v, nil
}
