package handler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/message"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/record"
	"github.com/defenderhub/defenderhub/lambda/internal/retry"
)

// announce writes the record, and sends a message or stores its line for a list.
//
// It first writes the record with the message that is owed, so that an invocation that loses against
// a newer event reports nothing. After a crash, the event is received again: then it publishes the
// message that is still owed, a second time if the crash was between Publish and the next write.
func (b *batch) announce(ctx context.Context, n message.Notice, f record.Finding, d decision) error {
	e, next := n.Event, d.next
	if n.Device.Groups == nil {
		_, _ = b.groups(e, &n) // only for the text
	}
	next.Owed = &record.Owed{Order: e.Order, Change: n.Change, Before: d.before, Until: b.deadline.Add(clockSkew).UnixMilli()}
	if err := b.put(ctx, e, &next); err != nil {
		return err
	}
	return b.pay(ctx, n, max(d.before, next.Reported), &next)
}

// clockSkew is by how much the clocks of two machines may differ. With it and the timeout of a minute, an
// invocation that crashed counts as ended before its events are received again, after six minutes.
const clockSkew = 4 * time.Minute

// resume deals with a message that an event owes: the event publishes it, others wait for it.
func (b *batch) resume(ctx context.Context, r run, f *record.Finding) error {
	owed := *f.Owed
	until := time.UnixMilli(owed.Until)
	if b.Now().Before(until) {
		return errBusy
	}
	e, ours := r.of(owed.Order)
	if !ours {
		if b.Now().Before(until.Add(orphaned)) {
			return errBusy
		}
		if e = r.newest(); !e.Open() && owed.Change != message.Over {
			f.Owed = nil // the end is reported instead
			return nil
		}
	}
	owed.Until = b.deadline.Add(clockSkew).UnixMilli()
	f.Owed = &owed
	if err := b.put(ctx, e, f); err != nil {
		return err
	}
	n := b.notice(e)
	n.Change, n.Before = owed.Change, owed.Before
	_, _ = b.groups(e, &n)
	if err := b.pay(ctx, n, max(owed.Before, f.Reported), f); err != nil {
		return err
	}
	if f.Owed != nil { // meanwhile another event owes a message
		return errBusy
	}
	return nil
}

// pay publishes what a record owes, or stores its line for a list, and records that it did.
func (b *batch) pay(ctx context.Context, n message.Notice, severity defender.Severity, f *record.Finding) error {
	metric := contract.MetricSent
	n.Since = f.Line.Since
	err := func() error {
		if f.Owed.ChatOnly {
			return b.publish(ctx, b.ChatTopicARN, n.Write(), true)
		}
		if severity < defender.Severity(b.Config.DigestBelow) {
			metric = contract.MetricDigested
			return b.Table.PutLine(ctx, contract.NotifyDigest, n.Event.Key(), n.Line(), n.Event.Order, b.now)
		}
		sent, err := b.slot(ctx, severity)
		if err != nil {
			return err
		}
		if !sent {
			metric = contract.MetricCapped
			return b.storeForMore(ctx, n)
		}
		m := n.Write()
		if err := b.publish(ctx, b.PeopleTopicARN, m, false); err != nil {
			return errors.Join(err, b.Table.ReturnSlot(b.ctx, b.minute(), classOf(severity), b.now))
		}
		f.Owed.ChatOnly = true
		return b.publish(ctx, b.ChatTopicARN, m, true)
	}()
	owed := f.Owed
	if err == nil {
		b.Metrics.Count(source, metric, 1)
		owed = nil
	} else {
		owed.Until = 0
	}
	return errors.Join(err, b.settle(n.Event, owed, f))
}

// settle writes what is still owed. It uses the time that is reserved for it, and repeats a write
// that fails: without it, a message that was published would be published again.
func (b *batch) settle(e findingevent.Event, owed *record.Owed, f *record.Finding) error {
	order := f.Owed.Order
	backoff := retry.Backoff{First: 100 * time.Millisecond, Longest: time.Second, Random: b.Random}
	for failures := 1; failures <= attempts; failures++ {
		f.Owed = owed
		err := b.put(b.ctx, e, f)
		if err != nil && !errors.Is(err, record.ErrConflict) && failures < attempts && backoff.Wait(b.ctx, failures) {
			continue
		}
		if !errors.Is(err, record.ErrConflict) {
			return err
		}
		now, err := b.Table.Finding(b.ctx, e.Key())
		if err != nil {
			return err
		}
		if *f = now; f.Owed == nil || f.Owed.Order.Compare(order) != 0 {
			return nil
		}
	}
	return errConflict
}

// publish publishes a message in one of its forms.
func (h *Handler) publish(ctx context.Context, topic string, m message.Message, chat bool) error {
	in := &sns.PublishInput{TopicArn: &topic, Subject: &m.Subject, Message: &m.Body, MessageAttributes: map[string]types.MessageAttributeValue{}}
	for name, value := range m.Attributes {
		in.MessageAttributes[name] = types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &value}
	}
	if chat {
		in.Message = &m.Chat
	}
	if _, err := h.SNS.Publish(ctx, in); err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}

// caps has the classes of messages whose cap is reached.
type caps struct {
	mu   sync.Mutex
	full map[string]bool
	// asked reports whether the message "and N more" was requested.
	asked bool
}

// classOf returns the class of messages that share a cap: a flood of others must not hide what is
// CRITICAL.
func classOf(s defender.Severity) string {
	if s == defender.Critical {
		return "critical"
	}
	return "others"
}

// slot reports whether a message may be sent in this minute.
func (b *batch) slot(ctx context.Context, s defender.Severity) (bool, error) {
	class := classOf(s)
	b.full.mu.Lock()
	full := b.full.full[class]
	b.full.mu.Unlock()
	if full {
		return false, nil
	}
	sent, err := b.Table.Slot(ctx, b.minute(), class, b.Config.PerMinute, b.now)
	if err == nil && !sent {
		b.full.mu.Lock()
		defer b.full.mu.Unlock()
		if b.full.full == nil {
			b.full.full = map[string]bool{}
		}
		b.full.full[class] = true
	}
	return sent, err
}

func (b *batch) minute() time.Time { return b.now.UTC().Truncate(time.Minute) }

// storeForMore stores a line for the message "and N more" of this minute, after it has asked for
// that message.
func (b *batch) storeForMore(ctx context.Context, n message.Notice) error {
	if err := b.askForMore(ctx); err != nil {
		return err
	}
	return b.Table.PutLine(ctx, moreOf(b.minute()), n.Event.Key(), n.Line(), n.Event.Order, b.now)
}

func moreOf(minute time.Time) string {
	return contract.NotifyMore + "#" + minute.UTC().Format(time.RFC3339)
}

// maxDelay is the maximum delay of a message.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
const maxDelay = 15 * time.Minute

// askForMore requests the message "and N more" for a time when no invocation stores lines for it
// any more. Each invocation asks once.
func (b *batch) askForMore(ctx context.Context) error {
	b.full.mu.Lock()
	defer b.full.mu.Unlock()
	if b.full.asked {
		return nil
	}
	due := b.minute().Add(time.Minute + b.timeout + margin)
	delay := min(due.Sub(b.now), maxDelay)
	_, err := b.SQS.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl: &b.QueueURL, MessageBody: aws.String(contract.NotifyRequest(contract.NotifyMore, b.minute().Format(time.RFC3339))),
		DelaySeconds: int32(delay / time.Second),
	})
	if err != nil {
		return fmt.Errorf("request the message about the changes beyond the cap: %w", err)
	}
	b.full.asked = true
	return nil
}
