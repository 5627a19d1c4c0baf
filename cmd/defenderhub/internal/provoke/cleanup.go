package provoke

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
)

// cleanup removes what killed runs left behind: things whose name begins with prefix, their
// certificates, and policies with that prefix and the tag. It keeps policies without the tag, which
// somebody else created.
func (l *lab) cleanup(ctx context.Context) error {
	things, policies, err := l.leftovers(ctx)
	if err != nil {
		return err
	}
	if len(things)+len(policies) == 0 {
		l.s.Say("there is nothing to remove")
		return nil
	}
	var changes []string
	for _, name := range things {
		changes = append(changes, "delete the thing "+name+" and its certificates")
	}
	for _, name := range policies {
		changes = append(changes, "delete the IoT policy "+name)
	}
	if err := l.s.ConfirmTyping(l.account, changes...); err != nil {
		return err
	}
	var faults []error
	for _, name := range things {
		faults = append(faults, l.removeThing(ctx, name))
	}
	for _, name := range policies {
		faults = append(faults, l.removePolicy(ctx, name))
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	l.s.Say("removed %d things and %d policies", len(things), len(policies))
	return nil
}

func (l *lab) leftovers(ctx context.Context) (things, policies []string, err error) {
	allThings := iot.NewListThingsPaginator(l.iot, &iot.ListThingsInput{MaxResults: aws.Int32(250)})
	for allThings.HasMorePages() {
		page, err := allThings.NextPage(ctx)
		if err != nil {
			return nil, nil, err
		}
		for _, t := range page.Things {
			if name := aws.ToString(t.ThingName); strings.HasPrefix(name, prefix) {
				things = append(things, name)
			}
		}
	}
	allPolicies := iot.NewListPoliciesPaginator(l.iot, &iot.ListPoliciesInput{PageSize: aws.Int32(250)})
	for allPolicies.HasMorePages() {
		page, err := allPolicies.NextPage(ctx)
		if err != nil {
			return nil, nil, err
		}
		for _, p := range page.Policies {
			name := aws.ToString(p.PolicyName)
			if !strings.HasPrefix(name, prefix) {
				continue
			}
			ours, err := l.tagged(ctx, aws.ToString(p.PolicyArn))
			if err != nil {
				return nil, nil, err
			}
			if !ours {
				l.s.Say("%s stays: it has no tag %s=%s", cli.Quoted(name), tag, tagValue)
				continue
			}
			policies = append(policies, name)
		}
	}
	return things, policies, nil
}

func (l *lab) tagged(ctx context.Context, arn string) (bool, error) {
	out, err := l.iot.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: &arn})
	if err != nil {
		return false, err
	}
	for _, t := range out.Tags {
		if aws.ToString(t.Key) == tag && aws.ToString(t.Value) == tagValue {
			return true, nil
		}
	}
	return false, nil
}

func (l *lab) removeThing(ctx context.Context, name string) error {
	var certificates []string
	pages := iot.NewListThingPrincipalsPaginator(l.iot, &iot.ListThingPrincipalsInput{ThingName: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return unlessMissing(err)
		}
		certificates = append(certificates, page.Principals...)
	}
	for _, arn := range certificates {
		if err := l.removeCertificate(ctx, name, arn); err != nil {
			return err
		}
	}
	_, err := l.iot.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: &name})
	return unlessMissing(err)
}
