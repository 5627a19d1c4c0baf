package edge

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
)

// Emulator passes requests to the emulator at base. It keeps the Host header, from which the
// emulator reads the names of S3 buckets. If the emulator crashes because it does not know an
// operation, the answer names the operation, with a status that no SDK retries.
func Emulator(base *url.URL) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(base)
			p.Out.Host = p.In.Host
		},
		FlushInterval: -1,
		ModifyResponse: func(resp *http.Response) error {
			// The emulator answers HTML only if it fails: a traceback, or no route.
			html := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html")
			if !html || resp.StatusCode != http.StatusNotFound && resp.StatusCode < 500 {
				return nil
			}
			page, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
			resp.Body.Close()
			if err != nil {
				return err
			}
			code, contentType, body := refusal(resp.Request, emulatorReason(page))
			resp.StatusCode, resp.Status = http.StatusNotImplemented, ""
			resp.Header = http.Header{"Content-Type": {contentType}, "X-Amzn-Errortype": {code}, "Content-Length": {strconv.Itoa(len(body))}}
			resp.ContentLength = int64(len(body))
			resp.Body = io.NopCloser(bytes.NewReader(body))
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				return // the caller has disconnected
			}
			Refuse(w, r, "the emulator did not answer: "+err.Error())
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// If an answer begins before the proxy has read the whole body, the server closes the body
		// and the proxy cuts the answer off. The caller would then repeat a call that succeeded.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the caller has disconnected
		}
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		proxy.ServeHTTP(w, r)
	})
}

// emulatorReason returns the exception of a traceback page, which is in its title.
func emulatorReason(page []byte) string {
	_, rest, ok := bytes.Cut(page, []byte("<title>"))
	title, _, ok2 := bytes.Cut(rest, []byte("\n"))
	if !ok || !ok2 {
		return "the emulator failed"
	}
	title, _, _ = bytes.Cut(title, []byte("</title>"))
	return "the emulator says " + strings.TrimSpace(string(title))
}

// maximumBody is above the longest request of any service.
const maximumBody = 32 << 20

// Body reads a request's body. The body can be read again.
func Body(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maximumBody))
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, err
}

// Refuse answers that the local AWS does not support the operation, which it names.
func Refuse(w http.ResponseWriter, r *http.Request, reason string) {
	code, contentType, body := refusal(r, reason)
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Amzn-Errortype", code)
	w.WriteHeader(http.StatusNotImplemented)
	w.Write(body)
}

func refusal(r *http.Request, reason string) (code, contentType string, body []byte) {
	code = "NotImplemented"
	message := fmt.Sprintf("the local AWS does not support %s: %s", Operation(r), reason)
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		var text bytes.Buffer
		xml.EscapeText(&text, []byte(message))
		return code, "text/xml", fmt.Appendf(nil, "<ErrorResponse><Error><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>", code, text.Bytes())
	}
	body, _ = json.Marshal(map[string]string{"__type": code, "message": message}) // strings always encode
	return code, "application/json", body
}

// Operation names the operation of a request, as far as its protocol shows it.
func Operation(r *http.Request) string {
	service := "the unsigned request"
	if scope, ok := ScopeOf(r); ok {
		service = scope.Service
	}
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		return service + " " + target
	}
	return service + " " + r.Method + " " + r.URL.Path
}

// OneAtATime serves one request at a time. In the emulator, two concurrent conditional writes
// would both succeed, and two concurrent records would get the same sequence number, so that one
// is lost.
func OneAtATime(next http.Handler) http.Handler {
	var mu sync.Mutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		next.ServeHTTP(w, r)
	})
}
