package edge

import (
	"net/http"
	"net/url"
	"strings"
)

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
	return parseCredential(queryValue(r.URL, "X-Amz-Credential"))
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

func queryValue(u *url.URL, key string) string {
	if !strings.Contains(u.RawQuery, key) {
		return ""
	}
	return u.Query().Get(key)
}
