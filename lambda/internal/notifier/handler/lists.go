package handler

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"golang.org/x/sync/errgroup"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/message"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/record"
	"github.com/defenderhub/defenderhub/lambda/internal/retry"
)

// digest sends the digest of the changes since the last one.
func (h *Handler) digest(ctx context.Context, at time.Time) error {
	l := message.List{Kind: message.Digest, At: at, Severity: defender.Severity(h.Config.DigestBelow)}
	return h.alone(ctx, contract.NotifyDigest, func(ctx context.Context) error { return h.stored(ctx, contract.NotifyDigest, l) })
}

// more sends the message about the changes that exceeded the cap of a minute.
func (h *Handler) more(ctx context.Context, minute time.Time) error {
	list, l := moreOf(minute), message.List{Kind: message.More, At: minute.Add(time.Minute), PerMinute: h.Config.PerMinute}
	return h.alone(ctx, list, func(ctx context.Context) error { return h.stored(ctx, list, l) })
}

// stored sends a list of stored lines, then deletes them. A crash between lets the next attempt
// send them again. Lines that are not true any more are only deleted.
func (h *Handler) stored(ctx context.Context, list string, l message.List) error {
	lines, err := h.Table.Lines(ctx, list)
	if err != nil || len(lines) == 0 {
		return err
	}
	stale, err := h.stale(ctx, lines)
	if err != nil {
		return err
	}
	id := sha256.New()
	for i, line := range lines {
		if !stale[i] {
			l.Lines = append(l.Lines, line.Line)
			fmt.Fprint(id, line.ID()) // never fails
		}
	}
	if len(l.Lines) > 0 {
		if err := h.send(ctx, l, list+"#"+hex.EncodeToString(id.Sum(nil))); err != nil {
			return err
		}
	}
	var group errgroup.Group
	group.SetLimit(callsAtOnce)
	for _, line := range lines {
		group.Go(func() error {
			return h.insist(ctx, func() error { return h.Table.DeleteLine(ctx, list, line) })
		})
	}
	return group.Wait()
}

const (
	// sending is how long an invocation may take to send a list and to delete its lines. With 16
	// deletions at once, that is enough for tens of thousands of lines.
	sending = 25 * time.Second
	// polls is the number of seconds without a change after which the invocation with the claim has
	// certainly ended. It must exceed sending.
	polls = 30
)

var errOtherList = errors.New("another invocation sends the list")

// alone lets one invocation at a time send a list, because schedules and queues may request it
// twice. Others wait, then find nothing to send. An invocation that does not end in time has
// crashed. No clocks of two machines are compared.
func (h *Handler) alone(ctx context.Context, list string, send func(context.Context) error) error {
	token := h.token(ctx)
	seen, replaces := "", ""
	for waited := 0; ; waited++ {
		limited, cancel := context.WithTimeout(ctx, sending)
		holder, err := h.Table.Claim(limited, list, token, replaces, h.Now())
		if err == nil && holder == token {
			err = errors.Join(send(limited), h.Table.Release(ctx, list, token))
			cancel()
			return err
		}
		cancel()
		if err != nil {
			return err
		}
		if holder != seen {
			seen, replaces, waited = holder, "", 0
		}
		if waited >= polls {
			h.Log.Warn("the invocation that sends a list has not ended in time: another one sends it", "list", list)
			replaces = seen
			continue
		}
		select {
		case <-ctx.Done():
			return errOtherList
		case <-time.After(time.Second):
		}
	}
}

// token identifies an invocation's attempt to send a list.
func (h *Handler) token(ctx context.Context) string {
	request := ""
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		request = lc.AwsRequestID
	}
	random := h.Random
	if random == nil {
		random = rand.Int64N
	}
	return fmt.Sprintf("%s/%d/%d/%d", request, h.Now().UnixNano(), h.claims.Add(1), random(math.MaxInt64))
}

// insist repeats a write that follows a message: without it, the message would be sent again.
func (h *Handler) insist(ctx context.Context, write func() error) error {
	backoff := retry.Backoff{First: 100 * time.Millisecond, Longest: time.Second, Random: h.Random}
	for failures := 1; ; failures++ {
		if err := write(); err == nil || failures == attempts || !backoff.Wait(ctx, failures) {
			return err
		}
	}
}

// stale reports which lines are not true any more: the finding is open again, or it is over. The
// record of each one says so, and a message of its own, another line or an incident reports it.
func (h *Handler) stale(ctx context.Context, lines []record.Stored) ([]bool, error) {
	stale := make([]bool, len(lines))
	var group errgroup.Group
	group.SetLimit(callsAtOnce)
	for i, line := range lines {
		group.Go(func() error {
			f, err := h.Table.FindingOf(ctx, line)
			stale[i] = f.Revision > 0 && f.Open == (line.Change == message.Over)
			return err
		})
	}
	return stale, group.Wait()
}

// remind sends the reminder of what is still open.
func (h *Handler) remind(ctx context.Context, at time.Time) error {
	least := defender.Severity(h.Config.Remind)
	if least == defender.SeverityDefault {
		return nil
	}
	lines, err := h.Table.OpenLines(ctx, least)
	if err != nil || len(lines) == 0 {
		return err
	}
	for i := range lines {
		lines[i].Change = message.None
	}
	l := message.List{Kind: message.Reminder, At: at, Severity: least, Lines: lines}
	id := contract.NotifyRemind + "#" + at.UTC().Format(time.RFC3339)
	return h.alone(ctx, id, func(ctx context.Context) error { return h.send(ctx, l, id) })
}

// send publishes a list. id identifies it, so that a retry sends it only to the topic that lacks
// it.
func (h *Handler) send(ctx context.Context, l message.List, id string) error {
	m := l.Write()
	for _, topic := range []struct {
		name, arn string
		chat      bool
	}{{"people", h.PeopleTopicARN, false}, {"chat", h.ChatTopicARN, true}} {
		request := id + "#" + topic.name
		done, err := h.Table.Done(ctx, request)
		if err == nil && !done {
			if err = h.publish(ctx, topic.arn, m, topic.chat); err == nil {
				err = h.insist(ctx, func() error { return h.Table.MarkDone(ctx, request, h.Now()) })
			}
		}
		if err != nil {
			return err
		}
	}
	h.Metrics.Count(source, contract.MetricLists, 1)
	h.Log.Info("list sent", "kind", string(l.Kind), "findings", len(l.Lines))
	return nil
}
