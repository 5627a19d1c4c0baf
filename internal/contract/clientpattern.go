package contract

import (
	"fmt"
	"regexp"

	"github.com/defenderhub/defenderhub/defender"
)

// DefaultClientPattern is the form of the client IDs that AWS IoT Greengrass uses for further
// connections of its core device (unverified): THING#2, THING#3.
const DefaultClientPattern = `([a-zA-Z0-9:_-]+)#[0-9]+`

// maxClientPattern bounds the text of a pattern: it is part of a function's environment.
const maxClientPattern = 256

// thingName is the form of a thing's name.
// https://docs.aws.amazon.com/iot/latest/apireference/API_CreateThing.html
var thingName = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)

// ClientPattern maps the client IDs of one thing's further connections to the thing's name.
// The zero value maps none.
type ClientPattern struct{ form *regexp.Regexp }

// ParseClientPattern reads a regular expression in the syntax of Go (RE2) that matches a
// whole client ID and has one capture, the thing's name. "" stands for
// [DefaultClientPattern]. It returns a [defender.FieldError] for any other text.
func ParseClientPattern(text string) (ClientPattern, error) {
	if text == "" {
		text = DefaultClientPattern
	}
	fault := func(want string, args ...any) error {
		return &defender.FieldError{Value: text, Want: fmt.Sprintf(want, args...)}
	}
	if len(text) > maxClientPattern {
		return ClientPattern{}, fault("at most %d bytes", maxClientPattern)
	}
	if _, err := regexp.Compile(text); err != nil {
		return ClientPattern{}, fault("a regular expression such as %s: %v", DefaultClientPattern, err)
	}
	form, err := regexp.Compile(`^(?:` + text + `)$`)
	if err != nil {
		return ClientPattern{}, fault("a shorter regular expression: %v", err)
	}
	if n := form.NumSubexp(); n != 1 {
		return ClientPattern{}, fault("one capture, the thing's name, such as %s, not %d; (?:...) groups without capturing", DefaultClientPattern, n)
	}
	return ClientPattern{form}, nil
}

// Thing returns the name of the thing that a client ID claims to be a further connection of:
// "" for none, for what is no name of a thing, and for a client ID that is the name itself.
func (p ClientPattern) Thing(clientID string) string {
	if p.form == nil {
		return ""
	}
	found := p.form.FindStringSubmatch(clientID)
	if found == nil || found[1] == clientID || !thingName.MatchString(found[1]) {
		return ""
	}
	return found[1]
}
