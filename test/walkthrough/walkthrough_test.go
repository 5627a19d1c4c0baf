package walkthrough_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/offline"
	"github.com/defenderhub/defenderhub/test/walkthrough"
)

func options(t *testing.T, out io.Writer) walkthrough.Options {
	t.Helper()
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return walkthrough.Options{Out: io.MultiWriter(out, t.Output()), Repository: repository}
}

// TestStory checks the demo's promises: each signal is in Security Hub, fixed problems are
// archived, and messages that cannot be imported are in the dead-letter queue.
func TestStory(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	var out, recording bytes.Buffer
	o := options(t, &out)
	o.Record = &recording
	o.Command, o.Report = filepath.Join(t.TempDir(), "defenderhub"), filepath.Join(t.TempDir(), "report.html")
	build := exec.CommandContext(ctx, "go", "build", "-o", o.Command, ".")
	build.Dir, build.Env = filepath.Join(o.Repository, "cmd", "defenderhub"), append(os.Environ(), "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := walkthrough.Run(ctx, o); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(o.Report)
	if err != nil {
		t.Fatal(err)
	}
	for _, device := range []string{"meter-2", "gateway-5"} {
		if !bytes.Contains(page, []byte(device)) {
			t.Errorf("the report does not have the device %s", device)
		}
	}
	printed := out.String()
	replay(t, recording.String(), printed)
	_, table, found := strings.Cut(printed, "SEVERITY")
	if !found {
		t.Fatalf("no table in\n%s", printed)
	}
	for _, want := range []string{
		`LOW +ACTIVE +123456789012 +LOGGING_DISABLED_CHECK`,
		`CRITICAL +ARCHIVED +too-open +IOT_POLICY_OVERLY_PERMISSIVE_CHECK`,
		`MEDIUM +ACTIVE +pump-7 +Client pump-7 was disconnected: DUPLICATE_CLIENTID`,
		`MEDIUM +ACTIVE +valve-3 +Client valve-3 was refused a connection`,
		`HIGH +ARCHIVED +pump-7 +Device pump-7 reports tamper`,
		`MEDIUM +ARCHIVED +meter-2 +Registered thing meter-2 is in alarm for STATIC behavior small-messages`,
		`HIGH +ARCHIVED +gateway-5 +Registered thing gateway-5 is in alarm for STATIC behavior no-telnet`,
		`MEDIUM +ARCHIVED +valve-9 +Registered thing valve-9 is in alarm for STATIC behavior few-disconnects`,
		`CRITICAL +ARCHIVED +pump-7 +Identity of a device may be stolen`,
		`CRITICAL +ARCHIVED +meter-2 +Device behaves like a compromised one`,
		`CRITICAL +ARCHIVED +gateway-5 +Two services report the same device`,
		`HIGH +ARCHIVED +AWS::::Account:123456789012 +Many devices have the same finding`,
		`LOW +ACTIVE +pump-7 +Device Defender rejected a metrics report of pump-7`,
	} {
		if n := len(regexp.MustCompile(want).FindAllString(table, -1)); n != 1 {
			t.Errorf("%d lines match %q, want 1", n, want)
		}
	}
	for _, want := range []string{"dead-letter queue: device event is not JSON", "CRITICAL ACTIVE   IOT_POLICY_OVERLY_PERMISSIVE_CHECK",
		"rule evaluated 20 times, actions 0, functions run 0", "HIGH     ACTIVE   Registered thing gateway-5"} {
		if !strings.Contains(printed, want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	for want, n := range map[string]int{"CRITICAL incident, new": 3, "HIGH incident, new": 1, "CRITICAL incident, over": 3, "HIGH incident, over": 1} {
		if got := strings.Count(printed, "│ "+want+"\n"); got != n {
			t.Errorf("%d messages %q, want %d", got, want, n)
		}
	}
	if strings.Contains(printed, "\x1b") {
		t.Error("colors in an output that is not a terminal")
	}
}

// replay judges the story's recording offline. It must raise the alarms of the story's findings.
func replay(t *testing.T, recording, printed string) {
	t.Helper()
	records, err := offline.Read(strings.NewReader(recording))
	if err != nil {
		t.Fatal(err)
	}
	behaviors := append(slices.Concat(defender.DemoBehaviors(), defender.StarterBehaviors()),
		defender.Behavior{Name: "known-networks", Criteria: defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("127.0.0.1/32"))})
	judged, err := offline.Judge(engine.Config{Profiles: []engine.ProfileConfig{{Name: "p", Behaviors: behaviors}}, BatchSeconds: 10}, records, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	raised := map[string]bool{}
	for _, tr := range judged.Transitions {
		raised[tr.Device+" "+tr.Behavior.Name] = raised[tr.Device+" "+tr.Behavior.Name] || tr.Change == engine.InAlarm
	}
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`thing (\S+) is in alarm for STATIC behavior (\S+)`).FindAllStringSubmatch(printed, -1) {
		found[m[1]+" "+strings.TrimRight(m[2], ".,:;")] = true
	}
	for alarm := range found {
		if !raised[alarm] {
			t.Errorf("the recording of %d records does not raise %s, which has a finding; it raises %v", len(records), alarm, slices.Sorted(maps.Keys(raised)))
		}
	}
	if len(found) < 3 {
		t.Errorf("the story shows the alarms %v, want at least three", found)
	}
}

// TestInterruptedStoryLeavesNothingBehind interrupts one story while the Python emulator and the
// CDK CLI run, and one while the compiler and jsii run.
func TestInterruptedStoryLeavesNothingBehind(t *testing.T) {
	goCache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCACHE", strings.TrimSpace(string(goCache)))
	for step, files := range map[string][]string{
		"cdk bootstrap": nil,
		"cdk deploy":    {"go-build*", "jsii-kernel-*", "jsii-runtime.*", "defenderhub-build-*"},
	} {
		t.Run(step, func(t *testing.T) {
			// An empty cache of outputs forces a compilation, which the test interrupts.
			temp, cache := t.TempDir(), t.TempDir()
			t.Setenv("TMPDIR", temp)
			t.Setenv("XDG_CACHE_HOME", cache)
			interrupted := errors.New("interrupted by the test")
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			missing := func(pattern string) bool {
				for _, below := range []string{"*", "*/*", "*/*/*"} {
					if found, _ := filepath.Glob(filepath.Join(temp, below, pattern)); len(found) > 0 {
						return false
					}
				}
				return true
			}
			stopAt := writerFunc(func(p []byte) {
				if !bytes.Contains(p, []byte(step)) {
					return
				}
				wait := func() {
					for slices.ContainsFunc(files, missing) && ctx.Err() == nil {
						time.Sleep(20 * time.Millisecond)
					}
					cancel(interrupted)
				}
				if len(files) > 0 {
					go wait() // the step continues meanwhile
				} else {
					wait()
				}
			})
			err := walkthrough.Run(ctx, options(t, stopAt))
			if !errors.Is(err, interrupted) || !strings.Contains(err.Error(), step) {
				t.Errorf("error %v, want the interruption and the step", err)
			}
			for _, pattern := range []string{filepath.Join(temp, "*"), filepath.Join(cache, "defenderhub", "*", "build-*")} {
				if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
					t.Errorf("the interrupted story left %v, error %v", left, err)
				}
			}
		})
	}
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}
