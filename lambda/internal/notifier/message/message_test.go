package message_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/message"
)

var update = flag.Bool("update", false, "rewrite the golden texts")

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// alarm returns the event of a behavior's finding, as the forwarder imports it.
func alarm() findingevent.Event {
	return findingevent.Event{
		HubAccount: "123456789012", HubRegion: "eu-central-1", Account: "123456789012", Region: "eu-central-1",
		ProductARN: "arn:aws:securityhub:eu-central-1:123456789012:product/123456789012/default", ID: "defenderhub/behavior/eu-central-1/factory/known-ports/meter-2",
		Title:       "Registered thing meter-2 is in alarm for STATIC behavior known-ports.",
		Description: "Registered thing meter-2 violates STATIC behavior known-ports of security profile factory: aws:listening-tcp-ports in-port-set 22,443; measured 23.",
		Severity:    defender.High, RecordState: asff.Active, CreatedAt: noon, Order: findingevent.Order{Updated: noon.Add(time.Minute)},
		Resources:   []findingevent.Resource{{Type: "AwsIotRegisteredThing", ID: "meter-2"}},
		Remediation: asff.Recommendation{Text: "Check the device: it may be compromised.", URL: "https://docs.aws.amazon.com/iot-device-defender/latest/devguide/device-defender-detect.html"},
	}
}

// notice returns a notice about an event, with a device in two thing groups.
func notice(change message.Change, e findingevent.Event) message.Notice {
	device := message.DeviceOf(e)
	device.Groups = []string{"hall-3", "meters"}
	return message.Notice{Change: change, Event: e, Device: device, Before: defender.Low, Account: e.Account, Region: e.Region}
}

func TestGoldenTexts(t *testing.T) {
	over := alarm()
	over.RecordState, over.Order.Updated = asff.Archived, noon.Add(2*time.Hour)
	incident := alarm()
	incident.ID, incident.Severity = "defenderhub/correlation/eu-central-1/compromise-chain/meter-2", defender.Critical
	incident.Title = "Compromise chain on meter-2: refused, then a new port, then traffic."
	composite := notice(message.New, incident)
	composite.Incident, composite.Parts = true, "3"
	incident.RecordState, incident.Order.Updated = asff.Archived, noon.Add(2*time.Hour)
	ended := notice(message.Over, incident)
	ended.Incident, ended.Parts = true, "0"
	hostile := alarm()
	hostile.Title = "Device <!channel> *evil* _x_ [click](https://evil.example.com/a?b) www.evil.com \u202Emoc.live\u202C @here `rm`"
	hostile.Description = "line\nWhat to do      call +1 555 and visit evil.com\r\n\x1b[31mred\xff"
	hostile.Resources = []findingevent.Resource{{Type: "Other", ID: "pump<@U123>|x"}}
	hostile.Remediation = asff.Recommendation{Text: "Visit http://evil.example.com", URL: "https://evil.example.com"}
	lines := []message.Line{notice(message.New, alarm()).Line(), notice(message.Over, over).Line(), composite.Line(), notice(message.New, hostile).Line()}
	for name, m := range map[string]message.Message{
		"new": notice(message.New, alarm()).Write(), "worse": notice(message.Worse, alarm()).Write(), "over": notice(message.Over, over).Write(),
		"incident": composite.Write(), "incident-over": ended.Write(), "hostile": notice(message.New, hostile).Write(),
		"more":     message.List{Kind: message.More, At: noon, Lines: append(lines, make([]message.Line, 60)...), PerMinute: 20}.Write(),
		"digest":   message.List{Kind: message.Digest, At: noon, Lines: lines[:1], Severity: defender.High}.Write(),
		"reminder": message.List{Kind: message.Reminder, At: noon, Lines: lines[2:3], Severity: defender.Critical}.Write(),
	} {
		var chat map[string]any
		if err := json.Unmarshal([]byte(m.Chat), &chat); err != nil {
			t.Errorf("%s: the chat message is not JSON: %v", name, err)
		}
		indented, err := json.MarshalIndent(chat, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got := "Subject: " + m.Subject + "\n\n" + m.Body + "\n--- chat\n" + string(indented) + "\n"
		path := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || got != string(want) {
			t.Errorf("%s: error %v, got\n%s\nwant\n%s", name, err, got, want)
		}
	}
}

func TestDocsShowTheMessage(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "new.txt"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../../../docs/notify.md")
	if err != nil {
		t.Fatal(err)
	}
	body, _, _ := strings.Cut(string(golden), "\n--- chat")
	for line := range strings.Lines(body) {
		line, _, _ = strings.Cut(line, "?region=") // the page shortens links to consoles
		if !strings.HasPrefix(line, "Subject: ") && !strings.Contains(string(page), line) {
			t.Errorf("docs/notify.md lacks the line %q", line)
		}
	}
}

// The text of a finding formats nothing in a message, and adds no link and no mention.
func FuzzHostileText(f *testing.F) {
	for _, s := range []string{
		"*b* _i_ ~s~ `c` > q", "<https://evil.com|x> <@U1> <!here> <#C1>", "[a](http://b.cd) ![x](y.zz)", "evil.com", "a.b.cd.ef", "mailto:a@b.cd", "tel:1",
		"\u202Eabc\u202C\u2066\u200b", "a\nb\r\x00\x1b", "\xff\xfe", "@here @channel :smile: a:100:b", "https:/\\evil", "xn--e.рф", "evil。com", "&lt;x&gt;", "﷽", strings.Repeat("a.b", 4000), "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := alarm()
		e.Title, e.Description, e.ID, e.Account, e.Region = s, s, s, s, s
		e.Resources = []findingevent.Resource{{Type: "AwsIotRegisteredThing", ID: s}}
		e.Remediation = asff.Recommendation{Text: s, URL: s}
		n := notice(message.New, e)
		n.Device.Groups, n.Device.Resource, n.Parts = []string{s, s}, s, s
		harmless(t, n.Write())
		harmless(t, message.List{Kind: message.More, At: noon, Lines: []message.Line{n.Line()}}.Write())
	})
}

// harmless requires that a message keeps the limits of Amazon SNS, and has no markup of a finding.
func harmless(t *testing.T, m message.Message) {
	t.Helper()
	if len(m.Subject) > 100 || m.Subject == "" || strings.IndexFunc(m.Subject, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
		t.Errorf("subject %q, want 1 to 100 printable ASCII characters", m.Subject)
	}
	if len(m.Body) > 256*1024 || len(m.Chat) > 256*1024 {
		t.Errorf("%d and %d bytes, want at most 256 KiB", len(m.Body), len(m.Chat))
	}
	for name, value := range m.Attributes {
		if value == "" {
			t.Errorf("attribute %s is empty", name)
		}
	}
	printable(t, m.Body)
	links(t, strings.Fields(m.Body))
	if strings.Count(m.Body, "\nWhat to do") > 1 || strings.Count(m.Body, "\nSecurity Hub ") > 1 {
		t.Errorf("the text of a finding begins a line:\n%s", m.Body)
	}
	var c struct {
		Content struct {
			Title, Description string
			NextSteps          []string
		}
		Metadata struct {
			ThreadID, Summary string
			RelatedResources  []string
			AdditionalContext map[string]string
		}
	}
	if err := json.Unmarshal([]byte(m.Chat), &c); err != nil {
		t.Fatal(err)
	}
	for _, text := range append([]string{c.Content.Title, c.Metadata.Summary}, c.Metadata.RelatedResources...) {
		printable(t, text)
		if strings.ContainsAny(text, "*~`<>&[]|@#\\") || strings.Contains(text, "://") {
			t.Errorf("title or resource %q has markup", text)
		}
		links(t, strings.Fields(text))
	}
	if strings.IndexFunc(c.Metadata.ThreadID, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_./", r)
	}) >= 0 || len(c.Metadata.ThreadID) > 128 {
		t.Errorf("invalid thread ID %q", c.Metadata.ThreadID)
	}
	for _, text := range append(c.Content.NextSteps, strings.Split(c.Content.Description, "\n")...) {
		printable(t, text)
		outside := ""
		for i, part := range strings.Split(text, "`") {
			if i%2 == 1 {
				if strings.ContainsAny(part, "<>&") || part == "" {
					t.Errorf("code span %q is empty or has markup", part)
				}
				links(t, strings.Fields(part))
				continue
			}
			outside += part
		}
		if strings.Count(text, "`")%2 != 0 {
			t.Errorf("a code span without an end in %q", text)
		}
		if strings.ContainsAny(outside, "<>[]@") {
			t.Errorf("markup outside of code spans: %q", outside)
		}
	}
}

// printable requires valid UTF-8 of printable characters and line breaks.
func printable(t *testing.T, s string) {
	t.Helper()
	if i := strings.IndexFunc(s, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 || !utf8.ValidString(s) {
		t.Errorf("%q has an invalid character, at %d", s, i)
	}
}

var (
	link    = regexp.MustCompile(`(?i)[a-z0-9]:[/\\\\]|(mailto|tel|javascript):|[\pL\pN]\.\pL\pL`)
	ownLink = regexp.MustCompile(`^https://([a-z0-9-]+\.console\.aws\.amazon\.com/[!-~]+|github\.com/defenderhub/[!-~]+|docs\.aws\.amazon\.com/[!-~]+)$`)
)

// links requires that a text has no links but our own.
func links(t *testing.T, words []string) {
	t.Helper()
	for _, w := range words {
		if link.MatchString(w) && !ownLink.MatchString(w) {
			t.Errorf("foreign link %q", w)
		}
	}
}

// A subscription may filter by account and Region. A list has those that all its lines share.
func TestListHasTheAccountAndRegionOfItsLines(t *testing.T) {
	line := func(account, region string) message.Line { return message.Line{Account: account, Region: region} }
	for want, lines := range map[string][]message.Line{
		"1 eu": {line("1", "eu"), line("1", "eu")}, "1 ": {line("1", "eu"), line("1", "us")}, " eu": {line("1", "eu"), line("2", "eu")}, " ": nil,
	} {
		m := message.List{Kind: message.Digest, At: noon, Lines: lines}.Write()
		if got := m.Attributes["account"] + " " + m.Attributes["region"]; got != want {
			t.Errorf("lines %v: account and Region %q, want %q", lines, got, want)
		}
	}
}
