package eventbridge

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/clock"
)

// emulator keeps rules, targets and schedules, a page of one item at a time.
type emulator struct {
	mu        sync.Mutex
	rules     []map[string]any
	targets   map[string][]any
	schedules []map[string]any
	asked     []string
}

func (e *emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	var in struct {
		Name, Rule, NextToken string
		Targets               []any
	}
	json.Unmarshal(body, &in)
	operation := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AWSEvents.")
	if operation == "" {
		operation = r.Method + " " + r.URL.Path
		in.NextToken = r.URL.Query().Get("NextToken")
	}
	e.asked = append(e.asked, operation)
	page := 0
	fmt.Sscan(in.NextToken, &page)
	var out any = struct{}{}
	switch operation {
	case "PutRule":
		var rule map[string]any
		json.Unmarshal(body, &rule)
		rule["Arn"] = "arn:rule/" + in.Name
		e.rules = append(e.rules, rule)
	case "PutTargets":
		e.targets[in.Rule] = append(e.targets[in.Rule], in.Targets...)
	case "ListRules":
		out = paging("Rules", e.rules, page)
	case "ListTargetsByRule":
		out = paging("Targets", e.targets[in.Rule], page)
	case "GET /schedules":
		out = paging("Schedules", e.schedules, page)
	default:
		if name, ok := strings.CutPrefix(operation, "GET /schedules/"); ok {
			for _, s := range e.schedules {
				if s["Name"] == name && s["GroupName"] == r.URL.Query().Get("groupName") {
					out = s
				}
			}
		}
	}
	json.NewEncoder(w).Encode(out)
}

func paging[T any](key string, all []T, page int) map[string]any {
	if page >= len(all) {
		return map[string]any{key: all[len(all):]}
	}
	answer := map[string]any{key: all[page : page+1]}
	if page+1 < len(all) {
		answer["NextToken"] = fmt.Sprint(page + 1)
	}
	return answer
}

// world is an API in front of an emulator.
type world struct {
	emulator *emulator
	api      *API
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{emulator: &emulator{targets: map[string][]any{}}}
	server := httptest.NewServer(w.emulator)
	t.Cleanup(server.Close)
	w.api = &API{
		Clock: &clock.Clock{}, Next: w.emulator,
		Catalog: &Emulated{API: awsapi.Client{Endpoint: server.URL, Region: "us-east-1"}},
	}
	return w
}

func (w *world) call(t *testing.T, operation, body string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	if operation != "" {
		r.Header.Set("X-Amz-Target", "AWSEvents."+operation)
	}
	answer := httptest.NewRecorder()
	w.api.ServeHTTP(answer, r)
	return answer.Code, answer.Body.String()
}

func TestUnsupportedPatternIsRefused(t *testing.T) {
	for name, tc := range map[string]struct{ operation, body, want string }{
		"no JSON protocol":      {"", ``, "protocol"},
		"pattern":               {"PutRule", `{"Name": "r", "EventPattern": "{\"a\": [{\"like\": 1}]}"}`, "like"},
		"schedule":              {"PutRule", `{"Name": "r", "ScheduleExpression": "cron(0 0 L * ? *)"}`, "cron(0 0 L * ? *)"},
		"one time":              {"PutRule", `{"Name": "r", "ScheduleExpression": "at(2026-03-02T00:00:00)"}`, "at(2026-03-02T00:00:00)"},
		"one minutes":           {"PutRule", `{"Name": "r", "ScheduleExpression": "rate(1 minutes)"}`, "ScheduleExpression"},
		"ten hour":              {"PutRule", `{"Name": "r", "ScheduleExpression": "rate(10 hour)"}`, "ScheduleExpression"},
		"nothing to start it":   {"PutRule", `{"Name": "r"}`, "EventPattern or ScheduleExpression must be specified"},
		"parameters of HTTP":    {"PutTargets", `{"Rule": "r", "Targets": [{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:1:q", "HttpParameters": {}}]}`, "does not follow HttpParameters"},
		"text for JSON":         {"PutTargets", `{"Rule": "r", "Targets": [{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:1:q", "Input": "tick"}]}`, "Input is no JSON"},
		"events of a client":    {"PutEvents", `{"Entries": [{"Source": "fleet", "DetailType": "x", "Detail": "{}"}]}`, "PutEvents"},
		"tested pattern":        {"TestEventPattern", `{"EventPattern": "{}", "Event": "{}"}`, "TestEventPattern"},
		"another bus":           {"CreateEventBus", `{"Name": "other"}`, "CreateEventBus"},
		"archive":               {"CreateArchive", `{}`, "CreateArchive"},
		"two inputs":            {"PutTargets", `{"Rule": "r", "Targets": [{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:1:q", "Input": "1", "InputTransformer": {"InputTemplate": "1"}}]}`, "only one of Input"},
		"bus":                   {"PutRule", `{"Name": "r", "EventBusName": "other"}`, "other"},
		"target":                {"PutTargets", `{"Rule": "r", "Targets": [{"Id": "1", "Arn": "arn:aws:kinesis:us-east-1:1:stream/s"}]}`, "kinesis"},
		"FIFO queue":            {"PutTargets", `{"Rule": "r", "Targets": [{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:1:q.fifo"}]}`, "FIFO"},
		"dead-letter queue":     {"PutTargets", `{"Rule": "r", "Targets": [{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:1:q", "DeadLetterConfig": {"Arn": "arn:aws:sns:us-east-1:1:t"}}]}`, "dead-letter"},
		"input path":            {"PutTargets", `{"Rule": "r", "Targets": [{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:1:q", "InputPath": "detail"}]}`, "does not follow InputPath"},
		"path of a transformer": {"PutTargets", `{"Rule": "r", "Targets": [{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:1:q", "InputTransformer": {"InputPathsMap": {"x": "$['a']"}, "InputTemplate": "<x>"}}]}`, "JSON path"},
		"template":              {"PutTargets", `{"Rule": "r", "Targets": [{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:1:q", "InputTransformer": {"InputTemplate": "<x>"}}]}`, "x"},
		"targets of a bus":      {"PutTargets", `{"Rule": "r", "EventBusName": "other"}`, "other"},
		"malformed rule":        {"PutRule", `[]`, "cannot unmarshal"},
		"malformed targets":     {"PutTargets", `[]`, "cannot unmarshal"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			code, body := w.call(t, tc.operation, tc.body)
			if code < 400 || !strings.Contains(body, tc.want) || len(w.emulator.asked) != 0 {
				t.Errorf("answer %d %s, want a refusal with %q that does not reach the emulator (%v)", code, body, tc.want, w.emulator.asked)
			}
		})
	}
}

func TestCatalogFollowsChanges(t *testing.T) {
	w := newWorld(t)
	list := func() []Rule {
		t.Helper()
		rules, err := w.api.Catalog.Rules(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return rules
	}
	if n := len(list()); n != 0 {
		t.Fatalf("%d rules", n)
	}
	w.call(t, "PutRule", `{"Name": "a", "EventPattern": "{\"source\": [\"fleet\"]}"}`)
	w.call(t, "PutRule", `{"Name": "b", "ScheduleExpression": "rate(1 day)"}`)
	for _, id := range []string{"1", "2"} {
		w.call(t, "PutTargets", `{"Rule": "a", "Targets": [{"Id": "`+id+`", "Arn": "arn:aws:sqs:us-east-1:1:q"}]}`)
	}
	rules := list()
	if len(rules) != 2 || len(rules[0].Targets) != 2 || rules[0].Pattern == "" || !rules[0].Created.IsZero() || rules[1].Created.IsZero() {
		t.Errorf("rules %+v", rules)
	}
	asked := len(w.emulator.asked)
	list()
	if len(w.emulator.asked) != asked {
		t.Errorf("rules that did not change were read again: %v", w.emulator.asked[asked:])
	}
	created := rules[1].Created
	w.api.Clock.Step(time.Hour)
	w.call(t, "PutRule", `{"Name": "b", "ScheduleExpression": "rate(1 day)"}`)
	if again := list(); !again[1].Created.Equal(created) {
		t.Errorf("a rule that was put again counts from %s, want %s", again[1].Created, created)
	}
	w.call(t, "DeleteRule", `{"Name": "b"}`)
	w.call(t, "PutRule", `{"Name": "b", "ScheduleExpression": "rate(1 day)"}`)
	if again := list(); again[1].Created.Equal(created) {
		t.Error("a new rule counts from the time of a deleted one")
	}
	w.call(t, "DisableRule", `{"Name": "b"}`)
	asked = len(w.emulator.asked)
	list()
	if len(w.emulator.asked) == asked {
		t.Error("rules were not read again after DisableRule")
	}
}
