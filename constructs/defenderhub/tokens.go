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

// deployTime is the value of a fault about a CDK token, whose own text is useless.
const deployTime = "a deploy-time reference"

// unresolved reports whether s contains a token, so that it cannot be validated.
func unresolved(s string) bool { return *awscdk.Token_IsUnresolved(s) }

// tokenText matches a token in text that the CDK will not resolve: of a string, of a list,
// with its case changed, and of a number that was formatted, also as an integer.
// https://docs.aws.amazon.com/cdk/v2/guide/tokens.html
var tokenText = regexp.MustCompile(`(?i)[$#]\{token\[|-1\.888154589\d*e\+?289|-9223372036854775808`)

// broken reports whether text contains a token that the CDK does not resolve: it resolves string
// tokens anywhere, and list tokens only alone.
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

// validateReferences reports values in which a token was lost, with any engine: a Go integer
// cannot hold one, and the CDK resolves none in changed text.
func validateReferences(profile defender.SecurityProfile) error {
	var f faults
	for i, b := range profile.Behaviors {
		if lostToken(b.Criteria) {
			f.add("Behaviors"+index(i)+".Criteria", deployTime, "a value that is known at synthesis, or a text of the CDK that was not changed: a count or a port from 1 to 65535 cannot carry a reference")
		}
	}
	return f.err()
}

// lostToken reports whether a value was made from a token that is lost in it. No program
// listens on port 0.
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
