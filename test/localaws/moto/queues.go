package moto

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// OldestMessages tells when the oldest message of each queue was sent, by the queue's
// ARN, on the machine's clock. A queue without messages is not there. No API of SQS
// tells it, and receiving would change the queue.
func (m *Moto) OldestMessages(ctx context.Context) (map[string]time.Time, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.URL.JoinPath("_localaws", "oldest-messages").String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the emulator for the oldest messages: %w", err)
	}
	defer resp.Body.Close()
	var sent map[string]int64
	if err := json.NewDecoder(resp.Body).Decode(&sent); err != nil {
		return nil, fmt.Errorf("the emulator's oldest messages (status %d): %w", resp.StatusCode, err)
	}
	oldest := map[string]time.Time{}
	for arn, ms := range sent {
		oldest[arn] = time.UnixMilli(ms)
	}
	return oldest, nil
}
