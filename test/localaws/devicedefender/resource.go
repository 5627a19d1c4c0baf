package devicedefender

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// ResourceType is the type of a resource that a finding is about.
type ResourceType string

// The resource types of what the checks here find. AWS has more.
const (
	DeviceCertificate ResourceType = "DEVICE_CERTIFICATE"
	IoTPolicy         ResourceType = "IOT_POLICY"
	ClientID          ResourceType = "CLIENT_ID"
	AccountSettings   ResourceType = "ACCOUNT_SETTINGS"
)

// Resource is the resource of a finding, or one that is related to it.
type Resource struct {
	ResourceType       ResourceType       `json:"resourceType"`
	ResourceIdentifier ResourceIdentifier `json:"resourceIdentifier"`
	AdditionalInfo     map[string]string  `json:"additionalInfo,omitempty"`
}

// ResourceIdentifier names a resource. One field is set.
type ResourceIdentifier struct {
	DeviceCertificateID         string                       `json:"deviceCertificateId,omitempty"` // 64 hex digits
	CACertificateID             string                       `json:"caCertificateId,omitempty"`     // 64 hex digits
	CognitoIdentityPoolID       string                       `json:"cognitoIdentityPoolId,omitempty"`
	ClientID                    string                       `json:"clientId,omitempty"`
	PolicyVersionIdentifier     *PolicyVersionIdentifier     `json:"policyVersionIdentifier,omitempty"`
	Account                     string                       `json:"account,omitempty"` // 12 digits
	IAMRoleARN                  string                       `json:"iamRoleArn,omitempty"`
	RoleAliasARN                string                       `json:"roleAliasArn,omitempty"`
	IssuerCertificateIdentifier *IssuerCertificateIdentifier `json:"issuerCertificateIdentifier,omitempty"`
	DeviceCertificateARN        string                       `json:"deviceCertificateArn,omitempty"`
}

// PolicyVersionIdentifier names a version of a policy.
type PolicyVersionIdentifier struct {
	PolicyName      string `json:"policyName,omitempty"`
	PolicyVersionID string `json:"policyVersionId,omitempty"`
}

// IssuerCertificateIdentifier names the certificate of an issuer.
type IssuerCertificateIdentifier struct {
	IssuerCertificateSubject      string `json:"issuerCertificateSubject,omitempty"`
	IssuerID                      string `json:"issuerId,omitempty"`
	IssuerCertificateSerialNumber string `json:"issuerCertificateSerialNumber,omitempty"`
}

// key is equal for equal identifiers only.
func (r ResourceIdentifier) key() string {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings only
	}
	return string(text)
}

var (
	certificateIDForm = regexp.MustCompile(`^(0x)?[a-fA-F0-9]+$`)
	accountForm       = regexp.MustCompile(`^[0-9]{12}$`)
)

// field returns the name of the field that is set, in the words of the API.
func (r ResourceIdentifier) field() (string, error) {
	var set []string
	for name, value := range r.texts() {
		if value != "" {
			set = append(set, name)
		}
	}
	if r.PolicyVersionIdentifier != nil {
		set = append(set, "policyVersionIdentifier")
	}
	if r.IssuerCertificateIdentifier != nil {
		set = append(set, "issuerCertificateIdentifier")
	}
	slices.Sort(set)
	if len(set) != 1 {
		return "", invalidRequest("resourceIdentifier has %d identifiers [%s], want one", len(set), strings.Join(set, ", "))
	}
	return set[0], r.check()
}

func (r ResourceIdentifier) texts() map[string]string {
	return map[string]string{
		"deviceCertificateId": r.DeviceCertificateID, "caCertificateId": r.CACertificateID,
		"cognitoIdentityPoolId": r.CognitoIdentityPoolID, "clientId": r.ClientID, "account": r.Account,
		"iamRoleArn": r.IAMRoleARN, "roleAliasArn": r.RoleAliasARN, "deviceCertificateArn": r.DeviceCertificateARN,
	}
}

// check holds the identifier against the forms of the API model.
func (r ResourceIdentifier) check() error {
	for name, id := range map[string]string{"deviceCertificateId": r.DeviceCertificateID, "caCertificateId": r.CACertificateID} {
		if id != "" && (len(id) != 64 || !certificateIDForm.MatchString(id)) {
			return invalidRequest("%s is %q, want 64 hex digits", name, id)
		}
	}
	if r.Account != "" && !accountForm.MatchString(r.Account) {
		return invalidRequest("account is %q, want 12 digits", r.Account)
	}
	if p := r.PolicyVersionIdentifier; p != nil && (p.PolicyName == "" || p.PolicyVersionID == "") {
		return invalidRequest("policyVersionIdentifier needs policyName and policyVersionId")
	}
	return nil
}

// display is how descriptions name the resource: a policy as NAME:VERSION.
func (r ResourceIdentifier) display() string {
	if p := r.PolicyVersionIdentifier; p != nil {
		return p.PolicyName + ":" + p.PolicyVersionID
	}
	return strings.Join(r.segments(), ":")
}

// segments are the parts of the identifier in the id of a native finding.
func (r ResourceIdentifier) segments() []string {
	if p := r.PolicyVersionIdentifier; p != nil {
		return []string{p.PolicyName, p.PolicyVersionID}
	}
	if i := r.IssuerCertificateIdentifier; i != nil {
		return []string{i.IssuerCertificateSubject, i.IssuerCertificateSerialNumber}
	}
	for _, text := range r.texts() {
		if text != "" {
			return []string{text}
		}
	}
	return nil
}
