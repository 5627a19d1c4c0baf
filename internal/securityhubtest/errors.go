package securityhubtest

import (
	"fmt"
	"net/http"
)

// Error is an error of the API.
type Error struct {
	Code    string // "InvalidInputException"
	Status  int    // the HTTP status; 0 means 400
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Throttled returns the error of a call over the rate limits.
func Throttled() *Error {
	return &Error{"LimitExceededException", http.StatusTooManyRequests, "Rate exceeded"}
}

// Unavailable returns the error of a service that fails.
func Unavailable() *Error {
	return &Error{"InternalException", http.StatusInternalServerError, "Internal server error"}
}

func invalidInput(format string, args ...any) error {
	return &Error{"InvalidInputException", http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func accessDenied(format string, args ...any) error {
	return &Error{"AccessDeniedException", http.StatusForbidden, fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &Error{"ResourceConflictException", http.StatusConflict, fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &Error{"ResourceNotFoundException", http.StatusNotFound, fmt.Sprintf(format, args...)}
}

func limitExceeded(format string, args ...any) error {
	return &Error{"LimitExceededException", http.StatusTooManyRequests, fmt.Sprintf(format, args...)}
}

func notSubscribed(account string) error {
	return &Error{"InvalidAccessException", http.StatusUnauthorized,
		"Account " + account + " is not subscribed to AWS Security Hub"}
}
