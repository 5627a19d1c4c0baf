package mqtt

import (
	"crypto/tls"
	"strconv"

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
