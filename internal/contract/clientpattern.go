package contract

import (
	"fmt"
	"regexp"

	"github.com/defenderhub/defenderhub/defender"
)

// DefaultClientPattern matches the client IDs of an AWS IoT Greengrass core device's additional
// connections (unverified): THING#2, THING#3.
const DefaultClientPattern = `([a-zA-Z0-9:_-]+)#[0-9]+`

// maxClientPattern limits the text of a pattern, in bytes: it is part of a function's
// environment.
const maxClientPattern = 256

// thingName matches the names of things.
// https://docs.aws.amazon.com/iot/latest/apireference/API_CreateThing.html
var thingName = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)

// IsThingName reports whether a text can be the name of a thing.
func IsThingName(text string) bool { return thingName.MatchString(text) }

// ClientPattern maps the client IDs of a thing's additional connections to the thing's name. The
// zero value maps none.
type ClientPattern struct{ form *regexp.Regexp }

// ParseClientPattern parses a regular expression in Go (RE2) syntax. It must match a whole client
// ID and have one capture, the thing's name. "" means [DefaultClientPattern]. The error is a
// [defender.FieldError].
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

// Thing returns the name of the thing whose additional connection a client ID claims to be. It
// returns "" if the pattern does not match, if the capture is no valid thing name, and if the
// client ID is the thing's name.
func (p ClientPattern) Thing(clientID string) string {
	if p.form == nil {
		return ""
	}
	found := p.form.FindStringSubmatch(clientID)
	if found == nil || found[1] == clientID || !IsThingName(found[1]) {
		return ""
	}
	return found[1]
}
