package awsstub

import (
	"encoding/json"
	"maps"
	"net/http"
	"sync"
)

// Hub is what Security Hub keeps of imported findings. It ignores a finding that is not newer, as
// Security Hub does.
type Hub struct {
	mu       sync.Mutex
	findings map[string]Finding
	throttle func() bool
}

// Finding is a part of a finding. Both times have the same form and zone.
type Finding struct {
	ID                                                    string `json:"Id"`
	RecordState, CreatedAt, UpdatedAt, Title, Description string
}

// Findings returns the findings by ID.
func (h *Hub) Findings() map[string]Finding {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.findings)
}

// Throttle lets a function decide whether a call is throttled; nil means never.
func (h *Hub) Throttle(decide func() bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.throttle = decide
}

// importFindings returns how many findings a call has, and false if it is throttled.
func (h *Hub) importFindings(body []byte) (n int, ok bool, err error) {
	var in struct{ Findings []Finding }
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
		h.findings = map[string]Finding{}
	}
	for _, f := range in.Findings {
		if f.UpdatedAt > h.findings[f.ID].UpdatedAt {
			h.findings[f.ID] = f
		}
	}
	return len(in.Findings), true, nil
}

func throttled(w http.ResponseWriter) {
	w.Header().Set("X-Amzn-ErrorType", "LimitExceededException")
	w.WriteHeader(http.StatusTooManyRequests)
	_ = json.NewEncoder(w).Encode(map[string]any{"Code": "LimitExceededException", "Message": "Rate exceeded"}) // the function may have ended
}
