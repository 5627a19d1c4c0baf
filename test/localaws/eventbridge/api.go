package eventbridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/defenderhub/defenderhub/test/localaws/clock"
	"github.com/defenderhub/defenderhub/test/localaws/edge"
)

const (
	target = "AWSEvents."
	// maximumEntries is PutEvents' limit.
	// https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
	maximumEntries = 10
	// maximumSize is that of all entries of a call.
	// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html
	maximumSize = 1 << 20
	// eventTime is the form of an event's time, which has whole seconds.
	eventTime = "2006-01-02T15:04:05Z"
)

// wrongNumber is a rate whose unit is not in the number of its value: 1 minute, 2 minutes.
var wrongNumber = regexp.MustCompile(`^rate\((1 \w+s|(\d{2,}|[02-9]) \w*[a-rt-z])\)$`)

// reading are the operations that change nothing.
var reading = regexp.MustCompile(`^(List|Describe)`)

// API answers what the emulator gets wrong of EventBridge: PutEvents, and
// TestEventPattern. It refuses rules and targets that the local AWS could not follow,
// and leaves the rest to Next.
type API struct {
	Account, Region string
	Clock           *clock.Clock
	Catalog         *Emulated
	// Accept takes an event that was put.
	Accept func(event []byte)
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
	switch operation {
	case "PutEvents":
		a.putEvents(w, body)
	case "TestEventPattern":
		testEventPattern(w, body)
	case "PutRule":
		a.putRule(w, r, body)
	case "PutTargets":
		a.putTargets(w, r, body)
	case "DeleteRule":
		var in struct{ Name string }
		a.Next.ServeHTTP(w, r)
		if json.Unmarshal(body, &in) == nil {
			a.Catalog.deleted(in.Name)
		}
	case "RemoveTargets", "EnableRule", "DisableRule":
		a.Next.ServeHTTP(w, r)
		a.Catalog.Changed()
	default:
		if !reading.MatchString(operation) && operation != "TagResource" && operation != "UntagResource" {
			edge.Refuse(w, r, "it has rules on the default event bus only")
			return
		}
		a.Next.ServeHTTP(w, r)
	}
}

// entry is an event that a client puts.
type entry struct {
	Source       string
	DetailType   string
	Detail       string
	Resources    []string
	Time         float64 // seconds since 1970
	EventBusName string
}

// result tells what became of an entry.
type result struct {
	EventID      string `json:"EventId,omitempty"`
	ErrorCode    string `json:",omitempty"`
	ErrorMessage string `json:",omitempty"`
}

func (a *API) putEvents(w http.ResponseWriter, body []byte) {
	var in struct{ Entries []entry }
	if err := json.Unmarshal(body, &in); err != nil {
		fail(w, "SerializationException", err.Error())
		return
	}
	if n := len(in.Entries); n < 1 || n > maximumEntries {
		fail(w, "ValidationException", fmt.Sprintf("1 validation error detected: 'entries' has %d members, want 1 to %d", n, maximumEntries))
		return
	}
	size := 0
	for _, e := range in.Entries {
		size += len(e.Source) + len(e.DetailType) + len(e.Detail) + len(strings.Join(e.Resources, ""))
		if e.Time != 0 {
			size += 14 // bytes that AWS counts for it
		}
	}
	if size > maximumSize {
		fail(w, "ValidationException", fmt.Sprintf("Total size of the entries in the request is over the limit: %d bytes, of %d", size, maximumSize))
		return
	}
	out := struct {
		FailedEntryCount int
		Entries          []result
	}{}
	for _, e := range in.Entries {
		event, id, err := a.event(e)
		if err == nil {
			a.Accept(event)
			out.Entries = append(out.Entries, result{EventID: id})
			continue
		}
		refusal := result{ErrorCode: "InvalidArgument", ErrorMessage: err.Error()}
		var coded *entryError
		if errors.As(err, &coded) {
			refusal.ErrorCode = coded.code
		}
		out.FailedEntryCount++
		out.Entries = append(out.Entries, refusal)
	}
	answer(w, out)
}

// entryError is a refusal with another code than InvalidArgument.
type entryError struct{ code, message string }

func (e *entryError) Error() string { return e.message }

// event is what an entry becomes on the bus.
// https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsResultEntry.html
func (a *API) event(e entry) (event []byte, id string, err error) {
	for name, value := range map[string]string{"Source": e.Source, "DetailType": e.DetailType, "Detail": e.Detail} {
		if value == "" {
			return nil, "", fmt.Errorf("Parameter %s is not valid. Reason: %s is a required argument.", name, name) //nolint:staticcheck // AWS's words
		}
	}
	var detail map[string]any
	switch {
	case strings.HasPrefix(e.Source, "aws."):
		return nil, "", &entryError{"NotAuthorizedForSourceException", "Not authorized for the source."}
	case json.Unmarshal([]byte(e.Detail), &detail) != nil:
		return nil, "", &entryError{"MalformedDetail", "Detail is malformed."}
	case !isDefaultBus(e.EventBusName):
		return nil, "", noOtherBus(e.EventBusName)
	}
	at := a.Clock.Now()
	if e.Time != 0 {
		at = time.UnixMilli(int64(e.Time * 1000)).UTC()
	}
	id = uuid.NewString()
	event, err = json.Marshal(map[string]any{
		"version": "0", "id": id, "detail-type": e.DetailType, "source": e.Source, "account": a.Account, "time": at.Format(eventTime),
		"region": a.Region, "resources": append([]string{}, e.Resources...), "detail": json.RawMessage(e.Detail),
	})
	return event, id, err
}

func isDefaultBus(nameOrARN string) bool {
	return nameOrARN == "" || nameOrARN == "default" || strings.HasSuffix(nameOrARN, ":event-bus/default")
}

func noOtherBus(name string) error {
	return fmt.Errorf("event bus %s: the local AWS has the default event bus only", name)
}

func (a *API) putRule(w http.ResponseWriter, r *http.Request, body []byte) {
	var in struct{ Name, EventBusName, EventPattern, ScheduleExpression string }
	if err := json.Unmarshal(body, &in); err != nil {
		fail(w, "SerializationException", err.Error())
		return
	}
	if !isDefaultBus(in.EventBusName) {
		edge.Refuse(w, r, noOtherBus(in.EventBusName).Error())
		return
	}
	if in.EventPattern == "" && in.ScheduleExpression == "" {
		fail(w, "ValidationException", "Parameter(s) EventPattern or ScheduleExpression must be specified.")
		return
	}
	if in.EventPattern != "" {
		if _, err := ParsePattern([]byte(in.EventPattern)); err != nil {
			fail(w, "InvalidEventPatternException", fmt.Sprintf("Event pattern is not valid. Reason: %v", err))
			return
		}
	}
	if in.ScheduleExpression != "" {
		if _, err := clock.ParseSchedule(in.ScheduleExpression); err != nil {
			edge.Refuse(w, r, err.Error())
			return
		}
		if strings.HasPrefix(in.ScheduleExpression, "at(") || wrongNumber.MatchString(in.ScheduleExpression) {
			fail(w, "ValidationException", "Parameter ScheduleExpression is not valid.")
			return
		}
		a.Catalog.scheduled(in.Name, a.Clock.Now())
	}
	a.Next.ServeHTTP(w, r)
	a.Catalog.Changed()
}

func (a *API) putTargets(w http.ResponseWriter, r *http.Request, body []byte) {
	var in struct {
		EventBusName string
		Targets      []map[string]json.RawMessage
	}
	if err := json.Unmarshal(body, &in); err != nil {
		fail(w, "SerializationException", err.Error())
		return
	}
	if !isDefaultBus(in.EventBusName) {
		edge.Refuse(w, r, noOtherBus(in.EventBusName).Error())
		return
	}
	for _, given := range in.Targets {
		t, err := readTarget(given)
		if err == nil {
			err = t.check()
		}
		if err != nil {
			edge.Refuse(w, r, fmt.Sprintf("target %s: %v", t.ID, err))
			return
		}
	}
	a.Next.ServeHTTP(w, r)
	a.Catalog.Changed()
}

// targetParameters are those of targets that the local AWS follows. The role is for targets
// that it does not have, and a target that fails is not tried again.
var targetParameters = []string{"Arn", "DeadLetterConfig", "Id", "Input", "InputPath", "InputTransformer", "RetryPolicy", "RoleArn"}

func readTarget(given map[string]json.RawMessage) (t Target, err error) {
	if text, err := json.Marshal(given); err != nil || json.Unmarshal(text, &t) != nil {
		return t, fmt.Errorf("it is no target: %s", text)
	}
	return t, onlyKnown(given, targetParameters)
}

// onlyKnown names the parameters that the local AWS does not follow.
func onlyKnown(given map[string]json.RawMessage, known []string) error {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(known, name) && string(given[name]) != "null" {
			return fmt.Errorf("the local AWS does not follow %s", name)
		}
	}
	return nil
}

// check refuses a target that cannot be delivered to.
func (t Target) check() error {
	if err := deliverable(t.ARN, "sqs", "sns", "lambda"); err != nil {
		return err
	}
	if t.DeadLetterConfig != nil {
		if err := deliverable(t.DeadLetterConfig.ARN, "sqs"); err != nil {
			return fmt.Errorf("dead-letter queue: %w", err)
		}
	}
	inputs := 0
	for _, given := range []bool{t.Input != "", t.InputPath != "", t.InputTransformer != nil} {
		if given {
			inputs++
		}
	}
	if inputs > 1 {
		return errors.New("only one of Input, InputPath and InputTransformer may be given")
	}
	if t.Input != "" && !json.Valid([]byte(t.Input)) {
		return errors.New("Input is no JSON") //nolint:staticcheck // a parameter's name
	}
	_, err := t.Body([]byte(`{}`))
	return err
}

// deliverable refuses what is no queue, topic or function, or a FIFO one.
func deliverable(arn string, services ...string) error {
	parts := strings.Split(arn, ":")
	if len(parts) < 6 || !slices.Contains(services, parts[2]) || parts[4] == "" {
		return fmt.Errorf("the local AWS delivers to %s only, not to %s", strings.Join(services, ", "), arn)
	}
	if strings.HasSuffix(arn, ".fifo") {
		return fmt.Errorf("the local AWS delivers to standard queues and topics only, and %s is FIFO", arn)
	}
	return nil
}

func testEventPattern(w http.ResponseWriter, body []byte) {
	var in struct{ EventPattern, Event string }
	if err := json.Unmarshal(body, &in); err != nil {
		fail(w, "SerializationException", err.Error())
		return
	}
	pattern, err := ParsePattern([]byte(in.EventPattern))
	if err != nil {
		fail(w, "InvalidEventPatternException", fmt.Sprintf("Event pattern is not valid. Reason: %v", err))
		return
	}
	matched, err := pattern.Match([]byte(in.Event))
	if err != nil {
		fail(w, "ValidationException", fmt.Sprintf("Parameter Event is not valid. Reason: %v", err))
		return
	}
	answer(w, map[string]bool{"Result": matched})
}

func answer(w http.ResponseWriter, out any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	json.NewEncoder(w).Encode(out)
}

func fail(w http.ResponseWriter, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}
