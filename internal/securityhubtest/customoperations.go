package securityhubtest

import (
	"encoding/json"
	"maps"
)

// taggedHub finds what a tag operation is about: of all that exists here, only a hub
// has tags.
func taggedHub(r *request) (Settings, error) {
	settings, on := r.hub.Settings()
	if !on || r.arn != r.hub.ARN() {
		return settings, notFound("Resource %s not found", r.arn)
	}
	return settings, nil
}

func listTagsForResource(r *request) (any, error) {
	settings, err := taggedHub(r)
	tags := map[string]string{}
	maps.Copy(tags, settings.Tags)
	return struct{ Tags map[string]string }{tags}, err
}

func tagResource(r *request) (any, error) {
	var input struct{ Tags map[string]string }
	if err := r.input(&input); err != nil {
		return nil, err
	}
	if _, err := taggedHub(r); err != nil {
		return nil, err
	}
	if err := checkTags(input.Tags); err != nil {
		return nil, err
	}
	return none, r.hub.Configure(func(s *Settings) {
		if s.Tags == nil {
			s.Tags = map[string]string{}
		}
		maps.Copy(s.Tags, input.Tags)
	})
}

func untagResource(r *request) (any, error) {
	if _, err := taggedHub(r); err != nil {
		return nil, err
	}
	keys := r.query["tagKeys"]
	if len(keys) == 0 {
		return nil, invalidInput("Invalid parameter 'TagKeys'. Size '0' is less than minimum value: 1.")
	}
	return none, r.hub.Configure(func(s *Settings) {
		for _, k := range keys {
			delete(s.Tags, k)
		}
	})
}

// An insightInput is the input of CreateInsight and UpdateInsight.
type insightInput struct {
	Name             string
	Filters          json.RawMessage
	GroupByAttribute string
}

func (r *request) insight() (Insight, error) {
	var input insightInput
	err := r.input(&input)
	return Insight{r.arn, input.Name, input.Filters, input.GroupByAttribute}, err
}

func createInsight(r *request) (any, error) {
	in, err := r.insight()
	if err != nil {
		return nil, err
	}
	arn, err := r.hub.CreateInsight(in)
	return struct{ InsightArn string }{arn}, err
}

func updateInsight(r *request) (any, error) {
	in, err := r.insight()
	if err != nil {
		return nil, err
	}
	return none, r.hub.UpdateInsight(in)
}

func deleteInsight(r *request) (any, error) {
	return struct{ InsightArn string }{r.arn}, r.hub.DeleteInsight(r.arn)
}

func getInsights(r *request) (any, error) {
	var input struct {
		InsightArns []string
		NextToken   string
		MaxResults  json.Number
	}
	if err := r.input(&input); err != nil {
		return nil, err
	}
	insights, err := r.hub.Insights(input.InsightArns...)
	if err != nil {
		return nil, err
	}
	part, next, err := page(r, insights, input.NextToken, input.MaxResults.String())
	return struct {
		Insights  []Insight
		NextToken string `json:",omitempty"`
	}{part, next}, err
}

func getInsightResults(r *request) (any, error) {
	results, err := r.hub.insightResults(r.arn)
	return struct{ InsightResults insightResults }{results}, err
}

func createActionTarget(r *request) (any, error) {
	var input struct {
		ID                string `json:"Id"`
		Name, Description string
	}
	if err := r.input(&input); err != nil {
		return nil, err
	}
	arn, err := r.hub.CreateActionTarget(input.ID, input.Name, input.Description)
	return struct{ ActionTargetArn string }{arn}, err
}

func updateActionTarget(r *request) (any, error) {
	var input struct{ Name, Description string }
	if err := r.input(&input); err != nil {
		return nil, err
	}
	return none, r.hub.UpdateActionTarget(ActionTarget{r.arn, input.Name, input.Description})
}

func deleteActionTarget(r *request) (any, error) {
	return struct{ ActionTargetArn string }{r.arn}, r.hub.DeleteActionTarget(r.arn)
}

func describeActionTargets(r *request) (any, error) {
	var input struct {
		ActionTargetArns []string
		NextToken        string
		MaxResults       json.Number
	}
	if err := r.input(&input); err != nil {
		return nil, err
	}
	actions, err := r.hub.ActionTargets(input.ActionTargetArns...)
	if err != nil {
		return nil, err
	}
	part, next, err := page(r, actions, input.NextToken, input.MaxResults.String())
	return struct {
		ActionTargets []ActionTarget
		NextToken     string `json:",omitempty"`
	}{part, next}, err
}
