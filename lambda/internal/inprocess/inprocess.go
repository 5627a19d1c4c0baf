// Package inprocess connects AWS SDK clients in tests to an http.Handler without a network, so
// that testing/synctest can control time.
package inprocess

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Config returns the configuration of clients that send all requests to handler and do not retry.
// The access key is AKID followed by the account.
func Config(handler http.Handler, account, region string) aws.Config {
	return aws.Config{
		Region:           region,
		BaseEndpoint:     aws.String("http://localhost"),
		Credentials:      credentials.NewStaticCredentialsProvider("AKID"+account, "secret", ""),
		RetryMaxAttempts: 1,
		HTTPClient:       client{handler},
	}
}

type client struct{ handler http.Handler }

// errAborted is what a client gets if the connection breaks.
var errAborted = errors.New("connection reset by peer")

// Do calls the handler. If the handler aborts, Do returns an error, as for a broken connection.
func (c client) Do(r *http.Request) (response *http.Response, err error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	var body []byte
	if r.Body != nil {
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	served := r.Clone(r.Context())
	served.Body = io.NopCloser(bytes.NewReader(body))
	served.RequestURI = r.URL.RequestURI()
	recorder := httptest.NewRecorder()
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				panic(p)
			}
			response, err = nil, errAborted
		}
	}()
	c.handler.ServeHTTP(recorder, served)
	response = recorder.Result()
	response.Request = r
	return response, nil
}
