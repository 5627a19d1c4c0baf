package simulation

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-lambda-go/cfn"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/auditresources"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator"
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

func buildEvaluator(e *environment, on host.Host) (handler, error) {
	h, err := evaluator.New(evaluator.Clients{DynamoDB: table{e}, IoT: things{e}, IoTData: connections{e}, SQS: queues{e}, Kinesis: shardReader{e}}, on)
	if err != nil {
		return nil, err
	}
	return h.Handle, nil
}

// buildResources is the function of the audit's custom resources, without the answer that
// aws-lambda-go sends to CloudFormation.
func buildResources(e *environment, on host.Host) (handler, error) {
	resources := auditresources.New(things{e}, on)
	return func(ctx context.Context, event json.RawMessage) (any, error) {
		var in cfn.Event
		if err := json.Unmarshal(event, &in); err != nil {
			return nil, err
		}
		_, data, err := resources(ctx, in)
		return data, err
	}, nil
}

// settings are what a deployment chooses.
type settings struct {
	number int
	// connections is the name of the behavior [fewConnections]: "", [fewerConnections] if it is
	// renamed, or [noConnections] if it is left out.
	connections string
	// severity is that of [openPorts].
	severity defender.Severity
	// withoutRule is the rule of correlation that is left out, window changes that of [noisy].
	withoutRule string
	window      int
	// notify and correlate are the numbers of the constructs; see [optional].
	notify, correlate int
}

// has reports whether a deployment has a behavior.
func (s settings) has(behavior string) bool {
	switch behavior {
	case fewConnections:
		return s.connections == ""
	case fewerConnections:
		return s.connections == fewerConnections
	}
	return true
}

// config is the evaluator's configuration of a deployment.
func (s settings) config() engine.Config {
	fleet := []defender.Behavior{
		{Name: "open-ports", Criteria: defender.ListeningTCPPorts.InPorts(22, 443, 1883, 8883, 80), ToAlarm: 2, ToClear: 1, Severity: s.severity},
		{Name: "few-connections", Criteria: defender.EstablishedTCPConnections.LessThan(10), ToAlarm: 1, ToClear: 2},
		{Name: "offline", Criteria: defender.DisconnectDuration.LessThan(int64(longestOffline.Minutes())), ToAlarm: 1, ToClear: 1},
	}
	switch s.connections {
	case noConnections:
		fleet = append(fleet[:1], fleet[2:]...)
	case fewerConnections:
		fleet[1].Name = "fewer-connections"
	}
	return engine.Config{
		Profiles: []engine.ProfileConfig{
			{Name: "fleet", Behaviors: fleet},
			{Name: "registered", Targets: []string{defender.RegisteredThings.Resource()}, Behaviors: []defender.Behavior{
				{Name: "few-ports", Criteria: defender.NumListeningTCPPorts.LessThan(4, defender.Window5m), ToAlarm: 1, ToClear: 1},
			}},
		},
		ReportsEvery: int(longestSilence.Minutes()), Reports: true, ReportTopic: "reports/+",
		BatchSeconds: int(batching.Seconds()), MembershipMinutes: 15,
	}
}

// live is the text of the behaviors for the forwarder.
func (s settings) live() string {
	live, err := s.config().Live()
	if err != nil {
		panic(err) // the configuration is constant
	}
	return live.String()
}

func (w *world) forwarderEnvironment(s settings, name string) []string {
	return []string{
		"AWS_REGION=" + region, "AWS_LAMBDA_FUNCTION_NAME=" + name, contract.EnvLedgerTable + "=" + ledgerTable,
		contract.EnvDeadLetterQueueURL + "=" + w.deadLetters.url(), contract.EnvLogLevel + "=DEBUG",
		contract.EnvLiveBehaviors + "=" + s.live(), contract.EnvLiveRules + "=" + s.liveRules(), fmt.Sprintf("DEFENDERHUB_BUILD=%d", s.number),
	}
}

// evaluatorEnvironment is that of the evaluator and, with its name, of the closer. Like a
// deployment, it writes the behaviors beside the program.
func (w *world) evaluatorEnvironment(s settings, name string) []string {
	dir := w.write(s, contract.ConfigFile, s.config())
	all := []string{
		"AWS_REGION=" + region, "AWS_LAMBDA_FUNCTION_NAME=" + name, "LAMBDA_TASK_ROOT=" + dir, contract.EnvStateTable + "=" + stateTable,
		contract.EnvIngestQueueURL + "=" + w.ingest.url(), contract.EnvReportsRule + "=" + reportsRule, contract.EnvLogLevel + "=DEBUG",
	}
	switch {
	case w.stream == nil:
		return append(all, contract.EnvTelemetryQueueURL+"="+w.telemetryQueue.url())
	case name == "closer":
		return append(all, contract.EnvTelemetryStream+"=telemetry")
	}
	return all
}
