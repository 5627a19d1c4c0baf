package securityhubtest

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Hub is Security Hub in one account and Region. Its methods behave like the API and return
// *Error errors, but without signatures, faults or throttling, and they are not in Calls.
type Hub struct {
	service                    *Service
	account, region, partition string

	mu  sync.Mutex
	on  bool
	off time.Time // when it was last disabled
	contents
	buckets map[string]*bucket
	// administrator is the account that administers this one, "" for none. v2 reports whether
	// Security Hub V2 is on.
	administrator string
	v2            bool
}

// contents are what a disabled hub keeps for 90 days.
type contents struct {
	settings      Settings
	subscriptions []string // ARNs, in the order of acceptance
	findings      map[findingKey]*record
	order         []*record // in the order of creation
	expiresAt     time.Time // no finding expires earlier
	insights      []insight
	insightsMade  int
	actions       []actionTarget
}

func newContents() contents { return contents{findings: map[findingKey]*record{}} }

// Settings are the settings of a hub.
type Settings struct {
	// ControlFindingGenerator is SECURITY_CONTROL or STANDARD_CONTROL.
	ControlFindingGenerator string
	// DefaultStandards reports whether the default standards were requested. No control runs
	// here.
	DefaultStandards bool
	Tags             map[string]string
	SubscribedAt     time.Time
}

// ARN is the hub's ARN, arn:aws:securityhub:REGION:ACCOUNT:hub/default.
func (h *Hub) ARN() string { return h.arn("hub/default") }

func (h *Hub) arn(resource string) string {
	return "arn:" + h.partition + ":securityhub:" + h.region + ":" + h.account + ":" + resource
}

func (h *Hub) now() time.Time { return h.service.config.Now() }

// Enable enables the hub (EnableSecurityHub). If it was disabled less than 90 days ago, its
// contents are restored. SubscribedAt is ignored; an empty ControlFindingGenerator means
// SECURITY_CONTROL.
func (h *Hub) Enable(settings Settings) error {
	if settings.ControlFindingGenerator == "" {
		settings.ControlFindingGenerator = "SECURITY_CONTROL"
	}
	if err := settings.check(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.on {
		return conflict("Account is already subscribed to Security Hub")
	}
	if h.now().Sub(h.off) >= FindingLifetime {
		h.contents = newContents()
	}
	settings.Tags = maps.Clone(settings.Tags)
	settings.SubscribedAt = h.now()
	h.on, h.settings = true, settings
	return nil
}

func (s Settings) check() error {
	if g := s.ControlFindingGenerator; g != "SECURITY_CONTROL" && g != "STANDARD_CONTROL" {
		return invalidInput("Invalid parameter 'ControlFindingGenerator'. %q is not one of SECURITY_CONTROL, STANDARD_CONTROL.", g)
	}
	return nil
}

// Disable disables the hub (DisableSecurityHub).
func (h *Hub) Disable() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.needOn(); err != nil {
		return err
	}
	h.on, h.off = false, h.now()
	return nil
}

// Settings returns the hub's settings and whether it is enabled (DescribeHub).
func (h *Hub) Settings() (settings Settings, on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	settings = h.settings
	settings.Tags = maps.Clone(settings.Tags)
	return settings, h.on
}

// needOn returns an error if the hub is disabled. The caller must hold the lock.
func (h *Hub) needOn() error {
	if !h.on {
		return notSubscribed(h.account)
	}
	return nil
}

// Subscriptions returns the ARNs of the product subscriptions (ListEnabledProductsForImport).
func (h *Hub) Subscriptions() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.subscriptions)
}

// EnableProduct subscribes to a product of AWS or another company and returns the subscription's
// ARN (EnableImportFindingsForProduct).
func (h *Hub) EnableProduct(productARN string) (subscriptionARN string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.needOn(); err != nil {
		return "", err
	}
	p, ok := h.nativeProduct(productARN)
	if !ok {
		return "", invalidInput("Invalid parameter 'ProductArn'. %q is not a product that an account in %s can subscribe to.", productARN, h.region)
	}
	arn := h.subscriptionARN(p)
	if slices.Contains(h.subscriptions, arn) {
		return "", conflict("Product %s is already enabled for import", productARN)
	}
	h.subscriptions = append(h.subscriptions, arn)
	return arn, nil
}

// DisableProduct ends a subscription (DisableImportFindingsForProduct). Findings stay.
func (h *Hub) DisableProduct(subscriptionARN string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.needOn(); err != nil {
		return err
	}
	i := slices.Index(h.subscriptions, subscriptionARN)
	if i < 0 {
		return notFound("Product subscription %s not found", subscriptionARN)
	}
	h.subscriptions = slices.Delete(h.subscriptions, i, i+1)
	return nil
}

type product struct {
	id            string // COMPANY/PRODUCT
	name, company string
}

// nativeProducts are the AWS integrations that are supported here. Those besides Device Defender
// send nothing by themselves: a test imports their findings with ImportNative.
// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/securityhub-integration.html
// https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-internal-providers.html
var nativeProducts = []product{
	{"aws/access-analyzer", "IAM Access Analyzer", "AWS"},
	{"aws/guardduty", "GuardDuty", "Amazon"},
	{"aws/inspector", "Inspector", "Amazon"},
	{"aws/iot-device-defender-audit", "IoT Device Defender - Audit", "AWS"},
	{"aws/iot-device-defender-detect", "IoT Device Defender - Detect", "AWS"},
}

// DefaultProductARN returns the product for which the account imports its own findings. It needs
// no subscription.
func (h *Hub) DefaultProductARN() string { return h.arn("product/" + h.account + "/default") }

// defaultProduct has the names that Security Hub gives to an account's own findings.
func (h *Hub) defaultProduct() product {
	return product{id: h.account + "/default", name: "Default", company: "Personal"}
}

func (h *Hub) nativeProductARN(p product) string {
	return "arn:" + h.partition + ":securityhub:" + h.region + "::product/" + p.id
}

func (h *Hub) subscriptionARN(p product) string { return h.arn("product-subscription/" + p.id) }

func (h *Hub) nativeProduct(arn string) (product, bool) {
	for _, p := range nativeProducts {
		if h.nativeProductARN(p) == arn {
			return p, true
		}
	}
	return product{}, false
}

// isProductARN reports whether arn has the format of a product ARN, of any account and Region.
func isProductARN(arn string) bool {
	parts := strings.SplitN(arn, ":", 6)
	return len(parts) == 6 && parts[0] == "arn" && strings.HasPrefix(parts[1], "aws") &&
		parts[2] == "securityhub" && parts[3] != "" &&
		strings.HasPrefix(parts[5], "product/") && strings.Count(parts[5], "/") == 2
}
