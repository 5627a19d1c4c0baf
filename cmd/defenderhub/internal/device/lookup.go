package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	datatypes "github.com/aws/aws-sdk-go-v2/service/iotdataplane/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/assembly"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/hub"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
)

// IoT are the calls to the registry.
type IoT interface {
	iot.ListThingPrincipalsAPIClient
	iot.ListPrincipalThingsAPIClient
	iot.ListThingGroupsForThingAPIClient
	DescribeThing(context.Context, *iot.DescribeThingInput, ...func(*iot.Options)) (*iot.DescribeThingOutput, error)
	DescribeCertificate(context.Context, *iot.DescribeCertificateInput, ...func(*iot.Options)) (*iot.DescribeCertificateOutput, error)
}

// Data is the call to AWS IoT's data plane.
type Data interface {
	GetConnection(context.Context, *iotdataplane.GetConnectionInput, ...func(*iotdataplane.Options)) (*iotdataplane.GetConnectionOutput, error)
}

// Table is the call to the engine's table.
type Table interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
}

// lookup collects facts and events of one device.
type lookup struct {
	iot           IoT
	data          Data
	hub           hub.API
	stacks        assembly.Stacks // to find that table
	table         Table
	region, stack string
	say           func(format string, args ...any)

	facts  []Fact
	events []Event
}

func (l *lookup) fact(kind, name, detail string) { l.facts = append(l.facts, Fact{kind, name, detail}) }

// device holds the names of a device.
type device struct {
	things, clients, certificates []string
	// known reports whether AWS IoT has a thing, a certificate or a connection with one of the names.
	known bool
}

// names returns all names under which findings may name the device.
func (d device) names() []string { return slices.Concat(d.things, d.clients, d.certificates) }

func (d *device) client(id string) {
	if id != "" && !slices.Contains(d.clients, id) {
		d.clients = append(d.clients, id)
	}
}

var certificateID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// resolve finds the things with a name, which may be a thing, a client ID or a certificate ID.
func (l *lookup) resolve(ctx context.Context, name string) (device, error) {
	var d device
	if certificateID.MatchString(name) {
		if of, err := l.ofCertificate(ctx, name); err != nil || of.known {
			return of, err
		}
	}
	d.client(name)
	thing := name
	if pattern, err := contract.ParseClientPattern(contract.DefaultClientPattern); err == nil {
		if of := pattern.Thing(name); of != "" {
			thing = of
		}
	}
	_, err := l.iot.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &thing})
	if err == nil {
		d.things, d.known = []string{thing}, true
		d.client(thing)
		return d, nil
	}
	if err := unlessMissing(err); err != nil {
		return d, err
	}
	// The client ID is not derived from a thing's name, so only a connection leads to the thing.
	out, err := l.data.GetConnection(ctx, &iotdataplane.GetConnectionInput{ClientId: &name})
	if err != nil {
		return d, unlessMissing(err)
	}
	d.known = true
	if of := aws.ToString(out.ThingName); of != "" {
		d.things = []string{of}
		d.client(of)
	}
	return d, nil
}

// ofCertificate finds the things with a certificate. A thing or client ID can look like the ID of one.
func (l *lookup) ofCertificate(ctx context.Context, id string) (device, error) {
	out, err := l.iot.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: &id})
	if err != nil {
		return device{}, unlessMissing(err)
	}
	d := device{certificates: []string{id}, known: true}
	pages := iot.NewListPrincipalThingsPaginator(l.iot, &iot.ListPrincipalThingsInput{Principal: out.CertificateDescription.CertificateArn})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return d, err
		}
		d.things = append(d.things, page.Things...)
	}
	if len(d.things) == 1 {
		d.client(d.things[0])
	}
	return d, nil
}

// unlessMissing returns nil if err means that the thing, certificate or connection does not exist, or
// that AWS IoT does not accept the name. Otherwise it returns err.
func unlessMissing(err error) error {
	var missing *iottypes.ResourceNotFoundException
	var offline *datatypes.ResourceNotFoundException
	var api smithy.APIError
	if errors.As(err, &missing) || errors.As(err, &offline) || errors.As(err, &api) && (api.ErrorCode() == "InvalidRequestException" || api.ErrorCode() == "ValidationException") {
		return nil
	}
	return err
}

// registry adds the facts of the registry, and the thing's certificates to the device's names.
func (l *lookup) registry(ctx context.Context, d *device) error {
	for _, thing := range d.things {
		out, err := l.iot.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &thing})
		if err != nil {
			return err
		}
		detail := "registered"
		if kind := aws.ToString(out.ThingTypeName); kind != "" {
			detail += ", type " + kind
		}
		l.fact("thing", thing, detail)
		groups := iot.NewListThingGroupsForThingPaginator(l.iot, &iot.ListThingGroupsForThingInput{ThingName: &thing})
		for groups.HasMorePages() {
			page, err := groups.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, g := range page.ThingGroups {
				l.fact("group", aws.ToString(g.GroupName), "")
			}
		}
		principals := iot.NewListThingPrincipalsPaginator(l.iot, &iot.ListThingPrincipalsInput{ThingName: &thing})
		for principals.HasMorePages() {
			page, err := principals.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, p := range page.Principals {
				if _, id, ok := strings.Cut(p, ":cert/"); ok && !slices.Contains(d.certificates, id) {
					d.certificates = append(d.certificates, id)
				}
			}
		}
	}
	last := time.Now()
	for i, id := range d.certificates {
		if err := l.certificate(ctx, id); err != nil {
			return err
		}
		if time.Since(last) > 10*time.Second {
			last = time.Now()
			l.say("%d of %d certificates read", i+1, len(d.certificates))
		}
	}
	return nil
}

func (l *lookup) certificate(ctx context.Context, id string) error {
	out, err := l.iot.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: &id})
	if err != nil {
		return unlessMissing(err)
	}
	c := out.CertificateDescription
	detail := string(c.Status)
	if v := c.Validity; v != nil && v.NotAfter != nil {
		detail += ", valid until " + v.NotAfter.UTC().Format(time.DateOnly)
		l.events = append(l.events, Event{Time: v.NotAfter.UTC(), Kind: "certificate", What: "expires", Text: id, ID: id})
	}
	l.fact("certificate", id, detail)
	if c.CreationDate != nil {
		l.events = append(l.events, Event{Time: c.CreationDate.UTC(), Kind: "certificate", What: "created", Text: id, ID: id})
	}
	return nil
}

// connections adds the connection of each client ID.
func (l *lookup) connections(ctx context.Context, d device) error {
	for _, id := range d.clients {
		out, err := l.data.GetConnection(ctx, &iotdataplane.GetConnectionInput{ClientId: &id})
		if err = unlessMissing(err); err != nil {
			return err
		}
		switch {
		case out == nil:
			l.fact("connection", id, "not connected in the last 30 minutes")
		case out.Connected:
			since := time.UnixMilli(out.ConnectedSince).UTC()
			detail := "connected since " + since.Format(time.RFC3339)
			if address := aws.ToString(out.SourceIp); address != "" { // AWS IoT returns it only on request
				detail += ", from " + address
			}
			l.fact("connection", id, detail)
			l.events = append(l.events, Event{Time: since, Kind: "connection", What: "connected", Text: id})
		default:
			l.fact("connection", id, "disconnected: "+aws.ToString(out.DisconnectReason))
			l.events = append(l.events, Event{Time: time.UnixMilli(out.DisconnectedSince).UTC(), Kind: "connection", What: "disconnected", Text: id + ": " + aws.ToString(out.DisconnectReason)})
		}
	}
	return nil
}

// engine adds the state that the self-managed engine stores about the device. Without the engine it
// prints a line that says so.
func (l *lookup) engine(ctx context.Context, d device) error {
	template, ids, err := assembly.WithIDs(ctx, l.stacks, l.stack)
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "ValidationError" {
		l.say("there is no stack %s (--stack), so the engine's state is not shown", l.stack)
		return nil
	}
	if err != nil {
		return err
	}
	tables := 0
	for _, logical := range template.EngineTables() {
		table := ids[logical]
		if table == "" {
			continue // not created yet
		}
		tables++
		for _, id := range d.clients {
			if err := l.held(ctx, table, id); err != nil {
				return err
			}
		}
	}
	if tables == 0 {
		l.say("the self-managed engine is not deployed in the stack %s, so there is no state of the device", l.stack)
	}
	return nil
}

func (l *lookup) held(ctx context.Context, table, id string) error {
	out, err := l.table.GetItem(ctx, &dynamodb.GetItemInput{TableName: &table, Key: map[string]types.AttributeValue{
		contract.StatePartitionKey: &types.AttributeValueMemberS{Value: contract.StateThingPrefix + id},
		contract.StateSortKey:      &types.AttributeValueMemberS{Value: contract.StateThingSort},
	}})
	if err != nil {
		return err
	}
	document, ok := out.Item[contract.StateDocument].(*types.AttributeValueMemberS)
	if !ok {
		l.fact("engine", id, "no state: the device conforms, or has sent nothing")
		return nil
	}
	var state engine.State
	if err := json.Unmarshal([]byte(document.Value), &state); err != nil {
		return fmt.Errorf("%s: %w. Install the version of this command that matches the deployment", cli.Quoted(id), err)
	}
	for _, h := range state.Held() {
		var details []string
		if !h.Since.IsZero() {
			details = append(details, "in alarm since "+h.Since.Format(time.RFC3339))
			l.events = append(l.events, Event{Time: h.Since, Kind: "engine", What: "alarm", Text: h.Profile + "/" + h.Behavior})
		}
		if h.Run > 0 {
			details = append(details, fmt.Sprintf("%d datapoints against its state", h.Run))
		}
		if h.Waiting > 0 {
			details = append(details, fmt.Sprintf("%d windows not judged yet", h.Waiting))
		}
		if !h.Settled.IsZero() {
			details = append(details, "judged up to "+h.Settled.Format(time.RFC3339))
		}
		l.fact("engine", h.Profile+"/"+h.Behavior, strings.Join(details, ", "))
	}
	return nil
}
