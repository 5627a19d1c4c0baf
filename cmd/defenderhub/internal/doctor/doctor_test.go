package doctor

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/assembly"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
)

func TestPolicyAllowsAServiceToPublish(t *testing.T) {
	const service = "cloudwatch.amazonaws.com"
	for policy, want := range map[string]bool{
		`{"Statement":[{"Effect":"Allow","Principal":{"Service":"cloudwatch.amazonaws.com"},"Action":"sns:Publish"}]}`:                            true,
		`{"Statement":[{"Effect":"Allow","Principal":{"Service":["events.amazonaws.com","cloudwatch.amazonaws.com"]},"Action":["SNS:Publish"]}]}`: true,
		`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sns:*"}]}`:                                                                     true,
		`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"*"}]}`:                                                                 true,
		`{"Statement":[{"Effect":"Deny","Principal":"*","Action":"sns:*"}]}`:                                                                      false,
		`{"Statement":[{"Effect":"Allow","Principal":{"Service":"events.amazonaws.com"},"Action":"sns:Publish"}]}`:                                false,
		`{"Statement":[{"Effect":"Allow","Principal":{"Service":"cloudwatch.amazonaws.com"},"Action":"sns:Subscribe"}]}`:                          false,
		`{"Statement":{"Effect":"Allow","Principal":{"Service":"cloudwatch.amazonaws.com"},"Action":"sns:Publish"}}`:                              true,
		`{"Statement":{"Effect":"Deny","Principal":{"Service":"cloudwatch.amazonaws.com"},"Action":"sns:Publish"}}`:                               false,
		`{"Statement":[]}`: false,
		`{}`:               false,
		`no JSON`:          false,
		``:                 false,
	} {
		if got := allows(policy, service, "sns:publish"); got != want {
			t.Errorf("%s: allows %v, want %v", policy, got, want)
		}
	}
}

// The services that use a key follow from what sends to the encrypted queues and topics.
func TestPoliciesOfImportedKeys(t *testing.T) {
	const (
		key     = "arn:aws:kms:eu-west-1:123456789012:key/1"
		queue   = `"Q":{"Type":"AWS::SQS::Queue","Properties":{"KmsMasterKeyId":"` + key + `"}}`
		topic   = `"T":{"Type":"AWS::SNS::Topic","Properties":{"KmsMasterKeyId":"` + key + `"}}`
		group   = `"L":{"Type":"AWS::Logs::LogGroup","Properties":{"KmsKeyId":"` + key + `"}}`
		rule    = `"R":{"Type":"AWS::Events::Rule","Properties":{"Targets":[{"Arn":{"Fn::GetAtt":["Q","Arn"]},"Id":"0"}]}}`
		to      = `"S":{"Type":"AWS::SNS::Subscription","Properties":{"Protocol":"sqs","TopicArn":{"Ref":"T"},"Endpoint":{"Fn::GetAtt":["Q","Arn"]}}}`
		redrive = `"S":{"Type":"AWS::SNS::Subscription","Properties":{"Protocol":"lambda","TopicArn":{"Ref":"T"},"Endpoint":{"Fn::GetAtt":["F","Arn"]},"RedrivePolicy":{"deadLetterTargetArn":{"Fn::GetAtt":["Q","Arn"]}}}}`
		alarm   = `"A":{"Type":"AWS::CloudWatch::Alarm","Properties":{"AlarmActions":[{"Ref":"T"}],"Dimensions":[{"Name":"QueueName","Value":{"Fn::GetAtt":["Q","QueueName"]}}]}}`
		deliver = `"Action":["kms:Decrypt","kms:GenerateDataKey*"]`
	)
	allow := func(service string, actions ...string) string {
		return fmt.Sprintf(`{"Effect":"Allow","Principal":{"Service":"%s"},"Action":["%s"],"Resource":"*"}`, service, strings.Join(actions, `","`))
	}
	five := []string{"kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"}
	for name, tt := range map[string]struct {
		region, statements string
		resources          []string
		want               []string // a status, and what the finding and the fix contain
	}{
		"only roles send to the queue":   {resources: []string{queue}, want: []string{"note", "no imported key"}},
		"only roles send to the topic":   {resources: []string{topic}, want: []string{"note", "no imported key"}},
		"a rule sends to the queue":      {resources: []string{queue, rule}, want: []string{"fix", "events.amazonaws.com", deliver}},
		"a topic sends to the queue":     {resources: []string{queue, to}, want: []string{"fix", "sns.amazonaws.com", deliver}},
		"a topic's undelivered go there": {resources: []string{queue, redrive}, want: []string{"fix", "sns.amazonaws.com", deliver}},
		"an alarm sends to the topic":    {resources: []string{topic, alarm}, want: []string{"fix", "cloudwatch.amazonaws.com", deliver}},
		"an alarm watches the queue":     {resources: []string{queue, alarm}, want: []string{"note", "no imported key"}},
		"allowed":                        {resources: []string{queue, rule}, statements: allow("events.amazonaws.com", "kms:Decrypt", "kms:GenerateDataKey"), want: []string{"ok", "events.amazonaws.com"}},
		"no data key":                    {resources: []string{queue, rule}, statements: allow("events.amazonaws.com", "kms:Decrypt"), want: []string{"fix", "events.amazonaws.com"}},
		"logs":                           {resources: []string{group}, want: []string{"fix", "logs.eu-west-1.amazonaws.com ", `"Action":["` + strings.Join(five, `","`) + `"]`}},
		"logs in China":                  {region: "cn-north-1", resources: []string{group}, want: []string{"fix", "logs.cn-north-1.amazonaws.com.cn "}},
		"logs in China, allowed":         {region: "cn-north-1", resources: []string{group}, statements: allow("logs.cn-north-1.amazonaws.com.cn", five...), want: []string{"ok", "logs.cn-north-1.amazonaws.com.cn"}},
		"queue in China":                 {region: "cn-north-1", resources: []string{queue, rule}, want: []string{"fix", "events.amazonaws.com "}},
		"logs with two actions":          {resources: []string{group}, statements: allow("logs.eu-west-1.amazonaws.com", "kms:Decrypt", "kms:GenerateDataKey*"), want: []string{"fix", "logs."}},
		"an alias":                       {resources: []string{strings.ReplaceAll(queue, "key/1", "alias/mine"), rule}, want: []string{"note", "alias/mine was not checked", "events.amazonaws.com"}},
	} {
		template, err := assembly.Parse([]byte(`{"Resources":{`+strings.Join(tt.resources, ",")+`}}`), "S")
		if err != nil {
			t.Fatal(err)
		}
		e := answers{policies: map[string]string{key: `{"Statement":[` + tt.statements + `]}`}}.exam(t)
		e.stacks, e.region = []assembly.Template{template}, cmp.Or(tt.region, "eu-west-1")
		lines, err := keys(t.Context(), e)
		got := fmt.Sprint(lines)
		for _, want := range tt.want {
			if err != nil || len(lines) != 1 || !strings.Contains(got, want) {
				t.Errorf("%s: %s, error %v, want one line with %s", name, got, err, want)
			}
		}
	}
}

// thingsOfCertificates is AWS IoT with many certificates, of which one is shared.
type thingsOfCertificates struct{ all int }

func (f thingsOfCertificates) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/principals/things" {
		things := []string{"one"}
		if strings.HasSuffix(r.Header.Get("X-Amzn-Principal"), fmt.Sprint("cert/", f.all-1)) {
			things = []string{"two", "one"}
		}
		json.NewEncoder(w).Encode(map[string]any{"things": things})
		return
	}
	const page = 25
	from, _ := strconv.Atoi(r.URL.Query().Get("marker"))
	var list []map[string]string
	for i := from; i < min(from+page, f.all); i++ {
		list = append(list, map[string]string{"certificateArn": fmt.Sprint("arn:aws:iot:us-east-1:123456789012:cert/", i)})
	}
	out := map[string]any{"certificates": list}
	if from+page < f.all {
		out["nextMarker"] = strconv.Itoa(from + page)
	}
	json.NewEncoder(w).Encode(out)
}

func TestAllPagesOfCertificatesAreRead(t *testing.T) {
	server := httptest.NewServer(thingsOfCertificates{300})
	defer server.Close()
	e := &exam{options: options{certificates: 1000}, iot: iot.New(iot.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, Credentials: aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider("a", "b", "")),
	})}
	lines, err := certificates(t.Context(), e)
	if err != nil || len(lines) != 1 || lines[0].Status != fix || !strings.Contains(lines[0].Finding, "the certificate 299 is attached to 2 things: one, two") {
		t.Errorf("lines %+v, error %v, want one about the certificate 299", lines, err)
	}
	for limit, want := range map[int]string{299: "more than 299 certificates", 300: "", 50: "more than 50 certificates"} {
		e.certificates = limit
		lines, err := certificates(t.Context(), e)
		more := slices.ContainsFunc(lines, func(l line) bool { return l.Status == note })
		if err != nil || more != (want != "") || more && !strings.Contains(lines[len(lines)-1].Finding, want) {
			t.Errorf("limit %d: lines %+v, error %v, want the note %q", limit, lines, err, want)
		}
	}
}

// answers is an account with the template of a stack, an item per table, the policies of keys, and the
// number of messages per queue.
type answers struct {
	template string
	items    map[string]string
	policies map[string]string
	messages map[string]string
}

// exam returns an exam of that account.
func (f answers) exam(t *testing.T) *exam {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	c := aws.Config{Region: "us-east-1", BaseEndpoint: &server.URL, Credentials: aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider("a", "b", ""))}
	return &exam{
		Session: &cli.Session{}, options: options{stack: "S"}, region: c.Region, templates: map[string]assembly.Template{},
		cloudformation: cloudformation.NewFromConfig(c), dynamodb: dynamodb.NewFromConfig(c), kms: kms.NewFromConfig(c), sqs: sqs.NewFromConfig(c),
	}
}

func (f answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if strings.Contains(string(body), "Action=GetTemplate") {
		fmt.Fprintf(w, "<GetTemplateResponse><GetTemplateResult><TemplateBody><![CDATA[%s]]></TemplateBody></GetTemplateResult></GetTemplateResponse>", f.template)
		return
	}
	var in struct{ TableName, KeyId, QueueUrl string }
	json.Unmarshal(body, &in)
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	if item, known := f.items[in.TableName]; known {
		fmt.Fprintf(w, `{"Item": %s}`, item)
	} else if policy, known := f.policies[in.KeyId]; known {
		json.NewEncoder(w).Encode(map[string]string{"Policy": policy})
	} else if n, known := f.messages[in.QueueUrl]; known {
		fmt.Fprintf(w, `{"Attributes": {"ApproximateNumberOfMessages": "%s"}}`, n)
	} else {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"__type": "ValidationException", "message": "The provided key element does not match the schema"}`)
	}
}

// Messages in a queue of others are none of ours, whatever its name.
func TestOnlyOurQueuesAreRead(t *testing.T) {
	e := answers{template: `{"Resources":{
		"Forwarder":{"Type":"AWS::Lambda::Function","Properties":{"Environment":{"Variables":{"DEFENDERHUB_DEAD_LETTER_QUEUE_URL":{"Ref":"DeadLetters"}}}}},
		"DeadLetters":{"Type":"AWS::SQS::Queue"},"OrdersDeadLetters":{"Type":"AWS::SQS::Queue"}}}`, messages: map[string]string{"ours": "0"}}.exam(t)
	e.deployed = map[string]deployment{"S": {"DeadLetters": {"AWS::SQS::Queue", "ours"}, "OrdersDeadLetters": {"AWS::SQS::Queue", "theirs"}}}
	lines, err := queues(t.Context(), e)
	if got := fmt.Sprint(lines); err != nil || !strings.Contains(got, "0 messages wait in 1 queues") {
		t.Errorf("%s, error %v, want no message in one queue", got, err)
	}
}

func TestUnsupportedCheckIsLeftOutOfTheConfigurationToo(t *testing.T) {
	const check = "LOGGING_DISABLED_CHECK"
	r := assembly.Resource{Properties: map[string]any{"TargetCheckNames": []any{check}}}
	for creates, want := range map[bool]string{false: "defenderhub:audit-except=" + check + " in cdk.json (Audit.Except)", true: "defenderhub:audit-disabled=" + check + " in cdk.json (Audit.Disabled)"} {
		if got := scheduling(r, &iot.DescribeAccountAuditConfigurationOutput{}, creates); len(got) != 1 || got[0].Fix != want {
			t.Errorf("the template creates the configuration: %v: %+v, want the fix %s", creates, got, want)
		}
	}
}

// AWS does not say in which order it lists audits.
func TestLastAuditIsTheNewest(t *testing.T) {
	starts := map[string]int64{"a": 1796000000, "b": 1796090000, "c": 1795000000}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		id := path.Base(r.URL.Path)
		if id == "tasks" {
			fmt.Fprint(w, `{"tasks": [{"taskId": "a"}, {"taskId": "b"}, {"taskId": "c"}]}`)
			return
		}
		fmt.Fprintf(w, `{"taskStatus": "%s", "taskStartTime": %d}`, map[bool]string{true: "COMPLETED", false: "FAILED"}[id == "b"], starts[id])
	}))
	defer server.Close()
	e := &exam{iot: iot.New(iot.Options{Region: "us-east-1", BaseEndpoint: &server.URL, Credentials: aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider("a", "b", ""))})}
	lines, err := auditRuns(t.Context(), e)
	if got := fmt.Sprint(lines); err != nil || lines[0].Status != ok || !strings.Contains(got, "the last audit, b of 2026-12-01T01:53:20Z, is COMPLETED") {
		t.Errorf("%s, error %v, want the audit b", got, err)
	}
}

// A newer engine may write its progress in another form. That does not mean "no telemetry". Tables of
// others, and the correlator's, are never read.
func TestUnknownProgressOfTheEngineIsNamed(t *testing.T) {
	const engine = `{"Resources":{
		"Correlator":{"Type":"AWS::Lambda::Function","Properties":{"Environment":{"Variables":{"DEFENDERHUB_STATE_TABLE":{"Ref":"CorrelateState"}}}}},
		"Evaluator":{"Type":"AWS::Lambda::Function","Properties":{"Environment":{"Variables":{"DEFENDERHUB_STATE_TABLE":{"Ref":"State"},"DEFENDERHUB_TELEMETRY_QUEUE_URL":{"Ref":"Q"}}}}}}}`
	for item, want := range map[string]string{
		`{"v": {"N": "1"}, "at": {"N": "1796007600000"}, "lag": {"N": "0"}}`: "last judged telemetry at 2026-11-30T03:00:00Z",
		`{"v": {"N": "2"}, "at": {"N": "1796007600000"}}`:                    "in the table t cannot be read: it has version 2, this command reads version 1. Install the version",
		`{"at": {"N": "1796007600000"}}`:                                     `it has no number "v"`,
		`{"v": {"N": "1"}, "at": {"S": "2026-11-30"}}`:                       `it has no number "at"`,
		`{}`: "no telemetry was judged",
		``:   "has no self-managed engine",
	} {
		template := engine
		if item == "" {
			template = strings.ReplaceAll(engine, "TELEMETRY", "OTHER")
		}
		e := answers{template: template, items: map[string]string{"t": item}}.exam(t)
		e.deployed = map[string]deployment{"S": {
			"State": {"AWS::DynamoDB::Table", "t"}, "AState": {"AWS::DynamoDB::Table", "foreign"}, "CorrelateState": {"AWS::DynamoDB::Table", "incidents"},
		}}
		lines, err := heartbeat(t.Context(), e)
		if got := fmt.Sprint(lines, err); !strings.Contains(got, want) {
			t.Errorf("the item %s: got %s, want %s", item, got, want)
		}
	}
}

// make deploy stops only at exit status 1, because a check may lack permissions.
func TestThingsToFixDecideBeforeUnknownOnes(t *testing.T) {
	denied := errors.New("denied")
	for _, tt := range []struct {
		todo, unclear int
		faults        []error
		want          error
		says          string
	}{
		{want: nil},
		{todo: 1, want: cli.Todo("1 thing to fix")},
		{todo: 2, unclear: 1, want: cli.Todo("2 things to fix"), says: "1 check could not find out\n"},
		{todo: 1, unclear: 2, faults: []error{denied}, want: cli.Todo("1 thing to fix"), says: "denied\n"},
		{unclear: 2, want: errors.New("2 checks could not find out")},
		{unclear: 1, faults: []error{denied}, want: denied},
	} {
		var says strings.Builder
		got := verdict(&cli.Session{Err: &says}, tt.todo, tt.unclear, tt.faults)
		_, first := got.(cli.Todo)
		if _, want := tt.want.(cli.Todo); fmt.Sprint(got) != fmt.Sprint(tt.want) || first != want || says.String() != tt.says {
			t.Errorf("%d to fix, %d unknown, %v: error %v, want %v; printed %q, want %q", tt.todo, tt.unclear, tt.faults, got, tt.want, &says, tt.says)
		}
	}
}

// A wrong answer either stops make deploy in an account that may use Detect, or lets CloudFormation
// fail in one that may not.
func TestTryWritesOnlyWhereADeploymentWouldAndLeavesNothing(t *testing.T) {
	const native, other = `{"Type":"AWS::IoT::SecurityProfile"}`, `{"Type":"AWS::SNS::Topic"}`
	for name, tt := range map[string]struct {
		resource string // of the template, "" for no template
		pinned   assembly.Template
		profiles string
		create   string // the code of the error of CreateSecurityProfile
		says     string // its text
		delete   string // the code of the error of DeleteSecurityProfile
		noTry    bool
		writes   []string
		want     status
		finding  string
		fix      string
		fault    string
	}{
		"open":                     {resource: native, writes: []string{"POST", "DELETE"}, want: ok, finding: ", attached to nothing, was created and deleted"},
		"open, no template":        {writes: []string{"POST", "DELETE"}, want: ok, finding: "was created and deleted"},
		"open, pinned to it":       {resource: native, pinned: assembly.Template{Account: "123456789012", Region: "us-east-1"}, writes: []string{"POST", "DELETE"}, want: ok, finding: "was created and deleted"},
		"another account":          {resource: native, pinned: assembly.Template{Account: "210987654321"}, want: unknown, finding: "is not known", fix: "with credentials of the stack's account"},
		"another Region":           {resource: native, pinned: assembly.Template{Region: "eu-west-1"}, want: unknown, finding: "is not known"},
		"nothing native":           {resource: other, want: note, finding: "the template needs none"},
		"has a profile":            {resource: native, profiles: `{"name":"mine"}`, want: ok, finding: "the account has 1 security profile"},
		"not asked for":            {resource: native, noTry: true, want: unknown, finding: "is not known", fix: "defenderhub doctor --try"},
		"closed":                   {resource: native, create: "InvalidRequestException", writes: []string{"POST"}, want: fix, finding: "could not be created", fix: "defenderhub:engine=self-managed"},
		"closed, in unknown words": {resource: native, create: "DetectIsClosedException", writes: []string{"POST"}, want: fix, finding: "DetectIsClosedException", fix: "defenderhub:engine=self-managed"},
		"denied":                   {resource: native, create: "AccessDeniedException", writes: []string{"POST"}, want: unknown, finding: "is not known", fix: "if it is closed: defenderhub:engine=self-managed", fault: "denied: iot:CreateSecurityProfile"},
		"closed, as denied access": {
			resource: native, create: "AccessDeniedException", says: "Only existing customers can use this feature", writes: []string{"POST"},
			want: fix, finding: "Only existing customers", fix: "defenderhub:engine=self-managed",
		},
		"denied by a policy": {
			resource: native, create: "AccessDeniedException", says: "User: arn:aws:iam::1:user/u is not authorized to perform: iot:CreateSecurityProfile on resource: r",
			writes: []string{"POST"}, want: unknown, finding: "is not known", fault: "denied: iot:CreateSecurityProfile",
		},
		"AWS is busy":                   {resource: native, create: "ThrottlingException", writes: []string{"POST", "DELETE"}, fault: "ThrottlingException"},
		"the first response was lost":   {resource: native, create: "ResourceAlreadyExistsException", writes: []string{"POST", "DELETE"}, want: ok, finding: "was created and deleted"},
		"the profile cannot be deleted": {resource: native, delete: "AccessDeniedException", writes: []string{"POST", "DELETE"}, fault: "was not removed: denied: iot:DeleteSecurityProfile"},
	} {
		t.Run(name, func(t *testing.T) {
			var writes []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					fmt.Fprintf(w, `{"securityProfileIdentifiers": [%s]}`, tt.profiles)
					return
				}
				writes = append(writes, r.Method)
				if code := map[string]string{http.MethodPost: tt.create, http.MethodDelete: tt.delete}[r.Method]; code != "" {
					w.Header().Set("X-Amzn-ErrorType", code)
					w.WriteHeader(http.StatusBadRequest)
					fmt.Fprintf(w, `{"message": %q}`, tt.says)
					return
				}
				fmt.Fprint(w, `{}`)
			}))
			defer server.Close()
			var says strings.Builder
			e := &exam{
				Session: &cli.Session{Err: &says, Yes: true}, options: options{try: !tt.noTry}, region: "us-east-1", identity: arn.ARN{AccountID: "123456789012"},
				iot: iot.New(iot.Options{Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1, Credentials: aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider("a", "b", ""))}),
			}
			if tt.resource != "" {
				template, err := assembly.Parse([]byte(`{"Resources":{"R":`+tt.resource+`}}`), "S")
				if err != nil {
					t.Fatal(err)
				}
				template.Account, template.Region = tt.pinned.Account, tt.pinned.Region
				e.stacks = []assembly.Template{template}
			}
			lines, err := detect(t.Context(), e)
			fault := ""
			if err != nil {
				fault = cli.Explain(err)
			}
			var got line
			if len(lines) == 1 {
				got = lines[0]
			}
			if got.Status != tt.want || !strings.Contains(got.Finding, tt.finding) || !strings.Contains(got.Fix, tt.fix) || !strings.Contains(fault, tt.fault) || (err != nil) != (tt.fault != "") || !slices.Equal(writes, tt.writes) {
				t.Errorf("%+v, error %q, writes %v, want %+v", lines, fault, writes, tt)
			}
			if made, removed := strings.Contains(says.String(), "create the security profile "+tryPrefix), strings.Contains(says.String(), "removed the security profile "+tryPrefix); made != (tt.writes != nil) || removed != (len(tt.writes) == 2 && tt.delete == "") {
				t.Errorf("printed %q", &says)
			}
			if err := e.Close(); err != nil {
				t.Errorf("removed twice: %v", err)
			}
		})
	}
}

// Destroying a stack that once worked would delete its ledger.
func TestStatesOfAStack(t *testing.T) {
	const destroy = "cdk destroy, then deploy again"
	for state, want := range map[string]struct {
		status status
		fix    string
	}{
		"CREATE_COMPLETE": {ok, ""}, "UPDATE_COMPLETE": {ok, ""}, "UPDATE_ROLLBACK_COMPLETE": {ok, ""}, "IMPORT_COMPLETE": {ok, ""},
		"UPDATE_IN_PROGRESS": {note, "wait"}, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": {note, "wait"},
		"ROLLBACK_COMPLETE": {fix, destroy}, "ROLLBACK_FAILED": {fix, destroy}, "CREATE_FAILED": {fix, destroy},
		"UPDATE_ROLLBACK_FAILED": {fix, "aws cloudformation continue-update-rollback --stack-name Hub"},
		"UPDATE_FAILED":          {fix, "aws cloudformation rollback-stack --stack-name Hub"},
		"DELETE_FAILED":          {fix, "cdk destroy again"},
		"IMPORT_ROLLBACK_FAILED": {fix, "describe-stack-events"},
	} {
		got, text := afterState(state, "Hub")
		if got != want.status || !strings.Contains(text, want.fix) || strings.Contains(text, destroy) != (want.fix == destroy) {
			t.Errorf("%s: %s %q, want %s %q", state, got, text, want.status, want.fix)
		}
	}
}
