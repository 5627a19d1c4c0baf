package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/lambda/internal/retry"
)

// errNoTime wraps the last error of a call that may succeed later.
var errNoTime = errors.New("no time left")

// call calls AWS IoT until it succeeds, fails permanently, or the time is over.
func (w *work) call(ctx context.Context, f func() error) error {
	backoff := retry.Backoff{First: 200 * time.Millisecond, Longest: 5 * time.Second, Random: w.Random}
	for failures := 1; ; failures++ {
		err := f()
		if err == nil || lasting(err) {
			return err
		}
		if !backoff.Wait(ctx, failures) {
			return fmt.Errorf("%w after: %w", errNoTime, err)
		}
	}
}

// lasting reports whether an error of AWS IoT is permanent.
func lasting(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode() {
	case "InvalidRequestException", "ResourceNotFoundException",
		"UnauthorizedException", "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException":
		return true
	}
	return false
}

// invalid reports whether AWS IoT says that the resource, or this page of it, does not exist.
func invalid(err error) bool {
	var request *types.InvalidRequestException
	var gone *types.ResourceNotFoundException
	return errors.As(err, &request) || errors.As(err, &gone)
}
