package securityhubtest

import "net/http"

// SetAdministrator makes the account a member of an administrator's account. "" means no
// administrator.
func (h *Hub) SetAdministrator(account string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.administrator = account
}

// SetV2 turns Security Hub V2 on or off. It has no imported findings here, because AWS does not
// document whether they appear there.
func (h *Hub) SetV2(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.v2 = on
}

// getAdministratorAccount also answers if Security Hub is off (unverified).
func getAdministratorAccount(r *request) (any, error) {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	if r.hub.administrator == "" {
		return struct{}{}, nil
	}
	return map[string]any{"Administrator": map[string]string{"AccountId": r.hub.administrator, "MemberStatus": "Enabled"}}, nil
}

func (h *Hub) needV2() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.v2 {
		return nil
	}
	return &Error{"ResourceNotFoundException", http.StatusNotFound, "Security Hub V2 is not enabled in this account and Region"} // (unverified)
}

func describeSecurityHubV2(r *request) (any, error) {
	return map[string]string{"HubV2Arn": r.hub.arn("hubv2/default")}, r.hub.needV2()
}

func getFindingsV2(r *request) (any, error) {
	return map[string]any{"Findings": []any{}}, r.hub.needV2()
}
