package securityhubtest

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

var tagKey = regexp.MustCompile(`^[a-zA-Z+-=._:/]+$`)

// checkTags holds tags against the limits of the API's TagMap.
func checkTags(tags map[string]string) error {
	if len(tags) == 0 || len(tags) > 50 {
		return invalidInput("Invalid parameter 'Tags'. %d tags, 1 to 50 are allowed.", len(tags))
	}
	for k, v := range tags {
		if len(k) > 128 || !tagKey.MatchString(k) || strings.HasPrefix(k, "aws:") {
			return invalidInput("Invalid parameter 'Tags'. Key %q should be 1 to 128 of a-z A-Z 0-9 + - = . _ : / and not start with aws:", k)
		}
		if utf8.RuneCountInString(v) > 256 {
			return invalidInput("Invalid parameter 'Tags'. The value of %q should NOT be longer than 256 characters.", k)
		}
	}
	return nil
}
