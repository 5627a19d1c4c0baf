package notifier_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/notification"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier"
)

func TestFunctionIsBuiltFromItsEnvironment(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, notification.File)
	h := host.Host{Now: time.Now, Metrics: io.Discard, Log: io.Discard, Environ: []string{
		"AWS_REGION=eu-central-1", "LAMBDA_TASK_ROOT=" + dir, contract.EnvNotifyTable + "=t", contract.EnvNotifyQueueURL + "=q", contract.EnvDeadLetterQueueURL + "=d",
		contract.EnvPeopleTopic + "=p", contract.EnvChatTopic + "=c", contract.EnvLogLevel + "=WARN",
	}}
	if _, err := notifier.New(notifier.Clients{}, h); err == nil || !strings.Contains(err.Error(), notification.File) {
		t.Errorf("without settings: error %v, want one that names %s", err, notification.File)
	}
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"filters":[{"severity":"LOW"}],"perMinute":3,"membershipMinutes":15}`)
	f, err := notifier.New(notifier.Clients{}, h)
	if err != nil || f.Table.Name != "t" || f.QueueURL != "q" || f.DeadLetterQueueURL != "d" || f.PeopleTopicARN != "p" || f.ChatTopicARN != "c" || f.Config.PerMinute != 3 {
		t.Errorf("handler %+v, error %v", f, err)
	}
	write("{}")
	h.Environ = []string{"LAMBDA_TASK_ROOT=" + dir, contract.EnvLogLevel + "=LOUD"}
	_, err = notifier.New(notifier.Clients{}, h)
	for _, want := range []string{"AWS_REGION", contract.EnvNotifyTable, contract.EnvNotifyQueueURL, contract.EnvDeadLetterQueueURL, contract.EnvPeopleTopic, contract.EnvChatTopic, "LOUD", "filters"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}
