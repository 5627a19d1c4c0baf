package defender

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of the AWS Security Finding Format and of BatchImportFindings.
// https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-findings-format-syntax.html
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchImportFindings.html
const (
	// MaxFindingsPerImport and MaxImportBytes bound one call.
	MaxFindingsPerImport = 100
	MaxImportBytes       = 6 << 20
	// MaxFindingBytes is the size of one finding as JSON.
	MaxFindingBytes = 240 << 10
	// FindingLifetime is how long Security Hub keeps a finding after its last update.
	FindingLifetime = 90 * 24 * time.Hour

	maxID               = 512
	maxTitle            = 256
	maxDescription      = 1024
	maxResources        = 32
	maxRecommendation   = 512
	maxResourceType     = 256
	maxProductFields    = 47 // Security Hub adds three to the 50 that it allows
	maxProductKey       = 128
	maxProductValue     = 2048
	maxOtherDetails     = 50
	maxOtherDetailValue = 1024
	maxResourceID       = 512
	maxURL              = 2048
)

// RecordState is the importer's statement whether a finding still holds.
type RecordState string

// The record states.
const (
	Active   RecordState = "ACTIVE"
	Archived RecordState = "ARCHIVED"
)

// The finding types that Device Defender's own integration sends.
const (
	TypeUnusualBehaviors = "Unusual Behaviors"
	TypeVulnerabilities  = "Software and Configuration Check/Vulnerabilities"
)

// Finding is what defenderhub imports into Security Hub: the part of the ASFF that
// an importer of own findings fills. Its JSON form is the ASFF.
type Finding struct {
	SchemaVersion         string
	ID                    string `json:"Id"`
	ProductARN            string `json:"ProductArn"`
	GeneratorID           string `json:"GeneratorId"`
	AWSAccountID          string `json:"AwsAccountId"`
	CompanyName           string `json:",omitempty"`
	ProductName           string `json:",omitempty"`
	CreatedAt             Timestamp
	UpdatedAt             Timestamp
	FirstObservedAt       Timestamp `json:",omitzero"`
	LastObservedAt        Timestamp `json:",omitzero"`
	Title                 string
	Description           string
	SourceURL             string            `json:"SourceUrl,omitempty"`
	Remediation           *Remediation      `json:",omitempty"`
	ProductFields         map[string]string `json:",omitempty"`
	Resources             []Resource
	RecordState           RecordState
	FindingProviderFields FindingProviderFields
}

// Remediation says what to do.
type Remediation struct{ Recommendation Recommendation }

// Recommendation is a text of at most 512 characters and a link.
type Recommendation struct {
	Text string `json:",omitempty"`
	URL  string `json:"Url,omitempty"`
}

// FindingProviderFields carry what an importer may not set at the top level.
type FindingProviderFields struct {
	Severity FindingSeverity
	Types    []string
}

// FindingSeverity is an ASFF label and the source's own word for it.
type FindingSeverity struct {
	Label    string
	Original string `json:",omitempty"`
}

// Resource is what a finding is about.
type Resource struct {
	Type      string
	ID        string           `json:"Id"`
	Partition string           `json:",omitempty"`
	Region    string           `json:",omitempty"`
	Details   *ResourceDetails `json:",omitempty"`
}

// ResourceDetails hold free pairs: no AWS IoT resource has a shape of its own in ASFF.
type ResourceDetails struct {
	Other map[string]string `json:",omitempty"`
}

// Timestamp is a time in UTC with milliseconds, the form of Security Hub's samples.
type Timestamp struct{ time.Time }

const timestampForm = "2006-01-02T15:04:05.000Z"

// Milliseconds returns the Timestamp of ms since 1970.
func Milliseconds(ms int64) Timestamp { return Timestamp{time.UnixMilli(ms).UTC()} }

// String is the ASFF form.
func (t Timestamp) String() string { return t.UTC().Format(timestampForm) }

// MarshalText writes the ASFF form.
func (t Timestamp) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// MarshalJSON writes the ASFF form.
func (t Timestamp) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }

// UnmarshalJSON reads any RFC 3339 time.
func (t *Timestamp) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	parsed, err := time.Parse(time.RFC3339Nano, text)
	t.Time = parsed.UTC()
	return err
}

// Fit returns f within every limit of the ASFF: long texts are cut on a character
// boundary, ids over 512 characters end in a hash, blank strings and pairs are left
// out or replaced, surplus pairs and resources are dropped from the end of their
// order. The finding's maps are not written to.
func (f Finding) Fit() Finding {
	f.SchemaVersion = "2018-10-08"
	f.ID, f.GeneratorID = fitID(f.ID, maxID), fitID(f.GeneratorID, maxID)
	f.Title = fitText(f.Title, maxTitle)
	if blank(f.Title) {
		f.Title = "Security finding"
	}
	f.Description = fitText(f.Description, maxDescription)
	if blank(f.Description) {
		f.Description = f.Title
	}
	f.SourceURL = fitURL(f.SourceURL)
	f.CompanyName, f.ProductName = fitText(f.CompanyName, 128), fitText(f.ProductName, 128)
	if f.Remediation != nil {
		r := f.Remediation.Recommendation
		r.Text, r.URL = fitText(r.Text, maxRecommendation), fitURL(r.URL)
		f.Remediation = &Remediation{r}
		if r == (Recommendation{}) {
			f.Remediation = nil
		}
	}
	f.FindingProviderFields.Severity.Original = fitText(f.FindingProviderFields.Severity.Original, 64)
	f.ProductFields = fitPairs(f.ProductFields, maxProductFields, maxProductKey, maxProductValue)
	f.Resources = slices.Clone(f.Resources[:min(len(f.Resources), maxResources)])
	for i := range f.Resources {
		r := &f.Resources[i]
		r.Type, r.ID = fitText(r.Type, maxResourceType), fitID(r.ID, maxResourceID)
		if r.Type == "" {
			r.Type = "Other"
		}
		if blank(r.ID) {
			r.ID = "unknown"
		}
		if r.Details != nil {
			other := fitPairs(r.Details.Other, maxOtherDetails, maxProductKey, maxOtherDetailValue)
			r.Details = &ResourceDetails{other}
			if other == nil {
				r.Details = nil
			}
		}
	}
	return f
}

// fitText cuts s to n characters, on a character boundary, and drops what does not print.
func fitText(s string, n int) string {
	s = strings.TrimSpace(printable(s))
	if blank(s) {
		return ""
	}
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return strings.TrimSpace(string([]rune(s)[:n-1])) + "…"
}

// printable replaces invalid UTF-8 and control characters: what a device sends must
// not forge lines in a log or a console.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "�"))
}

// fitID keeps ids over n characters distinct by a hash at their end.
func fitID(id string, n int) string {
	id = printable(id)
	if utf8.RuneCountInString(id) <= n {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	tail := "#" + hex.EncodeToString(sum[:16])
	return string([]rune(id)[:n-len(tail)]) + tail
}

// fitURL drops a link that is too long: half a link leads nowhere.
func fitURL(u string) string {
	if len(u) > maxURL {
		return ""
	}
	return u
}

func fitPairs(m map[string]string, pairs, key, value int) map[string]string {
	var fit map[string]string
	for _, k := range sortedKeys(m) {
		v := fitText(m[k], value)
		k = fitText(k, key)
		if k == "" || v == "" || len(fit) == pairs {
			continue
		}
		if fit == nil {
			fit = map[string]string{}
		}
		fit[k] = v
	}
	return fit
}

var idEscapes = strings.NewReplacer("%", "%25", "/", "%2F")

// FindingID joins the parts of a finding's identity with "/". Parts are escaped, so
// that different parts never give the same id; at over 512 characters the id ends
// in a hash. An id names what is wrong with which thing, never a time: a repeat is
// the same finding.
func FindingID(source Source, region string, parts ...string) string {
	escaped := []string{"defenderhub", source.String(), region}
	for _, p := range parts {
		escaped = append(escaped, idEscapes.Replace(p))
	}
	return fitID(strings.Join(escaped, "/"), maxID)
}

// DefaultProductARN is the product under which an account imports findings of its
// own. It exists as soon as Security Hub is on.
func DefaultProductARN(partition, region, account string) string {
	return "arn:" + partition + ":securityhub:" + region + ":" + account + ":product/" + account + "/default"
}
