package simulation

import (
	"encoding/json"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
	"github.com/defenderhub/defenderhub/internal/findingevent"
)

// campaigns count what the events of device events write about campaigns: N devices that join one
// write at most N + 1 items. A device that ends or an event that is late costs more, and so does
// the schedule, which counts devices.
type campaigns struct {
	// sent are the events of each finding, and newest is the newest of them.
	sent   map[string]int
	newest map[string]findingevent.Order
	// parts are the writes of each part, by its key.
	parts map[string]int
	// main are the campaigns as they were written last.
	main map[string]campaignState
}

// campaignState is the part of a campaign's item that says what a write of it was about.
type campaignState struct {
	Shown  map[string]struct{ State asff.RecordState }
	Outbox []json.RawMessage
}

func (s campaignState) active() bool {
	for _, shown := range s.Shown {
		if shown.State == asff.Active {
			return true
		}
	}
	return false
}

func newCampaigns() campaigns {
	return campaigns{map[string]int{}, map[string]findingevent.Order{}, map[string]int{}, map[string]campaignState{}}
}

// sentTo notes an event of Security Hub that is sent to the correlator.
func (c *campaigns) sentTo(event []byte) {
	e, err := findingevent.Parse(event)
	if err != nil {
		panic(err) // Security Hub wrote it
	}
	c.sent[e.Key()]++
	if e.Order.Compare(c.newest[e.Key()]) > 0 {
		c.newest[e.Key()] = e.Order
	}
}

// mostStates is how many states of a finding the correlator keeps, with a margin. An event of before
// is written again if it is delivered again.
const mostStates = 30

const campaignInvariant = "a device that joins a campaign writes only its own item"

// observeCampaign checks an accepted write of a campaign's items.
func (w *world) observeCampaign(a dynamodbtest.Access) {
	if a.Table != w.correlateTable || !a.Write || a.Failed || w.doing == nil || w.doing.env.fn != w.correlator {
		return
	}
	pk, _ := a.Key[contract.StatePartitionKey].(*types.AttributeValueMemberS)
	sk, _ := a.Key[contract.StateSortKey].(*types.AttributeValueMemberS)
	doc, _ := a.Item["doc"].(*types.AttributeValueMemberS)
	if pk == nil || sk == nil || doc == nil || !strings.HasPrefix(pk.Value, "campaign#") {
		return
	}
	c := &w.campaigns
	if sk.Value != "state" {
		w.counts["writes of parts of campaigns"]++
		key := pk.Value + " " + sk.Value
		c.parts[key]++
		_, finding, _ := strings.Cut(sk.Value, "\x00")
		if n := c.parts[key]; n > c.sent[finding] && c.sent[finding] <= mostStates {
			w.violations.add(campaignInvariant, "%q was written %d times for %d events", key, n, c.sent[finding])
		}
		return
	}
	var next campaignState
	if err := json.Unmarshal([]byte(doc.Value), &next); err != nil {
		panic(err) // the correlator wrote it
	}
	before := c.main[pk.Value]
	c.main[pk.Value] = next
	event := string(w.doing.event)
	switch {
	case strings.Contains(event, `"defenderhub":"correlate"`):
		w.counts["writes of campaigns by the schedule"]++
	case !before.active() && next.active():
		w.counts["writes that open campaigns"]++
	case before.active() && !next.active():
		w.counts["writes that end campaigns"]++
	case !before.active() && len(before.Outbox) > 0:
		w.counts["writes of campaigns that ended just before"]++
	case w.endsOrIsLate([]byte(event), pk.Value):
		w.counts["writes of campaigns after ends and late events"]++
	default:
		w.violations.add(campaignInvariant, "%s was written by %v: %s", pk.Value, w.doing, doc.Value)
	}
}

// endsOrIsLate reports whether a batch has an event that ends a part of a campaign, or a newer event
// of whose finding was sent.
func (w *world) endsOrIsLate(batch []byte, campaign string) bool {
	var messages events.SQSEvent
	if err := json.Unmarshal(batch, &messages); err != nil {
		panic(err) // the queue wrote it
	}
	for _, m := range messages.Records {
		e, err := findingevent.Parse([]byte(m.Body))
		if err != nil {
			panic(err) // Security Hub wrote it
		}
		key := correlation.Key(e)
		if key == "" || !strings.HasSuffix(campaign, "#"+key) {
			continue
		}
		if !e.Open() || e.Order.Compare(w.campaigns.newest[e.Key()]) < 0 {
			return true
		}
	}
	return false
}
