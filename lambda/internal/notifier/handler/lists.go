package handler

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/message"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/record"
)

// digest sends the digest of the changes since the last one.
func (h *Handler) digest(ctx context.Context, at time.Time) error {
	return h.stored(ctx, contract.NotifyDigest, message.List{Kind: message.Digest, At: at, Severity: defender.Severity(h.Config.DigestBelow)})
}

// more sends the message about the changes that exceeded the cap of a minute.
func (h *Handler) more(ctx context.Context, minute time.Time) error {
	return h.stored(ctx, moreOf(minute), message.List{Kind: message.More, At: minute.Add(time.Minute), PerMinute: h.Config.PerMinute})
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
		group.Go(func() error { return h.Table.DeleteLine(ctx, list, line) })
	}
	return group.Wait()
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
	l := message.List{Kind: message.Reminder, At: at, Severity: least}
	for s := least; s <= defender.Critical; s++ {
		lines, err := h.Table.OpenLines(ctx, s)
		if err != nil {
			return err
		}
		for _, line := range lines {
			line.Change = message.None
			l.Lines = append(l.Lines, line)
		}
	}
	if len(l.Lines) == 0 {
		return nil
	}
	return h.send(ctx, l, contract.NotifyRemind+"#"+at.UTC().Format(time.RFC3339))
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
				err = h.Table.MarkDone(ctx, request, h.Now())
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
