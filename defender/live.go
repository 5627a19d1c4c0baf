package defender

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// LiveBehaviors are the behaviors that the self-managed engine judges. The forwarder
// knows them, so that it can end the findings of those that are gone. The text form,
// which stands in [EnvLiveBehaviors], has [liveDigest] characters for each, because an
// environment takes 4 KB.
type LiveBehaviors map[string]bool

// liveDigest is the length of a behavior's digest: 36 bits, so that one name in 10^8
// is taken for one of 500 others.
const liveDigest = 6

// MaxLiveBehaviors is how many behaviors the self-managed engine judges, those of all
// security profiles together: their text form must leave room in an environment of 4 KB.
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
const MaxLiveBehaviors = 300

// Add adds a behavior of a profile.
func (l LiveBehaviors) Add(profile, behavior string) { l[digestOf(profile, behavior)] = true }

// Has reports whether a behavior of a profile is judged.
func (l LiveBehaviors) Has(profile, behavior string) bool { return l[digestOf(profile, behavior)] }

func digestOf(profile, behavior string) string {
	sum := sha256.Sum256([]byte(profile + "/" + behavior)) // a profile's name has no slash
	return base64.RawURLEncoding.EncodeToString(sum[:])[:liveDigest]
}

// String is the text form, sorted.
func (l LiveBehaviors) String() string { return strings.Join(slices.Sorted(maps.Keys(l)), "") }

// ParseLiveBehaviors reads the text form.
func ParseLiveBehaviors(text string) (LiveBehaviors, error) {
	if len(text)%liveDigest != 0 {
		return nil, fmt.Errorf("live behaviors of %d characters, want a multiple of %d", len(text), liveDigest)
	}
	l := LiveBehaviors{}
	for digest := range slices.Chunk([]byte(text), liveDigest) {
		l[string(digest)] = true
	}
	return l, nil
}
