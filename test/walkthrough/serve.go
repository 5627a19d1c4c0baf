package walkthrough

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
)

// endpoints prints what a user's own clients need.
func (s *story) endpoints() error {
	ca := filepath.Join(s.cloud.Dir(), "root-ca.pem")
	if err := os.WriteFile(ca, []byte(s.cloud.IoT.CA().PEM()), 0o644); err != nil {
		return fmt.Errorf("write the root certificate: %w", err)
	}
	fmt.Fprintf(s.Out, `
The stack is deployed. For the aws CLI, the cdk CLI, or any AWS SDK:

  export AWS_ENDPOINT_URL=%s AWS_REGION=%s AWS_DEFAULT_REGION=%[2]s AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s

Version 1 of the aws CLI needs --endpoint-url $AWS_ENDPOINT_URL for sqs: in us-east-1 it dials an
address of its own.

For MQTT clients:

  %s   with TLS, a client certificate from CreateKeysAndCertificate, and --cafile %s
  %s   without TLS, for quick tests

Device reports of the self-managed engine go to %s.
It judges windows of five minutes, from the first on that begins after the deployment: step the clock
by 5m before you send, and by 9m to see what it finds.

Schedules, alarms and scheduled audits are looked at each minute. To let time pass, step the clock:

  curl -X POST '%s/_localaws/clock?step=24h'

What rules refused, and the logs of the functions, are in %s.
Stop with Ctrl-C.
`, s.cloud.Endpoint, s.cloud.Region, awsapi.Credentials.AccessKeyID, awsapi.Credentials.SecretAccessKey,
		s.cloud.Broker.TLSAddress(), ca, s.cloud.Broker.PlainAddress(), s.outputs["ReportTopic"], s.cloud.Endpoint, s.cloud.Dir())
	return nil
}

// watchStacks prints which resources of stacks that users deploy later have no effect here.
func (s *story) watchStacks() {
	var mu sync.Mutex
	printed := map[string]bool{}
	newKinds := func() (kinds []string) {
		mu.Lock()
		defer mu.Unlock()
		for _, d := range s.cloud.Resources.Deployed("") {
			if kind := d.Type + ": " + d.Inert; d.Inert != "" && !printed[kind] {
				printed[kind] = true
				kinds = append(kinds, kind)
			}
		}
		return kinds
	}
	newKinds() // those of our own stack are already printed
	s.cloud.Resources.OnChange(func() {
		for _, kind := range newKinds() {
			s.note("deployed, but without effect here: %s", kind)
		}
	})
}
