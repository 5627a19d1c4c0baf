package awsstub

import (
	"encoding/json"
	"net/http"
	"sync"
)

// Hub is what Security Hub keeps of imported findings. It ignores a finding that is not newer, as
// Security Hub does.
type Hub struct {
	mu       sync.Mutex
	findings map[string]finding
	throttle func() bool
}

type finding struct{ Id, RecordState, UpdatedAt string }

// States returns the record states by finding ID.
func (h *Hub) States() map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	states := make(map[string]string, len(h.findings))
	for id, f := range h.findings {
		states[id] = f.RecordState
	}
	return states
}

// Throttle lets a function decide whether a call is throttled; nil means never.
func (h *Hub) Throttle(decide func() bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.throttle = decide
}

// importFindings returns how many findings a call has, and false if it is throttled.
func (h *Hub) importFindings(body []byte) (n int, ok bool, err error) {
	var in struct{ Findings []finding }
	if err := json.Unmarshal(body, &in); err != nil {
		return 0, true, err
	}
	if len(in.Findings) > 100 {
		return 0, true, refused{"more than 100 findings in a call"}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.throttle != nil && h.throttle() {
		return 0, false, nil
	}
	if h.findings == nil {
		h.findings = map[string]finding{}
	}
	for _, f := range in.Findings {
		if f.UpdatedAt > h.findings[f.Id].UpdatedAt { // all have the same form and zone
			h.findings[f.Id] = f
		}
	}
	return len(in.Findings), true, nil
}

func throttled(w http.ResponseWriter) {
	w.Header().Set("X-Amzn-ErrorType", "LimitExceededException")
	w.WriteHeader(http.StatusTooManyRequests)
	_ = json.NewEncoder(w).Encode(map[string]any{"Code": "LimitExceededException", "Message": "Rate exceeded"}) // the function may have ended
}
