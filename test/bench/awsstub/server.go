package awsstub

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Server is a Lambda runtime and the AWS services of one function.
type Server struct {
	URL   string
	Table *Table
	Hub   *Hub
	// Timeout is the time of an invocation.
	Timeout time.Duration
	// Findings is how many findings each audit task has, unless Audits has its results.
	Findings int
	Audits   *Audits

	http    *httptest.Server
	events  chan string
	answers chan string

	mu    sync.Mutex
	calls map[string]int
	// left is after how many calls the function is to crash; crashed is closed then.
	left     int
	crashed  chan struct{}
	imported int
	given    time.Time
	waits    []time.Duration
	refused  []string
}

// New starts a server.
func New() *Server { return Beside(&Table{}, &Hub{}) }

// Beside starts a server for another function with the same table and Security Hub.
func Beside(table *Table, hub *Hub) *Server {
	s := &Server{Table: table, Hub: hub, Timeout: 15 * time.Minute, calls: map[string]int{}, events: make(chan string, 1), answers: make(chan string, 1)}
	s.http = httptest.NewServer(http.HandlerFunc(s.serve))
	s.URL = s.http.URL
	return s
}

// Close stops the server.
func (s *Server) Close() { s.http.CloseClientConnections(); s.http.Close() }

// Invoke passes an event to the function and returns its answer.
func (s *Server) Invoke(event string, ended <-chan struct{}) (string, error) {
	s.events <- event
	select {
	case answer := <-s.answers:
		return answer, nil
	case <-ended:
		return "", errors.New("the function ended without an answer")
	}
}

// CrashAfter makes calls without effect and without an answer from a number of calls on. The
// channel is closed at the first of them: the function must be killed then.
func (s *Server) CrashAfter(calls int) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left, s.crashed = calls, make(chan struct{})
	return s.crashed
}

// Restart ends what CrashAfter began: another process serves.
func (s *Server) Restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crashed = nil
}

// crash reports whether the function has crashed.
func (s *Server) crash() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.crashed == nil {
		return false
	}
	if s.left--; s.left == -1 {
		close(s.crashed)
	}
	return s.left < 0
}

// Reset forgets the calls, and returns them and the number of imported findings.
func (s *Server) Reset() (calls map[string]int, imported int, waits []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls, imported, waits = maps.Clone(s.calls), s.imported, s.waits
	clear(s.calls)
	s.imported, s.waits = 0, nil
	return calls, imported, waits
}

// Refused returns the requests that the services do not know.
func (s *Server) Refused() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	name := r.Method + " " + r.URL.Path
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		name = target
	}
	if strings.Contains(name, "/runtime/") {
		s.runtime(w, r, body)
		return
	}
	if strings.HasPrefix(name, "GET /audit/tasks/") {
		name = "GET /audit/tasks"
	}
	if s.crash() {
		<-r.Context().Done()
		return
	}
	s.mu.Lock()
	s.calls[name]++
	s.mu.Unlock()
	operation, ledger := strings.CutPrefix(name, "DynamoDB_20120810.")
	switch {
	case ledger:
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		answer, err := s.Table.Call(operation, body)
		s.answer(w, answer, err)
	case name == "POST /findings/import":
		s.importFindings(w, body)
	case name == "POST /findings": // the Python sample
		s.answer(w, map[string]any{"Findings": []any{}}, nil)
	case name == "POST /audit/findings":
		s.listFindings(w, r, body)
	case name == "GET /audit/tasks":
		s.answer(w, map[string]any{"taskStatus": "COMPLETED", "taskType": "SCHEDULED_AUDIT_TASK", "scheduledAuditName": "Daily", "taskStartTime": 1764000000}, nil)
	case name == "GET /audit/configuration":
		s.answer(w, map[string]any{"auditCheckConfigurations": map[string]any{Check: map[string]any{"enabled": true}, KeyCheck: map[string]any{"enabled": true}}}, nil)
	case strings.HasPrefix(name, "AmazonSQS."):
		s.answer(w, map[string]any{"QueueUrl": s.URL + "/q", "MessageId": "1"}, nil)
	default:
		s.answer(w, nil, refused{name})
	}
}

func (s *Server) answer(w http.ResponseWriter, answer any, err error) {
	if unknown := (refused{}); errors.As(err, &unknown) {
		s.mu.Lock()
		s.refused = append(s.refused, unknown.what)
		s.mu.Unlock()
	}
	switch {
	case errors.Is(err, errCondition):
		w.WriteHeader(http.StatusBadRequest)
		answer = map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", "message": "The conditional request failed"}
	case err != nil:
		w.WriteHeader(http.StatusBadRequest)
		answer = map[string]any{"__type": "com.amazon.coral.validate#ValidationException", "message": err.Error()}
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		return // the function has ended
	}
}

func (s *Server) runtime(w http.ResponseWriter, r *http.Request, body []byte) {
	if !strings.HasSuffix(r.URL.Path, "/invocation/next") {
		w.WriteHeader(http.StatusAccepted)
		s.answers <- string(body)
		return
	}
	select {
	case <-r.Context().Done():
	case event := <-s.events:
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", "1")
		w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(s.Timeout).UnixMilli(), 10))
		w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:f")
		s.mu.Lock()
		s.given = time.Now()
		s.mu.Unlock()
		io.WriteString(w, event) // a failure shows as a missing answer
	}
}

func (s *Server) importFindings(w http.ResponseWriter, body []byte) {
	n, ok, err := s.Hub.importFindings(body)
	if !ok {
		throttled(w)
		return
	}
	s.mu.Lock()
	s.imported += n
	s.waits = append(s.waits, time.Since(s.given))
	s.mu.Unlock()
	s.answer(w, map[string]any{"FailedCount": 0, "SuccessCount": n, "FailedFindings": []any{}}, err)
}
