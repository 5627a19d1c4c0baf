package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
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
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
)

var (
	topicARN = regexp.MustCompile(`^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$`)
	keyARN   = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key/[A-Za-z0-9-]+|alias/[A-Za-z0-9/_-]+)$`)
)

// senders are the services that send to queues and topics without a role: the type of the resource, and
// its properties that name the destinations.
var senders = []struct {
	service    string
	kind       string
	properties []string
}{
	{"cloudwatch.amazonaws.com", "AWS::CloudWatch::Alarm", []string{"AlarmActions", "OKActions", "InsufficientDataActions"}},
	{"events.amazonaws.com", "AWS::Events::Rule", []string{"Targets"}},
	{"sns.amazonaws.com", "AWS::SNS::Subscription", []string{"Endpoint", "RedrivePolicy"}},
}

// place is a text in the resources of a stack, such as a logical ID or an ARN.
type place struct{ stack, text string }

// sending returns the services that send to a place.
func (e *exam) sending() map[place][]string {
	found := map[place][]string{}
	for _, s := range senders {
		for _, r := range e.resources(s.kind) {
			for _, property := range s.properties {
				assembly.Walk(r.Properties[property], func(text string) {
					if p := (place{r.Stack, text}); !slices.Contains(found[p], s.service) {
						found[p] = append(found[p], s.service)
					}
				})
			}
		}
	}
	return found
}

// imported returns the imported topics that the template uses, with the services that publish to
// them.
func (e *exam) imported() map[string][]string {
	found := map[string][]string{}
	for p, services := range e.sending() {
		if topicARN.MatchString(p.text) {
			found[p.text] = append(found[p.text], services...)
			slices.Sort(found[p.text])
			found[p.text] = slices.Compact(found[p.text])
		}
	}
	return found
}

// topics reports imported topics to which a service may not publish.
func topics(ctx context.Context, e *exam) ([]line, error) {
	var lines []line
	imported := e.imported()
	for _, arn := range slices.Sorted(maps.Keys(imported)) {
		services, before := imported[arn], len(lines)
		out, err := e.sns.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: &arn})
		if notFound(err) || err != nil && strings.Contains(err.Error(), "NotFound") {
			lines = append(lines, line{fix, "", "the topic " + arn + " does not exist", "create it, or name another one in defenderhub:alarm-topic of cdk.json (AlarmTopic)"})
			continue
		}
		if err != nil {
			return lines, err
		}
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
		if len(lines) == before {
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

// What a service needs of a key, as AWS documents it, and the actions that a pattern must allow.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
var (
	toDeliver = []string{"kms:Decrypt", "kms:GenerateDataKey*"}
	toLog     = []string{"kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"}
	patterns  = map[string][]string{
		"kms:ReEncrypt*": {"kms:reencryptfrom", "kms:reencryptto"}, "kms:GenerateDataKey*": {"kms:generatedatakey"}, "kms:Describe*": {"kms:describekey"},
	}
)

// logsService returns the service principal of CloudWatch Logs in a Region.
func logsService(region string) string {
	service := "logs." + region + ".amazonaws.com"
	if cli.Partition(region) == "aws-cn" {
		service += ".cn"
	}
	return service
}

// keys reports imported keys that a service may not use. Without the key of a queue or a topic, the
// service drops what it sends.
func keys(ctx context.Context, e *exam) ([]line, error) {
	logs := logsService(e.region)
	for _, r := range e.resources("AWS::Logs::LogGroup") {
		if key := r.Text("KmsKeyId"); keyARN.MatchString(key) {
			e.used(key, []string{logs})
		}
	}
	sending := e.sending()
	for _, r := range slices.Concat(e.resources("AWS::SNS::Topic"), e.resources("AWS::SQS::Queue")) {
		if key := r.Text("KmsMasterKeyId"); keyARN.MatchString(key) {
			e.used(key, sending[place{r.Stack, r.LogicalID}])
		}
	}
	var lines []line
	for _, key := range slices.Sorted(maps.Keys(e.keyUsers)) {
		services := slices.Sorted(slices.Values(e.keyUsers[key]))
		if strings.Contains(key, "alias/") { // GetKeyPolicy rejects aliases
			lines = append(lines, line{Status: note, Finding: fmt.Sprintf("the key policy behind %s was not checked; it must let %s use the key", key, strings.Join(services, " and "))})
			continue
		}
		out, err := e.kms.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &key})
		if notFound(err) {
			lines = append(lines, line{fix, "", "the key " + key + " does not exist", "create it, or pass another EncryptionKey"})
			continue
		}
		if err != nil {
			return lines, err
		}
		for _, service := range services {
			actions := toDeliver
			if service == logs {
				actions = toLog
			}
			if allowsAll(aws.ToString(out.Policy), service, actions) {
				lines = append(lines, line{Status: ok, Finding: service + " may use the key " + key})
				continue
			}
			lines = append(lines, line{fix, "", fmt.Sprintf("the policy of the key %s does not let %s use it", key, service),
				fmt.Sprintf(`add {"Effect":"Allow","Principal":{"Service":"%s"},"Action":["%s"],"Resource":"*"} to its policy`, service, strings.Join(actions, `","`))})
		}
	}
	if len(lines) == 0 {
		lines = append(lines, line{Status: note, Finding: "the template uses no imported key"})
	}
	return lines, nil
}

// allowsAll reports whether a policy allows a service all actions, which may be patterns.
func allowsAll(policy, service string, actions []string) bool {
	for _, a := range actions {
		of, pattern := patterns[a]
		if !pattern {
			of = []string{strings.ToLower(a)}
		}
		if slices.ContainsFunc(of, func(action string) bool { return !allows(policy, service, action) }) {
			return false
		}
	}
	return true
}

// allows reports whether a policy has a statement that allows a service an action, which is in lower
// case. It ignores conditions and denials.
func allows(policy, service, action string) bool {
	type statement struct {
		Effect    string
		Principal any
		Action    any
	}
	var document struct{ Statement json.RawMessage }
	if json.Unmarshal([]byte(policy), &document) != nil {
		return false
	}
	all := make([]statement, 1)
	if json.Unmarshal(document.Statement, &all) != nil && json.Unmarshal(document.Statement, &all[0]) != nil {
		return false
	}
	for _, s := range all {
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
