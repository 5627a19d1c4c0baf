// Package host has the environment in which a function runs. In AWS that is its process; a
// simulation gives each function its own.
package host

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// Host is the environment of a function. Fields without a default are required.
type Host struct {
	// Environ are the environment variables, as "NAME=value".
	Environ []string
	// Now is the machine's clock.
	Now func() time.Time
	// Metrics and Log receive one line of JSON per entry.
	Metrics, Log io.Writer
	// Random returns a number in [0, n), for the waits between attempts.
	// Default: math/rand/v2.
	Random func(n int64) int64
	// Program identifies the build of the function's program.
	// Default: a hash of the running executable.
	Program string
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

// LogLevel returns the level in the variable [contract.EnvLogLevel]; INFO if it is not set.
func LogLevel(getenv func(string) string) (level slog.Level, err error) {
	text := getenv(contract.EnvLogLevel)
	if text == "" {
		return slog.LevelInfo, nil
	}
	if err := level.UnmarshalText([]byte(text)); err != nil {
		return level, fmt.Errorf("environment variable %s is %q, want DEBUG, INFO, WARN or ERROR", contract.EnvLogLevel, text)
	}
	return level, nil
}

// Logger writes entries of this level or above to Log.
func (h Host) Logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(h.Log, &slog.HandlerOptions{Level: level}))
}

// ExitOn ends the process of a function with an error, unless it is nil.
func ExitOn(function string, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, function+":", err)
		os.Exit(1)
	}
}
