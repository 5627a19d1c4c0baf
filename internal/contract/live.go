package contract

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
)

// LiveBehaviors are the behaviors that the self-managed engine judges, with their severities.
// From them the forwarder ends the findings of removed behaviors and updates changed severities.
//
// The text form, in [EnvLiveBehaviors], has only [liveDigest] characters per behavior, because an
// environment is limited to 4 KB. A dot ends the behaviors of one severity; the first is
// defender.SeverityDefault.
type LiveBehaviors map[string]defender.Severity

// liveDigest is the length of a behavior's digest: 36 bits. With [MaxLiveBehaviors], fewer than one
// other name in 10^8 has the digest of one of them.
const liveDigest = 6

// MaxLiveBehaviors is the maximum number of behaviors in all security profiles of the
// self-managed engine. Their text form must leave room in an environment of 4 KB.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const MaxLiveBehaviors = 300

// Add adds a behavior of a security profile.
func (l LiveBehaviors) Add(profile, behavior string, severity defender.Severity) {
	l[digestOf(profile, behavior)] = severity
}

// Has reports whether a behavior of a security profile is judged.
func (l LiveBehaviors) Has(profile, behavior string) bool {
	_, ok := l[digestOf(profile, behavior)]
	return ok
}

// Severity returns a behavior's own severity. It is defender.SeverityDefault if the behavior has
// none or is not judged.
func (l LiveBehaviors) Severity(profile, behavior string) defender.Severity {
	return l[digestOf(profile, behavior)]
}

func digestOf(profile, behavior string) string {
	sum := sha256.Sum256([]byte(profile + "/" + behavior)) // a profile's name contains no slash
	return base64.RawURLEncoding.EncodeToString(sum[:])[:liveDigest]
}

// String returns the text form, sorted.
func (l LiveBehaviors) String() string {
	groups := make([]string, defender.Critical+1)
	for _, digest := range slices.Sorted(maps.Keys(l)) {
		groups[l[digest]] += digest
	}
	return strings.TrimRight(strings.Join(groups, "."), ".")
}

// ParseLiveBehaviors parses the text form.
func ParseLiveBehaviors(text string) (LiveBehaviors, error) {
	groups := strings.Split(text, ".")
	if len(groups) > int(defender.Critical)+1 {
		return nil, fmt.Errorf("live behaviors of %d severities, want at most %d", len(groups), defender.Critical+1)
	}
	l := LiveBehaviors{}
	for severity, group := range groups {
		if len(group)%liveDigest != 0 {
			return nil, fmt.Errorf("live behaviors of %d characters in a severity, want a multiple of %d", len(group), liveDigest)
		}
		for digest := range slices.Chunk([]byte(group), liveDigest) {
			l[string(digest)] = defender.Severity(severity)
		}
	}
	return l, nil
}
