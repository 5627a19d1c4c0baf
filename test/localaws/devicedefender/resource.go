package devicedefender

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

func fields(r *types.ResourceIdentifier) map[string]any {
	if r == nil {
		return nil
	}
	return iotcore.JSON(r).(map[string]any)
}

// key is equal for equal identifiers only.
func key(r *types.ResourceIdentifier) string {
	text, err := json.Marshal(fields(r))
	if err != nil {
		panic(err) // strings only
	}
	return string(text)
}

var (
	certificateIDForm = regexp.MustCompile(`^(0x)?[a-fA-F0-9]+$`)
	accountForm       = regexp.MustCompile(`^[0-9]{12}$`)
)

// fieldOf returns the name of the field that is set, in the words of the API, and holds the
// identifier against the forms of the API model.
func fieldOf(r *types.ResourceIdentifier) (string, error) {
	set := slices.Sorted(maps.Keys(fields(r)))
	if len(set) != 1 {
		return "", invalidRequest("resourceIdentifier has %d identifiers [%s], want one", len(set), strings.Join(set, ", "))
	}
	for name, id := range map[string]*string{"deviceCertificateId": r.DeviceCertificateId, "caCertificateId": r.CaCertificateId} {
		if id != nil && (len(*id) != 64 || !certificateIDForm.MatchString(*id)) {
			return "", invalidRequest("%s is %q, want 64 hex digits", name, *id)
		}
	}
	if r.Account != nil && !accountForm.MatchString(*r.Account) {
		return "", invalidRequest("account is %q, want 12 digits", *r.Account)
	}
	if p := r.PolicyVersionIdentifier; p != nil && (p.PolicyName == nil || p.PolicyVersionId == nil) {
		return "", invalidRequest("policyVersionIdentifier needs policyName and policyVersionId")
	}
	return set[0], nil
}

// display is how descriptions name the resource: a policy as NAME:VERSION.
func display(r *types.ResourceIdentifier) string { return strings.Join(segments(r), ":") }

// segments are the parts of the identifier in the id of a native finding.
func segments(r *types.ResourceIdentifier) []string {
	if p := r.PolicyVersionIdentifier; p != nil {
		return []string{aws.ToString(p.PolicyName), aws.ToString(p.PolicyVersionId)}
	}
	for _, value := range fields(r) {
		if text, ok := value.(string); ok {
			return []string{text}
		}
	}
	return nil
}
