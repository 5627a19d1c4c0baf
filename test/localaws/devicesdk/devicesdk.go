// Package devicesdk runs devices that speak through AWS's own device SDK, as peers that
// nobody here wrote.
package devicesdk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed package.json package-lock.json peer.js
var peer embed.FS

// Device is what one device does: it connects, publishes, and disconnects.
type Device struct {
	Version     int    `json:"version"` // of MQTT: 3 or 5
	Host        string `json:"host"`
	Port        int    `json:"port"`
	ClientID    string `json:"clientId"`
	Certificate string `json:"certificate"` // PEM, as Key and RootCA
	Key         string `json:"key"`
	RootCA      string `json:"rootCA"`
	Topic       string `json:"topic"`
	Payload     string `json:"payload"`
	// Subscribe is a topic filter on which the device waits for one message before it
	// disconnects; "" for none.
	Subscribe string `json:"subscribe"`
}

// Result is what the device saw.
type Result struct {
	Connected bool
	// ReasonCode is that of the PUBACK, or of the CONNACK where it was not connected;
	// always 0 with MQTT 3.
	ReasonCode int
	Received   string
	MaximumQoS *int // MQTT 5 only
	Error      string
}

// Start starts the device; the function waits for its end.
func (d Device) Start(ctx context.Context) (func() (Result, error), error) {
	installed, err := install(ctx)
	if err != nil {
		return nil, err
	}
	input, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "node", "peer.js")
	cmd.Dir = installed
	cmd.Stdin = bytes.NewReader(input)
	var out, failure strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &failure
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() (r Result, err error) {
		if err := cmd.Wait(); err != nil {
			return r, fmt.Errorf("device %s with MQTT %d: %w: %s", d.ClientID, d.Version, err, failure.String())
		}
		return r, json.Unmarshal([]byte(out.String()), &r)
	}, nil
}

// install returns a folder with the device's program and its node_modules, from the
// user's cache when it is there.
func install(ctx context.Context) (string, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("npm is not on PATH: AWS's device SDK cannot be installed; install Node.js (package.json pins a version) and put it on PATH")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, name := range []string{"package-lock.json", "peer.js"} {
		content, err := fs.ReadFile(peer, name)
		if err != nil {
			return "", err
		}
		sum.Write(content)
	}
	installed := filepath.Join(cache, "defenderhub", "devicesdk-"+hex.EncodeToString(sum.Sum(nil)[:8]))
	if _, err := os.Stat(installed); err == nil {
		return installed, nil
	}
	// Two tests may install at once: each does it beside, the first to rename wins.
	if err := os.MkdirAll(filepath.Dir(installed), 0o755); err != nil {
		return "", err
	}
	beside, err := os.MkdirTemp(filepath.Dir(installed), "devicesdk-new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(beside)
	if err := os.CopyFS(beside, peer); err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	command.Dir = beside
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci of AWS's device SDK: %w\n%s", err, out)
	}
	if err := os.Rename(beside, installed); err != nil {
		if _, there := os.Stat(installed); there != nil {
			return "", err
		}
	}
	return installed, nil
}
