package devicedefender

import (
	"fmt"
	"net/http"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// The status codes are those of the API model iot 2015-05-28, 410 for an exceeded
// limit included.

func invalidRequest(format string, args ...any) error {
	return iotcore.InvalidRequest(format, args...)
}

func notFound(format string, args ...any) error {
	return &iotcore.Error{Code: "ResourceNotFoundException", Status: http.StatusNotFound, Message: fmt.Sprintf(format, args...)}
}

func limitExceeded(format string, args ...any) error {
	return &iotcore.Error{Code: "LimitExceededException", Status: http.StatusGone, Message: fmt.Sprintf(format, args...)}
}

func alreadyExists(id, arn, format string, args ...any) error {
	return &iotcore.Error{
		Code: "ResourceAlreadyExistsException", Status: http.StatusConflict, Message: fmt.Sprintf(format, args...),
		ResourceID: id, ResourceARN: arn,
	}
}
