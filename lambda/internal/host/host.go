// Package host holds what a function finds where it runs. In AWS that is its process; a
// simulation gives each function another one.
package host

import (
	"io"
	"log/slog"
	"strings"
	"time"
)

// Host is all of it. All fields are needed.
type Host struct {
	// Environ are the environment variables, as "NAME=value".
	Environ []string
	// Now is the machine's clock.
	Now func() time.Time
	// Metrics and Log take a line of JSON for each entry.
	Metrics, Log io.Writer
}

// Getenv is the value of an environment variable, "" where it is not set.
func (h Host) Getenv(name string) string {
	for _, variable := range h.Environ {
		if value, ok := strings.CutPrefix(variable, name+"="); ok {
			return value
		}
	}
	return ""
}

// Logger writes to Log what is of a level or above it.
func (h Host) Logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(h.Log, &slog.HandlerOptions{Level: level}))
}
