// Package edge is the one address of the local AWS, the value of AWS_ENDPOINT_URL: it
// reads from each request's signature which service is meant, hands it to the handler
// registered for that service, and passes everything else to the emulator.
package edge

import (
	"net/http"
	"strings"
	"sync"
)

// Internal is the path under which the local AWS answers itself: the resource
// providers and the response URLs of custom resources. No S3 bucket can be named so.
const Internal = "/_localaws/"

// Edge routes requests. Its zero value refuses everything but what is registered.
type Edge struct {
	mu       sync.RWMutex
	services map[string]http.Handler
	internal map[string]http.Handler
	emulator http.Handler
	emulated map[string]bool
}

// SetEmulator sets what answers unsigned requests, and those for the services that are
// named and that nobody registered for. A service that is not named is refused.
func (e *Edge) SetEmulator(h http.Handler, services ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.emulator, e.emulated = h, map[string]bool{}
	for _, s := range services {
		e.emulated[s] = true
	}
}

// Handle makes h the whole service, named as signatures name it: "securityhub".
func (e *Edge) Handle(service string, h http.Handler) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.services == nil {
		e.services = map[string]http.Handler{}
	}
	e.services[service] = h
}

// Wrap puts a handler before what answers service so far, the emulator included. It
// answers some operations itself and hands the others to next.
func (e *Edge) Wrap(service string, wrap func(next http.Handler) http.Handler) {
	e.mu.RLock()
	next := e.services[service]
	e.mu.RUnlock()
	if next == nil {
		next = http.HandlerFunc(e.serveEmulator)
	}
	e.Handle(service, wrap(next))
}

// HandleInternal answers Internal + name, and all below it, which needs no signature.
// It returns the path.
func (e *Edge) HandleInternal(name string, h http.Handler) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.internal == nil {
		e.internal = map[string]http.Handler{}
	}
	e.internal[name] = h
	return Internal + name
}

// ServeHTTP implements http.Handler.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rest, ok := strings.CutPrefix(r.URL.Path, Internal); ok {
		name, _, _ := strings.Cut(rest, "/")
		e.mu.RLock()
		h := e.internal[name]
		e.mu.RUnlock()
		if h == nil {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
		return
	}
	if scope, ok := ScopeOf(r); ok {
		e.mu.RLock()
		h := e.services[scope.Service]
		e.mu.RUnlock()
		if h != nil {
			h.ServeHTTP(w, r)
			return
		}
	}
	e.serveEmulator(w, r)
}

func (e *Edge) serveEmulator(w http.ResponseWriter, r *http.Request) {
	e.mu.RLock()
	h := e.emulator
	scope, signed := ScopeOf(r)
	known := !signed || e.emulated[scope.Service]
	e.mu.RUnlock()
	switch {
	case h == nil:
		Refuse(w, r, "no emulator runs")
		return
	case !known:
		Refuse(w, r, "it has no service "+scope.Service)
		return
	}
	h.ServeHTTP(w, r)
}

// Scope is what a signature says a request is for.
type Scope struct {
	AccessKey string
	Region    string
	Service   string
}

// ScopeOf reads the credential scope from the Authorization header or, for presigned
// URLs, from the query. ok is false for an unsigned request. Signatures are not
// verified.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
func ScopeOf(r *http.Request) (scope Scope, ok bool) {
	if auth := r.Header.Get("Authorization"); auth != "" {
		algorithm, rest, _ := strings.Cut(auth, " ")
		if !strings.HasPrefix(algorithm, "AWS4-") {
			return Scope{}, false
		}
		for part := range strings.SplitSeq(rest, ",") {
			if credential, found := strings.CutPrefix(strings.TrimSpace(part), "Credential="); found {
				return parseCredential(credential)
			}
		}
		return Scope{}, false
	}
	return parseCredential(r.URL.Query().Get("X-Amz-Credential"))
}

// parseCredential reads KEY/DATE/REGION/SERVICE/aws4_request, or the form of
// multi-Region signatures, which names no Region.
func parseCredential(credential string) (Scope, bool) {
	parts := strings.Split(credential, "/")
	n := len(parts)
	if n < 4 || parts[n-1] != "aws4_request" || parts[n-2] == "" {
		return Scope{}, false
	}
	scope := Scope{Service: strings.ToLower(parts[n-2])}
	key := parts[:n-3]
	if n >= 5 {
		scope.Region, key = parts[n-3], parts[:n-4]
	}
	scope.AccessKey = strings.Join(key, "/")
	return scope, true
}
