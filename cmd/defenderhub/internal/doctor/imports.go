package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"golang.org/x/sync/errgroup"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/assembly"
)

var (
	topicARN = regexp.MustCompile(`^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$`)
	keyARN   = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$`)
)

// publishers are the services that publish to a topic, by the type of the resource that names it.
var publishers = map[string]string{"AWS::CloudWatch::Alarm": "cloudwatch.amazonaws.com", "AWS::Events::Rule": "events.amazonaws.com"}

// imported returns the imported topics that the template uses, with the services that publish to
// them.
func (e *exam) imported() map[string][]string {
	found := map[string][]string{}
	for kind, service := range publishers {
		for _, r := range e.resources(kind) {
			assembly.Walk(r.Properties, func(text string) {
				if topicARN.MatchString(text) && !slices.Contains(found[text], service) {
					found[text] = append(found[text], service)
				}
			})
		}
	}
	return found
}

// topics reports imported topics to which a service may not publish.
func topics(ctx context.Context, e *exam) ([]line, error) {
	var lines []line
	for arn, services := range e.imported() {
		out, err := e.sns.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: &arn})
		if notFound(err) || err != nil && strings.Contains(err.Error(), "NotFound") {
			lines = append(lines, line{fix, "", "the topic " + arn + " does not exist", "create it, or name another one in -c defenderhub:alarm-topic (AlarmTopic)"})
			continue
		}
		if err != nil {
			return lines, err
		}
		slices.Sort(services)
		for _, service := range services {
			if !allows(out.Attributes["Policy"], service, "sns:publish") {
				lines = append(lines, line{fix, "", fmt.Sprintf("the policy of the topic %s does not let %s publish", arn, service),
					fmt.Sprintf(`add {"Effect":"Allow","Principal":{"Service":"%s"},"Action":"sns:Publish","Resource":"%s"} to its policy`, service, arn)})
			}
		}
		key := out.Attributes["KmsMasterKeyId"]
		switch {
		case key == "":
		case strings.Contains(key, "alias/aws/sns"):
			lines = append(lines, line{fix, "", "the topic " + arn + " is encrypted with alias/aws/sns, so no other AWS service can publish to it", "encrypt it with a customer-managed key whose policy allows " + strings.Join(services, " and ")})
		default:
			e.used(key, services)
		}
		if len(lines) == 0 {
			lines = append(lines, line{Status: ok, Finding: "services may publish to the topic " + arn})
		}
	}
	if len(lines) == 0 {
		lines = append(lines, line{Status: note, Finding: "the template uses no imported topic"})
	}
	return lines, nil
}

// used records that services use a key.
func (e *exam) used(key string, services []string) {
	if e.keyUsers == nil {
		e.keyUsers = map[string][]string{}
	}
	for _, s := range services {
		if !slices.Contains(e.keyUsers[key], s) {
			e.keyUsers[key] = append(e.keyUsers[key], s)
		}
	}
}

// keys reports imported keys that a service may not use.
func keys(ctx context.Context, e *exam) ([]line, error) {
	for _, r := range e.resources("AWS::Logs::LogGroup") {
		if key := r.Text("KmsKeyId"); keyARN.MatchString(key) {
			e.used(key, []string{"logs." + e.region + ".amazonaws.com"})
		}
	}
	for _, r := range e.resources("AWS::SNS::Topic") {
		if key := r.Text("KmsMasterKeyId"); keyARN.MatchString(key) {
			e.used(key, []string{"cloudwatch.amazonaws.com"})
		}
	}
	var lines []line
	for key, services := range e.keyUsers {
		out, err := e.kms.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &key})
		if notFound(err) {
			lines = append(lines, line{fix, "", "the key " + key + " does not exist", "create it, or pass another EncryptionKey"})
			continue
		}
		if err != nil {
			return lines, err
		}
		slices.Sort(services)
		for _, service := range services {
			if allows(aws.ToString(out.Policy), service, "kms:generatedatakey") && allows(aws.ToString(out.Policy), service, "kms:decrypt") {
				lines = append(lines, line{Status: ok, Finding: service + " may use the key " + key})
				continue
			}
			lines = append(lines, line{fix, "", fmt.Sprintf("the policy of the key %s does not let %s use it", key, service),
				fmt.Sprintf(`add {"Effect":"Allow","Principal":{"Service":"%s"},"Action":["kms:Decrypt","kms:GenerateDataKey*"],"Resource":"*"} to its policy`, service)})
		}
	}
	if len(lines) == 0 {
		lines = append(lines, line{Status: note, Finding: "the template uses no imported key"})
	}
	return lines, nil
}

// allows reports whether a policy has a statement that allows a service an action, which is in lower
// case. It ignores conditions and denials.
func allows(policy, service, action string) bool {
	var document struct {
		Statement []struct {
			Effect    string
			Principal any
			Action    any
		}
	}
	if json.Unmarshal([]byte(policy), &document) != nil {
		return false
	}
	for _, s := range document.Statement {
		principals, _ := s.Principal.(map[string]any)
		forService := s.Principal == "*"
		assembly.Walk(principals["Service"], func(name string) { forService = forService || name == service })
		assembly.Walk(principals["AWS"], func(name string) { forService = forService || name == "*" })
		forAction := false
		assembly.Walk(s.Action, func(pattern string) {
			matched, _ := path.Match(strings.ToLower(pattern), action)
			forAction = forAction || matched
		})
		if s.Effect == "Allow" && forService && forAction {
			return true
		}
	}
	return false
}

// lookups is how many certificates are looked up at the same time. AWS IoT allows ten calls of
// ListPrincipalThings per second (unverified); the SDK retries throttled calls.
const lookups = 8

// certificates reports certificates that several things share.
func certificates(ctx context.Context, e *exam) ([]line, error) {
	var ids []string
	more := false
	pages := iot.NewListCertificatesPaginator(e.iot, &iot.ListCertificatesInput{})
	for pages.HasMorePages() && !more {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, c := range page.Certificates {
			if len(ids) == e.certificates {
				more = true
				break
			}
			ids = append(ids, aws.ToString(c.CertificateArn))
		}
	}
	more = more || pages.HasMorePages()
	var mu sync.Mutex
	var lines []line
	group, groupContext := errgroup.WithContext(ctx)
	group.SetLimit(lookups)
	for _, arn := range ids {
		group.Go(func() error {
			var things []string
			for pages := iot.NewListPrincipalThingsPaginator(e.iot, &iot.ListPrincipalThingsInput{Principal: &arn}); pages.HasMorePages(); {
				page, err := pages.NextPage(groupContext)
				if notFound(err) {
					return nil // deleted meanwhile
				}
				if err != nil {
					return err
				}
				things = append(things, page.Things...)
			}
			if len(things) < 2 {
				return nil
			}
			slices.Sort(things)
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, line{fix, "", fmt.Sprintf("the certificate %s is attached to %d things: %s. The device of a message over HTTPS is then unknown", path.Base(arn), len(things), strings.Join(things[:min(len(things), 5)], ", ")),
				"give each thing its own certificate"})
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.Finding, b.Finding) })
	if len(lines) == 0 {
		lines = append(lines, line{Status: ok, Finding: fmt.Sprintf("no things share one of the %d certificates", len(ids))})
	}
	if more {
		lines = append(lines, line{note, "", fmt.Sprintf("the account has more than %d certificates, and the others were not checked", len(ids)), fmt.Sprintf("--certificates %d", 10*max(1, len(ids)))})
	}
	return lines, nil
}
