package localaws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/process"
)

// CDK runs the pinned CDK CLI in dir against this cloud, in an environment that leads to no real
// account, and returns its output. env adds variables, KEY=VALUE.
func (c *Cloud) CDK(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	cli := filepath.Join(c.repository, "node_modules", "aws-cdk", "bin", "cdk")
	node := filepath.Join(c.repository, "node_modules", "node", "bin", "node")
	for _, tool := range []string{cli, node} {
		if _, err := os.Stat(tool); err != nil {
			return "", fmt.Errorf("the pinned CDK CLI is not installed, run `npm ci` in %s: %w", c.repository, err)
		}
	}
	var out strings.Builder
	said := writerFunc(func(p []byte) {
		text := string(p)
		c.cdkSays.Store(&text)
	})
	both := &locked{to: io.MultiWriter(&out, c.log("cdk.log"), said)}
	defer c.cdkSays.Store(new(string))
	p, err := process.Start(process.Spec{
		Path: node, Args: append([]string{cli}, args...), Dir: dir, Env: append(c.Env(), env...), Stdout: both, Stderr: both,
	})
	if err != nil {
		return "", err
	}
	if err := p.Wait(ctx); err != nil {
		return out.String(), fmt.Errorf("cdk %s: %w:\n%s", strings.Join(args, " "), err, lastLines(out.String(), 15))
	}
	return out.String(), nil
}

// Bootstrap creates the stack to which the CDK CLI uploads. It runs outside any CDK app, because the
// CLI would synthesize one.
func (c *Cloud) Bootstrap(ctx context.Context) error {
	_, err := c.CDK(ctx, c.dir, nil, "bootstrap", "aws://"+c.Account+"/"+c.Region)
	return err
}

// Deploy deploys the stacks of the CDK app in dir, which has a cdk.json, or of the app in an --app
// argument.
func (c *Cloud) Deploy(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	deploy := []string{"deploy", "--all", "--require-approval=never", "--ci", "--progress=events"}
	return c.CDK(ctx, dir, env, append(deploy, args...)...)
}

// Env returns the environment for programs that use this cloud. It has the cloud's endpoint,
// credentials that are valid only here, and a directory for temporary files that Stop removes.
// Nothing in it leads to a real account.
func (c *Cloud) Env() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AWS_") && !strings.HasPrefix(v, "CDK_") && !strings.HasPrefix(v, "NODE_") {
			env = append(env, v)
		}
	}
	bin := filepath.Join(c.repository, "node_modules", "node", "bin") + string(os.PathListSeparator) + filepath.Join(c.repository, "node_modules", ".bin")
	return append(env,
		"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"),
		"TMPDIR="+c.temp(),
		"AWS_ENDPOINT_URL="+c.Endpoint,
		"AWS_REGION="+c.Region, "AWS_DEFAULT_REGION="+c.Region,
		"AWS_ACCESS_KEY_ID="+awsapi.Credentials.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+awsapi.Credentials.SecretAccessKey,
		"AWS_CONFIG_FILE="+filepath.Join(c.dir, "no-config"), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(c.dir, "no-credentials"),
		"AWS_EC2_METADATA_DISABLED=true",
		"CDK_DISABLE_CLI_TELEMETRY=true", "CDK_DEFAULT_ACCOUNT="+c.Account, "CDK_DEFAULT_REGION="+c.Region,
		"JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION=true", "NO_COLOR=1",
	)
}

// CDKSays returns the last line that a running CDK CLI has printed, or "".
func (c *Cloud) CDKSays() string { return lastLines(*c.cdkSays.Load(), 1) }

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

var errStopped = errors.New("the local AWS was stopped")

const rootModule = "github.com/defenderhub/defenderhub"

// repository returns the root of this project, which is above dir and has the pinned tools.
func repository(dir string) (string, error) {
	for at := dir; ; at = filepath.Dir(at) {
		text, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module "+rootModule+"\n") {
			return at, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("the local AWS needs a checkout of %s, and %s is not in one: set Options.Repository", rootModule, dir)
		}
	}
}
