package message

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/defenderhub/defenderhub/internal/safetext"
)

// Anything in a finding may be a device's text. It must not format, link or mention anything, hide
// or reorder other text, or begin a line of its own.

// cut returns at most n characters of s.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// dots reports the index in r of each dot after which a mail or chat client would see a top-level
// domain: between a letter or digit, and two letters.
func dots(r []rune) map[int]bool {
	word := func(i int) bool {
		return i < len(r) && i >= 0 && (unicode.IsLetter(r[i]) || unicode.IsMark(r[i]) || unicode.IsDigit(r[i]))
	}
	found := map[int]bool{}
	for i, c := range r {
		if strings.ContainsRune(".。．｡", c) && (word(i-1) || i > 0 && r[i-1] == '-') && word(i+1) && word(i+2) && !unicode.IsDigit(r[i+1]) {
			found[i] = true
		}
	}
	return found
}

var scheme = regexp.MustCompile(`:([/\\]{1,2})|(?i:\b(mailto|tel|sms|data|javascript|file|news|sip|sips|skype|slack|xmpp)):`)

// plain returns data for a plain text. Mail clients turn addresses into links, so https://example.com
// is written as https[://]example[.]com.
func plain(s string, n int) string {
	r := []rune(safetext.Escape(s))
	if found := dots(r); len(found) > 0 {
		var b strings.Builder
		for i, c := range r {
			if found[i] {
				b.WriteString("[.]")
			} else {
				b.WriteRune(c)
			}
		}
		r = []rune(b.String())
	}
	return cut(scheme.ReplaceAllStringFunc(string(r), func(found string) string {
		name, rest, _ := strings.Cut(found, ":")
		return name + "[:" + rest + "]"
	}), n)
}

// span returns data for a chat message as a span of code, in which no chat client formats, links
// or mentions anything. Characters that would end the span, or that Slack reads even there, are
// replaced by ones that look alike.
func span(s string, n int) string {
	s = strings.TrimSpace(spanned.Replace(plain(s, n)))
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

var spanned = strings.NewReplacer("`", "ˋ", "<", "‹", ">", "›", "&", "＆")

// title returns data for the title of a chat message, where a span of code would be hard to read:
// each character that may have a meaning is replaced by one that looks alike.
func title(s string, n int) string {
	r := []rune(cut(safetext.Escape(s), n))
	found := dots(r)
	var b strings.Builder
	for i, c := range r {
		inWord := i > 0 && i+1 < len(r) && alphanumeric(r[i-1]) && alphanumeric(r[i+1])
		atEnd := i+1 == len(r) || r[i+1] == ' '
		switch {
		case found[i]:
			b.WriteRune('․')
		case c == '_' && inWord, c == ':' && atEnd:
			b.WriteRune(c)
		case lookalikes[c] != 0:
			b.WriteRune(lookalikes[c])
		default:
			b.WriteRune(c)
		}
	}
	return strings.TrimSpace(b.String())
}

func alphanumeric(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

var lookalikes = map[rune]rune{
	'*': '∗', '_': '＿', '~': '∼', '`': 'ˋ', '<': '‹', '>': '›', '&': '＆', '[': '［', ']': '］',
	'|': '｜', '@': '＠', '#': '＃', '\\': '＼', ':': '：', '$': '＄', '^': '＾',
}

// maxSubject is the length that a subject must stay below, in characters. A subject must be ASCII,
// without line breaks and control characters.
// https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
const maxSubject = 100

// subject returns the subject of a mail. It begins with our own text.
func subject(own, data string) string {
	text := strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII {
			return '?'
		}
		return r
	}, plain(data, 4*maxSubject))
	text = own + text
	if len(text) >= maxSubject {
		text = text[:maxSubject-4] + "..."
	}
	return strings.TrimSpace(text)
}

// identifier returns text of at most 128 of A-Z a-z 0-9 - _ . / that differs for different s.
func identifier(s string) string {
	simple := strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (alphanumeric(r) || strings.ContainsRune("-_./", r)) {
			return r
		}
		return '.'
	}, s)
	if simple == s && len(s) <= 128 {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return simple[:min(len(simple), 128-17)] + "." + hex.EncodeToString(sum[:8])
}
