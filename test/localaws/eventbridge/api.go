package eventbridge

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/clock"
	"github.com/defenderhub/defenderhub/test/localaws/edge"
)

const (
	target = "AWSEvents."
	// eventTime is the form of an event's time, which has whole seconds.
	eventTime = "2006-01-02T15:04:05Z"
)

var (
	// wrongNumber is a rate whose unit is not in the number of its value: 1 minute, 2 minutes.
	wrongNumber = regexp.MustCompile(`^rate\((1 \w+s|(\d{2,}|[02-9]) \w*[a-rt-z])\)$`)
	// passed are the operations of which the emulator does all, changing those that change rules.
	passed   = regexp.MustCompile(`^(List|Describe|TagResource|UntagResource)`)
	changing = regexp.MustCompile(`^(DeleteRule|RemoveTargets|EnableRule|DisableRule)$`)
)

// API refuses rules and targets that the local AWS could not follow, and leaves the rest
// to Next.
type API struct {
	Clock   *clock.Clock
	Catalog *Emulated
	// Next answers all other operations: the emulator.
	Next http.Handler
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), target)
	if !ok {
		edge.Refuse(w, r, "its protocol is not AWS JSON")
		return
	}
	body, err := edge.Body(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var in struct {
		Name, EventBusName, EventPattern, ScheduleExpression string
		Targets                                              []map[string]json.RawMessage
	}
	if err := json.Unmarshal(body, &in); err != nil {
		fail(w, "SerializationException", err.Error())
		return
	}
	if in.EventBusName != "" && in.EventBusName != "default" && !strings.HasSuffix(in.EventBusName, ":event-bus/default") {
		edge.Refuse(w, r, fmt.Sprintf("event bus %s: the local AWS has the default event bus only", in.EventBusName))
		return
	}
	switch {
	case operation == "PutRule":
		if !a.mayPut(w, r, in.Name, in.EventPattern, in.ScheduleExpression) {
			return
		}
	case operation == "PutTargets":
		for _, given := range in.Targets {
			if t, err := readTarget(given); err != nil {
				edge.Refuse(w, r, fmt.Sprintf("target %s: %v", t.ID, err))
				return
			}
		}
	case passed.MatchString(operation):
		a.Next.ServeHTTP(w, r)
		return
	case !changing.MatchString(operation):
		edge.Refuse(w, r, "it has rules on the default event bus only, which follow Security Hub and schedules")
		return
	}
	a.Next.ServeHTTP(w, r)
	a.Catalog.changed(operation, in.Name)
}

// mayPut reports whether the local AWS can follow the rule; else it has answered.
func (a *API) mayPut(w http.ResponseWriter, r *http.Request, name, pattern, schedule string) bool {
	if pattern == "" && schedule == "" {
		fail(w, "ValidationException", "Parameter(s) EventPattern or ScheduleExpression must be specified.")
		return false
	}
	if pattern != "" {
		if _, err := ParsePattern([]byte(pattern)); err != nil {
			fail(w, "InvalidEventPatternException", fmt.Sprintf("Event pattern is not valid. Reason: %v", err))
			return false
		}
	}
	if schedule == "" {
		return true
	}
	if _, err := clock.ParseSchedule(schedule); err != nil {
		edge.Refuse(w, r, err.Error())
		return false
	}
	if wrongNumber.MatchString(schedule) {
		fail(w, "ValidationException", "Parameter ScheduleExpression is not valid.")
		return false
	}
	a.Catalog.scheduled(name, a.Clock.Now())
	return true
}

func fail(w http.ResponseWriter, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}
