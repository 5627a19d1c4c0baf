package correlator

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender/correlation"
	"github.com/defenderhub/defenderhub/internal/contract"
	rules "github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

func TestEnvironment(t *testing.T) {
	dir := t.TempDir()
	compiled, err := rules.Compile(correlation.BuiltIn(), 0)
	if err != nil {
		t.Fatal(err)
	}
	write := func(c rules.Config) {
		text, err := json.Marshal(c)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, rules.File), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	create := func(environ ...string) error {
		_, err := New(Clients{}, host.Host{Environ: append(environ, "LAMBDA_TASK_ROOT="+dir), Now: time.Now, Metrics: io.Discard, Log: io.Discard})
		return err
	}
	good := []string{contract.EnvStateTable + "=t", contract.EnvIngestQueueURL + "=q"}
	if err := create(good...); err == nil || !strings.Contains(err.Error(), rules.File) {
		t.Errorf("without rules: error %v, want one that names %s", err, rules.File)
	}
	write(rules.Config{Rules: compiled})
	if err := create(good...); err != nil {
		t.Error(err)
	}
	err = create(contract.EnvLogLevel + "=LOUD")
	for _, want := range []string{contract.EnvStateTable, contract.EnvIngestQueueURL, "LOUD"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
	write(rules.Config{Rules: compiled, ClientPattern: "("})
	if err := create(good...); err == nil || !strings.Contains(err.Error(), "clientPattern") {
		t.Errorf("wrong pattern: error %v, want one that names clientPattern", err)
	}
}
