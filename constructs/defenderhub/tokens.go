package defenderhub

import (
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// deployTime replaces a CDK token in errors, because the token's own text says nothing to users.
const deployTime = "a deploy-time reference"

// unresolved reports whether s contains a token, so that it cannot be validated.
func unresolved(s string) bool { return *awscdk.Token_IsUnresolved(s) }

// tokenText matches encoded tokens in text: those of strings and lists in upper or lower case,
// and those of numbers that were formatted, also as integers.
// https://docs.aws.amazon.com/cdk/v2/guide/tokens.html
var tokenText = regexp.MustCompile(`(?i)[$#]\{token\[|-1\.888154589\d*e\+?289|-9223372036854775808`)

// broken reports whether text contains a token that the CDK does not resolve. The CDK resolves
// string tokens anywhere in a text, but a list token only if it is the whole text.
func broken(text string) bool {
	return slices.ContainsFunc(tokenText.FindAllString(text, -1), func(found string) bool {
		return found != "${Token[" && !(found == "#{Token[" && strings.HasPrefix(text, found))
	})
}

// tokenNumber reports whether the CDK encoded a token in n, by the 16 bits that
// Tokenization_IsResolved checks.
func tokenNumber(n float64) bool { return math.Float64bits(n)>>48 == 0xFBFF }

// tokenInteger is the result of every conversion of a token from float64 to int64.
const tokenInteger = math.MinInt64

// validateReferences reports values in which a token was lost: a Go integer cannot hold a token,
// and the CDK does not resolve a token whose text was changed. This holds for both engines.
func validateReferences(profile defender.SecurityProfile) error {
	var f faults
	for i, b := range profile.Behaviors {
		if lostToken(b.Criteria) {
			f.add("Behaviors"+index(i)+".Criteria", deployTime, "a value that is known at synthesis, or an unchanged string of the CDK: counts and ports (1 to 65535) cannot hold a reference")
		}
	}
	return f.err()
}

// lostToken reports whether a value was made from a token and lost it. Port 0 counts as lost,
// because no program listens on it.
func lostToken(c defender.Criteria) bool {
	v := c.Value()
	if v.Count != nil {
		return *v.Count == tokenInteger
	}
	return slices.Contains(v.Ports, 0) || slices.ContainsFunc(v.Strings, broken)
}

// knownValue reports whether a value can be written into a file at synthesis.
func knownValue(v iotapi.Value) bool {
	numbers := v.Numbers
	if v.Number != nil {
		numbers = append([]float64{*v.Number}, numbers...)
	}
	return !slices.ContainsFunc(numbers, tokenNumber) && !slices.ContainsFunc(v.Strings, tokenText.MatchString)
}
