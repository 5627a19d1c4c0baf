// Package iotcore is a local AWS IoT Core: its control plane (things, thing
// groups, certificates, policies, topic rules, logging options) and the HTTP
// side of its data plane, as Go state behind an http.Handler that real AWS
// clients can speak to (signature services iot and iotdata).
//
// Certificates are real: each is an X.509 certificate with its own key, signed
// by the service's certificate authority, so that an MQTT broker can verify the
// device that presents it. What the service does not know it answers with an
// error that names it; nothing succeeds without an effect.
//
// Changes take effect at once. On AWS a policy change takes 6 to 8 minutes and a
// detached policy up to five minutes.
package iotcore

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Config is what a Service needs to know about its surroundings.
type Config struct {
	Account string // 12 digits. Default: 123456789012.
	Region  string // Default: us-east-1.
	// Now tells the time of creation dates and certificates. Default: time.Now.
	Now func() time.Time
	// DataEndpoint is the host of the MQTT broker that DescribeEndpoint answers,
	// without a port, as AWS answers it. Default: localhost.
	DataEndpoint string
	// ValidateRule refuses a topic rule when it is created or replaced, beyond what AWS
	// IoT Core itself checks: its SQL, and what its actions need. Default: every
	// statement is accepted.
	ValidateRule func(name string, p TopicRulePayload) error
}

// Service holds the state of AWS IoT Core in one account and Region. Its methods
// named like API operations do what the operation does and return an *Error with
// AWS's code. It is safe for use by many goroutines.
type Service struct {
	account, region, partition string
	now                        func() time.Time
	dataEndpoint               string
	validateRule               func(name string, p TopicRulePayload) error
	ca                         *CA

	mu           sync.RWMutex
	things       map[string]*thing
	groups       map[string]*thingGroup
	certificates map[string]*Certificate
	policies     map[string]*iotPolicy
	rules        map[string]*TopicRule
	tags         map[string]map[string]string // by ARN
	logging      *LoggingOptions
	onStatus     []func(certificateID string, status CertificateStatus)
}

// New returns an empty service with a certificate authority of its own.
func New(config Config) (*Service, error) {
	s := &Service{
		account: config.Account, region: config.Region, now: config.Now,
		dataEndpoint: config.DataEndpoint, validateRule: config.ValidateRule,
		things:       map[string]*thing{},
		groups:       map[string]*thingGroup{},
		certificates: map[string]*Certificate{},
		policies:     map[string]*iotPolicy{},
		rules:        map[string]*TopicRule{},
		tags:         map[string]map[string]string{},
	}
	if s.account == "" {
		s.account = "123456789012"
	}
	if s.region == "" {
		s.region = "us-east-1"
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.dataEndpoint == "" {
		s.dataEndpoint = "localhost"
	}
	s.partition = partitionOf(s.region)
	ca, err := newCA()
	if err != nil {
		return nil, fmt.Errorf("create the certificate authority: %w", err)
	}
	s.ca = ca
	return s, nil
}

// CA returns the authority that signs every certificate of the service.
func (s *Service) CA() *CA { return s.ca }

// ARN returns the ARN of a resource of this account and Region, such as
// "client/sensor-1" or "topic/a/b".
func (s *Service) ARN(resource string) string {
	return fmt.Sprintf("arn:%s:iot:%s:%s:%s", s.partition, s.region, s.account, resource)
}

func partitionOf(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// newUUID returns a random UUID, the form of thing ids and thing group ids.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
