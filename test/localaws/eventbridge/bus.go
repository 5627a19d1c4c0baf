package eventbridge

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Rule is a rule of the default event bus with its targets.
type Rule struct {
	Name               string
	ARN                string `json:"Arn"`
	State              string
	Pattern            string `json:"EventPattern"`
	ScheduleExpression string
	Targets            []Target
	// Role is the role in which a schedule sends. A rule sends by the policies of its targets.
	Role string `json:"-"`
	// Created is from when on a rate counts.
	Created time.Time `json:"-"`
}

// Catalog lists the rules of the default event bus as they are now.
type Catalog interface {
	Rules(ctx context.Context) ([]Rule, error)
}

// Origin is the rule or schedule that sends.
type Origin struct {
	ARN  string
	Role string // of a schedule
}

// Sender hands a body to the resource with the ARN: a queue, a topic or a function.
type Sender interface {
	Send(ctx context.Context, from Origin, arn string, body []byte) error
}

// Bus is the default event bus of one account and Region.
type Bus struct {
	Catalog Catalog
	Sender  Sender
	Log     *slog.Logger
}

// Put delivers one event, a JSON object with source, detail-type and detail, to each
// target of each enabled rule that matches. A target that fails gets the event into
// its dead-letter queue; without one the event is lost, as in EventBridge, and the
// log says so. The other targets get it all the same.
func (b *Bus) Put(ctx context.Context, event []byte) error {
	rules, err := b.Catalog.Rules(ctx)
	if err != nil {
		return fmt.Errorf("list the event bus's rules: %w", err)
	}
	slices.SortFunc(rules, func(x, y Rule) int { return strings.Compare(x.Name, y.Name) })
	for _, r := range rules {
		if r.State == "DISABLED" || r.Pattern == "" {
			continue
		}
		pattern, err := ParsePattern([]byte(r.Pattern))
		if err != nil {
			return fmt.Errorf("rule %s: %w", r.Name, err)
		}
		matched, err := pattern.Match(event)
		if err != nil {
			return err
		}
		if !matched {
			continue
		}
		for _, t := range r.Targets {
			b.deliver(ctx, r, t, event)
		}
	}
	return nil
}

// Start runs the targets of a rule that a schedule, not an event, starts.
func (b *Bus) Start(ctx context.Context, r Rule, event []byte) {
	for _, t := range r.Targets {
		b.deliver(ctx, r, t, event)
	}
}

func (b *Bus) deliver(ctx context.Context, r Rule, t Target, event []byte) {
	body, err := t.Body(event)
	if err == nil {
		err = b.Sender.Send(ctx, Origin{r.ARN, r.Role}, t.ARN, body)
	}
	if err == nil {
		return
	}
	log := b.Log.With("rule", r.Name, "target", t.ARN, "error", err.Error())
	if t.DeadLetterConfig == nil {
		log.Warn("event lost: its target failed and has no dead-letter queue")
		return
	}
	if err := b.Sender.Send(ctx, Origin{r.ARN, r.Role}, t.DeadLetterConfig.ARN, event); err != nil {
		log.Warn("event lost: target and dead-letter queue failed", "deadLetterError", err.Error())
	}
}

// SecurityHubEvent is the event that Security Hub sends for one imported or updated
// finding.
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
