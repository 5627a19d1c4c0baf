package mqtt

import (
	"crypto/tls"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore/policy"
)

// authorized reports whether the policies of the connection's certificate and thing groups allow an
// action. extra are condition keys that only this request has.
func (b *Broker) authorized(c *connection, action, resource string, extra policy.Values) bool {
	if c.identity.principal == anonymous {
		return true
	}
	thing, _ := b.registry.ConnectionThing(c.identity.principal, c.client.ID)
	values := b.values(c, thing)
	for k, v := range extra {
		values[k] = v
	}
	decision := policy.Evaluate(b.registry.EffectivePolicies(c.identity.principal, thing), policy.Request{
		Action: action, Resource: b.registry.ARN(resource), Values: values,
	})
	if !decision.Allowed {
		b.log.Info("not authorized", "clientId", c.client.ID, "principal", c.identity.principal,
			"action", action, "resource", resource, "explicitDeny", decision.ExplicitDeny)
	}
	return decision.Allowed
}

// mayPublish includes the permission to set the RETAIN flag.
func (b *Broker) mayPublish(c *connection, topic string, retain bool) bool {
	return b.authorized(c, "iot:Publish", "topic/"+topic, nil) &&
		(!retain || b.authorized(c, "iot:RetainPublish", "topic/"+topic, nil))
}

func (b *Broker) values(c *connection, thing string) policy.Values {
	_, secure := c.net.(*tls.Conn)
	v := policy.Values{
		policy.KeyClientID:        {c.client.ID},
		policy.KeySourceIP:        {addressOf(c.net).String()},
		policy.KeySecureTransport: {strconv.FormatBool(secure)},
		policy.KeyCertificateID:   {c.identity.principal},
		policy.KeyThingIsAttached: {strconv.FormatBool(thing != "")},
	}
	if c.identity.serverName != "" {
		v[policy.KeyDomainName] = []string{c.identity.serverName}
	}
	if attributes, ok := b.registry.Attributes(thing); ok {
		v[policy.KeyThingName] = []string{thing}
		for name, value := range attributes {
			v[policy.KeyThingAttribute+name+"]"] = []string{value}
		}
	}
	return v
}

// guard is the broker's verdict on a topic, before it evaluates policies.
type guard struct {
	verdict verdict
	why     string
}

type verdict byte

const (
	allowed     verdict = iota
	invalid             // beyond a limit
	forbidden           // a reserved topic that clients may not use in this way
	unknownHere         // a reserved topic that this broker does not support
)

var (
	ruleName     = regexp.MustCompile(`^[a-zA-Z0-9_]{1,128}$`)
	reportFormat = []string{"json", "cbor"}
	reportAnswer = []string{"accepted", "rejected"}
)

// guardPublish guards the topic of a client's PUBLISH (AWS IoT Core Developer Guide, "Reserved
// topics").
func guardPublish(topic string) guard {
	levels := strings.Split(topic, "/")
	if !strings.HasPrefix(topic, "$") {
		return limits(topic)
	}
	if levels[0] != "$aws" {
		return guard{forbidden, "topics that begin with $ are reserved"}
	}
	switch kind := at(levels, 1); {
	case kind == "rules":
		if !ruleName.MatchString(at(levels, 2)) {
			return guard{invalid, fmt.Sprintf("%q is not a rule name", at(levels, 2))}
		}
		return limits(strings.Join(levels[3:], "/"))
	case kind == "things" && at(levels, 3) == "defender":
		if len(levels) == 6 && levels[2] != "" && levels[4] == "metrics" && slices.Contains(reportFormat, levels[5]) {
			return guard{}
		}
		return guard{forbidden, "clients may only publish to $aws/things/THING/defender/metrics/json and cbor"}
	case kind == "events":
		return guard{forbidden, "only AWS publishes lifecycle events"}
	}
	return guard{unknownHere, topic + " belongs to a part of AWS IoT that is not supported by the local AWS IoT"}
}

// guardHTTP guards a topic of the data plane's Publish and of the republish action. The topics of
// Device Defender do not support either (AWS IoT Core Developer Guide, "Republish").
func guardHTTP(topic string) guard {
	g := guardPublish(topic)
	switch levels := strings.Split(topic, "/"); {
	case topic == "" || strings.ContainsAny(topic, "+#"):
		return guard{invalid, "want a topic of at least one character, without wildcards"}
	case g.verdict == allowed && at(levels, 0) == "$aws" && at(levels, 1) == "things" && at(levels, 3) == "defender":
		return guard{forbidden, "only MQTT clients may publish to the topics of AWS IoT Device Defender"}
	}
	return g
}

// guardSubscribe guards a filter of a client's SUBSCRIBE. A filter is also forbidden if it matches
// topics to which nobody may subscribe (unverified), such as Basic Ingest and device reports. Of
// a shared subscription, it guards the filter after the group.
func guardSubscribe(filter string) guard {
	levels := strings.Split(filter, "/")
	if levels[0] == "$share" && len(levels) > 2 {
		levels = levels[2:]
		filter = strings.Join(levels, "/")
	}
	for i, level := range levels {
		if strings.ContainsAny(level, "+#") && (!isWildcard(level) || level == "#" && i < len(levels)-1) {
			return guard{invalid, fmt.Sprintf("level %q: a wildcard must be the only character of its level, and # must be the last level", level)}
		}
	}
	if !strings.HasPrefix(filter, "$") {
		return limits(filter)
	}
	if levels[0] != "$aws" {
		return guard{forbidden, "topics that begin with $ are reserved"}
	}
	switch kind := at(levels, 1); {
	case kind == "events":
		return guard{}
	case kind == "rules":
		return guard{forbidden, "nobody can subscribe to Basic Ingest topics"}
	case isWildcard(kind), kind == "things" && (isWildcard(at(levels, 3)) || at(levels, 2) == "#"):
		return guard{forbidden, "the filter matches topics to which nobody can subscribe"}
	case kind == "things" && at(levels, 3) == "defender":
		if isReportAnswer(levels) {
			return guard{}
		}
		return guard{forbidden, "clients may only subscribe to accepted and rejected below $aws/things/THING/defender/metrics/json and cbor"}
	}
	return guard{unknownHere, filter + " belongs to a part of AWS IoT that is not supported by the local AWS IoT"}
}

func isReportAnswer(levels []string) bool {
	return len(levels) == 7 && levels[2] != "" && levels[4] == "metrics" &&
		(levels[5] == "+" || slices.Contains(reportFormat, levels[5])) &&
		(levels[6] == "+" || slices.Contains(reportAnswer, levels[6]))
}

func isWildcard(level string) bool { return level == "+" || level == "#" }

// limits checks the size of a topic. The prefix of Basic Ingest does not count.
func limits(topic string) guard {
	if len(topic) > maxTopic {
		return guard{invalid, fmt.Sprintf("it has %d bytes, at most %d are allowed", len(topic), maxTopic)}
	}
	if n := strings.Count(topic, "/"); n > maxSlashes {
		return guard{invalid, fmt.Sprintf("it has %d slashes, at most %d are allowed", n, maxSlashes)}
	}
	return guard{}
}

func at(levels []string, i int) string {
	if i < len(levels) {
		return levels[i]
	}
	return ""
}
