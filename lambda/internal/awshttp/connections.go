// Package awshttp is the HTTP client with which the functions call AWS.
package awshttp

import (
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// Client keeps the connections of so many calls that run at once to one service. The SDK's own
// client keeps ten: of more calls most begin with a handshake, which takes the processor longer
// than the call.
func Client(atOnce int) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost, t.MaxIdleConns = atOnce, 0 // of all hosts as many as they need
	})
}
