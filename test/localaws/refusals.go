package localaws

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/edge"
	"github.com/defenderhub/defenderhub/test/localaws/providers"
)

// queries wraps a service of the Query protocol. refuse answers a request that the emulator must not
// get, and reports whether it did.
func queries(refuse func(w http.ResponseWriter, r *http.Request, form url.Values) bool) func(next http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := edge.Body(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if form, err := url.ParseQuery(string(body)); err == nil && refuse(w, r, form) {
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// publishable refuses calls of Amazon SNS whose messages nobody would receive. Subscriptions of
// stacks do not use it: they are listed as inert.
var publishable = queries(func(w http.ResponseWriter, r *http.Request, form url.Values) bool {
	action, protocol := form.Get("Action"), form.Get("Protocol")
	switch {
	case action == "Subscribe" && !providers.Delivered(protocol):
		edge.Refuse(w, r, "Subscribe: it cannot deliver to the protocol "+protocol+"; subscribe an SQS queue or an HTTP endpoint")
	case action == "Publish" && form.Get("PhoneNumber") != "":
		edge.Refuse(w, r, "Publish: it cannot send text messages to phones; publish to a topic")
	case action == "Publish" && form.Get("Message") == "":
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `<ErrorResponse><Error><Type>Sender</Type><Code>InvalidParameter</Code><Message>Invalid parameter: Empty message</Message></Error></ErrorResponse>`)
	default:
		return false
	}
	return true
})

// queueAttributes are the attributes of queues that work here.
var queueAttributes = []string{
	"ContentBasedDeduplication", "DelaySeconds", "FifoQueue", "KmsDataKeyReusePeriodSeconds", "KmsMasterKeyId", "MaximumMessageSize",
	"MessageRetentionPeriod", "Policy", "ReceiveMessageWaitTimeSeconds", "RedrivePolicy", "SqsManagedSseEnabled", "VisibilityTimeout",
}

// sendable refuses messages that Amazon SQS refuses and the emulator would accept, and attributes
// that have no effect here.
func sendable(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
		body, err := edge.Body(r)
		if err != nil || !ok {
			edge.Refuse(w, r, "SQS supports only the AWS JSON protocol here: use a newer SDK")
			return
		}
		var in struct {
			MessageBody string
			Attributes  map[string]any
			Entries     []json.RawMessage
		}
		if err := json.Unmarshal(body, &in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		switch operation {
		case "SendMessage":
			if code, message := unsendable(in.MessageBody); code != "" {
				answerJSON(w, http.StatusBadRequest, map[string]string{"__type": "com.amazonaws.sqs#" + code, "message": message})
				return
			}
		case "SendMessageBatch":
			sendBatch(w, r, next, body, in.Entries)
			return
		case "CreateQueue", "SetQueueAttributes":
			for _, name := range slices.Sorted(maps.Keys(in.Attributes)) {
				if !slices.Contains(queueAttributes, name) {
					edge.Refuse(w, r, "the attribute "+name+" of queues has no effect here: leave it out")
					return
				}
			}
		}
		next.ServeHTTP(w, r)
	})
}

// unsendable returns the error for a body that Amazon SQS refuses, or "".
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
func unsendable(body string) (code, message string) {
	if body == "" {
		return "MissingParameter", "The request must contain the parameter MessageBody."
	}
	for _, r := range body {
		switch {
		case r == '\t', r == '\n', r == '\r', r >= 0x20 && r <= 0xD7FF, r >= 0xE000 && r <= 0xFFFD, r >= 0x10000:
			continue
		}
		return "InvalidMessageContents", "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF"
	}
	return "", ""
}

// sendBatch sends the valid messages of a batch. The others fail one by one.
func sendBatch(w http.ResponseWriter, r *http.Request, next http.Handler, body []byte, entries []json.RawMessage) {
	var failed []any
	var sent []json.RawMessage
	for _, raw := range entries {
		var e struct{ ID, MessageBody string }
		if err := json.Unmarshal(raw, &e); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if code, message := unsendable(e.MessageBody); code != "" {
			failed = append(failed, map[string]any{"Id": e.ID, "SenderFault": true, "Code": code, "Message": message})
		} else {
			sent = append(sent, raw)
		}
	}
	if failed == nil {
		next.ServeHTTP(w, r)
		return
	}
	answer := map[string]any{"Successful": []any{}, "Failed": failed}
	if sent != nil {
		var request map[string]any
		json.Unmarshal(body, &request) // sendable has decoded it
		request["Entries"] = sent
		fewer, _ := json.Marshal(request) // decoded JSON always encodes
		rest := r.Clone(r.Context())
		rest.Body, rest.ContentLength = io.NopCloser(bytes.NewReader(fewer)), int64(len(fewer))
		recorded := httptest.NewRecorder()
		next.ServeHTTP(recorded, rest)
		var others struct{ Successful, Failed []any }
		if recorded.Code != http.StatusOK || json.Unmarshal(recorded.Body.Bytes(), &others) != nil {
			maps.Copy(w.Header(), recorded.Header())
			w.WriteHeader(recorded.Code)
			w.Write(recorded.Body.Bytes())
			return
		}
		answer["Successful"], answer["Failed"] = others.Successful, append(failed, others.Failed...)
	}
	answerJSON(w, http.StatusOK, answer)
}

func answerJSON(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(answer)
}

// unfollowedStacks are in the names of CloudFormation's operations that are not about stacks and
// change sets. The emulator would accept them without an effect.
var unfollowedStacks = []string{"StackSet", "StackInstance", "StackPolicy", "GeneratedTemplate", "StackRefactor", "ResourceScan"}

// stacksOnly refuses operations of CloudFormation without an effect.
var stacksOnly = queries(func(w http.ResponseWriter, r *http.Request, form url.Values) bool {
	action := form.Get("Action")
	if !slices.ContainsFunc(unfollowedStacks, func(kind string) bool { return strings.Contains(action, kind) }) {
		return false
	}
	edge.Refuse(w, r, action+": it supports only stacks and their change sets")
	return true
})

// unfollowed refuses filters of log groups, which would read nothing: the logs of functions are files.
func unfollowed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("X-Amz-Target") {
		case "Logs_20140328.PutSubscriptionFilter", "Logs_20140328.PutMetricFilter":
			edge.Refuse(w, r, "filters of log groups have no effect here: the logs of functions are files in the cloud's directory")
		default:
			next.ServeHTTP(w, r)
		}
	})
}
