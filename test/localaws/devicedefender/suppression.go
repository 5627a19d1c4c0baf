package devicedefender

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

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
	types.AuditSuppression
	token string
}

// suppressionOf finds out the check and holds the identifier against what its findings are
// about. It returns the key under which the suppression is kept.
func suppressionOf(name *string, r *types.ResourceIdentifier) (defender.Check, string, error) {
	if name == nil {
		return 0, "", invalidRequest("checkName is missing")
	}
	check, err := checkNamed(*name)
	if err != nil {
		return 0, "", err
	}
	field, err := fieldOf(r)
	if err != nil {
		return 0, "", err
	}
	if want := auditChecks[check].identifier; field != want {
		return 0, "", invalidRequest("a suppression of %s needs the resource identifier %s, not %s", check, want, field)
	}
	return check, suppressionKey(check, r), nil
}

func suppressionKey(check defender.Check, r *types.ResourceIdentifier) string {
	return check.String() + " " + key(r)
}

// order sorts by expiry; what never expires comes last.
func (s *suppression) order() string {
	expiry := "never"
	if s.ExpirationDate != nil {
		expiry = fmt.Sprintf("%020d", s.ExpirationDate.UnixMilli())
	}
	return expiry + " " + *s.CheckName + " " + key(s.ResourceIdentifier)
}

func (s *suppression) expired(at time.Time) bool {
	return s.ExpirationDate != nil && !at.Before(*s.ExpirationDate)
}

func (s *Service) suppressed(check defender.Check, r *types.ResourceIdentifier, at time.Time) bool {
	found, ok := s.suppressions[suppressionKey(check, r)]
	return ok && !found.expired(at)
}

// change sets a suppression's end, either of two, and its description. What is nil stays.
func (s *suppression) change(expires *time.Time, indefinitely *bool, description *string, now time.Time) error {
	forever := aws.ToBool(indefinitely)
	switch {
	case forever && expires != nil:
		return invalidRequest("want either expirationDate or suppressIndefinitely")
	case forever:
		s.ExpirationDate = nil
	case expires != nil:
		if !expires.After(now) {
			return invalidRequest("expirationDate is %s, which is over", expires.Format(time.RFC3339))
		}
		s.ExpirationDate = expires
	}
	s.SuppressIndefinitely = aws.Bool(s.ExpirationDate == nil)
	if description != nil {
		if n := utf8.RuneCountInString(*description); n > maxSuppressionDescription || !descriptionForm.MatchString(*description) {
			return invalidRequest("description has %d characters, want at most %d printable ones", n, maxSuppressionDescription)
		}
		s.Description = description
	}
	return nil
}

// createAuditSuppression suppresses the findings of a check about a resource. Audits
// still find them.
func (s *Service) createAuditSuppression(in *iot.CreateAuditSuppressionInput) error {
	check, key, err := suppressionOf(in.CheckName, in.ResourceIdentifier)
	if err != nil {
		return err
	}
	token := aws.ToString(in.ClientRequestToken)
	if !requestTokenForm.MatchString(token) {
		return invalidRequest("clientRequestToken is %q, want 1 to 64 of A-Z a-z 0-9 _ -", token)
	}
	if in.ExpirationDate == nil && !aws.ToBool(in.SuppressIndefinitely) {
		return invalidRequest("want expirationDate or suppressIndefinitely")
	}
	if !s.configuration.checks[check].enabled {
		return invalidRequest("The check %s is not enabled for this account", check)
	}
	s.dropExpired()
	for _, have := range s.suppressions {
		if have.token == token {
			return alreadyExists("", "", "A suppression was created with the clientRequestToken %s already", token)
		}
	}
	if _, exists := s.suppressions[key]; exists {
		return alreadyExists("", "", "A suppression of %s for %s exists already", check, display(in.ResourceIdentifier))
	}
	made := &suppression{types.AuditSuppression{CheckName: in.CheckName, ResourceIdentifier: in.ResourceIdentifier}, token}
	if err := made.change(in.ExpirationDate, in.SuppressIndefinitely, in.Description, s.config.Now()); err != nil {
		return err
	}
	s.suppressions[key] = made
	return nil
}

func (s *Service) dropExpired() {
	now := s.config.Now()
	maps.DeleteFunc(s.suppressions, func(_ string, have *suppression) bool { return have.expired(now) })
}

func (s *Service) existing(name *string, r *types.ResourceIdentifier) (*suppression, error) {
	check, key, err := suppressionOf(name, r)
	if err != nil {
		return nil, err
	}
	s.dropExpired()
	have, ok := s.suppressions[key]
	if !ok {
		return nil, notFound("There is no suppression of %s for %s", check, display(r))
	}
	return have, nil
}

func (s *Service) updateAuditSuppression(in *iot.UpdateAuditSuppressionInput) error {
	have, err := s.existing(in.CheckName, in.ResourceIdentifier)
	if err != nil {
		return err
	}
	next := *have
	if err := next.change(in.ExpirationDate, in.SuppressIndefinitely, in.Description, s.config.Now()); err != nil {
		return err
	}
	*have = next
	return nil
}

func (s *Service) describeAuditSuppression(in *iot.DescribeAuditSuppressionInput) (*types.AuditSuppression, error) {
	have, err := s.existing(in.CheckName, in.ResourceIdentifier)
	if err != nil {
		return nil, err
	}
	described := have.AuditSuppression
	return &described, nil
}

// deleteAuditSuppression deletes a suppression. It is no error when there is none: the
// API model has no error for that.
func (s *Service) deleteAuditSuppression(in *iot.DeleteAuditSuppressionInput) error {
	_, key, err := suppressionOf(in.CheckName, in.ResourceIdentifier)
	if err != nil {
		return err
	}
	delete(s.suppressions, key)
	return nil
}

// listSuppressionsInput has an AscendingOrder that can be left out: the order is then
// ascending.
type listSuppressionsInput struct {
	iot.ListAuditSuppressionsInput
	AscendingOrder *bool
}

// listAuditSuppressions lists suppressions by their expiration date. Those that never
// expire count as the latest.
func (s *Service) listAuditSuppressions(in *listSuppressionsInput) (*iot.ListAuditSuppressionsOutput, error) {
	check, resource, err := checkAndResource(in.CheckName, in.ResourceIdentifier)
	if err != nil {
		return nil, err
	}
	s.dropExpired()
	var all []*suppression
	for _, have := range s.suppressions {
		if (check == 0 || *have.CheckName == check.String()) && (resource == "" || resource == key(have.ResourceIdentifier)) {
			all = append(all, have)
		}
	}
	slices.SortFunc(all, func(a, b *suppression) int { return strings.Compare(a.order(), b.order()) })
	if in.AscendingOrder != nil && !*in.AscendingOrder {
		slices.Reverse(all)
	}
	page, next, err := iotcore.Page(all, (*suppression).order, in.NextToken, in.MaxResults, standardPage)
	out := &iot.ListAuditSuppressionsOutput{NextToken: next}
	for _, have := range page {
		out.Suppressions = append(out.Suppressions, have.AuditSuppression)
	}
	return out, err
}
