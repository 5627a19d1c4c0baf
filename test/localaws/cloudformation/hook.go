package cloudformation

import (
	"encoding/json"
	"net/http"
)

// observed is the request type with which the emulator tells of its own resources.
const observed = "Observed"

// answer is what the emulator's launcher reads.
type answer struct {
	Status             string `json:"Status"` // SUCCESS or FAILED
	Reason             string `json:"Reason,omitempty"`
	PhysicalResourceID string `json:"PhysicalResourceId,omitempty"`
	Data               any    `json:"Data,omitempty"`
}

// ServeHTTP answers the emulator's launcher, which posts a [Request] with the field
// names of CloudFormation's own requests to custom resources.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var wire struct {
		RequestType           string
		Change                RequestType // of an observed resource
		ResourceType          string
		StackID               string `json:"StackId"`
		LogicalResourceID     string `json:"LogicalResourceId"`
		PhysicalResourceID    string `json:"PhysicalResourceId"`
		ResourceProperties    map[string]any
		OldResourceProperties map[string]any
		AccountID             string `json:"AccountId"`
		Region                string
	}
	if err := json.NewDecoder(req.Body).Decode(&wire); err != nil {
		http.Error(w, "resource request: "+err.Error(), http.StatusBadRequest)
		return
	}
	request := Request{
		RequestType: RequestType(wire.RequestType), ResourceType: wire.ResourceType, StackID: wire.StackID,
		LogicalResourceID: wire.LogicalResourceID, PhysicalResourceID: wire.PhysicalResourceID,
		ResourceProperties: wire.ResourceProperties, OldResourceProperties: wire.OldResourceProperties,
		AccountID: wire.AccountID, Region: wire.Region,
	}
	reply := answer{Status: "SUCCESS", PhysicalResourceID: request.PhysicalResourceID}
	if wire.RequestType == observed {
		request.RequestType = wire.Change
		if err := r.Observe(request); err != nil {
			reply = answer{Status: "FAILED", Reason: err.Error()}
		}
	} else if made, err := r.Apply(req.Context(), request); err != nil {
		reply = answer{Status: "FAILED", Reason: err.Error()}
	} else if request.RequestType != Delete {
		reply.PhysicalResourceID, reply.Data = made.PhysicalID, made.Attributes
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(reply)
}
