package awshttp_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/defenderhub/defenderhub/lambda/internal/awshttp"
)

// Later calls reuse the connections of concurrent calls.
func TestConnectionsAreKept(t *testing.T) {
	const atOnce = 64
	var opened, arrived atomic.Int64
	all := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if arrived.Add(1)%atOnce == 0 {
			close(all)
		}
		<-all
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	client := awshttp.Client(atOnce)
	for range 3 {
		all = make(chan struct{})
		var calls sync.WaitGroup
		for range atOnce {
			calls.Go(func() {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
				if err != nil {
					t.Error(err)
					return
				}
				answer, err := client.Do(request)
				if err != nil {
					t.Error(err)
					return
				}
				answer.Body.Close()
			})
		}
		calls.Wait()
	}
	// On a busy machine a connection may be closed although its answer was read. Without the client's
	// limits, two of three calls would open one.
	if n := opened.Load(); n < atOnce || n >= 2*atOnce {
		t.Errorf("%d connections were opened for %d concurrent calls, want one for each", n, atOnce)
	}
}
