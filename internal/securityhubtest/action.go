package securityhubtest

import (
	"cmp"
	"slices"
	"strings"
)

// maxActions is a quota per account and Region.
// https://docs.aws.amazon.com/general/latest/gr/sechub.html
const maxActions = 50

// ActionTarget is a custom action.
type ActionTarget struct {
	ARN         string `json:"ActionTargetArn"`
	Name        string // at most 20 characters
	Description string
}

// CreateActionTarget creates a custom action. Its ID has at most 20 letters and digits.
func (h *Hub) CreateActionTarget(id, name, description string) (arn string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.needOn(); err != nil {
		return "", err
	}
	faults := faultsOf(pattern(`^[a-zA-Z0-9]{1,20}$`), any(id))
	faults = append(faults, actionFaults(name, description)...)
	if len(faults) > 0 {
		return "", invalidInput("Invalid parameter. %s.", strings.Join(faults, ", "))
	}
	arn = h.arn("action/custom/" + id)
	if slices.ContainsFunc(h.actions, func(a ActionTarget) bool { return a.ARN == arn }) {
		return "", conflict("Action with Id: %s already exists", id)
	}
	if len(h.actions) >= maxActions {
		return "", limitExceeded("%d custom actions exist, the quota", maxActions)
	}
	h.actions = append(h.actions, ActionTarget{arn, name, description})
	return arn, nil
}

func actionFaults(name, description string) []string {
	return append(faultsOf(text(20), any(name)), faultsOf(text(0), any(description))...)
}

// UpdateActionTarget changes the action with this ARN. Empty fields of change keep their value.
func (h *Hub) UpdateActionTarget(change ActionTarget) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, err := h.actionIndex(change.ARN)
	if err != nil {
		return err
	}
	a := h.actions[i]
	a.Name, a.Description = cmp.Or(change.Name, a.Name), cmp.Or(change.Description, a.Description)
	if faults := actionFaults(a.Name, a.Description); len(faults) > 0 {
		return invalidInput("Invalid parameter. %s.", strings.Join(faults, ", "))
	}
	h.actions[i] = a
	return nil
}

// DeleteActionTarget deletes a custom action.
func (h *Hub) DeleteActionTarget(arn string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, err := h.actionIndex(arn)
	if err != nil {
		return err
	}
	h.actions = slices.Delete(h.actions, i, i+1)
	return nil
}

// ActionTargets returns the custom actions with these ARNs, or all if no ARN is given.
func (h *Hub) ActionTargets(arns ...string) ([]ActionTarget, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.needOn(); err != nil {
		return nil, err
	}
	if len(arns) == 0 {
		return slices.Clone(h.actions), nil
	}
	var found []ActionTarget
	for _, arn := range arns {
		i, err := h.actionIndex(arn)
		if err != nil {
			return nil, err
		}
		found = append(found, h.actions[i])
	}
	return found, nil
}

func (h *Hub) actionIndex(arn string) (int, error) {
	if err := h.needOn(); err != nil {
		return 0, err
	}
	i := slices.IndexFunc(h.actions, func(a ActionTarget) bool { return a.ARN == arn })
	if i < 0 {
		return 0, notFound("Action target %s not found", arn)
	}
	return i, nil
}
