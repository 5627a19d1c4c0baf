// Package message writes the notifier's messages: as plain text for people, and in the schema of
// Amazon Q Developer in chat applications.
// https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html
package message

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/console"
)

// Change is the change of a finding that a message reports.
type Change string

// The changes. None needs no message.
const (
	None  Change = ""
	New   Change = "new"
	Worse Change = "worse"
	Over  Change = "over"
)

// Message is one message in both forms.
type Message struct {
	// Subject and Body are for people. Subject has at most 100 characters of ASCII.
	Subject, Body string
	// Chat is a custom notification of Amazon Q Developer in chat applications, as JSON.
	Chat string
	// Attributes are for the filter policies of subscriptions.
	Attributes map[string]string
}

// Device is what a finding is about. Everything in it is data.
type Device struct {
	// Name is the thing's name, else the client ID or the ID of the finding's first resource.
	Name string
	// Thing reports whether Name is a registered thing. Resource is the type of a resource that is
	// not a device, such as "AwsIotPolicy"; "" for a device.
	Thing    bool
	Resource string
	// Groups are the thing's groups; nil if they are not known.
	Groups []string
}

// DeviceOf returns the device of a finding, without groups.
func DeviceOf(e findingevent.Event) Device {
	for _, r := range e.Resources {
		if r.Type == "AwsIotRegisteredThing" && r.ID != "" {
			return Device{Name: r.ID, Thing: true}
		}
	}
	name := cmp.Or(e.ProductFields["ThingName"], e.ProductFields["ClientId"])
	if name != "" || len(e.Resources) == 0 {
		return Device{Name: name}
	}
	d := Device{Name: e.Resources[0].ID}
	if kind := e.Resources[0].Type; kind != "Other" { // clients have no type of their own
		d.Resource = kind
	}
	return d
}

// Notice is a change of a finding.
type Notice struct {
	Change Change
	Event  findingevent.Event
	Device Device
	// Before is the severity that was reported before, for Worse.
	Before defender.Severity
	// Since is since when the finding is open. The zero time: since it was observed first.
	Since time.Time
	// Account and Region are those of the device.
	Account, Region string
	// Incident reports whether the finding joins others. Parts is how many, as text: findings, or
	// the devices of a Campaign.
	Incident, Campaign bool
	Parts              string
}

// The limits of texts that this package sets itself, in characters. AWS documents none for custom
// notifications (unverified); Slack shows at most 3000 in a block.
const (
	maxTitle       = 160
	maxDescription = 1200
	maxName        = 200
	maxGroups      = 8
)

// docs is the page to which each message links.
const docs = "https://github.com/defenderhub/defenderhub/blob/main/docs/notify.md"

// Thread identifies the incident or the device, so that its messages form one thread.
func (n Notice) Thread() string {
	if n.Incident {
		return identifier(n.Event.ID)
	}
	return identifier(n.Account + "/" + n.Region + "/" + cmp.Or(n.Device.Name, n.Event.ID))
}

// Write returns the notice's message.
func (n Notice) Write() Message {
	e := n.Event
	m := Message{
		Subject: subject(n.headline()+": ", n.about()+e.Title),
		Body:    n.body(),
		Attributes: map[string]string{
			"severity": severity(e.Severity), "change": string(n.Change), "kind": n.kind(), "account": account(n.Account), "region": region(n.Region),
		},
	}
	related := []string{}
	for i, r := range e.Resources {
		if i == 5 {
			break
		}
		related = append(related, title(r.ID, maxName))
	}
	c := custom{
		Version: "1.0", Source: "custom", ID: n.id(),
		Content: content{
			TextType: "client-markdown", Title: n.headline() + ": " + title(n.about()+e.Title, maxTitle), Description: n.chat(),
			NextSteps: n.nextSteps(), Keywords: []string{severity(e.Severity), string(n.Change), n.kind()},
		},
		Metadata: metadata{
			ThreadID: n.Thread(), Summary: n.headline() + ": " + title(n.about()+e.Title, maxTitle), EventType: "defenderhub " + n.kind() + " " + string(n.Change),
			RelatedResources: related,
			AdditionalContext: map[string]string{
				"severity": severity(e.Severity), "change": string(n.Change), "account": account(n.Account), "region": region(n.Region),
			},
		},
	}
	m.Chat = c.text()
	return m
}

// id is the same for each attempt to send the notice.
func (n Notice) id() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %s", n.Event.Key(), n.Change, n.Event.Order.Updated.Format(time.RFC3339Nano)))
	return hex.EncodeToString(sum[:16])
}

func (n Notice) kind() string {
	if n.Incident {
		return "incident"
	}
	return "finding"
}

// headline is our own text.
func (n Notice) headline() string {
	text := severity(n.Event.Severity) + " " + n.kind() + ", " + string(n.Change)
	if n.Change == Worse {
		text += " (was " + severity(n.Before) + ")"
	}
	return text
}

// about names the device in front of titles that do not.
func (n Notice) about() string {
	if n.Device.Name == "" || strings.Contains(n.Event.Title, n.Device.Name) {
		return ""
	}
	return n.Device.Name + ": "
}

func (n Notice) since() time.Time {
	for _, t := range []time.Time{n.Since, n.Event.FirstObservedAt, n.Event.CreatedAt} {
		if !t.IsZero() {
			return t
		}
	}
	return n.Event.Order.Updated
}

// end says why the finding is over.
func (n Notice) end() string {
	at := moment(n.Event.Order.Updated)
	switch {
	case n.Event.RecordState == asff.Archived:
		return "It ended: the finding was archived at " + at + "."
	case n.Event.Workflow == "SUPPRESSED":
		return "A person or an automation rule suppressed the finding in Security Hub."
	}
	return "A person or an automation rule resolved the finding in Security Hub."
}

func (n Notice) body() string {
	e := n.Event
	partition := partitionOf(e.ProductARN)
	var b strings.Builder
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%-15s %s\n", label, text)
		}
	}
	fmt.Fprintf(&b, "%s\n\n", n.headline())
	line("What happened", plain(e.Title, maxDescription))
	if e.Description != e.Title {
		line("", plain(e.Description, maxDescription))
	}
	line(n.Device.label(), n.deviceText(func(s string) string { return plain(s, maxName) }))
	line("Parts", n.partsText())
	if n.Change == Over {
		line("State", n.end())
	}
	line("Since", moment(n.since()))
	line("Where", "account "+account(n.Account)+", "+region(n.Region))
	if n.Change != Over {
		line("Why it matters", n.why())
		line("What to do", plain(e.Remediation.Text, maxDescription))
		line("", awsPage(e.Remediation.URL))
	}
	b.WriteByte('\n')
	line("Security Hub", console.Finding(partition, n.region(), e.ID))
	line("Thing", n.thing(partition))
	line("Finding", plain(e.ID, 600))
	fmt.Fprintf(&b, "\nWhy you receive this: %s\n", docs)
	return b.String()
}

func (n Notice) chat() string {
	e := n.Event
	partition := partitionOf(e.ProductARN)
	var lines []string
	line := func(label, text string) {
		if text != "" {
			lines = append(lines, "*"+label+":* "+text)
		}
	}
	line("What happened", span(e.Title, maxDescription))
	if e.Description != e.Title {
		line("Details", span(e.Description, maxDescription))
	}
	line(n.Device.label(), n.deviceText(func(s string) string { return span(s, maxName) }))
	line("Parts", n.partsText())
	if n.Change == Over {
		line("State", n.end())
	}
	line("Since", moment(n.since()))
	line("Where", "account "+account(n.Account)+", "+region(n.Region))
	if n.Change != Over {
		line("Why it matters", n.why())
	}
	line("Security Hub", console.Finding(partition, n.region(), e.ID))
	line("Thing", n.thing(partition))
	return strings.Join(lines, "\n")
}

func (n Notice) nextSteps() []string {
	if n.Change == Over {
		return nil
	}
	var steps []string
	if text := span(n.Event.Remediation.Text, maxDescription); text != "" {
		steps = append(steps, text)
	}
	if page := awsPage(n.Event.Remediation.URL); page != "" {
		steps = append(steps, page)
	}
	return steps
}

// thing returns the link to a thing, which only its own account has.
func (n Notice) thing(partition string) string {
	if !n.Device.Thing || n.Account != n.Event.HubAccount || !regionName.MatchString(n.Region) {
		return ""
	}
	return console.Thing(partition, n.Region, n.Device.Name)
}

// region is where the finding is shown. It is part of links, so it must look like a Region.
func (n Notice) region() string {
	for _, r := range []string{n.Event.HubRegion, n.Event.Region} {
		if regionName.MatchString(r) {
			return r
		}
	}
	return "us-east-1"
}

func (n Notice) partsText() string {
	if !n.Incident || !number.MatchString(n.Parts) || n.Parts == "0" {
		return ""
	}
	if n.Campaign {
		return n.Parts + " devices; their findings send no messages of their own"
	}
	return n.Parts + " findings; they send no messages of their own"
}

func (d Device) label() string {
	if d.Resource == "" {
		return "Device"
	}
	return "Resource"
}

func (n Notice) deviceText(data func(string) string) string {
	text := data(n.Device.Name)
	if kind := n.Device.Resource; kind != "" && text != "" {
		text += " (" + data(kind) + ")"
	}
	if text == "" || len(n.Device.Groups) == 0 {
		return text
	}
	var groups []string
	for i, g := range n.Device.Groups {
		if i == maxGroups {
			groups = append(groups, fmt.Sprintf("%d more", len(n.Device.Groups)-maxGroups))
			break
		}
		groups = append(groups, data(g))
	}
	return text + ", in the thing groups " + strings.Join(groups, ", ")
}
