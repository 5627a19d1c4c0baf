package awsapi

import (
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// HTTPClient is for the clients of an AWS SDK whose services run on the same machine. The
// SDK closes a request's body as soon as headers answer it, and smithy-go 1.28.9's WriteTo
// then returns io.EOF in place of nil: net/http drops the connection under an answer that
// is still being read, and the SDK repeats a call that was done. Messages that the lost
// answer held stay hidden, and come twice. HTTPClient hides WriteTo.
var HTTPClient aws.HTTPClient = plainBody{awshttp.NewBuildableClient()}

type plainBody struct{ client aws.HTTPClient }

func (p plainBody) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return p.client.Do(r)
}
