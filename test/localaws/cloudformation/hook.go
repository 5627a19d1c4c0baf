package cloudformation

import (
	"encoding/json"
	"errors"
	"net/http"
)

// checked and observed are the request types with which the emulator tells of its own
// resources: before it makes or updates one, and after it made, updated or deleted it.
const (
	checked  = "Checked"
	observed = "Observed"
)

// answer is what the emulator's launcher reads.
type answer struct {
	Status             string `json:"Status"` // SUCCESS or FAILED
	Reason             string `json:"Reason,omitempty"`
	Untouched          bool   `json:"Untouched,omitempty"` // of a refused update
	PhysicalResourceID string `json:"PhysicalResourceId,omitempty"`
	Data               any    `json:"Data,omitempty"`
}

// ServeHTTP answers the emulator's launcher, which posts a [Request] with the field
// names of CloudFormation's own requests to custom resources.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var wire struct {
		Request
		Change RequestType // of a checked or observed resource
	}
	if err := json.NewDecoder(req.Body).Decode(&wire); err != nil {
		http.Error(w, "resource request: "+err.Error(), http.StatusBadRequest)
		return
	}
	request, kind := wire.Request, wire.RequestType
	if wire.Change != "" {
		request.RequestType = wire.Change
	}
	reply := answer{Status: "SUCCESS", PhysicalResourceID: request.PhysicalResourceID}
	fail := func(err error) {
		if err != nil {
			reply = answer{Status: "FAILED", Reason: err.Error(), Untouched: errors.Is(err, ErrUntouched)}
		}
	}
	switch kind {
	case checked:
		fail(r.Check(request))
	case observed:
		r.Observe(request)
	default:
		made, err := r.Apply(req.Context(), request)
		if request.RequestType != Delete {
			reply.PhysicalResourceID, reply.Data = made.PhysicalID, made.Attributes
		}
		fail(err)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(reply)
}
