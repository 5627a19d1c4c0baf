// Package host has the environment in which a function runs. In AWS that is its process; a
// simulation gives each function its own.
package host

import (
	"io"
	"log/slog"
	"strings"
	"time"
)

// Host is the environment of a function. All fields are required.
type Host struct {
	// Environ are the environment variables, as "NAME=value".
	Environ []string
	// Now is the machine's clock.
	Now func() time.Time
	// Metrics and Log receive one line of JSON per entry.
	Metrics, Log io.Writer
}

// Getenv returns the value of an environment variable, "" if it is not set.
func (h Host) Getenv(name string) string {
	for _, variable := range h.Environ {
		if value, ok := strings.CutPrefix(variable, name+"="); ok {
			return value
		}
	}
	return ""
}

// Logger writes entries of this level or above to Log.
func (h Host) Logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(h.Log, &slog.HandlerOptions{Level: level}))
}
