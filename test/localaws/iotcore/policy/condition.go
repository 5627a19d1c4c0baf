package policy

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Values are the values of the condition keys and policy variables of a request.
type Values map[string][]string

// The condition keys of MQTT clients' requests.
const (
	KeySourceIP          = "aws:SourceIp"
	KeySecureTransport   = "aws:SecureTransport"
	KeyClientID          = "iot:ClientId"
	KeyDomainName        = "iot:DomainName"
	KeyConnectAttributes = "iot:ConnectAttributes" // PersistentConnect, LastWill
	KeyThingName         = "iot:Connection.Thing.ThingName"
	KeyThingTypeName     = "iot:Connection.Thing.ThingTypeName"
	KeyThingIsAttached   = "iot:Connection.Thing.IsAttached"
	KeyCertificateID     = "iot:CertificateId"

	// KeyThingAttribute is followed by the name of an attribute and "]".
	KeyThingAttribute = "iot:Connection.Thing.Attributes["
)

// KnownKey reports whether name is a supported condition key or policy variable.
func KnownKey(name string) bool {
	switch name {
	case KeySourceIP, KeySecureTransport, KeyClientID, KeyDomainName, KeyConnectAttributes,
		KeyThingName, KeyThingTypeName, KeyThingIsAttached, KeyCertificateID:
		return true
	}
	if rest, ok := strings.CutPrefix(name, KeyThingAttribute); ok {
		return len(rest) > 1 && strings.HasSuffix(rest, "]")
	}
	return false
}

// Condition is one operator on one condition key of a statement. All conditions of a statement must
// hold.
type Condition struct {
	Key      string
	set      string // for keys with several values: "", "ForAnyValue" or "ForAllValues"
	ifExists bool
	comparison
	want []Pattern
}

// comparison is a condition operator without its prefix and suffix. A negated one holds if no wanted
// value matches.
type comparison struct {
	negated bool
	compare func(want Pattern, got string, values Values) bool
}

var comparisons = map[string]comparison{
	"StringEquals":              {false, equal},
	"StringNotEquals":           {true, equal},
	"StringEqualsIgnoreCase":    {false, equalFold},
	"StringNotEqualsIgnoreCase": {true, equalFold},
	"StringLike":                {false, like},
	"StringNotLike":             {true, like},
	"Bool":                      {false, equalFold},
	"IpAddress":                 {false, inNetwork},
	"NotIpAddress":              {true, inNetwork},
}

// IAMConditions reads the Condition element of an IAM policy. known reports whether a condition key
// is supported. Its errors are those of [Parse]. ArnEquals and ArnLike have the same meaning.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
func IAMConditions(raw map[string]map[string]OneOrMore, known func(key string) bool) ([]Condition, error) {
	operators := maps.Clone(comparisons)
	for _, form := range []string{"Equals", "Like"} {
		operators["Arn"+form], operators["ArnNot"+form] = comparison{false, arnLike}, comparison{true, arnLike}
	}
	return parseConditions(raw, known, operators)
}

func parseConditions(raw map[string]map[string]OneOrMore, known func(string) bool, operators map[string]comparison) ([]Condition, error) {
	var out []Condition
	for _, operator := range slices.Sorted(maps.Keys(raw)) {
		for _, key := range slices.Sorted(maps.Keys(raw[operator])) {
			c, err := parseCondition(operator, key, raw[operator][key], known, operators)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
		}
	}
	return out, nil
}

func parseCondition(operator, key string, values []string, known func(string) bool, operators map[string]comparison) (Condition, error) {
	c := Condition{Key: key}
	if !known(key) {
		return c, &UnsupportedError{Element: "condition key", Name: key}
	}
	if len(values) == 0 {
		return c, malformed("condition %s on %s has no value", operator, key)
	}
	name := operator
	if set, rest, ok := strings.Cut(operator, ":"); ok && (set == "ForAnyValue" || set == "ForAllValues") {
		c.set, name = set, rest
	}
	name, c.ifExists = strings.CutSuffix(name, "IfExists")
	var ok bool
	if c.comparison, ok = operators[name]; !ok {
		return c, &UnsupportedError{Element: "condition operator", Name: operator}
	}
	for _, v := range values {
		p, err := ParsePattern(v)
		if err != nil {
			return c, err
		}
		if _, err := parseNetwork(v); err != nil && strings.HasSuffix(name, "IpAddress") {
			return c, malformed("condition %s: %q is not an IP address or range", operator, v)
		}
		c.want = append(c.want, p)
	}
	return c, nil
}

// Holds reports whether the condition is met. For a key without a value, as in IAM, a negated
// operator holds, and so does one with IfExists or ForAllValues; others do not.
func (c Condition) Holds(values Values) bool {
	got := values[c.Key]
	if len(got) == 0 {
		return c.ifExists || c.set == "ForAllValues" || c.negated && c.set == ""
	}
	one := func(value string) bool {
		return c.negated != slices.ContainsFunc(c.want, func(want Pattern) bool { return c.compare(want, value, values) })
	}
	if c.set == "ForAnyValue" {
		return slices.ContainsFunc(got, one)
	}
	return !slices.ContainsFunc(got, func(v string) bool { return !one(v) })
}

// equal replaces the variables of want, but compares its wildcards literally.
func equal(want Pattern, got string, values Values) bool {
	text, ok := want.literalText(values)
	return ok && text == got
}

func equalFold(want Pattern, got string, values Values) bool {
	text, ok := want.literalText(values)
	return ok && strings.EqualFold(text, got)
}

func like(want Pattern, got string, values Values) bool {
	matched, _ := want.Match(got, values)
	return matched
}

// arnLike compares two ARNs part by part.
func arnLike(want Pattern, got string, values Values) bool {
	patterns, parts := strings.SplitN(want.text, ":", 6), strings.SplitN(got, ":", 6)
	if len(patterns) != len(parts) {
		return false
	}
	for i, part := range parts {
		if p, err := ParsePattern(patterns[i]); err != nil || !like(p, part, values) {
			return false
		}
	}
	return true
}

func inNetwork(want Pattern, got string, _ Values) bool {
	network, err := parseNetwork(want.text)
	address, wrong := netip.ParseAddr(got)
	return err == nil && wrong == nil && network.Contains(address.Unmap())
}

func parseNetwork(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}
