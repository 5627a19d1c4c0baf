// Command defenderhub checks a deployment, tests behaviors, and shows findings and devices.
// docs/command.md describes its use, README.md how to add a command.
package main

import (
	"os"
	"runtime/debug"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/audit"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/deadletters"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/device"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/doctor"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/findings"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/provoke"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/replay"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/report"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/testcmd"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/watch"
)

func main() { os.Exit(cli.Main(version(), os.Args[1:], commands()...)) }

// commands returns all commands, in the order of --help.
func commands() []*cli.Command {
	return []*cli.Command{
		doctor.Command(),
		testcmd.Command(),
		replay.Command(),
		findings.Command(),
		watch.Command(),
		device.Command(),
		audit.Command(),
		deadletters.Command(),
		report.Command(),
		provoke.Command(),
	}
}

// version returns the module's version, as go install records it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
