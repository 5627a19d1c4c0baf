package securityhubtest

import "encoding/json"

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
