package simulation

import (
	"fmt"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

func buildForwarder(e *environment, on host.Host) (handler, error) {
	h, err := forwarder.New(forwarder.Clients{SecurityHub: importer{e}, IoT: things{e}, DynamoDB: table{e}, SQS: queues{e}}, on)
	if err != nil {
		return nil, err
	}
	return h.Handle, nil
}

func (w *world) forwarderEnvironment() []string {
	return []string{
		"AWS_REGION=" + region, "AWS_LAMBDA_FUNCTION_NAME=forwarder", contract.EnvLedgerTable + "=" + ledgerTable,
		contract.EnvDeadLetterQueueURL + "=" + w.deadLetters.url(), contract.EnvLogLevel + "=DEBUG",
		fmt.Sprintf("DEFENDERHUB_BUILD=%d", w.version),
	}
}
