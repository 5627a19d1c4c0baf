package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/notification"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier"
)

const notifyTable = "notify"

// bus sends the events of Security Hub through EventBridge to the queues of the functions that
// want them: at least once, in any order.
func (w *world) bus(i securityhubtest.Imported) {
	w.events++
	event, err := json.Marshal(map[string]any{
		"version": "0", "id": fmt.Sprint(w.events), "detail-type": "Security Hub Findings - Imported", "source": "aws.securityhub",
		"account": i.Account, "region": i.Region, "time": time.Now().UTC().Format(time.RFC3339), "resources": []string{i.Finding.ProductARN + "/" + i.Finding.ID},
		"detail": map[string]any{"findings": []json.RawMessage{i.Finding.JSON}},
	})
	if err != nil {
		panic(err) // the finding is JSON
	}
	targets := []*queue{w.notifyQueue}
	if !composite(i.Finding) { // neither the pattern nor the correlator lets composite findings through
		targets = append(targets, w.correlateQueue)
		w.observePart(i.Finding)
	}
	for _, q := range targets {
		times := 1
		if w.faults.strikes(eventDuplicate, q.source.fn) {
			times = 2
		}
		for range times {
			w.after(w.between(0, 2*time.Second), func() { q.send(string(event), nil) })
		}
	}
}

func (w *world) deployNotify() {
	dir := filepath.Join(w.dir, "notify")
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		// No message exceeds the cap: the request for a list of the others waits for a lock.
		err = os.WriteFile(filepath.Join(dir, notification.File), []byte(`{"filters":[{"severity":"LOW"}],"perMinute":1000000,"membershipMinutes":15}`), 0o644)
	}
	if err != nil {
		panic(err)
	}
	w.notifyDeadLetters = w.queue("notify-dead-letters", 30*time.Second, nil, 0)
	w.notifyQueue = w.queue("notify", 6*time.Minute+2*time.Second, w.notifyDeadLetters, 1000)
	w.notifier = w.function("notifier", time.Minute, buildNotifier, []string{
		"AWS_REGION=" + region, "AWS_LAMBDA_FUNCTION_NAME=notifier", "LAMBDA_TASK_ROOT=" + dir, contract.EnvNotifyTable + "=" + notifyTable,
		contract.EnvNotifyQueueURL + "=" + w.notifyQueue.url(), contract.EnvDeadLetterQueueURL + "=" + w.notifyDeadLetters.url(),
		contract.EnvPeopleTopic + "=" + peopleTopic, contract.EnvChatTopic + "=" + chatTopic, contract.EnvLogLevel + "=DEBUG",
	})
	w.notifyQueue.feeds(w.notifier, 100, 2*time.Second, 2)
}

const (
	peopleTopic = "arn:aws:sns:" + region + ":" + account + ":people"
	chatTopic   = "arn:aws:sns:" + region + ":" + account + ":chat"
)

func buildNotifier(e *environment, on host.Host) (handler, error) {
	h, err := notifier.New(notifier.Clients{SNS: topics{e}, SQS: queues{e}, DynamoDB: table{e}, IoT: things{e}}, on)
	if err != nil {
		return nil, err
	}
	return h.Handle, nil
}

// topics is the Amazon SNS client of an environment.
type topics struct{ *environment }

// notice is a message that people got.
type notice struct {
	change, severity string
}

func (t topics) Publish(ctx context.Context, in *sns.PublishInput, _ ...func(*sns.Options)) (*sns.PublishOutput, error) {
	return ask(ctx, t.environment, "SNS", "Publish", *in.TopicArn+" "+digest(*in.Message), func() (*sns.PublishOutput, error) {
		t.world.counts["messages to people and chats"]++
		if *in.TopicArn == chatTopic {
			t.world.chats[*in.Message]++
		}
		if *in.TopicArn == peopleTopic {
			id := findingOf(*in.Message)
			if id == "" {
				t.world.violations.add(notifyInvariant, "a message without a finding: %s", *in.Message)
			}
			t.world.notices[id] = append(t.world.notices[id], notice{*in.MessageAttributes["change"].StringValue, *in.MessageAttributes["severity"].StringValue})
		}
		return &sns.PublishOutput{MessageId: aws.String("m")}, nil
	})
}

var searchLink = regexp.MustCompile(`#/findings\?search=(\S+)`)

// findingOf returns the finding to which a message links.
func findingOf(text string) string {
	found := searchLink.FindStringSubmatch(text)
	if found == nil {
		return ""
	}
	once, _ := url.QueryUnescape(found[1]) // what is no escape stays
	_, filter, _ := strings.Cut(once, "=")
	id, _ := url.QueryUnescape(filter)
	return strings.TrimPrefix(id, `\operator\:EQUALS\:`)
}

const notifyInvariant = "the last message about a finding says what is true"

// checkMessages requires that people know which findings are open: the last message about each
// open finding is new or worse, that of another is over. A step may be skipped if newer events
// overtake it. A message may be repeated only after a crash or a lost answer.
func (w *world) checkMessages() {
	if w.notifier == nil {
		return
	}
	for _, f := range w.hub.Findings() {
		if f.ProductFields["ReportType"] == "CheckSummary" {
			continue // a summary that only counts findings sends no message
		}
		all := w.notices[f.ID]
		open := f.RecordState == "ACTIVE" && f.Workflow.Status != "SUPPRESSED" && f.Workflow.Status != "RESOLVED"
		last := ""
		if n := len(all); n > 0 {
			last = all[n-1].change
		}
		if open != (last == "new" || last == "worse") && (open || last != "") {
			w.violations.add(notifyInvariant, "%s is open: %t, messages %v", f.ID, open, all)
		}
	}
	repeats := 0
	for _, n := range w.chats {
		repeats += n - 1
	}
	w.counts["messages that were repeated"] += repeats
	mayRepeat := 0
	for _, k := range []kind{crash, answerLost, answerRetried, slowCall} {
		mayRepeat += w.faults.hits[hit{k, "notifier"}]
	}
	if repeats > mayRepeat {
		w.violations.add("no message is repeated without a crash", "%d repeats, at most %d explained", repeats, mayRepeat)
	}
	if n := len(w.notifyDeadLetters.messages); n > 0 {
		w.violations.add("events become no dead letters", "%d", n)
	}
}

func (t table) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	about := *in.TableName + " " + texts(in.Key) + " " + aws.ToString(in.UpdateExpression) + " " + texts(in.ExpressionAttributeValues)
	return ask(ctx, t.environment, "DynamoDB", "UpdateItem", about, func() (*dynamodb.UpdateItemOutput, error) { return t.world.dynamodb.UpdateItem(ctx, in) })
}

func (t table) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	about := *in.TableName + " " + texts(in.Key) + " " + texts(in.ExpressionAttributeValues)
	return ask(ctx, t.environment, "DynamoDB", "DeleteItem", about, func() (*dynamodb.DeleteItemOutput, error) { return t.world.dynamodb.DeleteItem(ctx, in) })
}
