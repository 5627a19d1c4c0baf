// Package awshttp returns the HTTP client with which the functions call AWS.
package awshttp

import (
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// Client returns a client that keeps enough connections for atOnce concurrent calls to one service.
// The SDK's default keeps ten: with more calls, most begin with a TLS handshake, which takes more
// CPU than the call.
func Client(atOnce int) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost, t.MaxIdleConns = atOnce, 0 // no limit across hosts
	})
}
