// Package iotcore is a local AWS IoT Core. It has the control plane (things, thing groups,
// certificates, policies, topic rules) and the HTTP API of the data plane, behind an http.Handler
// for AWS clients (signature services iot and iotdata).
//
// Certificates are real X.509 certificates with their own keys, signed by the service's certificate
// authority, so that an MQTT broker can verify a device. The error of an unsupported call or
// parameter names it; no call succeeds without an effect.
//
// Changes take effect at once. On AWS, a policy change takes 6 to 8 minutes, and detaching a policy
// up to five minutes.
package iotcore

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/google/uuid"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
)

// Config configures a Service.
type Config struct {
	Account string // 12 digits. Default: 123456789012.
	Region  string // Default: us-east-1.
	// Now is the clock of creation dates and certificates. Default: time.Now.
	Now func() time.Time
	// ValidateRule checks the SQL and the actions of a topic rule that is created or replaced.
	// Default: nil, every statement is valid.
	ValidateRule func(name string, p types.TopicRulePayload) error
}

// Service is AWS IoT Core in one account and Region. Its methods with the names of API operations
// implement them, and return an *Error with AWS's code. It is safe for concurrent use.
type Service struct {
	account, region, partition string
	now                        func() time.Time
	validateRule               func(name string, p types.TopicRulePayload) error
	ca                         *CA

	mu           sync.RWMutex
	things       map[string]*thing
	groups       map[string]*thingGroup
	certificates map[string]*Certificate
	policies     map[string]*iotPolicy
	rules        map[string]*TopicRule
	onStatus     []func(certificateID string, status types.CertificateStatus)
}

// New returns an empty service with a certificate authority of its own.
func New(config Config) (*Service, error) {
	s := &Service{
		account: cmp.Or(config.Account, "123456789012"), region: cmp.Or(config.Region, "us-east-1"), now: config.Now,
		validateRule: config.ValidateRule,
		things:       map[string]*thing{},
		groups:       map[string]*thingGroup{},
		certificates: map[string]*Certificate{},
		policies:     map[string]*iotPolicy{},
		rules:        map[string]*TopicRule{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.partition = cloudformation.Partition(s.region)
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

// newUUID returns the ID of a thing or a thing group.
func newUUID() string { return uuid.NewString() }

// NewID returns 32 hex digits, the form of the IDs of audits, findings and MQTT sessions.
func NewID() string { return strings.ReplaceAll(uuid.NewString(), "-", "") }

// Error is an error of the API of AWS IoT.
type Error struct {
	Code    string // such as "ResourceNotFoundException"
	Status  int    // HTTP status
	Message string
	// ResourceARN and ResourceID identify the resource that already exists.
	ResourceARN, ResourceID string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// The status codes are those of the API models iot and iot-data 2015-05-28.
var (
	errInvalidRequest   = errorKind{"InvalidRequestException", http.StatusBadRequest}
	errNotFound         = errorKind{"ResourceNotFoundException", http.StatusNotFound}
	errAlreadyExists    = errorKind{"ResourceAlreadyExistsException", http.StatusConflict}
	errUnauthorized     = errorKind{"UnauthorizedException", http.StatusUnauthorized}
	errDeleteConflict   = errorKind{"DeleteConflictException", http.StatusConflict}
	errVersionsLimit    = errorKind{"VersionsLimitExceededException", http.StatusConflict}
	errMalformedPolicy  = errorKind{"MalformedPolicyException", http.StatusBadRequest}
	errCertificateState = errorKind{"CertificateStateException", http.StatusNotAcceptable}
	errSQLParse         = errorKind{"SqlParseException", http.StatusBadRequest}
	errTooLarge         = errorKind{"RequestEntityTooLargeException", http.StatusRequestEntityTooLarge}
	errInternal         = errorKind{"InternalFailureException", http.StatusInternalServerError}

	// errUnknownHere is not an error of AWS. It means that this service does not support
	// something that AWS may support.
	errUnknownHere = errorKind{"NotImplementedException", http.StatusNotImplemented}
)

type errorKind struct {
	code   string
	status int
}

func (k errorKind) new(format string, args ...any) *Error {
	return &Error{Code: k.code, Status: k.status, Message: fmt.Sprintf(format, args...)}
}

// of returns the error for a resource that already exists.
func (k errorKind) of(id, arn, format string, args ...any) *Error {
	e := k.new(format, args...)
	e.ResourceID, e.ResourceARN = id, arn
	return e
}
