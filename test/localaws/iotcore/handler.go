package iotcore

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
)

// maxBody is the maximum size of a request's body in bytes. The largest valid ones are policy
// documents of 404,600 characters and payloads of 128 KB.
const maxBody = 1 << 20

// operationsText has a line for each operation of the API models iot and iot-data 2015-05-28: name,
// method, path. So the handler can name an operation that it does not support.
//
//go:embed operations.txt
var operationsText string

// Operations has the method and the path of each operation of AWS, by name.
var Operations = func() map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(operationsText) {
		name, route, _ := strings.Cut(strings.TrimSpace(line), " ")
		all[name] = strings.ReplaceAll(route, "+}", "...}")
	}
	return all
}()

// Handler serves the API of a Service and of the data plane.
type Handler struct {
	// Lock is held while an operation runs that is added after Lock is set.
	Lock       sync.Locker
	mux        *http.ServeMux
	operations map[string]operation
}

type operation func(r *http.Request, body []byte) (any, error)

// NewHandler returns the handler of a service and its data plane. Without a data plane (nil), the
// operations of the data plane are not supported.
func NewHandler(s *Service, data DataPlane) *Handler {
	h := &Handler{mux: http.NewServeMux(), operations: map[string]operation{}}
	for name, route := range Operations {
		h.mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) { h.answer(w, r, name) })
	}
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { h.answer(w, r, "") })
	h.register(s)
	h.Lock = nil
	if data != nil {
		h.registerDataPlane(data)
	}
	return h
}

// Handle adds an operation of the API to the handler. In and Out are types of AWS's SDK. reads lists
// the members of the input that f reads: NAME for one of the path or the JSON body, ?NAME for one
// of the query, @NAME for a header, and =NAME for the whole body. NAME:WIRE is a member that has
// another name in the request. A request with any other member is refused. Handle panics if AWS
// has no such operation or member.
func Handle[In, Out any](h *Handler, name, reads string, f func(*In) (*Out, error)) {
	path, known := Operations[name]
	if !known {
		panic(fmt.Sprintf("iotcore: AWS IoT has no operation %q", name))
	}
	all := members(reflect.TypeFor[In](), path, reads)
	lock := h.Lock
	h.operations[name] = func(r *http.Request, body []byte) (any, error) {
		in := new(In)
		if err := bind(r, body, all, reflect.ValueOf(in).Elem()); err != nil {
			return nil, err
		}
		if lock != nil {
			lock.Lock()
			defer lock.Unlock()
		}
		out, err := f(in)
		if err != nil || out == nil {
			return struct{}{}, err
		}
		return JSON(out), nil
	}
}

// Do is Handle for an operation without output.
func Do[In any](h *Handler, name, reads string, f func(*In) error) {
	Handle(h, name, reads, func(in *In) (*struct{}, error) { return nil, f(in) })
}

func (h *Handler) register(s *Service) {
	const paged, marked, ordered = " ?maxResults ?nextToken", " ?pageSize ?marker", " ?ascendingOrder:isAscendingOrder"
	Handle(h, "CreateKeysAndCertificate", "?setAsActive", s.createKeysAndCertificate)
	Do(h, "UpdateCertificate", "certificateId ?newStatus", s.updateCertificate)
	Do(h, "DeleteCertificate", "certificateId ?forceDelete", s.deleteCertificate)
	h.Lock = &s.mu
	Handle(h, "CreateThing", "thingName attributePayload", s.createThing)
	Handle(h, "DescribeThing", "thingName", s.describeThing)
	Do(h, "DeleteThing", "thingName", s.deleteThing)
	Handle(h, "ListThings", "?attributeName ?attributeValue"+paged, s.listThings)
	Handle(h, "CreateThingGroup", "thingGroupName parentGroupName thingGroupProperties", s.createThingGroup)
	Handle(h, "DescribeThingGroup", "thingGroupName", s.describeThingGroup)
	Do(h, "DeleteThingGroup", "thingGroupName", s.deleteThingGroup)
	Do(h, "AddThingToThingGroup", "thingGroupName thingName", s.addThingToThingGroup)
	Do(h, "RemoveThingFromThingGroup", "thingGroupName thingName", s.removeThingFromThingGroup)
	Handle(h, "ListThingGroupsForThing", "thingName"+paged, s.listThingGroupsForThing)
	Do(h, "AttachThingPrincipal", "thingName @principal:x-amzn-principal ?thingPrincipalType", s.attachThingPrincipal)
	Do(h, "DetachThingPrincipal", "thingName @principal:x-amzn-principal", s.detachThingPrincipal)
	Handle(h, "ListThingPrincipals", "thingName"+paged, s.listThingPrincipals)
	Handle(h, "ListPrincipalThings", "@principal:x-amzn-principal"+paged, s.listPrincipalThings)

	Handle(h, "DescribeCertificate", "certificateId", s.describeCertificate)
	Handle(h, "ListCertificates", "?pageSize ?marker"+ordered, s.listCertificates)

	Handle(h, "CreatePolicy", "policyName policyDocument tags", s.createPolicy)
	Handle(h, "GetPolicy", "policyName", s.getPolicy)
	Handle(h, "ListTagsForResource", "?resourceArn", s.listTags)
	Handle(h, "ListPolicies", "?pageSize ?marker"+ordered, s.listPolicies)
	Do(h, "DeletePolicy", "policyName", s.deletePolicy)
	Handle(h, "CreatePolicyVersion", "policyName policyDocument ?setAsDefault", s.createPolicyVersion)
	Do(h, "DeletePolicyVersion", "policyName policyVersionId", s.deletePolicyVersion)
	Do(h, "AttachPolicy", "policyName target", s.attachPolicy)
	Do(h, "DetachPolicy", "policyName target", s.detachPolicy)
	Handle(h, "GetEffectivePolicies", "principal ?thingName", s.getEffectivePolicies)

	Do(h, "CreateTopicRule", "ruleName =topicRulePayload", s.createTopicRule)
	Handle(h, "GetTopicRule", "ruleName", s.getTopicRule)
	Handle(h, "ListTopicRules", "?ruleDisabled"+paged, s.listTopicRules)
	Do(h, "ReplaceTopicRule", "ruleName =topicRulePayload", s.replaceTopicRule)
	Do(h, "DeleteTopicRule", "ruleName", s.deleteTopicRule)

	Handle(h, "DescribeEndpoint", "?endpointType", s.describeEndpoint)
}

// ServeHTTP implements http.Handler. As in AWS, a topic is the rest of the path.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if topic, ok := strings.CutPrefix(r.URL.Path, "/topics/"); ok {
		r = r.Clone(r.Context())
		r.URL.RawPath = "/topics/" + url.PathEscape(topic)
	}
	h.mux.ServeHTTP(w, r)
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request, name string) {
	out, err := h.serve(w, r, name)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Requestid", newUUID())
	if err != nil {
		writeError(w, err)
		return
	}
	json.NewEncoder(w).Encode(out) // an error means that the client has disconnected
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, name string) (any, error) {
	do, ok := h.operations[name]
	switch {
	case name == "":
		return nil, errUnknownHere.new("AWS IoT has no operation %s %s", r.Method, r.URL.Path)
	case !ok:
		return nil, errUnknownHere.new("the operation %s is not supported by the local AWS IoT", name)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, errTooLarge.new("the request body cannot be read or is larger than %d bytes: %v", maxBody, err)
	}
	return do(r, body)
}

func writeError(w http.ResponseWriter, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = errInternal.new("%v", err)
	}
	w.Header().Set("X-Amzn-Errortype", e.Code)
	w.WriteHeader(e.Status)
	json.NewEncoder(w).Encode(struct {
		Message     string `json:"message"`
		ResourceARN string `json:"resourceArn,omitempty"`
		ResourceID  string `json:"resourceId,omitempty"`
	}{e.Message, e.ResourceARN, e.ResourceID})
}
