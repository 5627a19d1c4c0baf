package iotcore

import (
	"fmt"
	"net/http"
)

// Error is an answer of AWS IoT that is not a success.
type Error struct {
	Code    string // such as "ResourceNotFoundException"
	Status  int    // HTTP status
	Message string
	// ResourceARN and ResourceID tell of the resource that exists already.
	ResourceARN, ResourceID string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// The status codes are those of the API models iot and iot-data 2015-05-28.
var (
	errInvalidRequest   = errorKind{"InvalidRequestException", http.StatusBadRequest}
	errNotFound         = errorKind{"ResourceNotFoundException", http.StatusNotFound}
	errAlreadyExists    = errorKind{"ResourceAlreadyExistsException", http.StatusConflict}
	errUnauthorized     = errorKind{"UnauthorizedException", http.StatusUnauthorized}
	errDeleteConflict   = errorKind{"DeleteConflictException", http.StatusConflict}
	errVersionConflict  = errorKind{"VersionConflictException", http.StatusConflict}
	errVersionsLimit    = errorKind{"VersionsLimitExceededException", http.StatusConflict}
	errMalformedPolicy  = errorKind{"MalformedPolicyException", http.StatusBadRequest}
	errCertificateState = errorKind{"CertificateStateException", http.StatusNotAcceptable}
	errSQLParse         = errorKind{"SqlParseException", http.StatusBadRequest}
	errNotConfigured    = errorKind{"NotConfiguredException", http.StatusNotFound}
	errTooLarge         = errorKind{"RequestEntityTooLargeException", http.StatusRequestEntityTooLarge}
	errMethodNotAllowed = errorKind{"MethodNotAllowedException", http.StatusMethodNotAllowed}
	errInternal         = errorKind{"InternalFailureException", http.StatusInternalServerError}

	// errUnknownHere is no AWS code: it says that AWS may know something that
	// this service does not.
	errUnknownHere = errorKind{"NotImplementedException", http.StatusNotImplemented}
)

type errorKind struct {
	code   string
	status int
}

func (k errorKind) new(format string, args ...any) *Error {
	return &Error{Code: k.code, Status: k.status, Message: fmt.Sprintf(format, args...)}
}

// of is new for a resource that exists already.
func (k errorKind) of(id, arn, format string, args ...any) *Error {
	e := k.new(format, args...)
	e.ResourceID, e.ResourceARN = id, arn
	return e
}
