package message

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/lambda/internal/console"
)

// Line is a change as a list shows it. Its texts are data.
type Line struct {
	Change    Change            `json:"c,omitempty"`
	Severity  defender.Severity `json:"s"`
	Title     string            `json:"t"`
	Device    string            `json:"d,omitempty"`
	Account   string            `json:"a"`
	Region    string            `json:"r"`
	Partition string            `json:"p"`
	Since     time.Time         `json:"b"`
	Incident  bool              `json:"i,omitempty"`
}

// Line returns the notice as a list shows it.
func (n Notice) Line() Line {
	return Line{
		Change: n.Change, Severity: n.Event.Severity, Title: cut(n.about()+n.Event.Title, maxTitle), Device: cut(n.Device.Name, maxName),
		Account: account(n.Account), Region: region(n.Region), Partition: partitionOf(n.Event.ProductARN), Since: n.since(), Incident: n.Incident,
	}
}

// List is a message about several findings.
type List struct {
	// Kind is More, Digest or Reminder.
	Kind ListKind
	// At is the end of the minute, the time of the digest or of the reminder.
	At    time.Time
	Lines []Line
	// PerMinute is the cap, for More. Severity is that below which changes are in a Digest, or the
	// lowest in a Reminder.
	PerMinute int
	Severity  defender.Severity
}

// ListKind is why a list is sent.
type ListKind string

// The kinds of lists.
const (
	More     ListKind = "more"
	Digest   ListKind = "digest"
	Reminder ListKind = "reminder"
)

// maxLines is how many lines a list shows.
const maxLines = 50

// Write returns the list's message. A list shows its most severe findings; the others are counted.
func (l List) Write() Message {
	lines := slices.Clone(l.Lines)
	slices.SortStableFunc(lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), a.Since.Compare(b.Since), cmp.Compare(a.Title, b.Title))
	})
	shown := lines[:min(len(lines), maxLines)]
	rest := ""
	if n := len(lines) - len(shown); n > 0 {
		rest = fmt.Sprintf("and %d more: see Security Hub", n)
	}
	worst := defender.SeverityDefault
	home := ""
	if len(lines) > 0 {
		worst = lines[0].Severity
		home = console.Findings(lines[0].Partition, orRegion(lines[0].Region))
	}
	people, chat := []string{l.why(), ""}, []string{l.why()}
	for _, line := range shown {
		people = append(people, line.text(func(s string) string { return plain(s, maxTitle) }))
		chat = append(chat, "• "+line.text(func(s string) string { return span(s, maxTitle) }))
	}
	if rest != "" {
		people, chat = append(people, rest), append(chat, rest)
	}
	people = append(people, "", home, "", "Why you receive this: "+docs, "")
	headline := l.headline()
	sum := sha256.Sum256([]byte(string(l.Kind) + l.At.Format(time.RFC3339)))
	c := custom{
		Version: "1.0", Source: "custom", ID: hex.EncodeToString(sum[:16]),
		Content: content{
			TextType: "client-markdown", Title: headline, Description: strings.Join(append(chat, home), "\n"),
			Keywords: []string{severity(worst), string(l.Kind)},
		},
		Metadata: metadata{ThreadID: "defenderhub/" + string(l.Kind), Summary: headline, EventType: "defenderhub " + string(l.Kind)},
	}
	if l.Kind == More {
		c.Metadata.ThreadID += "/" + l.At.UTC().Format("2006-01-02T15.04")
	}
	attributes := map[string]string{"severity": severity(worst), "change": string(l.Kind), "kind": "list"}
	for name, of := range map[string]func(Line) string{"account": func(l Line) string { return l.Account }, "region": func(l Line) string { return l.Region }} {
		if shared := sharedBy(l.Lines, of); shared != "" {
			attributes[name] = shared
		}
	}
	return Message{Subject: subject(headline, ""), Body: strings.Join(people, "\n"), Chat: c.text(), Attributes: attributes}
}

// sharedBy returns what all lines have in common, "" if they differ.
func sharedBy(lines []Line, of func(Line) string) string {
	if len(lines) == 0 || slices.ContainsFunc(lines, func(l Line) bool { return of(l) != of(lines[0]) }) {
		return ""
	}
	return of(lines[0])
}

func (l List) headline() string {
	n := len(l.Lines)
	switch l.Kind {
	case Digest:
		return fmt.Sprintf("Digest: %s below %s", findings(n), severity(l.Severity))
	case Reminder:
		return fmt.Sprintf("Reminder: %s of severity %s still open", findings(n), severity(l.Severity))
	}
	return fmt.Sprintf("and %d more in the minute before %s", n, l.At.UTC().Format("15:04 UTC"))
}

func (l List) why() string {
	switch l.Kind {
	case Digest:
		return "Changes that are not severe enough for a message of their own."
	case Reminder:
		return "These findings are active, and nobody has suppressed or resolved them in Security Hub."
	}
	return fmt.Sprintf("There were more than %d messages in this minute. These were not sent one by one.", l.PerMinute)
}

func findings(n int) string {
	if n == 1 {
		return "1 finding"
	}
	return fmt.Sprintf("%d findings", n)
}

func (l Line) text(data func(string) string) string {
	kind := ""
	if l.Incident {
		kind = "incident, "
	}
	change := ""
	if l.Change != None {
		change = string(l.Change) + ", "
	}
	return fmt.Sprintf("%s, %s%s%s (since %s, account %s, %s)", severity(l.Severity), kind, change, data(l.Title), moment(l.Since), account(l.Account), region(l.Region))
}

func orRegion(r string) string {
	if regionName.MatchString(r) && r != "unknown" {
		return r
	}
	return "us-east-1"
}
