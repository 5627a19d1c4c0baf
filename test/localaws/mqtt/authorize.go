package mqtt

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"strconv"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore/policy"
)

// x509Attributes maps the object identifiers of X.509 names to the names that
// policy variables have for them.
var x509Attributes = map[string]string{
	"2.5.4.3": "CommonName", "2.5.4.4": "Surname", "2.5.4.5": "SerialNumber", "2.5.4.6": "Country",
	"2.5.4.8": "State", "2.5.4.10": "Organization", "2.5.4.11": "OrganizationalUnit", "2.5.4.12": "Title",
	"2.5.4.42": "GivenName", "2.5.4.43": "Initials", "2.5.4.44": "GenerationQualifier",
	"2.5.4.46": "DistinguishedNameQualifier", "2.5.4.65": "Pseudonym",
}

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
	if c.identity.certificate != nil {
		addNames(v, policy.KeyCertificateSubject, c.identity.certificate.Subject)
		addNames(v, policy.KeyCertificateIssuer, c.identity.certificate.Issuer)
	}
	if described, err := b.registry.DescribeThing(&iotcore.ThingInput{ThingName: thing}); err == nil {
		v[policy.KeyThingName] = []string{thing}
		for name, value := range described.Attributes {
			v[policy.KeyThingAttribute+name+"]"] = []string{value}
		}
	}
	return v
}

// addNames takes the first value of each attribute, as policy variables do.
func addNames(v policy.Values, prefix string, name pkix.Name) {
	for _, a := range name.Names {
		key := prefix + x509Attributes[a.Type.String()]
		if text, ok := a.Value.(string); ok && policy.KnownKey(key) && v[key] == nil {
			v[key] = []string{text}
		}
	}
}
