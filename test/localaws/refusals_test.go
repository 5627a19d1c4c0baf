package localaws

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// send sends a request to a handler in front of an emulator that accepts everything. It returns the
// answer and the body that the emulator got.
func send(wrap func(http.Handler) http.Handler, target, body string) (answer, passed string) {
	emulator := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ := io.ReadAll(r.Body)
		passed += string(got)
		io.WriteString(w, `{"Successful":[{"Id":"b"}],"Failed":[{"Id":"c"}]}`)
	})
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	if target != "" {
		r.Header.Set("X-Amz-Target", target)
	} else {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w := httptest.NewRecorder()
	wrap(emulator).ServeHTTP(w, r)
	return w.Body.String(), passed
}

func TestMessageThatQueuesRejectIsRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ target, body, want, passed string }{
		"text":              {"SendMessage", `{"MessageBody":"a\t\ufffd"}`, `{"Successful"`, `{"MessageBody":"a\t\ufffd"}`},
		"nothing":           {"SendMessage", `{"MessageBody":""}`, "#MissingParameter", ""},
		"a control":         {"SendMessage", `{"MessageBody":"a\u0001"}`, "#InvalidMessageContents", ""},
		"no character":      {"SendMessage", `{"MessageBody":"\ufffe"}`, "#InvalidMessageContents", ""},
		"one of a batch":    {"SendMessageBatch", `{"Entries":[{"Id":"a","MessageBody":"\u0000"},{"Id":"b","MessageBody":"b"},{"Id":"c","MessageBody":"c"}]}`, `{"Failed":[{"Code":"InvalidMessageContents","Id":"a",`, `{"Entries":[{"Id":"b","MessageBody":"b"},{"Id":"c","MessageBody":"c"}]}`},
		"the others answer": {"SendMessageBatch", `{"Entries":[{"Id":"a","MessageBody":"\u0000"},{"Id":"b","MessageBody":"b"}]}`, `{"Id":"c"}],"Successful":[{"Id":"b"}]}`, `{"Entries":[{"Id":"b","MessageBody":"b"}]}`},
		"a whole batch":     {"SendMessageBatch", `{"Entries":[{"Id":"a","MessageBody":""}]}`, `"Successful":[]}`, ""},
		"no bad one":        {"SendMessageBatch", `{"Entries":[{"Id":"b","MessageBody":"b"}]}`, `{"Successful":[{"Id":"b"}],"Failed"`, `{"Entries":[{"Id":"b","MessageBody":"b"}]}`},
		"an attribute":      {"SetQueueAttributes", `{"Attributes":{"Policy":"{}","RedriveAllowPolicy":"{}"}}`, "the attribute RedriveAllowPolicy of queues has no effect here", ""},
		"known attributes":  {"CreateQueue", `{"Attributes":{"Policy":"{}"}}`, `{"Successful"`, `{"Attributes":{"Policy":"{}"}}`},
	} {
		answer, passed := send(sendable, "AmazonSQS."+tt.target, tt.body)
		if !strings.Contains(answer, tt.want) || passed != tt.passed {
			t.Errorf("%s: answered %s, and the emulator got %q; want %s and %q", name, answer, passed, tt.want, tt.passed)
		}
	}
}

func TestCallsWithoutEffectAreRefused(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"Action=Publish&TopicArn=t&Message=m":             "",
		"Action=Publish&TopicArn=t":                       "Empty message",
		"Action=Publish&PhoneNumber=1&Message=m":          "it cannot send text messages to phones",
		"Action=Subscribe&Protocol=sqs":                   "",
		"Action=Subscribe&Protocol=email":                 "it cannot deliver to the protocol email",
		"Action=CreateStackSet":                           "CreateStackSet: it supports only stacks and their change sets",
		"Action=SetStackPolicy":                           "SetStackPolicy: it supports only stacks and their change sets",
		"Action=CreateStack&StackPolicyURL=&StackName=ss": "",
	} {
		answer, passed := send(func(next http.Handler) http.Handler { return publishable(stacksOnly(next)) }, "", body)
		if want == "" != (passed != "") || !strings.Contains(answer, want) {
			t.Errorf("%s: answered %s, and the emulator got %q; want %q", body, answer, passed, want)
		}
	}
}
