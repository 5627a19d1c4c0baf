package iotcore

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxBody bounds a request's body, in bytes: the largest legal ones are policy
// documents of 404,600 characters and payloads of 128 KB.
const maxBody = 1 << 20

// operationsText has a line for each operation of the API models iot and
// iot-data 2015-05-28: name, method, path. With it the handler can name what it
// does not know.
//
//go:embed operations.txt
var operationsText string

// Handler serves the API of a Service and of the data plane.
type Handler struct {
	routes     []route
	operations map[string]operation
}

type operation func(r *http.Request, uri map[string]string, body []byte) (any, error)

type route struct {
	operation, method string
	segments          []string
}

// NewHandler returns the handler of a service and of the data plane that
// belongs to it. Without a data plane (nil), its operations are not known.
func NewHandler(s *Service, data DataPlane) *Handler {
	h := &Handler{operations: map[string]operation{}}
	for line := range strings.Lines(operationsText) {
		f := strings.Fields(line)
		h.routes = append(h.routes, route{operation: f[0], method: f[1], segments: strings.Split(f[2][1:], "/")})
	}
	h.registerThings(s)
	h.registerCertificates(s)
	h.registerPolicies(s)
	h.registerRules(s)
	if data != nil {
		h.registerDataPlane(data)
	}
	return h
}

// Handle adds an operation of the API to the handler, such as one of Device
// Defender's. In is a struct whose fields have one of the tags uri, query,
// header, payload or json; Out is encoded as JSON. An *Error is answered as AWS
// answers it. Handle panics when AWS has no operation of that name.
func Handle[In, Out any](h *Handler, name string, f func(*In) (*Out, error)) {
	if !strings.Contains("\n"+operationsText, "\n"+name+" ") {
		panic(fmt.Sprintf("iotcore: AWS IoT has no operation %q", name))
	}
	h.operations[name] = func(r *http.Request, uri map[string]string, body []byte) (any, error) {
		in := new(In)
		if err := bind(r, uri, body, in); err != nil {
			return nil, err
		}
		out, err := f(in)
		if err != nil {
			return nil, err
		}
		if out == nil {
			return struct{}{}, nil
		}
		return out, nil
	}
}

func (h *Handler) registerThings(s *Service) {
	Handle(h, "CreateThing", s.CreateThing)
	Handle(h, "DescribeThing", s.DescribeThing)
	Handle(h, "UpdateThing", s.UpdateThing)
	Handle(h, "DeleteThing", s.DeleteThing)
	Handle(h, "ListThings", s.ListThings)
	Handle(h, "CreateThingGroup", s.CreateThingGroup)
	Handle(h, "DescribeThingGroup", s.DescribeThingGroup)
	Handle(h, "UpdateThingGroup", s.UpdateThingGroup)
	Handle(h, "DeleteThingGroup", s.DeleteThingGroup)
	Handle(h, "ListThingGroups", s.ListThingGroups)
	Handle(h, "AddThingToThingGroup", s.AddThingToThingGroup)
	Handle(h, "RemoveThingFromThingGroup", s.RemoveThingFromThingGroup)
	Handle(h, "ListThingsInThingGroup", s.ListThingsInThingGroup)
	Handle(h, "ListThingGroupsForThing", s.ListThingGroupsForThing)
	Handle(h, "AttachThingPrincipal", s.AttachThingPrincipal)
	Handle(h, "DetachThingPrincipal", s.DetachThingPrincipal)
	Handle(h, "ListThingPrincipals", s.ListThingPrincipals)
	Handle(h, "ListThingPrincipalsV2", s.ListThingPrincipalsV2)
	Handle(h, "ListPrincipalThings", s.ListPrincipalThings)
	Handle(h, "ListPrincipalThingsV2", s.ListPrincipalThingsV2)
	Handle(h, "TagResource", s.TagResource)
	Handle(h, "UntagResource", s.UntagResource)
	Handle(h, "ListTagsForResource", s.ListTagsForResource)
}

func (h *Handler) registerCertificates(s *Service) {
	Handle(h, "CreateKeysAndCertificate", s.CreateKeysAndCertificate)
	Handle(h, "RegisterCertificateWithoutCA", s.RegisterCertificateWithoutCA)
	Handle(h, "UpdateCertificate", s.UpdateCertificate)
	Handle(h, "DescribeCertificate", s.DescribeCertificate)
	Handle(h, "ListCertificates", s.ListCertificates)
	Handle(h, "DeleteCertificate", s.DeleteCertificate)
}

func (h *Handler) registerPolicies(s *Service) {
	Handle(h, "CreatePolicy", s.CreatePolicy)
	Handle(h, "GetPolicy", s.GetPolicy)
	Handle(h, "ListPolicies", s.ListPolicies)
	Handle(h, "DeletePolicy", s.DeletePolicy)
	Handle(h, "CreatePolicyVersion", s.CreatePolicyVersion)
	Handle(h, "GetPolicyVersion", s.GetPolicyVersion)
	Handle(h, "ListPolicyVersions", s.ListPolicyVersions)
	Handle(h, "DeletePolicyVersion", s.DeletePolicyVersion)
	Handle(h, "SetDefaultPolicyVersion", s.SetDefaultPolicyVersion)
	Handle(h, "AttachPolicy", s.AttachPolicy)
	Handle(h, "DetachPolicy", s.DetachPolicy)
	Handle(h, "ListAttachedPolicies", s.ListAttachedPolicies)
	Handle(h, "ListTargetsForPolicy", s.ListTargetsForPolicy)
	Handle(h, "GetEffectivePolicies", s.GetEffectivePolicies)
	Handle(h, "AttachPrincipalPolicy", s.AttachPrincipalPolicy)
	Handle(h, "DetachPrincipalPolicy", s.DetachPrincipalPolicy)
	Handle(h, "ListPrincipalPolicies", s.ListPrincipalPolicies)
	Handle(h, "ListPolicyPrincipals", s.ListPolicyPrincipals)
}

func (h *Handler) registerRules(s *Service) {
	Handle(h, "CreateTopicRule", s.CreateTopicRule)
	Handle(h, "GetTopicRule", s.GetTopicRule)
	Handle(h, "ListTopicRules", s.ListTopicRules)
	Handle(h, "ReplaceTopicRule", s.ReplaceTopicRule)
	Handle(h, "DeleteTopicRule", s.DeleteTopicRule)
	Handle(h, "EnableTopicRule", s.EnableTopicRule)
	Handle(h, "DisableTopicRule", s.DisableTopicRule)
	Handle(h, "DescribeEndpoint", s.DescribeEndpoint)
	Handle(h, "GetV2LoggingOptions", s.GetV2LoggingOptions)
	Handle(h, "SetV2LoggingOptions", s.SetV2LoggingOptions)
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out, err := h.serve(w, r)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Requestid", newUUID())
	if err != nil {
		writeError(w, err)
		return
	}
	json.NewEncoder(w).Encode(out) // a client that is gone needs no answer
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) (any, error) {
	found, uri, err := h.find(r)
	if err != nil {
		return nil, err
	}
	do, ok := h.operations[found]
	if !ok {
		return nil, errUnknownHere.new("the operation %s is not known to the local AWS IoT", found)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, errTooLarge.new("the request body cannot be read or is larger than %d bytes: %v", maxBody, err)
	}
	return do(r, uri, body)
}

// find returns the operation of a request. The path with the most fixed
// segments wins; a topic takes the rest of the path, as AWS lets it.
func (h *Handler) find(r *http.Request) (name string, uri map[string]string, err error) {
	path := strings.TrimSuffix(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	parts := strings.Split(path, "/")
	best, pathKnown := -1, false
	for _, route := range h.routes {
		values, fixed, ok := route.match(parts)
		if !ok {
			continue
		}
		pathKnown = true
		if route.method == r.Method && fixed > best {
			best, name, uri = fixed, route.operation, values
		}
	}
	switch {
	case best >= 0:
		return name, uri, nil
	case pathKnown:
		return "", nil, errMethodNotAllowed.new("%s is not supported on %s", r.Method, r.URL.Path)
	}
	return "", nil, errUnknownHere.new("no operation of AWS IoT known here has the form %s %s", r.Method, r.URL.Path)
}

func (r route) match(parts []string) (values map[string]string, fixed int, ok bool) {
	values = map[string]string{}
	for i, segment := range r.segments {
		if i >= len(parts) {
			return nil, 0, false
		}
		if !strings.HasPrefix(segment, "{") {
			if segment != parts[i] {
				return nil, 0, false
			}
			fixed++
			continue
		}
		name := strings.Trim(segment, "{+}")
		text := parts[i]
		if rest := i == len(r.segments)-1 && (name == "topic" || strings.HasSuffix(segment, "+}")); rest {
			text = strings.Join(parts[i:], "/")
			parts = parts[:i+1]
		}
		value, err := url.PathUnescape(text)
		if err != nil || value == "" {
			return nil, 0, false
		}
		values[name] = value
	}
	return values, fixed, len(parts) == len(r.segments)
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
