package devicedefender

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

const maxSuppressionDescription = 1000 // characters

var (
	requestTokenForm = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
	descriptionForm  = regexp.MustCompile(`^[[:graph:] ]*$`)
)

// suppression keeps the findings of a check about one resource from counting.
type suppression struct {
	check       defender.Check
	resource    ResourceIdentifier
	expires     time.Time // zero for never
	description string
	token       string
}

func suppressionKey(check defender.Check, r ResourceIdentifier) string {
	return check.String() + " " + r.key()
}

// order sorts by expiry; what never expires comes last.
func (s *suppression) order() string {
	expiry := "never"
	if !s.expires.IsZero() {
		expiry = fmt.Sprintf("%020d", s.expires.UnixMilli())
	}
	return expiry + " " + suppressionKey(s.check, s.resource)
}

// suppressed needs the lock.
func (s *Service) suppressed(check defender.Check, r ResourceIdentifier, at time.Time) bool {
	found, ok := s.suppressions[suppressionKey(check, r)]
	return ok && (found.expires.IsZero() || at.Before(found.expires))
}

// AuditSuppressionKey names a suppression.
type AuditSuppressionKey struct {
	CheckName          string             `json:"checkName"`
	ResourceIdentifier ResourceIdentifier `json:"resourceIdentifier"`
}

// read finds out the check and holds the identifier against what its findings are about.
func (k AuditSuppressionKey) read() (defender.Check, error) {
	if k.CheckName == "" {
		return 0, invalidRequest("checkName is missing")
	}
	check, err := anyCheck(k.CheckName)
	if err != nil {
		return 0, err
	}
	field, err := k.ResourceIdentifier.field()
	if err != nil {
		return 0, err
	}
	if want := auditChecks[check].identifier; field != want {
		return 0, invalidRequest("a suppression of %s needs the resource identifier %s, not %s", check, want, field)
	}
	return check, nil
}

// AuditSuppressionChange is what can be set of a suppression: a description of at most
// 1000 characters and its end, either of two.
type AuditSuppressionChange struct {
	ExpirationDate       *Seconds `json:"expirationDate"`
	SuppressIndefinitely *bool    `json:"suppressIndefinitely"`
	Description          *string  `json:"description"`
}

func (in AuditSuppressionChange) apply(s *suppression, now time.Time) error {
	forever := in.SuppressIndefinitely != nil && *in.SuppressIndefinitely
	switch {
	case forever && in.ExpirationDate != nil:
		return invalidRequest("want either expirationDate or suppressIndefinitely")
	case forever:
		s.expires = time.Time{}
	case in.ExpirationDate != nil:
		if !in.ExpirationDate.After(now) {
			return invalidRequest("expirationDate is %s, which is over", in.ExpirationDate.Format(time.RFC3339))
		}
		s.expires = in.ExpirationDate.Time
	}
	if in.Description != nil {
		if n := utf8.RuneCountInString(*in.Description); n > maxSuppressionDescription || !descriptionForm.MatchString(*in.Description) {
			return invalidRequest("description has %d characters, want at most %d printable ones", n, maxSuppressionDescription)
		}
		s.description = *in.Description
	}
	return nil
}

// CreateAuditSuppressionInput is the operation's input.
type CreateAuditSuppressionInput struct {
	AuditSuppressionKey
	AuditSuppressionChange
	ClientRequestToken string `json:"clientRequestToken"`
}

// CreateAuditSuppression suppresses the findings of a check about a resource. Audits
// still find them.
func (s *Service) CreateAuditSuppression(in *CreateAuditSuppressionInput) (*struct{}, error) {
	check, err := in.read()
	if err != nil {
		return nil, err
	}
	if !requestTokenForm.MatchString(in.ClientRequestToken) {
		return nil, invalidRequest("clientRequestToken is %q, want 1 to 64 of A-Z a-z 0-9 _ -", in.ClientRequestToken)
	}
	if in.ExpirationDate == nil && (in.SuppressIndefinitely == nil || !*in.SuppressIndefinitely) {
		return nil, invalidRequest("want expirationDate or suppressIndefinitely")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.configuration.checks[check].enabled {
		return nil, invalidRequest("The check %s is not enabled for this account", check)
	}
	s.dropExpired()
	for _, have := range s.suppressions {
		if have.token == in.ClientRequestToken {
			return nil, alreadyExists("", "", "A suppression was created with the clientRequestToken %s already", have.token)
		}
	}
	key := suppressionKey(check, in.ResourceIdentifier)
	if _, exists := s.suppressions[key]; exists {
		return nil, alreadyExists("", "", "A suppression of %s for %s exists already", check, in.ResourceIdentifier.display())
	}
	made := &suppression{check: check, resource: in.ResourceIdentifier, token: in.ClientRequestToken}
	if err := in.apply(made, s.config.Now()); err != nil {
		return nil, err
	}
	s.suppressions[key] = made
	return nil, nil
}

// dropExpired needs the lock.
func (s *Service) dropExpired() {
	now := s.config.Now()
	maps.DeleteFunc(s.suppressions, func(_ string, have *suppression) bool {
		return !have.expires.IsZero() && !have.expires.After(now)
	})
}

// existing needs the lock.
func (s *Service) existing(in AuditSuppressionKey) (*suppression, error) {
	check, err := in.read()
	if err != nil {
		return nil, err
	}
	s.dropExpired()
	have, ok := s.suppressions[suppressionKey(check, in.ResourceIdentifier)]
	if !ok {
		return nil, notFound("There is no suppression of %s for %s", check, in.ResourceIdentifier.display())
	}
	return have, nil
}

// UpdateAuditSuppressionInput is the operation's input. What it leaves out stays.
type UpdateAuditSuppressionInput struct {
	AuditSuppressionKey
	AuditSuppressionChange
}

// UpdateAuditSuppression changes a suppression's end or description.
func (s *Service) UpdateAuditSuppression(in *UpdateAuditSuppressionInput) (*struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, err := s.existing(in.AuditSuppressionKey)
	if err != nil {
		return nil, err
	}
	next := *have
	if err := in.apply(&next, s.config.Now()); err != nil {
		return nil, err
	}
	*have = next
	return nil, nil
}

// AuditSuppression is how the API tells of a suppression.
type AuditSuppression struct {
	AuditSuppressionKey
	ExpirationDate       *iotcore.Timestamp `json:"expirationDate,omitempty"`
	SuppressIndefinitely bool               `json:"suppressIndefinitely"`
	Description          string             `json:"description,omitempty"`
}

func (s *suppression) told() AuditSuppression {
	return AuditSuppression{
		AuditSuppressionKey:  AuditSuppressionKey{CheckName: s.check.String(), ResourceIdentifier: s.resource},
		ExpirationDate:       stamp(s.expires),
		SuppressIndefinitely: s.expires.IsZero(),
		Description:          s.description,
	}
}

// DescribeAuditSuppression tells of a suppression.
func (s *Service) DescribeAuditSuppression(in *AuditSuppressionKey) (*AuditSuppression, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, err := s.existing(*in)
	if err != nil {
		return nil, err
	}
	told := have.told()
	return &told, nil
}

// DeleteAuditSuppression deletes a suppression. It is no error when there is none: the
// API model has no error for that.
func (s *Service) DeleteAuditSuppression(in *AuditSuppressionKey) (*struct{}, error) {
	check, err := in.read()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.suppressions, suppressionKey(check, in.ResourceIdentifier))
	return nil, nil
}

// ListAuditSuppressionsInput is the operation's input. Without AscendingOrder, the
// order is ascending.
type ListAuditSuppressionsInput struct {
	CheckName          string              `json:"checkName"`
	ResourceIdentifier *ResourceIdentifier `json:"resourceIdentifier"`
	AscendingOrder     *bool               `json:"ascendingOrder"`
	Paging
}

// ListAuditSuppressionsOutput is the operation's output.
type ListAuditSuppressionsOutput struct {
	Suppressions []AuditSuppression `json:"suppressions"`
	NextToken    string             `json:"nextToken,omitempty"`
}

// ListAuditSuppressions lists suppressions by their expiration date. Those that never
// expire count as the latest.
func (s *Service) ListAuditSuppressions(in *ListAuditSuppressionsInput) (*ListAuditSuppressionsOutput, error) {
	var check defender.Check
	if in.CheckName != "" {
		var err error
		if check, err = anyCheck(in.CheckName); err != nil {
			return nil, err
		}
	}
	if in.ResourceIdentifier != nil {
		if _, err := in.ResourceIdentifier.field(); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropExpired()
	var all []*suppression
	for _, have := range s.suppressions {
		if (check == 0 || have.check == check) && (in.ResourceIdentifier == nil || in.ResourceIdentifier.key() == have.resource.key()) {
			all = append(all, have)
		}
	}
	slices.SortFunc(all, func(a, b *suppression) int { return strings.Compare(a.order(), b.order()) })
	descending := in.AscendingOrder != nil && !*in.AscendingOrder
	found, next, err := page(in.Paging, all, descending, (*suppression).order)
	if err != nil {
		return nil, err
	}
	out := &ListAuditSuppressionsOutput{Suppressions: []AuditSuppression{}, NextToken: next}
	for _, have := range found {
		out.Suppressions = append(out.Suppressions, have.told())
	}
	return out, nil
}
