package iam

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/defenderhub/defenderhub/test/localaws/edge"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// call is a request, of which the resources are read.
type call struct {
	arn        func(service, resource string) string
	name       string // what the operation's path names
	principal  string // of a thing
	query      url.Values
	parameters parameters
}

// parameters are those of all operations that name resources.
type parameters struct {
	QueueURL      string `json:"QueueUrl"`
	QueueName     string
	TableName     string
	IndexName     string
	RequestItems  map[string]json.RawMessage // by table
	StreamARN     string
	StreamName    string
	ShardIterator string
	TopicARN      string `json:"TopicArn"`
	StackName     string
	Findings      []struct{ ProductArn string }
	Statements    []struct{ Statement string }
	Target        string
	Tags          json.RawMessage
}

// need is a permission that a call requires: an action on a resource, which is * for actions
// that take none.
type need struct{ action, resource string }

// needs reads from a call which permissions it requires.
type needs func(call) ([]need, error)

// operations are those that functions may call, by service and operation as requests name
// them. The actions and the kinds of their resources are those of AWS's Service
// Authorization Reference.
// https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
var operations = map[string]needs{
	"dynamodb BatchExecuteStatement": partiQL,

	"securityhub POST /findings/import":     each("securityhub:BatchImportFindings", products),
	"securityhub POST /findings":            each("securityhub:GetFindings", named("securityhub", "hub/default")),
	"securityhub GET /accounts":             each("securityhub:DescribeHub", nothing),
	"securityhub GET /administrator":        each("securityhub:GetAdministratorAccount", nothing),
	"securityhub GET /hubv2":                each("securityhub:DescribeSecurityHubV2", nothing),
	"securityhub POST /findingsv2":          each("securityhub:GetFindings", nothing),
	"securityhub GET /productSubscriptions": each("securityhub:ListEnabledProductsForImport", nothing),

	"sts GetCallerIdentity": func(call) ([]need, error) { return nil, nil }, // needs no permission

	"lambda GET /2016-08-19/account-settings": each("lambda:GetAccountSettings", nothing),
	"monitoring POST /service/GraniteServiceVersion20100801/operation/{name}": func(c call) ([]need, error) {
		return []need{{"cloudwatch:" + c.name, "*"}}, nil
	},

	"iotdata POST /topics/{name}":     each("iot:Publish", named("iot", "topic/")),
	"iotdata GET /connections/{name}": each("iot:GetConnection", named("iot", "client/")),
}

// The actions of these are called as they are.
func init() {
	for _, of := range []struct {
		service   string
		resources func(call) ([]string, error)
		names     []string
	}{
		{"cloudformation", stack, []string{"DescribeStacks", "GetTemplate", "ListStackResources"}},
		{"kms", nothing, []string{"GetKeyPolicy"}},
		{"sns", topic, []string{"GetTopicAttributes", "Publish"}},
		{"sqs", queue, []string{"ChangeMessageVisibility", "DeleteMessage", "GetQueueAttributes", "GetQueueUrl", "ReceiveMessage", "SendMessage"}},
		{"dynamodb", tables, []string{"BatchGetItem", "BatchWriteItem"}},
		{"dynamodb", table, []string{"DeleteItem", "GetItem", "PutItem", "UpdateItem"}},
		{"dynamodb", tableOrIndex, []string{"Query", "Scan"}},
		{"kinesis", stream, []string{"GetRecords", "GetShardIterator", "ListShards", "PutRecord", "PutRecords"}},
		// GetEffectivePolicies and ListPrincipalThings may also be limited to a certificate.
		{"iot", nothing, []string{
			"CreateAuditSuppression", "CreateKeysAndCertificate", "DeleteAuditSuppression", "DescribeAccountAuditConfiguration", "DescribeAuditSuppression", "DescribeAuditTask",
			"DescribeEndpoint", "GetEffectivePolicies", "ListAuditFindings", "ListAuditTasks", "ListCertificates", "ListCustomMetrics", "ListDimensions", "ListPolicies",
			"ListPrincipalThings", "ListRelatedResourcesForAuditFinding", "ListScheduledAudits", "ListSecurityProfiles", "ListThings", "ListTopicRules", "PutVerificationStateOnViolation", "StartOnDemandAuditTask", "UpdateAuditSuppression",
		}},
		{"iot", named("iot", "cert/"), []string{"DeleteCertificate", "DescribeCertificate", "UpdateCertificate"}},
		{"iot", named("iot", "policy/"), []string{"CreatePolicy", "CreatePolicyVersion", "DeletePolicy", "DeletePolicyVersion"}},
		{"iot", named("iot", "rolealias/"), []string{"DescribeRoleAlias"}},
		{"iot", named("iot", "scheduledaudit/"), []string{"DescribeScheduledAudit"}},
		{"iot", named("iot", "securityprofile/"), []string{"CreateSecurityProfile", "DeleteSecurityProfile"}},
		{"iot", named("iot", "thing/"), []string{"CreateThing", "DeleteThing", "DescribeThing", "ListThingGroupsForThing", "ListThingPrincipals"}},
		{"iot", named("iot", "thinggroup/"), []string{"DescribeThingGroup"}},
		{"iot", func(c call) ([]string, error) { return []string{c.parameters.Target}, nil }, []string{"AttachPolicy", "DetachPolicy"}},
		{"iot", func(c call) ([]string, error) { return []string{c.principal}, nil }, []string{"AttachThingPrincipal", "DetachThingPrincipal"}},
		{"iot", func(c call) ([]string, error) { return []string{c.query.Get("resourceArn")}, nil }, []string{"ListTagsForResource"}},
	} {
		for _, name := range of.names {
			key := of.service + " " + name
			if path, known := iotcore.Operations[name]; known && of.service == "iot" {
				key = "iot " + path
			}
			operations[key] = each(of.service+":"+name, of.resources)
		}
	}
	for _, name := range []string{"ChangeMessageVisibility", "DeleteMessage", "SendMessage"} {
		operations["sqs "+name+"Batch"] = operations["sqs "+name]
	}
}

// each is one action on each of the resources.
func each(action string, resources func(call) ([]string, error)) needs {
	return func(c call) ([]need, error) {
		named, err := resources(c)
		var all []need
		for _, r := range named {
			all = append(all, need{action, r})
		}
		return all, err
	}
}

func nothing(call) ([]string, error) { return []string{"*"}, nil }

func named(service, prefix string) func(call) ([]string, error) {
	return func(c call) ([]string, error) { return []string{c.arn(service, prefix+c.name)}, nil }
}

func queue(c call) ([]string, error) {
	name := c.parameters.QueueName
	if name == "" {
		name = c.parameters.QueueURL[strings.LastIndex(c.parameters.QueueURL, "/")+1:]
	}
	if name == "" {
		return nil, errors.New("it names no queue")
	}
	return []string{c.arn("sqs", name)}, nil
}

func topic(c call) ([]string, error) {
	if c.parameters.TopicARN == "" {
		return nil, errors.New("it names no topic")
	}
	return []string{c.parameters.TopicARN}, nil
}

func (c call) table(nameOrARN string) string {
	if strings.HasPrefix(nameOrARN, "arn:") {
		return nameOrARN
	}
	return c.arn("dynamodb", "table/"+nameOrARN)
}

func table(c call) ([]string, error) {
	if c.parameters.TableName == "" {
		return nil, errors.New("it names no table")
	}
	return []string{c.table(c.parameters.TableName)}, nil
}

func tables(c call) ([]string, error) {
	var all []string
	for name := range c.parameters.RequestItems {
		all = append(all, c.table(name))
	}
	if all == nil {
		return nil, errors.New("it names no table")
	}
	slices.Sort(all)
	return all, nil
}

// tableOrIndex: reading an index requires the permission on it, not that on its table.
func tableOrIndex(c call) ([]string, error) {
	all, err := table(c)
	if err == nil && c.parameters.IndexName != "" {
		all[0] += "/index/" + c.parameters.IndexName
	}
	return all, err
}

// statementForm finds the kind and the table of a statement in PartiQL.
var statementForm = regexp.MustCompile(`^(INSERT INTO|UPDATE) "([^"]+)"`)

// statementActions are by the kinds of statements.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-iam.html
var statementActions = map[string]string{"INSERT INTO": "dynamodb:PartiQLInsert", "UPDATE": "dynamodb:PartiQLUpdate"}

func partiQL(c call) ([]need, error) {
	var all []need
	for _, s := range c.parameters.Statements {
		found := statementForm.FindStringSubmatch(s.Statement)
		if found == nil {
			return nil, fmt.Errorf("its statement %q is no INSERT or UPDATE", s.Statement)
		}
		if n := (need{statementActions[found[1]], c.table(found[2])}); !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	if all == nil {
		return nil, errors.New("it has no statement")
	}
	return all, nil
}

// stream: where only an iterator names the stream, it is one of the emulator's, which are
// STREAM:SHARD:POSITION in base64.
func stream(c call) ([]string, error) {
	p := c.parameters
	if p.StreamARN != "" {
		return []string{p.StreamARN}, nil
	}
	if p.StreamName == "" {
		decoded, _ := base64.StdEncoding.DecodeString(p.ShardIterator)
		p.StreamName, _, _ = strings.Cut(string(decoded), ":")
	}
	if p.StreamName == "" {
		return nil, errors.New("it names no stream")
	}
	return []string{c.arn("kinesis", "stream/"+p.StreamName)}, nil
}

// products are those of the findings. AWS does not say whether each finding's product is
// asked for; that is taken to be so (unverified).
func products(c call) ([]string, error) {
	var all []string
	for _, f := range c.parameters.Findings {
		if !slices.Contains(all, f.ProductArn) {
			all = append(all, f.ProductArn)
		}
	}
	if all == nil {
		return nil, errors.New("it names no product")
	}
	return all, nil
}

// query are the services of the Query protocol.
var query = map[string]bool{"sns": true, "sts": true, "cloudformation": true}

// stack is the pattern of the stack's ARN, of which the call names no ID.
func stack(c call) ([]string, error) {
	if c.parameters.StackName == "" {
		return nil, errors.New("it names no stack")
	}
	return []string{c.arn("cloudformation", "stack/"+c.parameters.StackName+"/*")}, nil
}

// read determines which permissions a request requires, and leaves its body to be read again.
func read(service string, r *http.Request, arn func(service, resource string) string) ([]need, error) {
	body, err := edge.Body(r)
	if err != nil {
		return nil, err
	}
	c := call{arn: arn, principal: r.Header.Get("X-Amzn-Principal"), query: r.URL.Query()}
	var form url.Values
	if query[service] {
		if form, err = url.ParseQuery(string(body)); err != nil {
			return nil, fmt.Errorf("its parameters: %w", err)
		}
		c.parameters.TopicARN, c.parameters.StackName, body = form.Get("TopicArn"), form.Get("StackName"), nil
	}
	if service == "monitoring" {
		body = nil // CBOR, in which no operation names a resource
	}
	operation, ok := find(service, form.Get("Action"), r, &c)
	if !ok {
		return nil, errors.New("it is not in the table of what permissions calls take, so no role may make it here")
	}
	if service != "iotdata" && len(body) > 0 { // what is published is no parameter
		if err := json.Unmarshal(body, &c.parameters); err != nil {
			return nil, fmt.Errorf("its parameters: %w", err)
		}
	}
	for parameter, what := range map[string]string{"retain": "a retained message", "includeSocketInformation": "a connection's socket"} {
		if service == "iotdata" && c.query.Get(parameter) == "true" {
			return nil, fmt.Errorf("what permission %s takes is not in the table", what)
		}
	}
	all, err := operation(c)
	for _, n := range all { // whether AWS IoT asks for this too: (unverified)
		if service == "iot" && c.parameters.Tags != nil {
			all = append(all, need{"iot:TagResource", n.resource})
		}
	}
	return all, err
}

func find(service, name string, r *http.Request, c *call) (needs, bool) {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		_, name, _ = strings.Cut(target, ".")
	}
	if name != "" {
		found, ok := operations[service+" "+name]
		return found, ok
	}
	for key, found := range operations {
		pattern, ok := strings.CutPrefix(key, service+" "+r.Method+" ")
		if !ok {
			continue
		}
		if name, ok := inPath(pattern, r.URL.EscapedPath()); ok {
			c.name = name
			return found, true
		}
	}
	return nil, false
}

// inPath is the value of the first {name}, when path has the form of pattern.
func inPath(pattern, path string) (name string, ok bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	for i, part := range got {
		if i < len(want) && strings.HasPrefix(want[i], "{") {
			value, err := url.PathUnescape(part)
			if err != nil {
				return "", false
			}
			name, want[i] = cmp.Or(name, value), part
		}
	}
	return name, slices.Equal(want, got)
}

// Handler judges the requests of functions before next gets them.
func (e *Enforcer) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scope, signed := edge.ScopeOf(r)
		session, judged := e.session(scope.AccessKey)
		if !signed || !judged {
			next.ServeHTTP(w, r)
			return
		}
		all, err := read(scope.Service, r, e.arn)
		if err != nil {
			e.deny(fmt.Errorf("%s called %s: %w", session.Name, edge.Operation(r), err))
			edge.Refuse(w, r, err.Error())
			return
		}
		for _, n := range all {
			err := e.Allow(r.Context(), session, n.resource, n.action)
			var refusal *DeniedError
			switch {
			case errors.As(err, &refusal):
				deny(w, scope.Service, refusal.Error())
				return
			case err != nil:
				edge.Refuse(w, r, err.Error())
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// deny answers as the service does: SQS with an error code besides, which older clients
// know, and the data plane of AWS IoT in its own word, but with more in the message.
func deny(w http.ResponseWriter, service, message string) {
	code, status := "AccessDeniedException", http.StatusForbidden
	switch service {
	case "sqs":
		w.Header().Set("X-Amzn-Query-Error", "AccessDenied;Sender")
	case "dynamodb", "kinesis":
		status = http.StatusBadRequest
	case "iotdata":
		code = "ForbiddenException"
	case "sns", "cloudformation":
		code = map[string]string{"sns": "AuthorizationError", "cloudformation": "AccessDenied"}[service]
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(status)
		fmt.Fprint(w, "<ErrorResponse><Error><Type>Sender</Type><Code>"+code+"</Code><Message>")
		xml.EscapeText(w, []byte(message))
		fmt.Fprint(w, "</Message></Error></ErrorResponse>")
		return
	}
	answer, format := map[string]string{"__type": code, "message": message}, "application/json"
	body, _ := json.Marshal(answer) // strings always encode
	if service == "monitoring" {
		body, _ = cbor.Marshal(answer)
		format = "application/cbor"
		w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	}
	w.Header().Set("Content-Type", format)
	w.Header().Set("X-Amzn-Errortype", code)
	w.WriteHeader(status)
	w.Write(body)
}
