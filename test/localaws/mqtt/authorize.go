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

// authorized asks the policies of the connection's certificate and thing groups.
// extra are the condition keys of this request alone.
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

// mayPublish includes the right to set the RETAIN flag.
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

// guard is what the broker says of a topic before any policy is asked.
type guard struct {
	verdict verdict
	why     string
}

type verdict byte

const (
	allowed     verdict = iota
	invalid             // breaks a limit
	forbidden           // a reserved topic that clients may not use so
	unknownHere         // a reserved topic of AWS that this broker does not serve
)

var (
	ruleName     = regexp.MustCompile(`^[a-zA-Z0-9_]{1,128}$`)
	reportFormat = []string{"json", "cbor"}
	reportAnswer = []string{"accepted", "rejected"}
)

// guardPublish guards a topic that a client wants to publish to (AWS IoT Core
// Developer Guide, "Reserved topics").
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
			return guard{invalid, fmt.Sprintf("%q is no rule name", at(levels, 2))}
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

// guardHTTP guards a topic of the data plane's Publish and of the republish action: those of
// Device Defender do not support that (AWS IoT Core Developer Guide, "Republish").
func guardHTTP(topic string) guard {
	g := guardPublish(topic)
	switch levels := strings.Split(topic, "/"); {
	case topic == "" || strings.ContainsAny(topic, "+#"):
		return guard{invalid, "a topic has at least one character, and no wildcards"}
	case g.verdict == allowed && at(levels, 0) == "$aws" && at(levels, 1) == "things" && at(levels, 3) == "defender":
		return guard{forbidden, "the reserved topics of AWS IoT Device Defender take MQTT messages of clients only"}
	}
	return g
}

// guardSubscribe guards a filter that a client wants to subscribe to. A filter
// whose wildcards take in a topic that may not be subscribed to is forbidden, too
// (unverified). So Basic Ingest and device reports reach AWS alone. A shared
// subscription is guarded by the filter behind its group.
func guardSubscribe(filter string) guard {
	levels := strings.Split(filter, "/")
	if levels[0] == "$share" && len(levels) > 2 {
		levels = levels[2:]
		filter = strings.Join(levels, "/")
	}
	for i, level := range levels {
		if strings.ContainsAny(level, "+#") && (!isWildcard(level) || level == "#" && i < len(levels)-1) {
			return guard{invalid, fmt.Sprintf("level %q: a wildcard is the only character of its level, and # the last level", level)}
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
		return guard{forbidden, "Basic Ingest topics cannot be subscribed to"}
	case isWildcard(kind), kind == "things" && (isWildcard(at(levels, 3)) || at(levels, 2) == "#"):
		return guard{forbidden, "the filter takes in topics that cannot be subscribed to"}
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

// limits also bounds Basic Ingest, without its prefix.
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
