package awsapi_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
)

// sdkBody has a WriteTo that returns io.EOF, like the body of an SDK's request.
type sdkBody struct {
	*strings.Reader
	t *testing.T
}

func (b sdkBody) WriteTo(io.Writer) (int64, error) {
	b.t.Error("net/http called WriteTo, which HTTPClient should hide")
	return 0, io.EOF
}

func (sdkBody) Close() error { return nil }

func TestHTTPClientHidesWriteToOfTheBody(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	}))
	defer server.Close()
	request, err := http.NewRequest(http.MethodPost, server.URL, sdkBody{strings.NewReader("whole"), t})
	if err != nil {
		t.Fatal(err)
	}
	request.ContentLength = int64(len("whole"))
	response, err := awsapi.HTTPClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got, err := io.ReadAll(response.Body); err != nil || string(got) != "whole" {
		t.Errorf("got %q, error %v, want the body that was sent", got, err)
	}
}
