package clock

import (
	"encoding/json"
	"net/http"
	"time"
)

// ServeHTTP answers what time it is, after the step that a POST asks for: ?step=24h.
func (c *Clock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		step, err := time.ParseDuration(r.FormValue("step"))
		if err != nil || step <= 0 {
			http.Error(w, "want ?step= with a duration above 0, such as 90m or 24h", http.StatusBadRequest)
			return
		}
		c.Step(step)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]time.Time{"now": c.Now()})
}
