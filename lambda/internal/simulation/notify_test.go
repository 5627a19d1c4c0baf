package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
	"github.com/defenderhub/defenderhub/internal/notification"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier"
)

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
	if composite(i.Finding) {
		w.observeIncident(i.Finding)
	}
	var targets []*queue
	if w.notifier != nil {
		targets = append(targets, w.notifyQueue)
		w.observeOpening(i.Finding)
		if _, received := w.optional.received[i.Finding.ID]; !received {
			w.optional.received[i.Finding.ID] = time.Now()
		}
	}
	if !composite(i.Finding) && w.correlator != nil { // neither the pattern nor the correlator lets composite findings through
		targets = append(targets, w.correlateQueue)
		w.observePart(i.Finding)
		w.campaigns.sentTo(event)
	}
	if w.detect.wants(i.Finding) {
		targets = append(targets, w.detect.queue)
	}
	for _, q := range targets {
		times := 1
		if w.faults.strikes(eventDuplicate, q.source.fn) {
			times = 2
		}
		for range times {
			if q == w.notifyQueue {
				w.optional.underway[i.Finding.ID]++
			}
			w.after(w.between(0, 2*time.Second), func() {
				if !q.source.fn.removed {
					q.send(string(event), nil).about = i.Finding.ID
				}
			})
		}
	}
}

// notifyMode is the configuration of a seed's notifier.
type notifyMode int

const (
	// eachMessage: no message exceeds the cap.
	eachMessage notifyMode = iota
	// capped: two messages a minute. Each invocation has one event, because the messages of one
	// invocation compete for a minute's places in an order that the Go runtime chooses.
	capped
	// digested: an hourly digest has the findings below HIGH.
	digested
	// withIncidents: parts of incidents send no message of their own.
	withIncidents
)

// perMinute is the cap of the mode capped.
const perMinute = 2

// remindOf is the lowest severity of the findings in reminders.
const remindOf = defender.High

func (w *world) deployNotify(s settings) {
	w.notify = notifyMode(w.seed / 2 % 4)
	w.notifyTable = w.create("notify", s.notify, dynamodbtest.Schema{
		Partition: contract.NotifyPartitionKey, Sort: contract.NotifySortKey, Expiry: contract.NotifyExpiry,
		Indexes: []dynamodbtest.Index{{Name: contract.NotifyOpenIndex, Partition: contract.NotifyOpenSeverity, Sort: contract.NotifyOpenSince}},
	})
	w.notifyDeadLetters = w.queue(numbered("notify-dead-letters", s.notify), 30*time.Second, nil, 0)
	w.notifyQueue = w.queue(numbered("notify", s.notify), 6*time.Minute+2*time.Second, w.notifyDeadLetters, 1000)
	w.notifier = w.function("notifier", time.Minute, buildNotifier, w.notifierEnvironment(s))
	batch := 100
	if w.notify == capped {
		batch = 1
	}
	w.notifyQueue.feeds(w.notifier, batch, 2*time.Second, 2)
	if w.notify == digested {
		w.every(time.Hour, w.notifier, contract.NotifyDigest, func(time.Time) {})
	}
	w.every(2*time.Hour, w.notifier, contract.NotifyRemind, w.expectReminder)
}

func (w *world) notifierEnvironment(s settings) []string {
	c := notification.Config{Filters: []notification.Filter{{Severity: correlation.Label(defender.Low)}}, PerMinute: 1_000_000, MembershipMinutes: 15, Remind: correlation.Label(remindOf)}
	switch w.notify {
	case capped:
		c.PerMinute = perMinute
	case digested:
		c.DigestBelow = correlation.Label(defender.High)
	case withIncidents:
		if c.Rules = s.compiled(); len(c.Rules) > 0 {
			c.HoldSeconds = 60
		}
	}
	dir := w.write(s, notification.File, c)
	return []string{
		"AWS_REGION=" + region, "AWS_LAMBDA_FUNCTION_NAME=notifier", "LAMBDA_TASK_ROOT=" + dir, contract.EnvNotifyTable + "=" + w.notifyTable,
		contract.EnvNotifyQueueURL + "=" + w.notifyQueue.url(), contract.EnvDeadLetterQueueURL + "=" + w.notifyDeadLetters.url(),
		contract.EnvPeopleTopic + "=" + peopleTopic, contract.EnvChatTopic + "=" + chatTopic, contract.EnvLogLevel + "=DEBUG",
	}
}

// every invokes the notifier as its schedules do: asynchronously, with two retries.
func (w *world) every(period time.Duration, fn *function, kind string, before func(at time.Time)) {
	next := time.Now().Truncate(w.pace(period)).Add(w.pace(period))
	w.at(next, func() {
		if fn.removed {
			return
		}
		before(next)
		event := contract.NotifyRequest(kind, next.Format(time.RFC3339))
		if w.faults.strikes(scheduleOdd, fn) {
			w.after(w.between(0, time.Minute), func() { w.asynchronously(fn, event, 2) })
		}
		w.asynchronously(fn, event, 2)
		w.every(period, fn, kind, before)
	})
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

// notice is a message to people about a finding, or a line about it in a list.
type notice struct {
	change, severity, list string
	at                     time.Time
	// shared reports that the line may be about another finding, which has the same title.
	shared bool
}

func (n notice) String() string {
	return fmt.Sprintf("%s %s %s at %s", n.change, n.severity, n.list, n.at.Format("02 15:04:05"))
}

func (t topics) Publish(ctx context.Context, in *sns.PublishInput, _ ...func(*sns.Options)) (*sns.PublishOutput, error) {
	return ask(ctx, t.environment, "SNS", "Publish", *in.TopicArn+" "+digest(*in.Message), func() (*sns.PublishOutput, error) {
		w := t.world
		w.counts["messages to people and chats"]++
		if *in.TopicArn == chatTopic {
			w.chats[*in.Message]++
		}
		if *in.TopicArn == peopleTopic {
			attribute := func(name string) string { return *in.MessageAttributes[name].StringValue }
			if attribute("kind") == "list" {
				w.list(attribute("change"), *in.Message)
				return &sns.PublishOutput{MessageId: aws.String("m")}, nil
			}
			id := findingOf(*in.Message)
			if id == "" {
				w.violations.add(notifyInvariant, "a message without a finding: %s", *in.Message)
			}
			w.notices[id] = append(w.notices[id], notice{change: attribute("change"), severity: attribute("severity"), at: time.Now()})
		}
		return &sns.PublishOutput{MessageId: aws.String("m")}, nil
	})
}

// listLine is a line of a list.
var listLine = regexp.MustCompile(`(?m)^([A-Z]+), (?:incident, )?(?:(new|worse|over), )?(.*) \(since [^(]*\)$`)

// list notes the lines of a list. Findings with one title share their lines.
func (w *world) list(kind, text string) {
	w.counts["lists of the kind "+kind]++
	lines := listLine.FindAllStringSubmatch(strings.ReplaceAll(text, "[.]", "."), -1)
	if len(lines) == 0 {
		w.violations.add(notifyInvariant, "a list without lines: %s", text)
	}
	var reminded [][]string // by line
	for _, line := range lines {
		var about []string
		for _, id := range slices.Sorted(maps.Keys(w.hub.titles)) {
			if slices.ContainsFunc(w.hub.titles[id], func(title string) bool { return strings.HasSuffix(line[3], title) }) {
				about = append(about, id)
			}
		}
		if len(about) == 0 {
			w.violations.add(notifyInvariant, "a list is about no finding: %s", line[0])
		}
		if kind == "reminder" {
			reminded = append(reminded, about)
			continue
		}
		for _, id := range about {
			w.notices[id] = append(w.notices[id], notice{line[2], line[1], kind, time.Now(), len(about) > 1})
		}
	}
	if kind == "reminder" && w.reminder != nil {
		w.checkReminder(reminded)
	}
}

// expectReminder notes what a reminder must have, if nothing changes any more. It need not have what
// a notifier that was added has received no event of.
func (w *world) expectReminder(time.Time) {
	if w.reminder != nil {
		w.checkReminder(nil) // no reminder was sent
	}
	settled := w.faults.quiet && w.idle() && time.Since(w.hub.lastChange) > time.Hour && w.notify != withIncidents
	if !settled {
		w.reminder = nil
		return
	}
	w.reminder = map[string]bool{}
	for _, f := range w.hub.Findings() {
		if open(f) && f.ProductFields["ReportType"] != "CheckSummary" && slices.Contains([]string{"HIGH", "CRITICAL"}, f.Severity.Label) {
			received, known := w.optional.received[f.ID]
			w.reminder[f.ID] = known && time.Since(received) > 10*time.Minute
		}
	}
}

// checkReminder compares a reminder with the open findings. reminded has for each line the findings
// that ever had its title. Only one of them must be open.
func (w *world) checkReminder(reminded [][]string) {
	w.counts["reminders compared"]++
	titles := map[string]bool{}
	by := map[string]string{} // also of those that Security Hub has deleted
	for id, all := range w.hub.titles {
		by[id] = all[len(all)-1]
	}
	for id, must := range w.reminder {
		titles[by[id]] = true
		if must && !slices.ContainsFunc(reminded, func(line []string) bool { return slices.Contains(line, id) }) {
			w.violations.add("a reminder has each severe open finding", "%s is missing in %v", id, reminded)
		}
	}
	for _, line := range reminded {
		if !slices.ContainsFunc(line, func(id string) bool { return titles[by[id]] || w.isSummary(id) }) {
			w.violations.add("a reminder has each severe open finding", "none of %v is open", line)
		}
	}
	w.reminder = nil
}

// isSummary reports whether a finding is the summary of an audit's check: some send messages.
func (w *world) isSummary(id string) bool {
	return slices.ContainsFunc(w.hub.Findings(), func(f securityhubtest.Finding) bool {
		return f.ID == id && f.ProductFields["ReportType"] == "CheckSummary"
	})
}

// open reports whether a finding needs attention.
func open(f securityhubtest.Finding) bool {
	return f.RecordState == "ACTIVE" && f.Workflow.Status != "SUPPRESSED" && f.Workflow.Status != "RESOLVED"
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

// checkMessages requires that people know which findings are open. A step may be skipped if newer
// events overtake it. A list is sent later than what it says, so a newer message may come before it.
func (w *world) checkMessages() {
	if w.notifier == nil {
		return
	}
	for _, f := range w.hub.Findings() {
		if f.ProductFields["ReportType"] == "CheckSummary" {
			continue // a summary that only counts findings sends no message
		}
		all, since := w.notices[f.ID], w.hub.since[f.ID]
		received, known := w.optional.received[f.ID]
		if !known {
			w.counts["findings that a new notifier does not know"]++
			continue
		}
		if time.Since(since) < 10*time.Minute || time.Since(received) < 10*time.Minute {
			continue // a window has just passed: the event is on its way
		}
		says := func(changes ...string) bool {
			return len(all) > 0 && slices.Contains(changes, all[len(all)-1].change) ||
				w.notify != eachMessage && slices.ContainsFunc(all, func(n notice) bool { return slices.Contains(changes, n.change) && !n.at.Before(since) })
		}
		told := says("new", "worse")
		if open(f) {
			w.checkOpening(f)
		} else {
			own := func(n notice) bool { return !n.shared }
			told = !slices.ContainsFunc(all, own) || says("over")
		}
		if told {
			w.counts["findings with a message"]++
		} else if w.notify == withIncidents && w.covers(f, w.optional.over[f.ID]) {
			w.counts["findings covered by an incident"]++
		} else {
			w.violations.add(notifyInvariant, "%s is open: %t since %s, messages %v", f.ID, open(f), since.Format("02 15:04:05"), all)
		}
	}
	w.checkCap()
	repeats := w.optional.repeats + w.repeats()
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

// repeats counts the messages to chats that were sent again.
func (w *world) repeats() int {
	repeats := 0
	for _, n := range w.chats {
		repeats += n - 1
	}
	return repeats
}

// observeIncident records the findings and resources that an incident names.
func (w *world) observeIncident(f securityhubtest.Finding) {
	var has struct{ Resources []struct{ ID string } }
	if err := json.Unmarshal(f.JSON, &has); err != nil {
		panic(err) // Security Hub wrote it
	}
	for _, r := range has.Resources {
		w.named[r.ID] = append(w.named[r.ID], f.ID)
	}
	for _, r := range related(f) {
		w.named[r.ID] = append(w.named[r.ID], f.ID)
	}
}

// observeOpening notes the incidents that cannot cover a finding that opens now: the notifier has
// handled their ends. It must also have handled the finding's own end, which is no news afterwards.
func (w *world) observeOpening(f securityhubtest.Finding) {
	was, is := w.hub.seen[f.ID].state, f.RecordState
	if composite(f) || is == was {
		return
	}
	if is != "ACTIVE" {
		w.checkOpening(f)
		delete(w.optional.over, f.ID)
		return
	}
	over := map[string]bool{}
	for _, incident := range w.hub.Findings() {
		if composite(incident) && incident.RecordState == "ARCHIVED" && w.optional.underway[incident.ID]+w.optional.underway[f.ID] == 0 {
			over[incident.ID] = true
		}
	}
	w.optional.over[f.ID] = over
}

// checkOpening requires a message since a finding opened, if the notifier has handled its opening and
// no incident covered it.
func (w *world) checkOpening(f securityhubtest.Finding) {
	over, since := w.optional.over[f.ID], w.hub.since[f.ID]
	if w.notify != withIncidents || len(over) == 0 || w.optional.underway[f.ID] > 0 || f.ProductFields["ReportType"] == "CheckSummary" {
		return
	}
	w.counts["findings that opened after an incident"]++
	known := slices.ContainsFunc(w.notices[f.ID], func(n notice) bool { return n.change != "over" && !n.at.Before(since) })
	if !known && !w.covers(f, over) {
		w.violations.add("an incident that is over covers nothing", "%s opened at %s, messages %v", f.ID, since.Format("02 15:04:05"), w.notices[f.ID])
	}
}

// covers reports whether an incident with a message has named a finding, its device or its policy,
// and was not over when the finding opened: only what happens during the incident is covered.
func (w *world) covers(f securityhubtest.Finding, over map[string]bool) bool {
	names := append(strings.Split(f.ID, "/"), f.ID, f.ProductFields["ThingName"])
	told := func(incident string) bool {
		if over[incident] && w.hub.since[incident].Before(w.hub.since[f.ID]) {
			return false // and it has not opened again since
		}
		return len(w.notices[incident]) > 0 || strings.Contains(incident, "/"+campaign+"/")
	}
	return slices.ContainsFunc(names, func(name string) bool { return slices.ContainsFunc(w.named[name], told) })
}

// checkCap requires that no minute has more messages than the cap allows. Environments count by
// their own clocks, which differ, and a message may be sent in the next minute.
func (w *world) checkCap() {
	if w.notify != capped {
		return
	}
	minutes := map[time.Time]int{}
	for _, all := range w.notices {
		for _, n := range all {
			if n.list == "" && n.severity != "CRITICAL" {
				minutes[n.at.Truncate(time.Minute)]++
			}
		}
	}
	most := 2 * perMinute
	for _, k := range []kind{crash, answerLost, answerRetried, slowCall} {
		most += w.faults.hits[hit{k, "notifier"}]
	}
	if w.faults.on[clockSkew] {
		most *= 3
	}
	for at, n := range minutes {
		if n > most {
			w.violations.add("the cap of messages per minute", "%d in the minute of %s, want at most %d", n, at.Format("15:04"), most)
		}
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
