// Package devicedefender has the audits of a local AWS IoT Device Defender, and its answers to device
// reports. Its operations are part of the API of AWS IoT (signature service iot): Register adds
// them to an iotcore.Handler.
//
// Audit checks evaluate the policies and certificates of an iotcore.Service, and the connections of
// an mqtt.Broker. A check that cannot evaluate its resources ends FAILED with the reason, never
// compliant. A check of resources that cannot exist here is compliant: the local AWS IoT refuses to
// register CA certificates, role aliases, and certificates of others.
//
// At the end of a task, the configured SNS topic gets the notification, and Security Hub gets the
// findings and check summaries of the native integration.
//
// Where AWS documents nothing, the package is strict: a configuration with scheduled audits cannot
// be deleted, a day that the frequency does not have is refused, and a suppression needs exactly
// one kind of expiration.
package devicedefender

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
)

// retention is how long tasks and findings are kept (AWS General Reference, AWS IoT
// Device Defender quotas).
const retention = 90 * 24 * time.Hour

// Registry has the parts of AWS IoT Core that audits read. *iotcore.Service implements it.
type Registry interface {
	// ARN returns the ARN of a resource such as "client/sensor-1".
	ARN(resource string) string
	Certificates() []iotcore.Certificate
	// Policies returns all policies in their default versions.
	Policies() []iotcore.Policy
}

// Connections has the parts of the broker that audits read. *mqtt.Broker implements it.
type Connections interface {
	// ConnectionsOf returns the connections of a certificate that were open at or after
	// a time.
	ConnectionsOf(certificateID string, since time.Time) []mqtt.Connection
	// Conflicts returns the connections that ended at or after a time because another client took
	// the client ID.
	Conflicts(since time.Time) []mqtt.Connection
}

// NativeImporter imports the findings of the native integration, which are ASFF objects.
// *securityhubtest.Hub implements it.
type NativeImporter interface {
	ImportNative(findings ...json.RawMessage) (securityhubtest.ImportResult, error)
}

// Config configures a Service.
type Config struct {
	Account string // 12 digits. Default: 123456789012.
	Region  string // Default: us-east-1.
	// Registry has the certificates and policies. Required.
	Registry Registry
	// Connections is the history of connections. Default: nil, checks that need it fail.
	Connections Connections
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// May returns an error unless AWS IoT can assume the audit's role, and the role allows the
	// actions on all resources. Default: nil, every role may read everything.
	May func(ctx context.Context, roleARN string, actions ...string) error
	// Notify publishes a notification to an SNS topic in the target's role. Default: nil, nothing
	// is published.
	Notify func(ctx context.Context, roleARN, topicARN, message string) error
	// SecurityHub receives the findings of the native integration. Default: nil, nothing is sent.
	SecurityHub NativeImporter
	// Go starts an on-demand audit. Default: a new goroutine.
	Go func(audit func())
	// Logger logs notifications and findings that were not sent. Default: nothing is logged.
	Logger *slog.Logger
}

// Service is Device Defender's audit in one account and Region. It is safe for concurrent use.
type Service struct {
	config Config
	ctx    context.Context
	cancel context.CancelFunc
	audits sync.WaitGroup
	due    sync.Mutex // held while scheduled audits run
	native native

	mu            sync.Mutex
	configuration configuration
	schedules     map[string]*scheduledAudit
	suppressions  map[string]*suppression
	tasks         []*task    // oldest first
	findings      []*finding // oldest first
}

// New returns a service without a configuration: all checks are disabled.
func New(config Config) (*Service, error) {
	if config.Registry == nil {
		return nil, errors.New("start Device Defender: Config.Registry is missing")
	}
	config.Account, config.Region = cmp.Or(config.Account, "123456789012"), cmp.Or(config.Region, "us-east-1")
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Go == nil {
		config.Go = func(audit func()) { go audit() }
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		config:        config,
		configuration: configuration{checks: map[defender.Check]checkConfiguration{}},
		schedules:     map[string]*scheduledAudit{},
		suppressions:  map[string]*suppression{},
	}
	s.native = native{place: place{config.Account, config.Region}, to: config.SecurityHub, sent: map[string]*nativeFinding{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Wait returns when all on-demand audits have ended.
func (s *Service) Wait() { s.audits.Wait() }

// Close ends all audits, and waits for them.
func (s *Service) Close() {
	s.cancel()
	s.Wait()
}

// Register adds the operations to the API of AWS IoT.
func Register(h *iotcore.Handler, s *Service) {
	const key = "checkName resourceIdentifier"
	h.Lock = nil
	iotcore.Handle(h, "StartOnDemandAuditTask", "targetCheckNames", s.startOnDemandAuditTask)
	h.Lock = &s.mu
	iotcore.Handle(h, "DescribeAccountAuditConfiguration", "", s.describeConfiguration)
	iotcore.Do(h, "UpdateAccountAuditConfiguration", "roleArn auditNotificationTargetConfigurations auditCheckConfigurations", s.updateConfiguration)
	iotcore.Do(h, "DeleteAccountAuditConfiguration", "?deleteScheduledAudits", s.deleteConfiguration)
	iotcore.Handle(h, "DescribeAuditTask", "taskId", s.describeAuditTask)
	iotcore.Handle(h, "ListAuditTasks", "?startTime ?endTime ?taskType ?taskStatus ?maxResults ?nextToken", s.listAuditTasks)
	iotcore.Handle(h, "CreateScheduledAudit", "scheduledAuditName frequency dayOfMonth dayOfWeek targetCheckNames", s.createScheduledAudit)
	iotcore.Handle(h, "UpdateScheduledAudit", "scheduledAuditName frequency dayOfMonth dayOfWeek targetCheckNames", s.updateScheduledAudit)
	iotcore.Handle(h, "DescribeScheduledAudit", "scheduledAuditName", s.describeScheduledAudit)
	iotcore.Do(h, "DeleteScheduledAudit", "scheduledAuditName", s.deleteScheduledAudit)
	iotcore.Handle(h, "ListScheduledAudits", "?maxResults ?nextToken", s.listScheduledAudits)
	iotcore.Handle(h, "ListAuditFindings", "taskId startTime endTime listSuppressedFindings maxResults nextToken "+key, s.listAuditFindings)
	iotcore.Handle(h, "ListRelatedResourcesForAuditFinding", "?findingId ?maxResults ?nextToken", s.listRelatedResources)
	iotcore.Do(h, "CreateAuditSuppression", "clientRequestToken expirationDate suppressIndefinitely description "+key, s.createAuditSuppression)
	iotcore.Handle(h, "DescribeAuditSuppression", key, s.describeAuditSuppression)
	iotcore.Do(h, "UpdateAuditSuppression", "expirationDate suppressIndefinitely description "+key, s.updateAuditSuppression)
	iotcore.Do(h, "DeleteAuditSuppression", key, s.deleteAuditSuppression)
}

// place is the account and Region for findings and links to the console.
type place struct{ account, region string }

func (p place) partition() string { return cloudformation.Partition(p.region) }
