package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// PolicyDocument returns an IAM policy in JSON.
func PolicyDocument(statements []Statement, partition string) string {
	type statement struct {
		Effect   string
		Action   []string
		Resource []string
	}
	document := struct {
		Version   string
		Statement []statement
	}{Version: "2012-10-17", Statement: []statement{}}
	for _, s := range statements {
		var resources []string
		for _, r := range s.Resources {
			resources = append(resources, strings.Replace(r, "arn:aws:", "arn:"+partition+":", 1))
		}
		document.Statement = append(document.Statement, statement{"Allow", s.Actions, resources})
	}
	text, _ := json.MarshalIndent(document, "", "  ") // strings always encode
	return string(text)
}

// Partition returns the partition of a Region, aws if the Region is unknown.
func Partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

func policyCommand(commands []*Command) *Command {
	return &Command{
		Use: "policy COMMAND", Short: "Print the minimum IAM policy that a command needs",
		Long: "Print the minimum IAM policy that a command needs, for the partition of the Region.\nThe policy of a command that calls no AWS service has no statements.",
		Example: `defenderhub policy doctor > doctor-policy.json
aws iam create-policy --policy-name defenderhub-doctor --policy-document file://doctor-policy.json`,
		Args: cobra.MinimumNArgs(1),
		Run: func(ctx context.Context, s *Session, args []string) error {
			wanted := strings.Join(args, " ")
			var found *Command
			var names []string
			for _, c := range commands {
				c.Walk(func(name string, c *Command) {
					if c.Run == nil {
						return
					}
					names = append(names, name)
					if name == wanted {
						found = c
					}
				})
			}
			if found == nil {
				return fmt.Errorf("there is no command %s, want one of: %s", Quoted(wanted), strings.Join(names, ", "))
			}
			c, err := s.load(ctx)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.Out, PolicyDocument(found.Policy, Partition(c.Region)))
			return err
		},
	}
}
