// Package edge is the one address of the local AWS, the value of AWS_ENDPOINT_URL. It reads the
// service from each request's signature, calls the handler of that service, and passes all other
// requests to the emulator.
package edge

import (
	"net/http"
	"regexp"
	"strings"
	"sync"
)

// Internal is the path of the local AWS's own pages, such as the response URLs of custom
// resources. No S3 bucket can have this name.
const Internal = "/_localaws/"

// Edge routes requests. Its zero value refuses everything that is not registered.
type Edge struct {
	mu       sync.RWMutex
	services map[string]http.Handler
	internal http.ServeMux
	emulator http.Handler
	emulated map[string]bool
}

// SetEmulator sets the handler of unsigned requests, and of these services if they have no
// handler of their own. Requests for other services are refused.
func (e *Edge) SetEmulator(h http.Handler, services ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.emulator, e.emulated = h, map[string]bool{}
	for _, s := range services {
		e.emulated[s] = true
	}
}

// Handle makes h the handler of a service, which has the name that signatures use:
// "securityhub".
func (e *Edge) Handle(service string, h http.Handler) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.services == nil {
		e.services = map[string]http.Handler{}
	}
	e.services[service] = h
}

// Wrap puts a handler in front of the service's present one, which may be the emulator. It
// answers some operations itself and passes the others to next.
func (e *Edge) Wrap(service string, wrap func(next http.Handler) http.Handler) {
	e.Handle(service, wrap(e.handler(service)))
}

func (e *Edge) handler(service string) http.Handler {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if h := e.services[service]; h != nil {
		return h
	}
	return http.HandlerFunc(e.serveEmulator)
}

// HandleInternal makes h the handler of the path [Internal] + name and of all paths below it,
// which need no signature. It returns the path.
func (e *Edge) HandleInternal(name string, h http.Handler) string {
	e.internal.Handle(Internal+name, h)
	e.internal.Handle(Internal+name+"/", h)
	return Internal + name
}

// ServeHTTP implements http.Handler.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, Internal) {
		e.internal.ServeHTTP(w, r)
		return
	}
	scope, _ := ScopeOf(r)
	e.handler(scope.Service).ServeHTTP(w, r)
}

func (e *Edge) serveEmulator(w http.ResponseWriter, r *http.Request) {
	scope, signed := ScopeOf(r)
	e.mu.RLock()
	h, known := e.emulator, !signed || e.emulated[scope.Service]
	e.mu.RUnlock()
	switch {
	case h == nil:
		Refuse(w, r, "no emulator runs")
	case !known:
		Refuse(w, r, "it has no service "+scope.Service)
	default:
		h.ServeHTTP(w, r)
	}
}

// Scope is the credential scope of a signature.
type Scope struct {
	AccessKey string
	Region    string
	Service   string
}

// credential is KEY/DATE/REGION/SERVICE/aws4_request. Signatures for several Regions have no
// REGION.
var credential = regexp.MustCompile(`^(.+?)/\d{8}(?:/([^/]+))?/([^/]+)/aws4_request$`)

// ScopeOf reads the credential scope from the Authorization header or, for presigned URLs, from
// the query. ok is false for an unsigned request. It does not verify signatures.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
func ScopeOf(r *http.Request) (scope Scope, ok bool) {
	text := r.URL.Query().Get("X-Amz-Credential")
	if header := r.Header.Get("Authorization"); header != "" {
		_, text, _ = strings.Cut(header, "Credential=")
		text, _, _ = strings.Cut(text, ",")
	}
	m := credential.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return Scope{}, false
	}
	return Scope{AccessKey: m[1], Region: m[2], Service: strings.ToLower(m[3])}, true
}
