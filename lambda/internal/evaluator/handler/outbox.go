package handler

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/state"
	"github.com/defenderhub/defenderhub/lambda/internal/sqstext"
)

// Limits of one Amazon SQS request.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
const (
	maxEntries     = 10
	maxEntriesSize = 256 << 10
)

// letter is a message of a thing's outbox.
type letter struct {
	of   *visit
	body string
}

// sendAll sends the outboxes of things and empties those that arrived. The closer retries the
// others.
func (h *Handler) sendAll(ctx context.Context, visits []*visit) {
	var letters []letter
	for _, v := range visits {
		if v.err != nil || !v.send {
			continue
		}
		for _, m := range v.item.Outbox {
			body, err := json.Marshal(m)
			if err != nil {
				v.send = false
				h.Log.Error("transition cannot be written", "device", v.subject, "reason", err.Error())
				continue
			}
			letters = append(letters, letter{v, sqstext.Accepted.Replace(string(body))})
		}
	}
	for len(letters) > 0 {
		n, size := 0, 0
		for n < min(len(letters), maxEntries) && (n == 0 || size+len(letters[n].body) <= maxEntriesSize) {
			size += len(letters[n].body)
			n++
		}
		h.send(ctx, letters[:n])
		letters = letters[n:]
	}
	forEach(visits, func(v *visit) {
		if v.err != nil || !v.send {
			return
		}
		next := v.item
		next.Revision++
		next.Outbox, next.Due = nil, time.Time{} // it was due only for the outbox
		err := h.Store.Put(ctx, sealed(v.outcome.evaluator, next))
		switch {
		case errors.Is(err, state.ErrConflict): // the newer writer sends everything again, without harm
		case err != nil:
			h.Log.Warn("outbox was sent but not emptied: its transitions are sent again", "device", v.subject, "reason", err.Error())
		}
	})
}

// send sends letters, and marks the things whose letters did not all arrive.
func (h *Handler) send(ctx context.Context, letters []letter) {
	entries := make([]types.SendMessageBatchRequestEntry, len(letters))
	for i, l := range letters {
		entries[i] = types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: &l.body}
	}
	out, err := h.SQS.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: &h.IngestQueueURL, Entries: entries})
	arrived := map[string]bool{}
	reason := "Amazon SQS refused it"
	if err != nil {
		reason = err.Error()
	} else {
		for _, e := range out.Successful {
			arrived[aws.ToString(e.Id)] = true
		}
	}
	for i, l := range letters {
		if !arrived[strconv.Itoa(i)] {
			l.of.send = false
			h.count(l.of.steps[0].kind, contract.MetricUnsent, 1)
			h.Log.Warn("transition was not sent and is retried", "device", l.of.subject, "reason", reason)
		}
	}
}
